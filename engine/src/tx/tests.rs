//! The merge in front of an output, against scripts of what shards hand over, with an output that takes little.

use std::sync::{Arc, Mutex};

use pmd_tap::{Caps, LinkEvent, PoolSettings, RxState};

use super::*;

/// An output that takes one frame at a time, or none while it is shut.
#[derive(Clone, Default)]
struct Narrow {
    took: Arc<Mutex<Vec<u64>>>,
    room: Arc<Mutex<usize>>,
    /// Flushes, and looks at the link.
    calls: Arc<Mutex<(usize, usize)>>,
}

impl Narrow {
    fn took(&self) -> Vec<u64> {
        self.took.lock().unwrap().clone()
    }
}

impl Port for Narrow {
    fn rx_burst(&mut self, _: &mut FramePool, _: Nanos, _: &mut Burst) -> RxState {
        self.calls.lock().unwrap().1 += 1;
        RxState::Empty
    }

    fn tx_burst(&mut self, pool: &mut FramePool, _: Nanos, burst: &mut Burst) {
        let mut room = self.room.lock().unwrap();
        let take = (*room).min(1).min(burst.len());
        *room -= take;
        for frame in burst.drain(..take) {
            self.took.lock().unwrap().push(frame.ordinal());
            pool.recycle(frame);
        }
    }

    fn flush(&mut self) -> bool {
        self.calls.lock().unwrap().0 += 1;
        true
    }

    fn is_up(&self) -> bool {
        true
    }

    fn poll_link(&mut self) -> Option<LinkEvent> {
        None
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn caps(&self) -> Caps {
        Caps::default()
    }
}

/// An output of three shards, the first of them on its own core.
struct Bench {
    pool: FramePool,
    port: Narrow,
    output: Output,
    own: OutQueue,
    rings: [Ring<OutBurst>; 2],
}

/// What a shard hands over: frames by their place in the input, which is also their time.
#[derive(Clone, Copy, Debug)]
enum Say {
    Frame(u64),
    Begin,
    End,
}
use Say::{Begin, End, Frame as F};

impl Bench {
    fn new() -> Self {
        let port = Narrow::default();
        Self {
            pool: FramePool::new(PoolSettings { small: 4096, mtu: 2, jumbo: 2, gso: 2 }).unwrap(),
            output: Output::new(Box::new(port.clone()), 3),
            port,
            own: OutQueue::new(1024),
            rings: [Ring::new(512), Ring::new(512)],
        }
    }

    /// Each item in a burst of its own, so that no burst tells what belongs together.
    fn say(&mut self, shard: usize, items: &[Say]) {
        for item in items {
            let item = match item {
                F(ordinal) => {
                    let mut frame = self.pool.frame_from(&[0; 60]).unwrap();
                    frame.stamp(Nanos(ordinal / 4), *ordinal);
                    OutItem::Frame(frame)
                }
                Begin => OutItem::FlushBegin,
                End => OutItem::FlushEnd,
            };
            match shard {
                0 => self.own.push(item),
                other => self.rings[other - 1].push(OutBurst::from_iter([item])).unwrap(),
            }
        }
    }

    fn poll(&mut self, room: usize) -> Vec<u64> {
        *self.port.room.lock().unwrap() = room;
        let feeds = [Feed::Own, Feed::Ring(&self.rings[0]), Feed::Ring(&self.rings[1])];
        // One frame a poll; and what becomes ready within a poll goes with the next.
        for _ in 0..=room + 1 {
            self.output.poll(&mut self.pool, Nanos::ZERO, &mut self.own, &feeds, Haste::Now);
        }
        self.port.took()
    }

    fn is_drained(&self) -> bool {
        let feeds = [Feed::Own, Feed::Ring(&self.rings[0]), Feed::Ring(&self.rings[1])];
        self.output.is_drained(&self.own, &feeds)
    }
}

#[test]
fn a_flush_leaves_merged_by_arrival() {
    let mut bench = Bench::new();
    bench.say(0, &[Begin, F(1), F(4), F(9), End, F(20)]);
    bench.say(1, &[Begin, F(2), F(3), F(10), End, F(21)]);
    bench.say(2, &[Begin, F(0), F(11), F(12), End, F(22)]);
    let mut took = bench.poll(100);
    took[9..].sort_unstable();
    assert_eq!(took, [0, 1, 2, 3, 4, 9, 10, 11, 12, 20, 21, 22]);
    assert!(bench.is_drained());
    assert_eq!(bench.pool.frames_out(), 0);
}

#[test]
fn nothing_new_passes_a_late_or_empty_flush() {
    let mut bench = Bench::new();
    bench.say(0, &[Begin, F(5), End, F(30)]);
    bench.say(1, &[F(1), Begin, End, F(31)]);
    assert_eq!(
        bench.poll(100),
        [1],
        "before its flush a shard's frames leave, in a flush only with all others"
    );
    bench.say(2, &[F(2), Begin]);
    assert_eq!(bench.poll(100), [1, 2], "the third may still have an older one");
    bench.say(2, &[F(4)]);
    assert_eq!(bench.poll(100), [1, 2, 4]);
    bench.say(2, &[F(6)]);
    assert_eq!(bench.poll(100), [1, 2, 4, 5, 6]);
    assert!(!bench.is_drained());
    bench.say(2, &[End, F(32)]);
    let mut took = bench.poll(100);
    took[5..].sort_unstable();
    assert_eq!(took, [1, 2, 4, 5, 6, 30, 31, 32]);
    assert!(bench.is_drained());
}

#[test]
fn an_output_that_takes_one_frame_at_a_time_gets_them_all_in_order() {
    let mut bench = Bench::new();
    let mut ordinal = 0..;
    let mut flushed = Vec::new();
    let mut sizes = [0; 3];
    for flush in 0..20 {
        for shard in [0, 1, 2] {
            bench.say(shard, &[Begin]);
        }
        // Shards in turn, one of them without a frame.
        for turn in 0..15 {
            let shard = (turn + flush) % 3;
            if shard != flush % 3 {
                let next = ordinal.next().unwrap();
                bench.say(shard, &[F(next)]);
                flushed.push(next);
            }
        }
        for (shard, size) in sizes.iter_mut().enumerate() {
            bench.say(shard, &[End, F(1_000_000 + ordinal.next().unwrap())]);
            *size += 1;
        }
    }
    let mut took = Vec::new();
    for _ in 0..2_000 {
        let before = took.len();
        took = bench.poll(1);
        assert!(took.len() <= before + 1);
    }
    assert!(bench.is_drained());
    let (old, new): (Vec<u64>, Vec<u64>) = took.iter().partition(|ordinal| **ordinal < 1_000_000);
    assert_eq!(old, flushed);
    assert_eq!(new.len(), sizes.iter().sum::<usize>());
    // Whatever is new after one flush leaves before the next.
    let kinds: Vec<_> = took.iter().map(|ordinal| *ordinal < 1_000_000).collect();
    assert_eq!(kinds.chunk_by(|a, b| a == b).map(<[bool]>::len).collect::<Vec<_>>(), [10, 3].repeat(20));
}

#[test]
fn a_queue_moves_into_its_ring_as_far_as_there_is_room() {
    let mut pool = FramePool::new(PoolSettings { small: 256, mtu: 2, jumbo: 2, gso: 2 }).unwrap();
    let mut queue = OutQueue::new(256);
    for ordinal in 0..200 {
        let mut frame = pool.frame_from(&[0; 60]).unwrap();
        frame.stamp(Nanos::ZERO, ordinal);
        queue.push(OutItem::Frame(frame));
    }
    let ring: Ring<OutBurst> = Ring::new(2);
    let mut got = Vec::new();
    while !queue.is_empty() {
        assert!(queue.hand_over(&ring));
        assert!(queue.is_empty() || !queue.hand_over(&ring), "a full ring takes nothing");
        while let Some(burst) = ring.pop() {
            got.extend(burst.into_iter().filter_map(|item| match item {
                OutItem::Frame(frame) => Some(frame.ordinal()),
                OutItem::FlushBegin | OutItem::FlushEnd => None,
            }));
        }
    }
    assert!(got.into_iter().eq(0..200));
}

#[test]
fn what_leaves_waits_for_what_follows_and_not_for_long() {
    let mut bench = Bench::new();
    let feeds = [Feed::Own];
    *bench.port.room.lock().unwrap() = 1000;
    let mut poll = |ordinal: Option<u64>, haste| {
        if let Some(ordinal) = ordinal {
            bench.say(0, &[F(ordinal)]);
        }
        let moved = bench.output.poll(&mut bench.pool, Nanos::ZERO, &mut bench.own, &feeds, haste);
        assert_eq!(moved, ordinal.is_some());
        let (flushes, looks) = *bench.port.calls.lock().unwrap();
        (bench.output.is_blocked(), flushes, looks)
    };
    // The link is looked at first.
    assert_eq!(poll(Some(0), Haste::Now), (false, 1, 1));
    for ordinal in 1..=8 {
        assert_eq!(poll(Some(ordinal), Haste::MoreFollows), (true, 1, 1));
    }
    assert_eq!(poll(Some(9), Haste::MoreFollows), (false, 2, 1), "not for ever");
    assert_eq!(poll(Some(10), Haste::MoreFollows), (true, 2, 1));
    assert_eq!(poll(None, Haste::Now), (false, 3, 1), "nothing follows");
    assert_eq!(poll(None, Haste::Now), (false, 4, 2), "with nothing to do the link is looked at each time");
    for ordinal in 11..=11 + u64::from(UNWATCHED) {
        poll(Some(ordinal), Haste::Now);
    }
    assert_eq!(poll(None, Haste::Now).2, 4, "and now and then with much to do");
}
