//! Nobody takes checkpoints: a request commits by itself. For measurements and trials.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use pmd_tap::Nanos;

use super::{Backend, BackendEvent, Request};

/// Commits a request after a while, or never.
#[derive(Debug)]
pub struct NoBackend {
    commit_after: Option<Duration>,
    due: Option<Nanos>,
}

impl NoBackend {
    /// Commits `commit_after` each request; `None`: never.
    pub fn new(commit_after: Option<Duration>) -> Self {
        Self { commit_after, due: None }
    }
}

impl Backend for NoBackend {
    fn request(&mut self, request: &Request) {
        self.due = self.commit_after.map(|after| request.at + after);
    }

    fn poll(&mut self, now: Nanos) -> Option<BackendEvent> {
        self.due.take_if(|due| *due <= now).map(|_| BackendEvent::Committed)
    }

    fn begins_by_itself(&self) -> bool {
        false
    }

    fn readiness(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None, None]
    }

    fn next_deadline(&self) -> Option<Nanos> {
        self.due
    }
}
