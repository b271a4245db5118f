//! What a core does when there is nothing to do.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use arrayvec::ArrayVec;
use pmd_tap::Nanos;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::PollMode;

/// How long a core looks for work before it sleeps. Longer than the gap between frames at 10,000 a second, so that
/// such traffic is never late for a wake-up.
const PATIENCE: Duration = Duration::from_micros(200);

/// Decides when a core has looked for long enough.
#[derive(Debug)]
pub(super) struct Rest {
    mode: PollMode,
    last_work: Nanos,
}

impl Rest {
    pub(super) fn new(mode: PollMode) -> Self {
        Self { mode, last_work: Nanos::ZERO }
    }

    /// There was work at `now`, or a sleep.
    pub(super) fn is_fresh(&mut self, now: Nanos) {
        self.last_work = now;
    }

    /// Whether it is time to sleep. Until then others may have the core.
    pub(super) fn is_tired(&self, now: Nanos) -> bool {
        match self.mode {
            PollMode::Busy => {
                std::hint::spin_loop();
                false
            }
            PollMode::Adaptive if now.since(self.last_work) < PATIENCE => {
                std::thread::yield_now();
                false
            }
            PollMode::Adaptive => true,
        }
    }
}

/// Whether the output waits for its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputState {
    Blocked,
    Free,
}

impl From<bool> for OutputState {
    fn from(blocked: bool) -> Self {
        if blocked { Self::Blocked } else { Self::Free }
    }
}

/// Sleeps until the waker is rung, an input is readable, the output can take more, or `most` is over.
pub(super) fn wait<'a>(
    waker: BorrowedFd<'a>,
    inputs: impl Iterator<Item = BorrowedFd<'a>>,
    output: Option<BorrowedFd<'a>>,
    state: OutputState,
    most: Duration,
) {
    let mut fds: ArrayVec<PollFd<'_>, 8> = ArrayVec::new();
    fds.push(PollFd::from_borrowed_fd(waker, PollFlags::IN));
    for input in inputs.take(6) {
        fds.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
    }
    if let Some(output) = output {
        let flags = match state {
            OutputState::Blocked => PollFlags::IN | PollFlags::OUT,
            OutputState::Free => PollFlags::IN,
        };
        fds.push(PollFd::from_borrowed_fd(output, flags));
    }
    let timeout = Timespec {
        tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(most.subsec_nanos()),
    };
    // An interrupted or failed wait is a short one.
    let _ = poll(&mut fds, Some(&timeout));
}
