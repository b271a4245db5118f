//! What seeds exercised, counted, so that one sees whether they reach the states that matter.

use std::collections::BTreeMap;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

/// What any thousands of seeds must have reached.
pub const MUST_BE_REACHED: [&str; 48] = [
    "seeds",
    "clear seeds",
    "rough seeds",
    "workers",
    "pipeline",
    "cores 1",
    "cores 4",
    "marks two",
    "marks one",
    "numbers raw",
    "numbers translated",
    "frames received",
    "frames left",
    "left matched",
    "left ack",
    "left pass",
    "left flush",
    "dropped matched",
    "dropped stale",
    "dropped duplicate",
    "dropped over_budget",
    "dropped flush",
    "asked mismatch",
    "asked timeout",
    "asked queue_full",
    "asked table_full",
    "asked periodic",
    "mismatches",
    "checkpoints",
    "checkpoints unasked",
    "mode colo",
    "mode passive",
    "checkpoints given up, committed",
    "checkpoints given up, failed",
    "commits repeated",
    "commits late",
    "back end deaf",
    "link losses",
    "reading stops",
    "new lives",
    "planted bytes",
    "planted ends",
    "planted holes",
    "silent sides",
    "fault drop",
    "fault reorder",
    "fault corrupt",
    "fault stall",
];

impl Tally {
    /// Counts something.
    pub fn add(&mut self, name: &'static str, count: u64) {
        *self.counts.entry(name).or_default() += count;
    }

    /// How often something was counted.
    pub fn of(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (name, count) in &other.counts {
            self.add(name, *count);
        }
    }

    /// All counts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(name, count)| (*name, *count))
    }
}
