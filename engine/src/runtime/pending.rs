//! Frames at hand for a shard, a burst of each side. What one side sent waits a little for the other's, because halves of a
//! pair that are at hand together cost little more than half of what they cost one after the other.
//!
//! Waiting is worth it only where both sides send the same at about the same time. So it is short, and after waiting in
//! vain it is not tried again for a while, then for longer.

use std::time::Duration;

use pmd_tap::Nanos;

use crate::shard::WorkBurst;
use crate::side::{BySide, Side};

/// How long frames wait for a side that sends nothing.
const FOR_SILENT: Duration = Duration::from_micros(5);
/// How long for one that sends what belongs to earlier ones.
const FOR_BUSY: Duration = Duration::from_micros(20);
/// The same in iterations: where time stands still they must go on, too.
const TURNS: u8 = 32;
/// Bursts that are not kept waiting after having waited in vain: twice as many each time, up to this power of two.
const LONGEST_BACKOFF: u8 = 6;

/// Whether frames may wait for the other side's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// They may.
    Little,
    /// They may not.
    No,
}

/// Bursts of both sides, and for how long they have been waiting.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) bursts: BySide<WorkBurst>,
    waiting: BySide<Option<Waiting>>,
    /// How often frames waited in vain of late.
    in_vain: u8,
    /// Bursts that are not kept waiting.
    hurried: u8,
}

/// A burst that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Nanos,
    turns: u8,
}

impl Pending {
    /// Whether nothing is at hand.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.bursts.primary.is_empty() && self.bursts.secondary.is_empty()
    }

    /// Whether both sides' are.
    #[inline(always)]
    pub(super) fn has_both(&self) -> bool {
        !self.bursts.primary.is_empty() && !self.bursts.secondary.is_empty()
    }

    /// Halves of pairs have met: if some of them waited for that, it was not in vain.
    #[inline(always)]
    pub(super) fn have_met(&mut self) {
        if Side::BOTH.iter().any(|&side| self.waiting[side].is_some()) {
            self.waiting = BySide::default();
            (self.in_vain, self.hurried) = (0, 0);
        }
    }

    /// Nothing of a side is left.
    #[inline(always)]
    pub(super) fn is_done(&mut self, side: Side) {
        self.waiting[side] = None;
    }

    /// Whether what is left of a side is kept for another turn; `other` says whether the other side sent something in this
    /// one.
    pub(super) fn keeps_waiting(&mut self, side: Side, other: Activity, now: Nanos) -> bool {
        let Some(waiting) = &mut self.waiting[side] else {
            if self.hurried > 0 {
                self.hurried -= 1;
                return false;
            }
            self.waiting[side] = Some(Waiting { since: now, turns: 0 });
            return true;
        };
        waiting.turns += 1;
        let most = match other {
            Activity::Silent => FOR_SILENT,
            Activity::Busy => FOR_BUSY,
        };
        if waiting.turns < TURNS && now < waiting.since + most {
            return true;
        }
        self.waiting[side] = None;
        self.hurried = 1 << self.in_vain;
        self.in_vain = (self.in_vain + 1).min(LONGEST_BACKOFF);
        false
    }
}

/// Whether a side sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    Silent,
    Busy,
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Side = Side::Primary;

    /// How long a burst waits that nothing comes for, in steps of a microsecond.
    fn wait(pending: &mut Pending, other: Activity, now: &mut Nanos) -> u64 {
        let start = *now;
        while pending.keeps_waiting(P, other, *now) {
            *now = *now + Duration::from_micros(1);
        }
        now.nanos_since(start) / 1_000
    }

    #[test]
    fn a_busy_side_is_waited_for_longer() {
        let mut now = Nanos::ZERO;
        assert_eq!(wait(&mut Pending::default(), Activity::Silent, &mut now), 5);
        assert_eq!(wait(&mut Pending::default(), Activity::Busy, &mut now), 20);
    }

    #[test]
    fn time_that_stands_still_ends_waiting_too() {
        let mut pending = Pending::default();
        let turns = (0..1_000).take_while(|_| pending.keeps_waiting(P, Activity::Busy, Nanos::ZERO)).count();
        assert_eq!(turns, usize::from(TURNS));
    }

    #[test]
    fn waiting_in_vain_is_tried_less_and_less() {
        let (mut pending, mut now) = (Pending::default(), Nanos::ZERO);
        let mut waited = Vec::new();
        for burst in 0..400_u32 {
            if wait(&mut pending, Activity::Silent, &mut now) > 0 {
                waited.push(burst);
            }
        }
        assert_eq!(waited, [0, 2, 5, 10, 19, 36, 69, 134, 199, 264, 329, 394]);
        // Once it was not in vain all is forgotten.
        assert!((0..65).any(|_| pending.keeps_waiting(P, Activity::Silent, now)));
        pending.have_met();
        assert_eq!(wait(&mut pending, Activity::Silent, &mut now), 5);
    }
}
