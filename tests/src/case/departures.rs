//! The frames that left, read back from the released capture: their windows and checksums.

use super::{Outcome, Verdict};
use crate::frame::layout;

/// Whether a frame left as it came but for a lower TCP window, and its checksum in step with that: right when it
/// came right, wrong by as much when it came wrong.
pub(super) fn only_the_window_is_lower(came: &[u8], left: &[u8]) -> bool {
    let (Some(at), true) = (layout(came), came.len() == left.len()) else {
        return false;
    };
    let window_and_checksum = at.transport + 14..at.transport + 18;
    let same = |index: usize| window_and_checksum.contains(&index) || came[index] == left[index];
    (0..came.len()).all(same) && at.window(left) < at.window(came) && at.residue(came) == at.residue(left)
}

impl Outcome {
    /// PVM frame `frame` as it left.
    #[track_caller]
    pub fn left(&self, frame: usize) -> &[u8] {
        let order = self.verdicts().iter().filter_map(|verdict| match verdict {
            Verdict::Release { frame, .. } => Some(*frame),
            _ => None,
        });
        let place = order.enumerate().find_map(|(place, index)| (index == frame).then_some(place));
        self.ensure(place.is_some(), || format!("P{frame} should have left"));
        &self.released.records[place.unwrap_or_default()].1
    }

    /// PVM frame `frame` left with this window field. That its checksum fits is checked for every frame.
    #[track_caller]
    pub fn window(&self, frame: usize, field: u16) -> &Self {
        let bytes = self.left(frame);
        let found = layout(bytes).map(|at| at.window(bytes));
        self.ensure(found == Some(field), || {
            format!("P{frame} should leave with the window {field}, has: {found:?}")
        });
        self
    }

    /// PVM frame `frame` left with a transport checksum that is right.
    #[track_caller]
    pub fn checksum_right(&self, frame: usize) -> &Self {
        let bytes = self.left(frame);
        let residue = layout(bytes).map(|at| at.residue(bytes));
        self.ensure(residue == Some(0), || format!("P{frame}: the checksum is off by {residue:x?}"));
        self
    }

    /// The summary has a count whose name contains `name`, and it says so.
    #[track_caller]
    pub fn counts(&self, name: &str, expected: u64) -> &Self {
        let mut found = Vec::new();
        gather(&self.summary, name, &mut found);
        self.ensure(found.contains(&expected), || {
            format!("the summary should count {expected} of {name:?}, counts {found:?}: {}", self.summary)
        });
        self
    }
}

/// All numbers under a key that contains `name`, sums of objects included.
fn gather(value: &serde_json::Value, name: &str, found: &mut Vec<u64>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        if key.contains(name) {
            found.extend(value.as_u64());
            found.extend(
                value
                    .as_object()
                    .map(|parts| parts.values().filter_map(serde_json::Value::as_u64).sum::<u64>()),
            );
        }
        gather(value, name, found);
    }
}
