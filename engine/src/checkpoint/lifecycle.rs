//! One outstanding request at a time: causes in, requests out. Pure: `now` is an argument.
//!
//! ```text
//! idle → deferred (min_checkpoint_interval, checkpoint_delay) → requested → committed → idle
//! ```
//! Causes that come while a request is deferred or outstanding are absorbed: one checkpoint answers them all.

use std::time::Duration;

use pmd_tap::Nanos;

use crate::verdict::{Cause, Detail, Reason};

/// When requests may and must go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifecycleSettings {
    /// From a commit to the next request at least.
    pub min_interval: Duration,
    /// From a mismatch to its request, so that several are answered by one.
    pub delay: Duration,
    /// From a commit (or the start) to a periodic request.
    pub max_interval: Option<Duration>,
}

impl Default for LifecycleSettings {
    fn default() -> Self {
        Self {
            min_interval: Duration::from_millis(100),
            delay: Duration::from_millis(3),
            max_interval: Some(Duration::from_secs(10)),
        }
    }
}

/// A checkpoint that must be asked for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it goes out.
    pub at: Nanos,
    /// The first cause.
    pub cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Deferred { cause: Cause, due: Nanos },
    Requested { cause: Cause },
}

/// The state of checkpointing of one VM pair.
#[derive(Clone, Copy, Debug)]
pub struct Lifecycle {
    settings: LifecycleSettings,
    /// From a commit to a periodic request.
    period: Option<Duration>,
    state: State,
    started: Nanos,
    last_commit: Option<Nanos>,
    absorbed: u64,
}

impl Lifecycle {
    /// Nothing asked for yet; time runs from `now`.
    pub fn new(settings: LifecycleSettings, now: Nanos) -> Self {
        let period = settings.max_interval;
        Self { settings, period, state: State::Idle, started: now, last_commit: None, absorbed: 0 }
    }

    /// Causes that needed no request of their own.
    pub fn absorbed(&self) -> u64 {
        self.absorbed
    }

    /// A cause. Returns the request to make for it, if one is to be made now.
    pub fn handle_cause(&mut self, cause: Cause, now: Nanos) -> Option<Request> {
        match self.state {
            State::Idle => {
                self.state = State::Deferred { cause, due: self.due(&cause, now) };
            }
            State::Deferred { cause: first, due } => {
                self.absorbed += 1;
                self.state = State::Deferred { cause: first, due: due.min(self.due(&cause, now)) };
            }
            State::Requested { .. } => self.absorbed += 1,
        }
        self.poll_deferred(now)
    }

    fn due(&self, cause: &Cause, now: Nanos) -> Nanos {
        let delayed = if cause.reason == Reason::Mismatch { now + self.settings.delay } else { now };
        match self.last_commit {
            Some(commit) => delayed.max(commit + self.settings.min_interval),
            None => delayed,
        }
    }

    /// The deferred request, if it is due.
    pub fn poll_deferred(&mut self, now: Nanos) -> Option<Request> {
        match self.state {
            State::Deferred { cause, due } if due <= now => {
                self.state = State::Requested { cause };
                Some(Request { at: now, cause })
            }
            _ => None,
        }
    }

    /// The periodic request, if it is due.
    pub fn poll_periodic(&mut self, now: Nanos) -> Option<Request> {
        if self.periodic_due().is_none_or(|due| now < due) {
            return None;
        }
        self.handle_cause(Cause { reason: Reason::Periodic, at: now, flow: None, detail: Detail::None }, now)
    }

    fn periodic_due(&self) -> Option<Nanos> {
        match self.state {
            State::Idle => Some(self.last_commit.unwrap_or(self.started) + self.period?),
            State::Deferred { .. } | State::Requested { .. } => None,
        }
    }

    /// Puts other settings in force, for what is to come.
    pub fn replace(&mut self, settings: LifecycleSettings) {
        self.settings = settings;
    }

    /// What it goes by.
    pub fn settings(&self) -> LifecycleSettings {
        self.settings
    }

    /// Sets the time from a commit to a periodic request; `None`: there is none.
    pub fn set_period(&mut self, period: Option<Duration>) {
        self.period = period;
    }

    /// Nobody is asked any more: there is no secondary.
    pub fn cancel(&mut self) {
        self.state = State::Idle;
    }

    /// From a commit to the next request at least.
    pub fn min_interval(&self) -> Duration {
        self.settings.min_interval
    }

    /// The first cause of the request that is outstanding.
    pub fn requested(&self) -> Option<Cause> {
        match self.state {
            State::Requested { cause } => Some(cause),
            State::Idle | State::Deferred { .. } => None,
        }
    }

    /// A checkpoint was committed, asked for or not.
    pub fn handle_commit(&mut self, now: Nanos) {
        self.state = State::Idle;
        self.last_commit = Some(now);
    }

    /// When the deferred request is due.
    pub fn deferred_deadline(&self) -> Option<Nanos> {
        match self.state {
            State::Deferred { due, .. } => Some(due),
            State::Idle | State::Requested { .. } => None,
        }
    }

    /// When the periodic request is due.
    pub fn periodic_deadline(&self) -> Option<Nanos> {
        self.periodic_due()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn cause(reason: Reason, ms: u64) -> Cause {
        Cause { reason, at: Nanos(ms * MS), flow: None, detail: Detail::None }
    }

    fn lifecycle() -> Lifecycle {
        Lifecycle::new(LifecycleSettings::default(), Nanos::ZERO)
    }

    #[test]
    fn a_mismatch_waits_for_others_and_a_timeout_does_not() {
        let mut lifecycle = lifecycle();
        assert_eq!(lifecycle.handle_cause(cause(Reason::Mismatch, 10), Nanos(10 * MS)), None);
        assert_eq!(lifecycle.deferred_deadline(), Some(Nanos(13 * MS)));
        let request = lifecycle.handle_cause(cause(Reason::Timeout, 11), Nanos(11 * MS)).unwrap();
        assert_eq!((request.at, request.cause), (Nanos(11 * MS), cause(Reason::Mismatch, 10)));
        assert_eq!(lifecycle.handle_cause(cause(Reason::Timeout, 12), Nanos(12 * MS)), None);
        assert_eq!(lifecycle.absorbed(), 2);
    }

    #[test]
    fn requests_keep_their_distance_from_the_last_commit() {
        let mut lifecycle = lifecycle();
        lifecycle.handle_commit(Nanos(50 * MS));
        assert_eq!(lifecycle.handle_cause(cause(Reason::Timeout, 60), Nanos(60 * MS)), None);
        assert_eq!(lifecycle.poll_deferred(Nanos(149 * MS)), None);
        let request = lifecycle.poll_deferred(Nanos(150 * MS)).unwrap();
        assert_eq!(request.cause, cause(Reason::Timeout, 60), "the first cause's detail");
    }

    #[test]
    fn a_period_runs_from_the_last_commit_and_not_while_one_is_asked_for() {
        let mut lifecycle = lifecycle();
        assert_eq!(lifecycle.periodic_deadline(), Some(Nanos(10_000 * MS)));
        lifecycle.handle_commit(Nanos(1_000 * MS));
        assert_eq!(lifecycle.poll_periodic(Nanos(10_000 * MS)), None);
        let request = lifecycle.poll_periodic(Nanos(11_000 * MS)).unwrap();
        assert_eq!(request.cause.reason, Reason::Periodic);
        assert_eq!(lifecycle.periodic_deadline(), None);
    }
}
