//! Faults happen as often as told, equally each time, and lose no slot.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use proptest::prelude::*;

use super::{Fault, FaultPort, FaultSettings, Rate};
use crate::{Burst, Caps, FramePool, LinkEvent, Nanos, PoolSettings, Port, RxState};

/// Frames in, frames out, all in memory.
#[derive(Debug, Default)]
struct Memory {
    inbound: VecDeque<Vec<u8>>,
    outbound: Vec<Vec<u8>>,
    received: u64,
}

impl Port for Memory {
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        while !burst.is_full() {
            let Some(bytes) = self.inbound.pop_front() else { return RxState::Empty };
            let Some(mut frame) = pool.frame_from(&bytes) else {
                self.inbound.push_front(bytes);
                return RxState::PoolEmpty;
            };
            frame.stamp(now, self.received);
            self.received += 1;
            burst.push(frame);
        }
        RxState::More
    }

    fn tx_burst(&mut self, pool: &mut FramePool, _now: Nanos, burst: &mut Burst) {
        for frame in burst.drain(..) {
            self.outbound.push(frame.bytes().to_vec());
            pool.recycle(frame);
        }
    }

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

fn pool() -> FramePool {
    FramePool::new(PoolSettings { small: 256, mtu: 256, jumbo: 2, gso: 2 }).unwrap()
}

fn numbered(count: u32) -> VecDeque<Vec<u8>> {
    (0..count).map(|number| [&number.to_be_bytes()[..], &[0xaa; 60]].concat()).collect()
}

/// What comes out of a faulty input polled every 100 µs for a second, each with its time.
fn received(settings: &str, count: u32) -> (Vec<(Nanos, Vec<u8>)>, FaultPort<Memory>) {
    let inner = Memory { inbound: numbered(count), ..Memory::default() };
    let mut port = FaultPort::new(inner, &settings.parse().unwrap());
    let (mut pool, mut out, mut next) = (pool(), Vec::new(), 0);
    for turn in 0..10_000 {
        let now = Nanos(turn * 100_000);
        let mut burst = Burst::new();
        port.rx_burst(&mut pool, now, &mut burst);
        for frame in burst {
            assert_eq!((frame.arrival(), frame.ordinal()), (now, next), "stamped as received");
            next += 1;
            out.push((now, frame.bytes().to_vec()));
            pool.recycle(frame);
        }
    }
    assert_eq!(pool.frames_out(), 0, "every frame came home");
    (out, port)
}

fn numbers(frames: &[(Nanos, Vec<u8>)]) -> Vec<u32> {
    frames.iter().map(|(_, frame)| u32::from_be_bytes(frame[..4].try_into().unwrap())).collect()
}

#[test]
fn drops_are_about_as_many_as_told_and_the_same_each_time() {
    let (out, port) = received("drop=0.1,seed=3", 10_000);
    let dropped = port.counts().of(Fault::Drop);
    assert!((800..1_200).contains(&dropped), "{dropped}");
    assert_eq!(u64::try_from(out.len()).unwrap() + dropped, 10_000);
    assert_eq!(out, received("drop=0.1,seed=3", 10_000).0);
    assert_ne!(out, received("drop=0.1,seed=4", 10_000).0);
}

#[test]
fn a_duplicate_follows_and_all_else_stays() {
    let (out, port) = received("duplicate=0.2", 1_000);
    assert_eq!(out.len(), 1_000 + usize::try_from(port.counts().of(Fault::Duplicate)).unwrap());
    let mut numbers = numbers(&out);
    assert!(numbers.is_sorted() && numbers.len() > 1_100);
    numbers.dedup();
    assert_eq!(numbers.len(), 1_000);
}

#[test]
fn reordering_loses_nothing_and_even_the_last_comes() {
    let (out, port) = received("reorder=0.3", 1_000);
    let mut numbers = numbers(&out);
    assert!(!numbers.is_sorted() && port.counts().of(Fault::Reorder) > 200);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
    assert_eq!(received("reorder=1", 1).0.len(), 1);
}

#[test]
fn corruption_and_truncation_change_what_they_say() {
    let (out, port) = received("corrupt=1", 200);
    assert!(out.iter().zip(numbered(200)).all(|((_, got), sent)| got.len() == sent.len()));
    assert!(out.iter().zip(numbered(200)).filter(|((_, got), sent)| got != sent).count() > 190);
    assert_eq!(port.counts().of(Fault::Corrupt), 200);
    let (out, _) = received("truncate=1", 200);
    assert!(out.iter().all(|(_, got)| got.len() < 64));
    assert!(out.iter().any(|(_, got)| got.is_empty()) && out.iter().any(|(_, got)| got.len() > 50));
}

#[test]
fn a_delay_keeps_the_order_and_its_bound() {
    let (out, _) = received("delay=5ms", 100);
    assert!(numbers(&out).is_sorted() && out.len() == 100);
    let latest = out.last().unwrap().0;
    assert!(latest > Nanos(4_000_000) && latest < Nanos(6_000_000), "{latest}");
}

#[test]
fn a_stall_stops_everything_for_its_time() {
    let (out, port) = received("stall=0.01,stall_time=50ms", 500);
    assert_eq!(out.len(), 500);
    let stalls = port.counts().of(Fault::Stall);
    assert!(stalls > 0 && out.last().unwrap().0 >= Nanos(50_000_000), "{stalls}");
}

#[test]
fn an_output_has_the_same_faults_and_holds_back_without_room() {
    let settings = "reorder=0.2,delay=1ms,depth=8".parse::<FaultSettings>().unwrap();
    let mut port = FaultPort::new(Memory::default(), &settings);
    let (mut pool, mut left, mut refused) = (pool(), numbered(300), false);
    let mut burst = Burst::new();
    for turn in 0..1_000 {
        let now = Nanos(turn * 100_000);
        while !burst.is_full() && !left.is_empty() {
            burst.push(pool.frame_from(&left.pop_front().unwrap()).unwrap());
        }
        port.rx_burst(&mut pool, now, &mut Burst::new());
        port.tx_burst(&mut pool, now, &mut burst);
        refused |= !burst.is_empty();
    }
    assert!(refused, "eight frames may wait");
    assert!(port.flush() && port.inner.outbound.len() == 300);
    assert_eq!(pool.frames_out(), 0);
}

#[test]
fn texts_that_say_nothing_are_refused_with_what_to_write() {
    for (text, problem) in [
        ("drop", "\"drop\" is not KEY=VALUE"),
        ("drop=1.5", "drop=1.5 is no share"),
        ("drop=-1", "drop=-1 is no share"),
        ("drop=0.1,drop=0.2", "given twice"),
        ("lose=0.1", "there is no fault \"lose\""),
        ("delay=5", "delay=5 is no time"),
        ("delay=2h", "delay=2h is no time"),
        ("seed=x", "seed=x is no number"),
        ("depth=0", "depth=0 is no number"),
    ] {
        let error = text.parse::<FaultSettings>().unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains("delay=5ms"), "{error}");
    }
    let settings: FaultSettings = "drop=.5,delay=200us,stall=1,seed=9".parse().unwrap();
    let rates = [settings.rate(Fault::Drop), settings.rate(Fault::Stall), settings.rate(Fault::Corrupt)];
    assert_eq!(rates, [Rate::millionths(500_000), Rate::millionths(1_000_000), Rate::NEVER]);
    assert_eq!((settings.delay, settings.seed), (Duration::from_micros(200), 9));
}

proptest! {
    /// Without faults nobody can tell the port from the one inside.
    #[test]
    fn without_faults_it_is_transparent(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..120),
        seed: u64,
    ) {
        let settings: FaultSettings = format!("seed={seed}").parse().unwrap();
        let mut bare = Memory { inbound: frames.clone().into(), ..Memory::default() };
        let inner = Memory { inbound: frames.into(), ..Memory::default() };
        let mut faulty = FaultPort::new(inner, &settings);
        let (mut one, mut other) = (pool(), pool());
        for turn in 0..6 {
            let now = Nanos(turn);
            let (mut expected, mut got) = (Burst::new(), Burst::new());
            let states = [bare.rx_burst(&mut one, now, &mut expected), faulty.rx_burst(&mut other, now, &mut got)];
            prop_assert_eq!(states[0], states[1]);
            let content = |burst: &Burst| burst.iter().map(|frame| {
                (frame.bytes().to_vec(), frame.arrival(), frame.ordinal())
            }).collect::<Vec<_>>();
            prop_assert_eq!(content(&expected), content(&got));
            bare.tx_burst(&mut one, now, &mut expected);
            faulty.tx_burst(&mut other, now, &mut got);
            prop_assert!(got.is_empty() && faulty.flush());
            prop_assert_eq!(&bare.outbound, &faulty.inner.outbound);
        }
        for fault in Fault::ALL {
            prop_assert_eq!(faulty.counts().of(fault), 0);
        }
    }
}
