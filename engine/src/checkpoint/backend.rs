//! The seam to whoever takes checkpoints.

use std::os::fd::BorrowedFd;

use pmd_tap::Nanos;

use super::Request;
use crate::metrics::LinkState;
use crate::side::Side;

/// What a back end tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendEvent {
    /// The primary is paused: whatever it sent is in the inputs, and belongs to the old epoch.
    Paused,
    /// The checkpoint was committed: the secondary is the primary's copy. Comes after [`Paused`](Self::Paused), or
    /// alone where there is one message for both.
    Committed,
    /// After [`Paused`](Self::Paused): nobody knows whether the checkpoint was committed, or the primary went on before
    /// the engine had taken the boundary. The text says which, for people.
    Abandoned(String),
    /// The VM of a side has left COLO: no checkpoint is taken of this pair any more.
    Exited(Side, ExitReason),
    /// For people: a link to the back end came up, or something is being tried.
    Note(String),
    /// For people who should do something: the link to the back end is lost, or it breaks the protocol.
    Alarm(String),
}

/// What a back end does about a secondary that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOver {
    /// The primary's host was told to go on without the secondary. An [`Alarm`](BackendEvent::Alarm) comes if it refuses.
    Asked,
    /// It is told as soon as the link to it is up.
    Waits,
    /// Nothing: this back end has nobody to tell.
    Nothing,
}

/// Why a VM left COLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It was told to: its side goes on alone.
    Request,
    /// It has lost the other side; who goes on is yet to be decided.
    Error,
}

/// The link to a back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendLink {
    /// Its name, as a label.
    pub name: &'static str,
    /// Whether it is up.
    pub state: LinkState,
}

/// Takes checkpoints. Polled by the control thread; never blocks.
pub trait Backend: Send {
    /// Asks for a checkpoint.
    fn request(&mut self, request: &Request);

    /// The next thing it tells; `None`: nothing now.
    fn poll(&mut self, now: Nanos) -> Option<BackendEvent>;

    /// The engine has taken the boundary after [`BackendEvent::Paused`]: the primary may go on.
    fn boundary_taken(&mut self) {}

    /// The engine has given up the checkpoint it was told the pause of: its commit must not be told any more, for it would
    /// be taken for one without a pause.
    fn given_up(&mut self) {}

    /// Whether the first checkpoint with a new secondary is taken by itself; otherwise it is asked for.
    fn begins_by_itself(&self) -> bool {
        true
    }

    /// The secondary is lost: the primary is to go on alone. No checkpoint is taken after that.
    fn fail_over(&mut self) -> FailOver {
        FailOver::Nothing
    }

    /// Somebody is at the other end of the engine's output.
    fn output_is_up(&mut self) {}

    /// The link to it; `None`: it needs none.
    fn link(&self) -> Option<BackendLink> {
        None
    }

    /// What to wait on; nothing: poll by time.
    fn readiness(&self) -> [Option<BorrowedFd<'_>>; 2];

    /// When to poll at the latest, if not on readiness.
    fn next_deadline(&self) -> Option<Nanos>;
}
