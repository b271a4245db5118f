//! Frames on their way to shards whose rings are full, and marks behind them.

use pmd_tap::{Caps, LinkEvent, PoolSettings};

use super::*;

/// An input of many flows that never ends.
struct Endless {
    sent: u64,
}

/// A UDP datagram of the flow with this number.
fn datagram(flow: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(9, flow)
        .write(&mut frame, &[0; 8])
        .unwrap();
    frame
}

impl Port for Endless {
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        while !burst.is_full() {
            let flow = u16::try_from(self.sent % 97).unwrap();
            let Some(mut frame) = pool.frame_from(&datagram(flow)) else { return RxState::PoolEmpty };
            frame.stamp(now, self.sent);
            self.sent += 1;
            burst.push(frame);
        }
        RxState::More
    }

    fn tx_burst(&mut self, _: &mut FramePool, _: Nanos, _: &mut Burst) {}

    fn flush(&mut self) -> bool {
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

fn input(max_frames: usize, shards: usize) -> Input {
    let pool = FramePool::new(PoolSettings { small: 2_048, mtu: 2, jumbo: 2, gso: 2 }).unwrap();
    let fragments =
        FragmentSettings { max_fragments: 16, compare_timeout: std::time::Duration::from_millis(400) };
    let port = Box::new(Endless { sent: 0 });
    Input::new(Side::Primary, port, pool, FlowHasher::fixed(), max_frames, shards, fragments)
}

/// What came to a shard: frames by their place in the input, and the mark of an epoch as 1,000,000 + epoch.
fn take(ring: &Ring<RingItem>, most: usize, got: &mut Vec<u64>) {
    for item in (0..most).map_while(|_| ring.pop()) {
        match item {
            RingItem::Frames(burst) => got.extend(burst.frames().map(Frame::ordinal)),
            RingItem::Mark(epoch) => got.push(1_000_000 + u64::from(epoch)),
        }
    }
}

#[test]
fn full_rings_lose_and_reorder_nothing_and_marks_stay_behind_old_frames() {
    let rings = [1, 2].map(Ring::new);
    let lanes = [Lane::Own, Lane::Ring(&rings[0]), Lane::Ring(&rings[1])];
    let mut input = input(2_048, lanes.len());
    let mut got = [Vec::new(), Vec::new(), Vec::new()];
    let mut own = WorkBurst::new();
    let mut epoch = 0;
    let mut boundaries = Vec::new();
    for round in 0..3_000_u32 {
        // The second ring's reader is slow, the first one's stalls now and then.
        if round % 7 < 4 {
            take(&rings[0], 1, &mut got[1]);
        }
        if round % 3 == 0 {
            take(&rings[1], 1, &mut got[2]);
        }
        if !input.hand_over(&lanes, |_| {}) {
            assert!(input.has_gathered());
            continue;
        }
        if round / 100 > epoch {
            // As a core does it: nothing more is received until every shard has its mark.
            let received = input.received().0;
            if input.mark(epoch + 1, &lanes, || got[0].push(1_000_001 + u64::from(epoch)), |_| {}) {
                epoch += 1;
                boundaries.push(received);
                assert!(!input.must_mark(epoch));
            } else {
                assert!(input.must_mark(epoch + 1));
            }
            continue;
        }
        assert_eq!(input.poll(Nanos(1), &lanes, &mut own, |_| {}), RxState::More);
        got[0].extend(own.drain().map(|work| work.frame.ordinal()));
    }
    while !input.hand_over(&lanes, |_| {}) || rings.iter().any(|ring| !ring.is_empty()) {
        take(&rings[0], 1, &mut got[1]);
        take(&rings[1], 1, &mut got[2]);
    }
    assert!(boundaries.len() >= 20, "{}", boundaries.len());
    let mut all = Vec::new();
    for got in &got {
        assert!(got.len() > 1_000);
        let frames = || got.iter().filter(|ordinal| **ordinal < 1_000_000);
        assert!(frames().is_sorted(), "in the order of the input");
        all.extend(frames().copied());
        let parts: Vec<_> = got.split(|ordinal| *ordinal > 1_000_000).collect();
        assert_eq!(parts.len(), boundaries.len() + 1, "each mark once");
        for (part, boundary) in parts.iter().zip(&boundaries) {
            assert!(part.iter().all(|ordinal| ordinal < boundary), "an old frame before its mark");
        }
        for (part, boundary) in parts[1..].iter().zip(&boundaries) {
            assert!(part.iter().all(|ordinal| ordinal >= boundary), "a new frame behind its mark");
        }
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..input.received().0), "every frame once");
}

#[test]
fn pressure_counts_frames_that_are_out() {
    let ring = Ring::new(64);
    let lanes = [Lane::Ring(&ring)];
    let mut input = input(64, 1);
    let mut own = WorkBurst::new();
    assert_eq!(input.pressure(), Pressure::Low);
    for expected in [Pressure::High, Pressure::Full] {
        input.poll(Nanos::ZERO, &lanes, &mut own, |_| {});
        assert!(input.hand_over(&lanes, |_| {}));
        assert_eq!(input.pressure(), expected);
    }
    drop(ring.pop());
    assert_eq!(input.pressure(), Pressure::High, "frames that came home from elsewhere do not count");
}

#[test]
fn starving_is_said_once() {
    let ring = Ring::new(1_024);
    let lanes = [Lane::Ring(&ring)];
    let mut input = input(1 << 20, 1);
    let mut own = WorkBurst::new();
    let mut begins = 0;
    for _ in 0..200 {
        input.poll(Nanos::ZERO, &lanes, &mut own, |_| {});
        assert!(input.hand_over(&lanes, |_| {}));
        begins += usize::from(input.begins_to_starve());
    }
    assert_eq!(begins, 1);
    while ring.pop().is_some() {}
    for _ in 0..200 {
        input.poll(Nanos::ZERO, &lanes, &mut own, |_| {});
        assert!(input.hand_over(&lanes, |_| {}));
        begins += usize::from(input.begins_to_starve());
    }
    assert_eq!(begins, 2);
}
