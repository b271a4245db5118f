//! Signs of life: every thread's number grows, idle or not, and a core that hangs in its port is seen.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use colo_engine::config::RunMode;
use colo_tests::wait::until;
use pmd_tap::{Burst, Caps, FramePool, LinkEvent, Nanos, Port, RxState};

use super::rig::{LAYOUTS, LIMIT, Live, ensure_that, patient};

/// A port whose receive does not return while it is told so.
struct Hanging(Arc<AtomicBool>);

impl Port for Hanging {
    fn rx_burst(&mut self, _: &mut FramePool, _: Nanos, _: &mut Burst) -> RxState {
        while self.0.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        RxState::Empty
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

/// Threads of `later` that have not moved since `before`.
fn still(before: &[u64], later: &[u64]) -> Vec<usize> {
    (0..before.len()).filter(|at| later[*at] == before[*at]).collect()
}

#[test]
fn every_thread_of_an_idle_engine_shows_life() -> Result<()> {
    for layout in LAYOUTS {
        let live = Live::start(&patient(layout))?;
        let before = live.engine.beats();
        let threads = layout.0 + usize::from(layout.1 == RunMode::Pipeline) + 1;
        assert_eq!(before.len(), threads, "{layout:?}");
        until("all move", LIMIT, || {
            let still = still(&before, &live.engine.beats());
            ensure_that(still.is_empty(), || format!("{layout:?}: {still:?} stand still"))
        })?;
    }
    Ok(())
}

#[test]
fn a_core_that_hangs_stands_still() -> Result<()> {
    let hangs = Arc::new(AtomicBool::new(false));
    let port = Box::new(Hanging(Arc::clone(&hangs)));
    let live = Live::start_with(&patient((2, RunMode::Workers)), |_| port)?;
    hangs.store(true, Ordering::SeqCst);
    // What it did before is published by then.
    std::thread::sleep(Duration::from_millis(100));
    let before = live.engine.beats();
    until("all others move", LIMIT, || {
        let still = still(&before, &live.engine.beats());
        ensure_that(still == [1], || format!("{still:?} stand still"))
    })?;
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(still(&before, &live.engine.beats()), [1]);
    hangs.store(false, Ordering::SeqCst);
    until("it moves again", LIMIT, || {
        ensure_that(still(&before, &live.engine.beats()).is_empty(), || "it stands still".to_owned())
    })
}
