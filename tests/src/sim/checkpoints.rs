//! How simulated checkpoints go: planned, guests paused, the secondary made the primary's copy, committed; late, twice,
//! unasked, or told over a link that is away for a while.

use std::time::Duration;

use colo_engine::checkpoint::BackendEvent;
use colo_engine::side::Side;
use pmd_tap::Nanos;

use super::guest::{Numbers, Quirk};
use super::plan::{Marks, Weather};
use super::world::{Verdict, World};

/// Where the checkpoint under way stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    None,
    /// It will pause the guests.
    Planned {
        pause: Nanos,
        commit: Nanos,
    },
    /// They are paused; `boundaries` were taken before.
    Paused {
        commit: Nanos,
        boundaries: u64,
    },
    /// It is committed, and the guests wait for the inputs to mark this epoch.
    Told {
        epoch: u32,
    },
}

/// The checkpoint under way, and flushes that were complete: the epoch, and the frames of it.
#[derive(Debug)]
pub(super) struct Checkpoint {
    stage: Stage,
    pub(super) flushes: Vec<(u32, u64)>,
}

impl Checkpoint {
    pub(super) fn new() -> Self {
        Self { stage: Stage::None, flushes: Vec::new() }
    }

    pub(super) fn is_paused(&self) -> bool {
        matches!(self.stage, Stage::Paused { .. } | Stage::Told { .. })
    }
}

impl World<'_> {
    /// Somebody wants a checkpoint.
    pub(super) fn plan_checkpoint(&mut self) {
        if self.checkpoint.stage != Stage::None {
            return;
        }
        let now = self.engine.now();
        let mut time = |most: u32| Duration::from_micros(u64::from(self.draws.below(most)));
        let pause = now + time(3_000);
        let mut commit = pause + time(3_000);
        if self.plan.weather == Weather::Rough && self.draws.percent(10) {
            commit = commit + Duration::from_millis(60);
            self.tally.add("commits late", 1);
        }
        self.checkpoint.stage = Stage::Planned { pause, commit };
    }

    /// Checkpoints go on, and sometimes one comes that nobody asked for.
    pub(super) fn poll_checkpoint(&mut self) {
        let now = self.engine.now();
        match self.checkpoint.stage {
            Stage::None => {
                if self.draws.below(400) == 0 && !self.plan.is_calm {
                    self.tally.add("checkpoints unasked", 1);
                    self.plan_checkpoint();
                } else if self.talks.get().outstanding > 0 && self.talks.get().events.is_empty() {
                    // Asked while the last one was being told.
                    self.plan_checkpoint();
                }
            }
            Stage::Planned { pause, commit } if pause <= now => self.pause(commit),
            Stage::Paused { commit, boundaries } if commit <= now => {
                let is_taken = self.plan.marks == Marks::One || self.talks.get().boundaries > boundaries;
                let may_fail = self.plan.weather == Weather::Rough && self.plan.marks == Marks::Two;
                if is_taken && may_fail && self.draws.percent(15) {
                    self.give_up();
                } else if is_taken {
                    self.tell_commit();
                }
            }
            Stage::Told { epoch } => {
                let receiving = self.engine.epochs().receiving;
                if receiving.primary >= epoch && receiving.secondary >= epoch {
                    self.checkpoint.stage = Stage::None;
                }
            }
            Stage::Planned { .. } | Stage::Paused { .. } => {}
        }
    }

    fn pause(&mut self, commit: Nanos) {
        self.note(|| "both guests are paused".to_owned());
        let boundaries = self.talks.get().boundaries;
        self.checkpoint.stage = Stage::Paused { commit, boundaries };
        if self.plan.weather == Weather::Rough && self.draws.percent(10) {
            let time = Duration::from_millis(u64::from(self.draws.between(5, 60)));
            self.talks.get().deaf_until = self.engine.now() + time;
            self.tally.add("back end deaf", 1);
        }
        if self.plan.marks == Marks::Two {
            self.talks.get().events.push_back(BackendEvent::Paused);
        }
    }

    /// The checkpoint fails, or is committed and nobody can say so.
    fn give_up(&mut self) {
        if self.draws.percent(50) {
            self.copy_primary();
            self.tally.add("checkpoints given up, committed", 1);
        } else {
            self.tally.add("checkpoints given up, failed", 1);
        }
        self.note(|| "the checkpoint is given up".to_owned());
        self.talks.get().events.push_back(BackendEvent::Abandoned("as planned".to_owned()));
        self.checkpoint.stage = Stage::None;
    }

    /// The secondary is the primary's copy from here on.
    fn copy_primary(&mut self) {
        self.note(|| "the secondary is a copy".to_owned());
        let primary = self.guests.primary.clone();
        let secondary = &mut self.guests.secondary;
        secondary.sent.clone_from(&primary.sent);
        for (copy, talk) in secondary.talks.iter_mut().zip(&primary.talks) {
            // Only a number that it has used can be translated back to. What has not begun begins as ever.
            let had_own = copy.life == talk.life && copy.next > 0 && copy.numbers == Numbers::Own;
            let numbers = match talk.next {
                0 => self.plan.numbers,
                _ if had_own => self.plan.numbers_after,
                _ => Numbers::Primary,
            };
            *copy = super::guest::Talk { numbers, quirk: Quirk::None, ..*talk };
        }
    }

    fn tell_commit(&mut self) {
        self.copy_primary();
        self.note(|| "a checkpoint is committed".to_owned());
        let is_rough = self.plan.weather == Weather::Rough;
        let repeats = is_rough && self.draws.percent(10);
        self.talks.get().events.push_back(BackendEvent::Committed);
        if repeats {
            self.talks.get().events.push_back(BackendEvent::Committed);
            self.tally.add("commits repeated", 1);
        }
        // With one message for both, a guest that goes on at once races with the engine's reading.
        let goes_on = self.plan.marks == Marks::Two || (is_rough && self.draws.percent(50));
        let epoch = self.engine.epochs().committed + 1;
        self.checkpoint.stage = if goes_on { Stage::None } else { Stage::Told { epoch } };
    }

    /// Brings what is under way to its end.
    pub(super) fn complete_checkpoint(&mut self) -> Verdict {
        for _ in 0..400 {
            let told = self.talks.get().events.is_empty();
            let epochs = self.engine.epochs();
            let is_at_rest = epochs.boundary == epochs.committed
                && epochs.receiving[Side::Primary] == epochs.committed
                && epochs.receiving[Side::Secondary] == epochs.committed;
            let shards = u64::try_from(self.plan.settings.runtime.workers).unwrap_or(1);
            let is_flushed = epochs.flushed == shards * u64::from(epochs.committed);
            let is_asked = self.talks.get().outstanding > 0;
            if self.checkpoint.stage == Stage::None && told && is_at_rest && is_flushed && !is_asked {
                return Ok(());
            }
            self.settle(Duration::from_millis(1))?;
        }
        Err("a checkpoint does not come to its end".to_owned())
    }

    /// A checkpoint with nobody's asking, at once.
    pub(super) fn commit_now(&mut self) {
        if self.checkpoint.stage == Stage::None {
            let now = self.engine.now();
            self.checkpoint.stage = Stage::Planned { pause: now, commit: now };
        }
    }
}
