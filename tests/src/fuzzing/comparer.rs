//! The comparer against any two guests: a shard with tiny bounds is given frames of a few flows, time, and commits, as
//! the bytes say. [`witness`] judges what it decides. It does not compare verdicts with a model: that is the oracle of
//! the engine's own tests.

mod clamp;
mod made;
mod witness;

use std::cell::RefCell;
use std::time::Duration;

use colo_engine::compare::{AckPolicy, CompareSettings, SecondarySequence};
use colo_engine::flow::FlowHasher;
use colo_engine::shard::{Budget, Flushed, Shard, ShardSettings, WorkBurst};
use colo_engine::side::{BySide, Side};
use colo_engine::wire::Packet;
use pmd_tap::{FramePool, Nanos, PoolSettings};

use super::bytes::Bytes;
use made::frame;
use witness::{Rules, Witness};

/// Longest case.
const MOST_OPERATIONS: usize = 600;

thread_local! {
    static POOL: RefCell<FramePool> = RefCell::new(
        FramePool::new(PoolSettings { small: 1_280, mtu: 2, jumbo: 0, gso: 2 }).expect("memory for small frames"),
    );
}

/// A case: two bytes of settings, then operations until the bytes are over.
pub fn comparer(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let (settings, rules) = settings(bytes.array());
    POOL.with_borrow_mut(|pool| {
        let shard = Shard::new(settings, FlowHasher::fixed());
        let mut bench = Bench {
            shard,
            witness: Witness::new(rules),
            pool,
            now: Nanos(1),
            most: settings.max_held_frames,
        };
        for _ in 0..MOST_OPERATIONS {
            if bytes.is_empty() {
                break;
            }
            bench.operate(&mut bytes);
            bench.balances(settings.max_connections);
        }
        bench.flush(usize::MAX);
        bench.balances(settings.max_connections);
        assert_eq!(bench.shard.held_ordinals(Side::Primary).next(), None, "held after a flush");
    });
}

fn settings([kind, bounds]: [u8; 2]) -> (ShardSettings, Rules) {
    let secondary_sequence = match kind % 4 {
        0 | 1 => SecondarySequence::Translated,
        2 => SecondarySequence::Raw,
        _ => SecondarySequence::Auto,
    };
    let ack_policy = if kind & 0x40 == 0 { AckPolicy::default() } else { AckPolicy::Any };
    let small = |shift: u8| usize::from(bounds >> shift & 3);
    let max_queue_size = [3, 4, 8, 64][small(0)];
    let compare =
        CompareSettings { secondary_sequence, ack_policy, max_queue_size, ..CompareSettings::default() };
    let settings = ShardSettings {
        compare,
        max_connections: [1, 2, 4, 16][small(2)],
        max_held_frames: [8, 16, 32, 128][small(4)],
        tick: Duration::from_millis(10),
    };
    let rules = Rules {
        timeout: settings.compare.compare_timeout,
        same_numbers: secondary_sequence == SecondarySequence::Translated,
        both_acks: kind & 0x40 == 0,
    };
    (settings, rules)
}

struct Bench<'a> {
    shard: Shard,
    witness: Witness,
    pool: &'a mut FramePool,
    now: Nanos,
    /// Frames that may be held of a side.
    most: usize,
}

impl Bench<'_> {
    fn operate(&mut self, bytes: &mut Bytes<'_>) {
        let what = bytes.u8();
        match what >> 4 {
            // A burst of each is at hand; now and then one of them says something alone.
            0 => {
                let mut bursts = BySide::default();
                for _ in 0..=what & 7 {
                    let (made, who) = (frame(bytes), bytes.u8());
                    for (side, silent) in Side::BOTH.into_iter().zip(1..) {
                        if who % 8 != silent {
                            self.receive(side, &made, &mut bursts[side]);
                        }
                    }
                }
                self.handle_bursts(bursts);
            }
            // Both guests say the same, one after the other.
            1..5 => {
                let made = frame(bytes);
                let [first, second] =
                    if what & 1 == 0 { Side::BOTH } else { [Side::Secondary, Side::Primary] };
                self.handle(first, &made);
                self.pass(Duration::from_micros(u64::from(what & 0xe)));
                self.handle(second, &made);
            }
            5..8 => self.handle(Side::Primary, &frame(bytes)),
            8..11 => self.handle(Side::Secondary, &frame(bytes)),
            11 => self.pass(Duration::from_micros(u64::from(bytes.u8()))),
            12 => self.expire(Duration::from_millis(u64::from(what & 0xf) * 8 + 1)),
            13 => self.expire(Duration::from_secs(u64::from(what & 0xf) * 20)),
            14 => self.expire_at_the_deadline(),
            _ => self.flush(usize::from(what & 0xf) + 1),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    fn handle(&mut self, side: Side, bytes: &[u8]) {
        let mut bursts = BySide::default();
        self.receive(side, bytes, &mut bursts[side]);
        self.handle_bursts(bursts);
    }

    /// As an input does: a primary's frame that finds no room waits in its port, a secondary's is marked.
    fn receive(&mut self, side: Side, bytes: &[u8], burst: &mut WorkBurst) {
        let full = self.shard.held_frames(side) + burst.frames().count() >= self.most;
        if full && side == Side::Primary {
            return;
        }
        // Fragments end at their input, and have a target of their own.
        if let Packet::Fragment(_) = Packet::parse(bytes) {
            return;
        }
        let Some(mut frame) = self.pool.frame_from(bytes) else { return };
        frame.stamp(self.now, self.witness.arrives(side, self.now, bytes));
        let budget = if full { Budget::Exhausted } else { Budget::Room };
        burst.receive(frame, &FlowHasher::fixed(), budget);
    }

    /// As a core does, but that nothing waits for the other side's.
    fn handle_bursts(&mut self, mut bursts: BySide<WorkBurst>) {
        self.shard.handle_bursts(&mut bursts, self.now, &mut self.witness);
        for side in Side::BOTH {
            self.shard.handle_burst(side, &mut bursts[side], self.now, &mut self.witness);
        }
        self.witness.give_back(self.pool);
    }

    fn expire(&mut self, time: Duration) {
        self.pass(time);
        self.shard.expire(self.now, &mut self.witness);
        self.witness.give_back(self.pool);
        self.witness.nothing_waits_in_silence(self.now);
    }

    fn expire_at_the_deadline(&mut self) {
        if let Some(deadline) = self.shard.next_deadline() {
            self.expire(deadline.since(self.now));
        }
    }

    /// A commit, its flush in steps.
    fn flush(&mut self, step: usize) {
        self.witness.commits();
        while self.shard.flush(step, self.now, &mut self.witness) == Flushed::Partly {
            self.witness.give_back(self.pool);
        }
        self.witness.give_back(self.pool);
        self.witness.has_flushed();
        assert_eq!(Side::BOTH.map(|side| self.shard.held_frames(side)), [0, 0], "held after a flush");
    }

    /// What the shard says that it holds is what has come and was not decided about.
    fn balances(&self, max_connections: usize) {
        for side in Side::BOTH {
            let (frames, bytes) = self.witness.undecided(side);
            assert_eq!(self.shard.held_frames(side), frames, "{side} frames");
            assert_eq!(self.shard.held_bytes(side), bytes, "{side} bytes");
            assert_eq!(self.shard.held_ordinals(side).count(), frames);
        }
        assert!(self.shard.connections() <= max_connections);
    }
}
