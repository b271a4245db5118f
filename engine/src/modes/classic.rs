//! The hybrid mode of 2015/16, as it was published, faults included, so that its results can be compared with others'.
//!
//! Sketched on qemu-devel in July 2015 ("COLO: hybrid mode"); the numbers are those of the research tree that has it. Its
//! faults: the mean begins at 0, so that it is too low at first (after 5 epochs 83.2 % of the true one); there is one
//! limit for both directions; a trial of COLO that fails costs 5 epochs each time, for ever.

use std::time::Duration;

use super::{Kind, ModeSettings};

/// What the mean keeps of itself at each epoch.
pub(super) const KEEPS: f64 = 0.7;
/// Epochs before the mean counts.
pub(super) const SETTLED: u32 = 5;

/// Passive when the weighted mean of COLO epochs is short.
#[derive(Clone, Copy, Debug)]
pub struct Classic {
    limit_seconds: f64,
    count: u32,
    mean_seconds: f64,
    epochs: u32,
    passive_left: u32,
}

impl Classic {
    /// Nothing known yet.
    pub fn new(settings: &ModeSettings) -> Self {
        Self {
            limit_seconds: settings.passive_limit.as_secs_f64(),
            count: settings.passive_count.max(1),
            mean_seconds: 0.0,
            epochs: 0,
            passive_left: 0,
        }
    }

    /// An epoch has ended; how the next one is spent.
    pub fn epoch_ends(&mut self, kind: Kind, length: Duration) -> Kind {
        match kind {
            Kind::Colo => {
                self.mean_seconds = KEEPS * self.mean_seconds + (1.0 - KEEPS) * length.as_secs_f64();
                self.epochs += 1;
                if self.epochs < SETTLED || self.mean_seconds >= self.limit_seconds {
                    return Kind::Colo;
                }
                self.passive_left = self.count;
                Kind::Passive
            }
            Kind::Passive => {
                self.passive_left = self.passive_left.saturating_sub(1);
                if self.passive_left > 0 {
                    return Kind::Passive;
                }
                (self.mean_seconds, self.epochs) = (0.0, 0);
                Kind::Colo
            }
        }
    }
}
