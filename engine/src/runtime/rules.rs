//! Rules on their way from the control plane to the shards. A core looks at one number an iteration; only when it has
//! changed does it take the lock behind which the new set lies.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pmd_tap::Nanos;

use super::core::{Core, Env, ShardSeat};
use crate::modes::Conduct;
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

/// Connections put under other rules in one iteration.
const RULES_STEP: usize = 256;

impl Core {
    /// Holds or lets pass from here on if that is ordered. Comparing begins at the end of a flush, and nothing begins in the
    /// middle of one.
    #[inline(always)]
    pub(super) fn poll_conduct(&mut self, now: Nanos, env: &Env<'_>) {
        let conduct = env.shared.conduct();
        let due = |seat: &ShardSeat| seat.shard.conduct() != conduct && !seat.gate.is_flushing();
        if conduct != Conduct::Compare
            && self.seat.as_ref().is_some_and(due)
            && let Some((seat, mut sink)) = self.desk(now, env)
        {
            seat.shard.set_conduct(conduct, &mut sink);
        }
    }

    /// Takes rules that were put in force, and lets held frames follow them. Not in the middle of a flush, which
    /// empties everything anyway.
    #[inline(always)]
    pub(super) fn poll_rules(&mut self, now: Nanos, env: &Env<'_>) -> bool {
        let number = env.shared.rules.number();
        let due = |seat: &ShardSeat| seat.rules != number || seat.shard.has_rules_to_follow();
        if !self.seat.as_ref().is_some_and(|seat| due(seat) && !seat.gate.is_flushing()) {
            return false;
        }
        self.follow_rules(number, now, env);
        true
    }

    #[cold]
    fn follow_rules(&mut self, number: u32, now: Nanos, env: &Env<'_>) {
        let Some((seat, mut sink)) = self.desk(now, env) else { return };
        if seat.rules != number {
            let (set, number) = env.shared.rules.current();
            seat.rules = number;
            seat.shard.replace_rules(set);
        }
        seat.shard.follow_rules(RULES_STEP, &mut sink);
    }
}
