//! A shard with made-up TCP segments: what its bounds promise, and that its short way is none of its own.

mod bounds;
mod limits;
mod lives;
mod reasons;
mod rules;
mod short_way;
mod together;
mod urgent;
mod windows;

use pmd_tap::{FramePool, PoolSettings};

use super::*;
use crate::side::BySide;

const SYN: u8 = 2;
const FIN: u8 = 1;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A TCP segment that a guest sends.
#[derive(Clone, Debug)]
struct Sent {
    flow: u32,
    seq: u32,
    ack: u32,
    flags: u8,
    payload: Vec<u8>,
}

impl Sent {
    /// An Ethernet frame with IPv4 (RFC 791) and TCP (RFC 9293), checksums left out.
    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 54];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14] = 0x45;
        let total = u16::try_from(40 + self.payload.len()).unwrap();
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[22..24].copy_from_slice(&[64, 6]);
        frame[26..30].copy_from_slice(&[10, 0, 0, 1]);
        frame[30..34].copy_from_slice(&(0x0b00_0000 + (self.flow >> 8)).to_be_bytes());
        frame[34..36].copy_from_slice(&80_u16.to_be_bytes());
        frame[36..38].copy_from_slice(&u16::try_from(1_024 + (self.flow & 0xff)).unwrap().to_be_bytes());
        frame[38..42].copy_from_slice(&self.seq.to_be_bytes());
        frame[42..46].copy_from_slice(&self.ack.to_be_bytes());
        frame[46..48].copy_from_slice(&[0x50, self.flags]);
        frame[48..50].copy_from_slice(&1_000_u16.to_be_bytes());
        frame.extend_from_slice(&self.payload);
        frame
    }
}

/// What a shard decided.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Release(u64, Release),
    Discard(u64, Discard),
    Ask(Box<Cause>),
}

struct Decisions {
    pools: BySide<FramePool>,
    made: Vec<Decision>,
    clamped: usize,
}

impl Sink for Decisions {
    fn release(&mut self, frame: Frame, why: Release) {
        self.made.push(Decision::Release(frame.ordinal(), why));
        self.pools.primary.recycle(frame);
    }

    fn discard(&mut self, frame: Frame, why: Discard) {
        self.made.push(Decision::Discard(frame.ordinal(), why));
        self.pools.secondary.recycle(frame);
    }

    fn note_clamped(&mut self) {
        self.clamped += 1;
    }

    fn ask(&mut self, cause: Cause) {
        self.made.push(Decision::Ask(Box::new(cause)));
    }
}

struct Rig {
    shard: Shard,
    hasher: FlowHasher,
    decisions: Decisions,
    now: Nanos,
    sent: BySide<u64>,
}

impl Rig {
    fn new(max_connections: usize, max_held_frames: usize, max_queue_size: u32) -> Self {
        let compare = CompareSettings { max_queue_size, ..CompareSettings::default() };
        let tick = Duration::from_millis(10);
        let settings = ShardSettings { compare, max_connections, max_held_frames, tick };
        let pool = PoolSettings { small: max_held_frames + 8, mtu: 8, jumbo: 0, gso: 0 };
        let hasher = FlowHasher::fixed();
        Self {
            shard: Shard::new(settings, hasher.clone()),
            hasher,
            decisions: Decisions {
                pools: BySide {
                    primary: FramePool::new(pool).unwrap(),
                    secondary: FramePool::new(pool).unwrap(),
                },
                made: Vec::new(),
                clamped: 0,
            },
            now: Nanos(1_000_000),
            sent: BySide::default(),
        }
    }

    fn send(&mut self, side: Side, sent: &Sent) {
        self.send_frame(side, &sent.frame());
    }

    fn send_frame(&mut self, side: Side, ethernet: &[u8]) {
        let mut burst = WorkBurst::new();
        self.receive(side, ethernet, &mut burst);
        self.shard.handle_burst(side, &mut burst, self.now, &mut self.decisions);
    }

    fn receive(&mut self, side: Side, ethernet: &[u8], burst: &mut WorkBurst) {
        let mut frame = self.decisions.pools[side].frame_from(ethernet).unwrap();
        frame.stamp(self.now, self.sent[side]);
        self.sent[side] += 1;
        burst.receive(frame, &self.hasher, Budget::Room);
    }

    fn data(&mut self, side: Side, flow: u32, seq: u32, len: usize) {
        self.send(side, &Sent { flow, seq, ack: 1, flags: ACK, payload: vec![7; len] });
    }

    fn syn(&mut self, side: Side, flow: u32, seq: u32) {
        self.send(side, &Sent { flow, seq, ack: 1, flags: SYN | ACK, payload: Vec::new() });
    }

    /// Has the settings changed.
    fn set(&mut self, change: impl FnOnce(&mut CompareSettings)) {
        change(&mut self.shard.settings.compare);
        self.shard.replace_rules(std::sync::Arc::new(RuleSet::empty(self.shard.settings.compare)));
    }

    /// Whether the only connection takes the short way.
    fn is_in_step(&self) -> bool {
        let stamp = Stamp::new(self.shard.epoch, self.shard.rules.number);
        self.shard.table.iter().all(|(_, connection)| connection.is_in_step(stamp))
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.shard.expire(self.now, &mut self.decisions);
    }

    fn flush(&mut self) {
        assert_eq!(self.shard.flush(usize::MAX, self.now, &mut self.decisions), Flushed::Completely);
    }

    /// What was decided since this was asked last.
    fn decided(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decisions.made)
    }

    fn asked(&mut self) -> Vec<Reason> {
        let causes = self.decided().into_iter().filter_map(|decision| match decision {
            Decision::Ask(cause) => Some(cause.reason),
            _ => None,
        });
        causes.collect()
    }
}
