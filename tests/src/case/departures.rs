//! The frames that left, read back from the released capture: their windows and checksums.

use super::{Outcome, Verdict};
use crate::frame::{fold, layout, ones_sum};

/// Whether a frame left as it came but for a lower TCP window, and its checksum in step with that: right when it
/// came right, wrong by as much when it came wrong.
pub(super) fn only_the_window_is_lower(came: &[u8], left: &[u8]) -> bool {
    if let (Some(start), Some(outer)) = (tunnelled_at(came), around(came)) {
        // What is around it is the same, and still in step with what is in it.
        let sum = |frame: &[u8]| fold(ones_sum(&frame[outer..]));
        return came.len() == left.len()
            && came[..start] == left[..start]
            && sum(came) == sum(left)
            && only_the_window_is_lower(&came[start..], &left[start..]);
    }
    let (Some(at), true) = (layout(came), came.len() == left.len()) else {
        return false;
    };
    let window_and_checksum = at.transport + 14..at.transport + 18;
    let same = |index: usize| window_and_checksum.contains(&index) || came[index] == left[index];
    (0..came.len()).all(same) && at.window(left) < at.window(came) && at.residue(came) == at.residue(left)
}

/// Where the UDP or GRE header of an untagged frame stands.
fn around(frame: &[u8]) -> Option<usize> {
    match frame.get(12..14)? {
        [0x08, 0x00] => Some(14 + usize::from(frame.get(14)? & 0x0f) * 4),
        [0x86, 0xdd] => Some(54),
        _ => None,
    }
}

/// Where the frame in a VXLAN or GRE tunnel starts. An IP packet behind the two bytes of GRE that name its protocol is
/// taken for a frame: those two bytes stand where an `EtherType` would.
fn tunnelled_at(frame: &[u8]) -> Option<usize> {
    let outer = around(frame)?;
    if let Some(udp) = layout(frame) {
        let is_vxlan = udp.protocol == 17 && udp.destination_port(frame) == 4789;
        return is_vxlan.then_some(udp.payload + 8);
    }
    let protocol = if outer == 54 { frame[20] } else { frame[23] };
    match (protocol, frame.get(outer..outer + 4)?) {
        (47, [flags, _, 0x65, 0x58]) => {
            let fields = [0x80, 0x20, 0x10].iter().filter(|flag| *flags & **flag != 0).count();
            Some(outer + 4 + 4 * fields)
        }
        (47, [0, ..]) => Some(outer + 4 - 14),
        _ => None,
    }
}

/// A frame, or the one in its tunnel.
fn innermost(frame: &[u8]) -> &[u8] {
    &frame[tunnelled_at(frame).unwrap_or(0)..]
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
        let bytes = innermost(self.left(frame));
        let found = layout(bytes).map(|at| at.window(bytes));
        self.ensure(found == Some(field), || {
            format!("P{frame} should leave with the window {field}, has: {found:?}")
        });
        self
    }

    /// PVM frame `frame` left with a transport checksum that is right.
    #[track_caller]
    pub fn checksum_right(&self, frame: usize) -> &Self {
        let bytes = innermost(self.left(frame));
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
