//! The demo's world as a checkpoint back end: pause, copy, boundary, go on.

use std::os::fd::BorrowedFd;

use pmd_tap::Nanos;

use super::{Checkpointer, Paused};
use crate::checkpoint::{Backend, BackendEvent, Request};

/// Where a checkpoint stands.
#[derive(Debug)]
enum State {
    Idle,
    /// Asked for.
    Requested,
    /// The world stands still; the engine takes its boundary.
    Paused(Paused),
    /// The boundary is taken and the guests go on.
    Resumed,
}

/// Takes checkpoints of the demo's world.
#[derive(Debug)]
pub struct WorldBackend {
    checkpointer: Checkpointer,
    state: State,
}

impl WorldBackend {
    /// Of the world that `checkpointer` belongs to.
    pub fn new(checkpointer: Checkpointer) -> Self {
        Self { checkpointer, state: State::Idle }
    }
}

impl Backend for WorldBackend {
    fn request(&mut self, _request: &Request) {
        if matches!(self.state, State::Idle) {
            self.state = State::Requested;
        }
    }

    fn poll(&mut self, _now: Nanos) -> Option<BackendEvent> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Requested => match self.checkpointer.pause() {
                Ok(paused) => {
                    self.state = State::Paused(paused);
                    Some(BackendEvent::Paused)
                }
                // The world has ended: nobody waits for what is held.
                Err(_) => None,
            },
            State::Resumed => Some(BackendEvent::Committed),
            state @ (State::Idle | State::Paused(_)) => {
                self.state = state;
                None
            }
        }
    }

    fn boundary_taken(&mut self) {
        if let State::Paused(paused) = std::mem::replace(&mut self.state, State::Resumed) {
            paused.resume();
        }
    }

    fn readiness(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None, None]
    }

    fn next_deadline(&self) -> Option<Nanos> {
        match self.state {
            State::Requested | State::Resumed => Some(Nanos::ZERO),
            State::Idle | State::Paused(_) => None,
        }
    }
}
