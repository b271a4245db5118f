//! The epoch boundary and the end of an engine of two cores, with a control thread and somebody who stops it, in many
//! orders of their steps. What must hold: nothing new leaves before every shard has flushed, a flush leaves by arrival,
//! no frame is lost or leaves twice, and all threads end.

use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner, thread};

use crate::engine::{Came, Coming, Core, Decision, Fault, Kind, Shared};

/// Orders tried of each kind. A planted fault is found in some tens to hundreds of them.
const ORDERS: usize = 3_000;
/// Where the orders come from: the same ones each time, so that a planted fault that is found is found.
const SEED: u64 = 1;
/// Changes of priority in an order (probabilistic concurrency testing).
const CHANGES: usize = 3;
const COMMITS: &[Decision] = &[Decision::Commit, Decision::Commit];

/// When the engine is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    AfterTheCheckpoints,
    /// And when every frame that waits for nobody is out.
    WhenAllHasLeft,
    AtAnyTime,
}

const HELD_0: Coming = (0, Kind::Held);
const HELD_1: Coming = (1, Kind::Held);
const LEAVES_0: Coming = (0, Kind::Leaves);
const LEAVES_1: Coming = (1, Kind::Leaves);

/// How many of the primary's frames leave at once.
const LEAVING: usize = 4;

/// What the primary sends: frames of both shards, held ones and such as leave at once, in batches.
fn primary() -> Vec<Vec<Coming>> {
    vec![
        vec![HELD_1, HELD_0],
        vec![LEAVES_0, LEAVES_1],
        vec![HELD_0, HELD_1, HELD_1],
        vec![LEAVES_1],
        vec![LEAVES_0],
    ]
}

/// The primary frames that wait for a flush, by their place.
fn is_held(place: u64) -> bool {
    let frames: Vec<_> = primary().into_iter().flatten().collect();
    frames[usize::try_from(place).unwrap()].1 == Kind::Held
}

fn one_order(fault: Fault, stop: Stop, decisions: &'static [Decision]) {
    let shared = Arc::new(Shared::new(fault));
    let inputs = [primary(), vec![vec![HELD_0], vec![HELD_1]]];
    let cores: Vec<_> = (0..2)
        .zip(inputs)
        .map(|(index, input)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || Core::new(&shared, index, &input).run())
        })
        .collect();
    let control = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.control(decisions))
    };
    let decided = match stop {
        Stop::AfterTheCheckpoints | Stop::WhenAllHasLeft => {
            let decided = control.join().unwrap();
            let leaving = || shared.sent.lock().unwrap().iter().filter(|place| !is_held(**place)).count();
            while stop == Stop::WhenAllHasLeft && leaving() < LEAVING {
                thread::yield_now();
            }
            shared.stop();
            assert_eq!(decided, decisions.len());
            decided
        }
        Stop::AtAnyTime => {
            shared.stop();
            control.join().unwrap()
        }
    };
    let came: Vec<Came> = cores.into_iter().map(|core| core.join().unwrap()).collect();
    judge(&shared.sent.lock().unwrap(), &came, &decisions[..decided]);
}

fn judge(sent: &[u64], came: &[Came], decisions: &[Decision]) {
    let decided = came[0].boundaries.iter().zip(decisions);
    let boundaries: Vec<_> =
        decided.filter(|(_, decision)| **decision == Decision::Commit).map(|(place, _)| place).collect();
    let committed = boundaries.len();
    let epoch_of = |place: u64| boundaries.iter().filter(|boundary| place >= ***boundary).count();
    for pair in sent.windows(2) {
        assert!(
            epoch_of(pair[0]) <= epoch_of(pair[1]),
            "new before old: {sent:?}, boundaries {boundaries:?}"
        );
    }
    let flushed: Vec<u64> = sent.iter().copied().filter(|place| is_held(*place)).collect();
    assert!(flushed.is_sorted(), "not by arrival: {flushed:?}");
    assert!(
        flushed.iter().all(|place| epoch_of(*place) < committed),
        "flushed without a commit: {flushed:?}"
    );
    let mut all: Vec<u64> = sent.iter().chain(&came[0].held).chain(&came[1].held).copied().collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..came[0].received), "lost or twice: {sent:?} of {}", came[0].received);
}

/// [`SEED`], or `COLO_MODEL_SEED` for other orders.
fn seed() -> u64 {
    std::env::var("COLO_MODEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED)
}

fn many_orders(fault: Fault, stop: Stop) {
    many_orders_of(fault, stop, COMMITS);
}

fn many_orders_of(fault: Fault, stop: Stop, decisions: &'static [Decision]) {
    let config = || {
        let mut config = Config::new();
        config.max_steps = MaxSteps::FailAfter(100_000);
        config
    };
    // It prefers one thread for long, so nobody may wait by looking again and again.
    if stop != Stop::WhenAllHasLeft {
        Runner::new(PctScheduler::new_from_seed(seed(), CHANGES, ORDERS), config())
            .run(move || one_order(fault, stop, decisions));
    }
    Runner::new(RandomScheduler::new_from_seed(seed(), ORDERS), config())
        .run(move || one_order(fault, stop, decisions));
}

#[test]
fn nothing_new_leaves_before_all_shards_have_flushed() {
    many_orders(Fault::None, Stop::AfterTheCheckpoints);
}

#[test]
fn nothing_is_lost_when_it_is_stopped_at_any_time() {
    many_orders(Fault::None, Stop::AtAnyTime);
}

#[test]
#[should_panic(expected = "new before old")]
fn a_shard_that_does_not_wait_for_its_flush_is_found() {
    many_orders(Fault::OpenGate, Stop::AfterTheCheckpoints);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_commit_that_wakes_nobody_is_found() {
    many_orders(Fault::SilentCommit, Stop::AfterTheCheckpoints);
}

#[test]
fn nothing_leaves_for_a_boundary_that_is_void() {
    for decisions in [&[Decision::GiveUp, Decision::Commit], &[Decision::Commit, Decision::GiveUp]] {
        many_orders_of(Fault::None, Stop::AfterTheCheckpoints, decisions);
        many_orders_of(Fault::None, Stop::AtAnyTime, decisions);
    }
}

#[test]
#[should_panic(expected = "flushed without a commit")]
fn a_shard_that_flushes_at_a_void_boundary_is_found() {
    many_orders_of(Fault::FlushesAnyway, Stop::AfterTheCheckpoints, &[Decision::Commit, Decision::GiveUp]);
}

#[test]
fn nothing_lies_about_while_nothing_else_happens() {
    many_orders(Fault::None, Stop::WhenAllHasLeft);
}

#[test]
#[should_panic(expected = "max_steps")]
fn a_core_that_sleeps_on_what_it_could_not_push_is_found() {
    many_orders(Fault::ForgottenQueue, Stop::WhenAllHasLeft);
}

#[test]
#[should_panic(expected = "lost or twice")]
fn a_shard_that_ends_before_its_rings_are_empty_is_found() {
    many_orders(Fault::HastyEnd, Stop::AtAnyTime);
}

#[test]
#[should_panic(expected = "lost or twice")]
fn a_shard_that_looks_too_early_into_its_rings_is_found() {
    many_orders(Fault::LooksTooEarly, Stop::AfterTheCheckpoints);
}
