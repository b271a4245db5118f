//! A port with faults: what a bad network or a bad peer does to frames, drawn from a seed.
//!
//! For trials and tests. A fault is decided by the seed and the frame's number alone, so equal input has equal faults
//! for ever. What is dropped was lost "before" the port: on an input nobody owes it to anybody. On an output frames are
//! lost that the engine owed to the world; that is for whoever asks for it.

mod lane;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::port::as_inside;
use crate::{Burst, FramePool, Nanos, Port, RxState};
use lane::Lane;

pub use settings::{FaultError, FaultSettings, Rate};

/// What can be done to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is lost.
    Drop,
    /// It comes twice.
    Duplicate,
    /// It comes after frames that were behind it.
    Reorder,
    /// Bits of it are flipped.
    Corrupt,
    /// Its end is missing.
    Truncate,
    /// It comes later.
    Delay,
    /// Nothing moves for a while behind it.
    Stall,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Drop, Self::Duplicate, Self::Reorder, Self::Corrupt, Self::Truncate, Self::Delay, Self::Stall];

    /// As a label, and as the key in the text of settings.
    pub fn label(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Corrupt => "corrupt",
            Self::Truncate => "truncate",
            Self::Delay => "delay",
            Self::Stall => "stall",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        match self {
            Self::Drop => 0,
            Self::Duplicate => 1,
            Self::Reorder => 2,
            Self::Corrupt => 3,
            Self::Truncate => 4,
            Self::Delay => 5,
            Self::Stall => 6,
        }
    }
}

/// Faults done so far, by kind. Another thread may read them.
#[derive(Debug, Default)]
pub struct FaultCounts {
    cells: [AtomicU64; Fault::ALL.len()],
}

impl FaultCounts {
    /// Faults of a kind.
    pub fn of(&self, fault: Fault) -> u64 {
        self.cells[fault.index()].load(Ordering::Relaxed)
    }

    fn add(&self, fault: Fault) {
        self.cells[fault.index()].fetch_add(1, Ordering::Relaxed);
    }
}

/// A port between whose frames faults happen, both ways.
///
/// Frames that wait lie in fixed memory; when that is full the port takes no more, as a slow one would. A copy that the
/// pool has no slot for is not made. With `poll = "adaptive"` a frame that waits comes up to a timer tick later.
#[derive(Debug)]
pub struct FaultPort<P> {
    inner: P,
    received: Lane,
    sent: Lane,
    counts: Arc<FaultCounts>,
    taken: Burst,
}

impl<P: Port> FaultPort<P> {
    /// `inner` with the faults of `settings`.
    pub fn new(inner: P, settings: &FaultSettings) -> Self {
        let counts = Arc::new(FaultCounts::default());
        Self {
            inner,
            received: Lane::new(*settings, Arc::clone(&counts)),
            sent: Lane::new(*settings, Arc::clone(&counts)),
            counts,
            taken: Burst::new(),
        }
    }

    /// The faults done so far.
    pub fn counts(&self) -> Arc<FaultCounts> {
        Arc::clone(&self.counts)
    }

    /// Sends what has waited long enough.
    fn send_due(&mut self, pool: &mut FramePool, now: Nanos) {
        while !self.sent.is_stalled(now) {
            self.sent.give(now, &mut self.taken);
            if self.taken.is_empty() {
                return;
            }
            self.inner.tx_burst(pool, now, &mut self.taken);
            if !self.taken.is_empty() {
                self.sent.take_back(&mut self.taken);
                return;
            }
        }
    }
}

impl<P: Port> Port for FaultPort<P> {
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        self.send_due(pool, now);
        if self.received.is_stalled(now) {
            return RxState::Empty;
        }
        let mut state = RxState::More;
        if self.received.has_room() {
            state = self.inner.rx_burst(pool, now, &mut self.taken);
            for frame in self.taken.drain(..) {
                self.received.put(frame, pool, now);
            }
        }
        self.received.receive(now, burst);
        if burst.is_full() && state != RxState::PoolEmpty { RxState::More } else { state }
    }

    fn tx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) {
        while !burst.is_empty() && self.sent.has_room() && !self.sent.is_stalled(now) {
            self.sent.put(burst.remove(0), pool, now);
        }
        self.send_due(pool, now);
    }

    fn flush(&mut self) -> bool {
        self.inner.flush() && self.sent.is_empty()
    }

    fn is_over(&self) -> bool {
        self.inner.is_over() && self.received.is_empty()
    }

    as_inside!(self => self.inner);
}
