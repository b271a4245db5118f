//! What the world has counted: atomics that the world's thread adds to and anybody reads, and the views handed
//! out while it runs and when it ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Error descriptions kept; all are counted.
const ERRORS_KEPT: usize = 8;

/// One counter, added to by one thread.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters of a world.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) requests: Counter,
    pub(super) responses: Counter,
    pub(super) bytes: Counter,
    pub(super) connections: Counter,
    pub(super) open_connections: Counter,
    pub(super) frames_primary: Counter,
    pub(super) frames_secondary: Counter,
    pub(super) frames_client: Counter,
    pub(super) client_frames_dropped: Counter,
    pub(super) diverged: Counter,
    pub(super) checkpoints: Counter,
    client_errors: Counter,
    errors: Mutex<Vec<String>>,
}

impl Totals {
    /// Counts a client error and keeps its description if it is one of the first.
    pub(super) fn error(&self, description: impl FnOnce() -> String) {
        self.client_errors.add(1);
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() < ERRORS_KEPT {
            errors.push(description());
        }
    }

    /// The first errors' descriptions.
    pub(super) fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counters now.
    pub(super) fn progress(&self) -> WorldProgress {
        WorldProgress {
            requests: self.requests.get(),
            responses: self.responses.get(),
            bytes: self.bytes.get(),
            client_errors: self.client_errors.get(),
            connections: self.connections.get(),
            open_connections: self.open_connections.get(),
            frames_primary: self.frames_primary.get(),
            frames_secondary: self.frames_secondary.get(),
            frames_client: self.frames_client.get(),
            client_frames_dropped: self.client_frames_dropped.get(),
            diverged: self.diverged.get(),
            checkpoints: self.checkpoints.get(),
        }
    }
}

/// The counters of a world at some moment. They are read one by one: sums over them may be off by what happened
/// meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorldProgress {
    /// Requests the client sent.
    pub requests: u64,
    /// Responses that arrived whole and right.
    pub responses: u64,
    /// Response bytes that arrived and were right, headers included.
    pub bytes: u64,
    /// Times the client was let down: bytes wrong, lost or doubled, connections reset or stuck.
    pub client_errors: u64,
    /// Connections the client opened.
    pub connections: u64,
    /// Connections the client has open now.
    pub open_connections: u64,
    /// Frames the primary guest sent.
    pub frames_primary: u64,
    /// Frames the secondary guest sent.
    pub frames_secondary: u64,
    /// Frames the client received from the engine.
    pub frames_client: u64,
    /// Client frames that neither guest got because too many were unread.
    pub client_frames_dropped: u64,
    /// Responses the secondary was drawn to answer differently (some die in a checkpoint before they are sent).
    pub diverged: u64,
    /// Times the secondary became a copy of the primary.
    pub checkpoints: u64,
}

/// What a world comes to in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorldReport {
    /// The counters.
    pub totals: WorldProgress,
    /// Descriptions of the first client errors.
    pub errors: Vec<String>,
    /// Why the world ended before its time, when it did: a link broke or the engine closed it.
    pub broken_link: Option<String>,
}
