//! What came of a live run, in the words of `colo replay`'s summary.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::metrics::{PairSnapshot, Snapshot, empty_histogram};

/// The numbers of one pair of VMs.
#[derive(Clone, Debug)]
pub struct Summary {
    pair: PairSnapshot,
    uptime: Duration,
    latency: Histogram<u64>,
}

impl Summary {
    /// From what the engine counted of its first, and mostly only, pair.
    pub fn new(snapshot: Snapshot) -> Self {
        let uptime = snapshot.uptime;
        Self::of(snapshot.pairs.into_iter().next().unwrap_or_default(), uptime)
    }

    /// From what the engine counted, one for each pair.
    pub fn of_each(snapshot: Snapshot) -> Vec<Self> {
        let uptime = snapshot.uptime;
        snapshot.pairs.into_iter().map(|pair| Self::of(pair, uptime)).collect()
    }

    fn of(pair: PairSnapshot, uptime: Duration) -> Self {
        let mut latency = empty_histogram();
        for (_, part) in pair.release_latency.by_label() {
            // Same bounds, so this cannot fail.
            let _ = latency.add(part);
        }
        Self { pair, uptime, latency }
    }

    /// Whose numbers these are.
    pub fn name(&self) -> &str {
        &self.pair.pair
    }

    /// How long the engine has run.
    pub fn uptime(&self) -> Duration {
        self.uptime
    }

    /// Primary frames that left because the secondary agreed.
    pub fn pairs(&self) -> u64 {
        self.pair.released.matched + self.pair.released.ack
    }

    /// Primary frames that left.
    pub fn released(&self) -> u64 {
        self.pair.released.by_label().map(|(_, count)| count).sum()
    }

    /// Secondary frames that were dropped.
    pub fn dropped(&self) -> u64 {
        self.pair.secondary.dropped.by_label().map(|(_, count)| count).sum()
    }

    /// Frames held now, of both sides.
    pub fn held(&self) -> [u64; 2] {
        [self.pair.primary.held_frames, self.pair.secondary.held_frames]
    }

    /// Checkpoints asked for, by reason.
    pub fn checkpoints(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.pair.checkpoints.requested.by_label()
    }

    /// Checkpoints committed.
    pub fn completed(&self) -> u64 {
        self.pair.checkpoints.completed
    }

    /// Whether every frame received was released, dropped, or is held.
    pub fn balances(&self) -> bool {
        let [held, held_secondary] = self.held();
        self.pair.primary.frames == self.released() + held
            && self.pair.secondary.frames == self.dropped() + held_secondary
    }

    /// Times that the books did not balance.
    pub fn invariant_violations(&self) -> u64 {
        self.pair.invariant_violations
    }

    /// A quantile (0–1) of the time from arrival to release.
    pub fn latency(&self, quantile: f64) -> Duration {
        if self.latency.is_empty() {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.latency.value_at_quantile(quantile))
    }

    /// The fields for programs.
    pub fn to_json(&self) -> Map<String, Value> {
        let counts = |counts: &mut dyn Iterator<Item = (&'static str, u64)>| -> Map<String, Value> {
            counts.map(|(label, count)| (label.to_owned(), json!(count))).collect()
        };
        let nanos = |quantile| u64::try_from(self.latency(quantile).as_nanos()).unwrap_or(u64::MAX);
        let [held, held_secondary] = self.held();
        let fields = json!({
            "seconds": self.uptime.as_secs_f64(),
            "frames": { "primary": self.pair.primary.frames, "secondary": self.pair.secondary.frames },
            "pairs": self.pairs(),
            "released": self.released(),
            "released_by": counts(&mut self.pair.released.by_label()),
            "dropped": self.dropped(),
            "dropped_by": counts(&mut self.pair.secondary.dropped.by_label()),
            "window_clamped": self.pair.window_clamped,
            "held": held,
            "held_secondary": held_secondary,
            "checkpoints": counts(&mut self.checkpoints()),
            "checkpoints_absorbed": counts(&mut self.pair.checkpoints.absorbed.by_label()),
            "checkpoints_completed": self.completed(),
            "release_latency_ns": { "p50": nanos(0.5), "p99": nanos(0.99), "max": nanos(1.0) },
            "invariant_violations": self.invariant_violations(),
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    /// The lines for people.
    pub fn to_text(&self) -> String {
        let [held, held_secondary] = self.held();
        let mut text = String::new();
        let rows = [
            (
                "frames",
                format!("{} primary, {} secondary", self.pair.primary.frames, self.pair.secondary.frames),
            ),
            ("released", format!("{} ({})", self.released(), listed(&mut self.pair.released.by_label()))),
            (
                "dropped",
                format!("{} ({})", self.dropped(), listed(&mut self.pair.secondary.dropped.by_label())),
            ),
            ("held", format!("{held} primary, {held_secondary} secondary")),
            (
                "checkpoints",
                format!("{} committed; asked for: {}", self.completed(), listed(&mut self.checkpoints())),
            ),
            (
                "held for",
                format!(
                    "p50 {:.1?}, p99 {:.1?}, max {:.1?}",
                    self.latency(0.5),
                    self.latency(0.99),
                    self.latency(1.0)
                ),
            ),
        ];
        for (name, value) in rows {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<12} {value}");
        }
        if self.invariant_violations() > 0 {
            let _ = writeln!(
                text,
                "THE BOOKS DID NOT BALANCE {} TIMES: please report this",
                self.invariant_violations()
            );
        }
        text
    }
}

/// `3 mismatch, 1 timeout`, without those that are 0.
fn listed(counts: &mut dyn Iterator<Item = (&'static str, u64)>) -> String {
    let parts: Vec<_> =
        counts.filter(|(_, count)| *count > 0).map(|(label, count)| format!("{count} {label}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}
