//! Who takes simulated checkpoints. What it does and when is the world's decision; here is only the seam.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use colo_engine::checkpoint::{Backend, BackendEvent, Request};
use colo_engine::verdict::Reason;
use pmd_tap::Nanos;

use super::ports::Both;

/// Between the engine and whoever takes checkpoints.
#[derive(Debug, Default)]
pub struct Talks {
    /// Told when the engine looks, unless the link is down.
    pub events: VecDeque<BackendEvent>,
    /// Whether what is told arrives.
    pub deaf_until: Nanos,
    /// Requests that no commit has answered.
    pub outstanding: u32,
    /// Most of them at a time.
    pub most_outstanding: u32,
    /// Requests the world has not looked at.
    pub asked: Vec<Reason>,
    /// Whether the engine took the boundary after the last pause.
    pub boundaries: u64,
}

/// The engine's end.
#[derive(Debug)]
pub struct SimBackend(pub Both<Talks>);

impl Backend for SimBackend {
    fn request(&mut self, request: &Request) {
        let mut talks = self.0.get();
        talks.outstanding += 1;
        talks.most_outstanding = talks.most_outstanding.max(talks.outstanding);
        talks.asked.push(request.cause.reason);
    }

    fn poll(&mut self, now: Nanos) -> Option<BackendEvent> {
        let mut talks = self.0.get();
        if now < talks.deaf_until {
            return None;
        }
        let event = talks.events.pop_front()?;
        // One that is given up is asked for again.
        if matches!(event, BackendEvent::Committed | BackendEvent::Abandoned(_)) {
            talks.outstanding = 0;
        }
        Some(event)
    }

    fn boundary_taken(&mut self) {
        self.0.get().boundaries += 1;
    }

    fn readiness(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None, None]
    }

    fn next_deadline(&self) -> Option<Nanos> {
        None
    }
}
