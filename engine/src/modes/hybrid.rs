//! The hybrid mode without the faults of [`classic`](super::classic): the mean is not biased by where it began, going
//! passive and coming back have limits of their own, and trials that fail become rarer.

use std::time::Duration;

use super::classic::{KEEPS, SETTLED};
use super::{Kind, ModeSettings};

/// COLO epochs after which a trial is judged.
const TRIAL: u32 = 3;

/// Passive when COLO epochs are short on average; back when they are long again.
#[derive(Clone, Copy, Debug)]
pub struct Hybrid {
    enter_seconds: f64,
    leave_seconds: f64,
    count: u32,
    count_max: u32,
    mean: Mean,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// COLO does.
    Colo,
    /// So many passive epochs to go; so many there were to be.
    Passive { left: u32, of: u32 },
    /// COLO is tried after so many passive epochs.
    Trial { after: u32 },
}

/// A weighted mean, its weights adding up to 1 whatever the number of epochs.
#[derive(Clone, Copy, Debug)]
struct Mean {
    /// Begun at 0, like the classic one.
    biased_seconds: f64,
    /// What of it is still that 0.
    of_the_start: f64,
    epochs: u32,
}

impl Mean {
    const EMPTY: Self = Self { biased_seconds: 0.0, of_the_start: 1.0, epochs: 0 };

    fn add(&mut self, length: Duration) {
        self.biased_seconds = KEEPS * self.biased_seconds + (1.0 - KEEPS) * length.as_secs_f64();
        self.of_the_start *= KEEPS;
        self.epochs = self.epochs.saturating_add(1);
    }

    /// Only after an epoch.
    fn seconds(&self) -> f64 {
        self.biased_seconds / (1.0 - self.of_the_start)
    }
}

impl Hybrid {
    /// Nothing known yet.
    pub fn new(settings: &ModeSettings) -> Self {
        let count = settings.passive_count.max(1);
        Self {
            enter_seconds: settings.passive_limit.as_secs_f64(),
            leave_seconds: settings.passive_leave_limit.max(settings.passive_limit).as_secs_f64(),
            count,
            count_max: settings.passive_count_max.max(count),
            mean: Mean::EMPTY,
            state: State::Colo,
        }
    }

    /// An epoch has ended; how the next one is spent.
    pub fn epoch_ends(&mut self, kind: Kind, length: Duration) -> Kind {
        match (kind, self.state) {
            (Kind::Colo, State::Colo) => {
                self.mean.add(length);
                if self.mean.epochs < SETTLED || self.mean.seconds() >= self.enter_seconds {
                    return Kind::Colo;
                }
                self.go_passive(self.count)
            }
            (Kind::Colo, State::Trial { after }) => {
                self.mean.add(length);
                if self.mean.epochs < TRIAL {
                    return Kind::Colo;
                }
                if self.mean.seconds() < self.leave_seconds {
                    return self.go_passive(after.saturating_mul(2).min(self.count_max));
                }
                self.state = State::Colo;
                Kind::Colo
            }
            (Kind::Passive, State::Passive { left, of }) if left > 1 => {
                self.state = State::Passive { left: left - 1, of };
                Kind::Passive
            }
            (Kind::Passive, State::Passive { of, .. }) => {
                (self.mean, self.state) = (Mean::EMPTY, State::Trial { after: of });
                Kind::Colo
            }
            // Somebody else had it so.
            (Kind::Passive, State::Colo | State::Trial { .. }) | (Kind::Colo, State::Passive { .. }) => {
                (self.mean, self.state) = (Mean::EMPTY, State::Colo);
                Kind::Colo
            }
        }
    }

    fn go_passive(&mut self, epochs: u32) -> Kind {
        self.state = State::Passive { left: epochs, of: epochs };
        Kind::Passive
    }
}
