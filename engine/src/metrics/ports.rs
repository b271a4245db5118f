//! What ports could not carry, as metrics. Frames here are in no other count: the engine never had them, or has released
//! them already.

use super::family::Family;
use super::snapshot::PairSnapshot;

/// Frames lost at a pair's ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostFrames {
    /// Of the primary, dropped by the kernel before they were read.
    pub primary_in: u64,
    /// Of the secondary, the same.
    pub secondary_in: u64,
    /// Released, and refused by the output for good.
    pub out: u64,
}

impl LostFrames {
    /// Adds all.
    pub fn add(&mut self, other: Self) {
        self.primary_in += other.primary_in;
        self.secondary_in += other.secondary_in;
        self.out += other.out;
    }

    /// Port and number.
    pub fn by_label(self) -> [(&'static str, u64); 3] {
        [("primary_in", self.primary_in), ("secondary_in", self.secondary_in), ("out", self.out)]
    }
}

pub(super) fn ports(pairs: &[PairSnapshot]) -> Vec<Family> {
    let mut lost = Family::counter(
        "colo_port_lost_frames_total",
        "Frames that a port could not carry: on an input dropped by the kernel before they were read, on the output \
         refused for good.",
    );
    for pair in pairs {
        for (port, count) in pair.lost.by_label() {
            lost.count(&[("pair", pair.pair.as_str()), ("port", port)], count);
        }
    }
    vec![lost]
}
