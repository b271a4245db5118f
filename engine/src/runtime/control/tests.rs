//! The control thread's rounds, with a back end that says what it is told to say.

use std::os::fd::BorrowedFd;

use pmd_tap::Clock;

use super::*;
use crate::checkpoint::LifecycleSettings;
use crate::policy::RuleSet;
use crate::runtime::shared::wakers;

/// Told a commit that nobody asked for, it counts what is asked for.
struct Told(Option<BackendEvent>);

impl Backend for Told {
    fn request(&mut self, _request: &Request) {}

    fn poll(&mut self, _now: Nanos) -> Option<BackendEvent> {
        self.0.take()
    }

    fn readiness(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None, None]
    }

    fn next_deadline(&self) -> Option<Nanos> {
        None
    }
}

fn settings_of(deadline: Option<Duration>) -> ControlSettings {
    ControlSettings { shards: 1, deadline, modes: ModeSettings::default(), loss: LossSettings::default() }
}

#[test]
fn nothing_is_asked_for_while_a_commit_waits_for_its_boundary() {
    let rules = RuleSet::empty(crate::compare::CompareSettings::default());
    let shared = Arc::new(Shared::new(Clock::start(), wakers(1).unwrap(), 2, 1, rules).unwrap());
    let counters = Arc::new(Mutex::new(ControlCounters::default()));
    let settings = LifecycleSettings { min_interval: Duration::ZERO, ..LifecycleSettings::default() };
    let lifecycle = Lifecycle::new(settings, Nanos::ZERO);
    let backend = Box::new(Told(Some(BackendEvent::Committed)));
    let mut control = Control::new(
        Arc::clone(&shared),
        lifecycle,
        backend,
        Arc::clone(&counters),
        Silence::new(Vec::new()),
        settings_of(None),
    );
    let asked = || {
        let checkpoints = &counters.lock().unwrap().checkpoints;
        (checkpoints.requested.timeout, checkpoints.absorbed.timeout, checkpoints.completed)
    };
    let timeout = Cause { reason: Reason::Timeout, at: Nanos(1), flow: None, detail: Detail::None };
    control.turn(Nanos(1));
    assert_eq!((shared.boundary(), shared.committed()), (1, 0), "the inputs are still to mark it");
    shared.ask(0, timeout);
    control.turn(Nanos(2));
    assert_eq!(asked(), (0, 1, 0), "the commit under way answers it");
    shared.count_marked();
    shared.count_marked();
    control.turn(Nanos(3));
    shared.count_flushed();
    control.turn(Nanos(4));
    assert_eq!(asked(), (0, 1, 1));
    shared.ask(1, timeout);
    control.turn(Nanos(5));
    assert_eq!(asked(), (1, 1, 1), "the new epoch's causes count as ever");
}
