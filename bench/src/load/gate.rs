//! Lets a comparer stand still while its sockets are filled: what it uses is work then, and never waiting.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// The comparer's process, standing or not. It goes on when the value ends.
#[derive(Debug)]
pub struct Gate {
    process: Pid,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Closed,
}

impl Gate {
    /// Of a process that runs.
    ///
    /// # Errors
    /// When that is no number of a process.
    pub fn new(process: u32) -> Result<Self> {
        let process =
            i32::try_from(process).ok().and_then(Pid::from_raw).context("no process has that number")?;
        Ok(Self { process, state: State::Open })
    }

    /// Whether the comparer stands still.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// It stands still.
    ///
    /// # Errors
    /// When it has ended.
    pub fn close(&mut self) -> Result<()> {
        self.state = State::Closed;
        kill_process(self.process, Signal::STOP).context("the comparer has ended")
    }

    /// It goes on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn open(&mut self) -> Result<()> {
        self.state = State::Open;
        kill_process(self.process, Signal::CONT).context("the comparer has ended")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if self.is_closed() {
            drop(self.open());
        }
    }
}
