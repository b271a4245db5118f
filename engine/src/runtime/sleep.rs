//! What a core does when there is nothing to do.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use arrayvec::ArrayVec;
use pmd_tap::Nanos;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::{MAX_PAIRS, PollMode};

/// How long a core looks for work before it sleeps. Longer than the gap between frames at 1,000 a second, so that
/// such traffic is never late for a wake-up.
const PATIENCE: Duration = Duration::from_millis(2);

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

    /// There was work at `now`.
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

/// What a thread waits for.
pub(super) struct Sockets<'a> {
    fds: ArrayVec<PollFd<'a>, { 1 + 3 * MAX_PAIRS }>,
}

impl<'a> Sockets<'a> {
    /// Its waker, to begin with.
    pub(super) fn new(waker: BorrowedFd<'a>) -> Self {
        let mut fds = ArrayVec::new();
        fds.push(PollFd::from_borrowed_fd(waker, PollFlags::IN));
        Self { fds }
    }

    /// What finds no room is looked at with the next tick; the configuration lets no more pairs in than there is room for.
    fn add(&mut self, socket: BorrowedFd<'a>, flags: PollFlags) {
        let _ = self.fds.try_push(PollFd::from_borrowed_fd(socket, flags));
    }

    /// An input, which may become readable.
    pub(super) fn add_input(&mut self, socket: BorrowedFd<'a>) {
        self.add(socket, PollFlags::IN);
    }

    /// An output, which may lose its other end, and take more if it is blocked.
    pub(super) fn add_output(&mut self, socket: BorrowedFd<'a>, state: OutputState) {
        self.add(
            socket,
            match state {
                OutputState::Blocked => PollFlags::IN | PollFlags::OUT,
                OutputState::Free => PollFlags::IN,
            },
        );
    }
}

/// Sleeps until the waker is rung, an input is readable, an output can take more, or `most` is over.
pub(super) fn wait(mut sockets: Sockets<'_>, most: Duration) {
    let timeout = Timespec {
        tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(most.subsec_nanos()),
    };
    // An interrupted or failed wait is a short one.
    let _ = poll(&mut sockets.fds, Some(&timeout));
}
