//! Rules on their way from the control plane to the shards. A core looks at one number an iteration; only when it has
//! changed does it take the lock behind which the new set lies.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::policy::RuleSet;

/// What came of reading the configuration again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Its rules are in force.
    Done,
    /// It cannot be used: nothing has changed.
    Refused,
}

/// The rules in force, and how often that changed.
#[derive(Debug)]
pub(super) struct RuleDesk {
    number: AtomicU32,
    set: Mutex<Arc<RuleSet>>,
    done: AtomicU64,
    refused: AtomicU64,
}

impl RuleDesk {
    pub(super) fn new(set: RuleSet) -> Self {
        Self {
            number: AtomicU32::new(1),
            set: Mutex::new(Arc::new(set)),
            done: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    pub(super) fn replace(&self, set: RuleSet) {
        let mut place = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(set);
        // Still under the lock: whoever sees the number finds the set, or a later one.
        self.number.fetch_add(1, Ordering::Release);
    }

    /// Grows with every replacement.
    #[inline(always)]
    pub(super) fn number(&self) -> u32 {
        self.number.load(Ordering::Acquire)
    }

    /// The set in force and its number.
    pub(super) fn current(&self) -> (Arc<RuleSet>, u32) {
        let place = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&place), self.number())
    }

    pub(super) fn count(&self, reload: Reload) {
        match reload {
            Reload::Done => &self.done,
            Reload::Refused => &self.refused,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    /// Reloads that were done, and that were refused.
    pub(super) fn reloads(&self) -> [u64; 2] {
        [&self.done, &self.refused].map(|count| count.load(Ordering::Relaxed))
    }
}
