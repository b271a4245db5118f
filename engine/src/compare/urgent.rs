//! Urgent data: both guests must announce the same urgent positions (RFC 6093).
//!
//! The last segment before an urgent position announces it, and so may many others. So a side that has sent everything
//! before a position without announcing it does not mean it, and that contradicts one that does. Positions that both
//! sides have passed are not judged again: a retransmission may announce them or not.

use super::Store;
use super::contradiction::Contradiction;
use super::incarnation::Incarnation;
use crate::held::Placed;
use crate::side::Side;
use crate::verdict::{MismatchKind, WaitsFor};
use crate::wire::SeqNumber;

/// Most positions kept of a side: a guest sends one urgent byte at a time.
const KEPT: usize = 4;

/// What a side has announced and not both sides have passed. What there is no room for counts as a contradiction, so that
/// nothing leaves that could not be judged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Urgents {
    positions: [SeqNumber; KEPT],
    len: u8,
}

impl Urgents {
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn as_slice(&self) -> &[SeqNumber] {
        self.positions.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn contains(&self, position: SeqNumber) -> bool {
        self.as_slice().contains(&position)
    }

    fn has_room(&self) -> bool {
        usize::from(self.len) < KEPT
    }

    fn insert(&mut self, position: SeqNumber) {
        if !self.contains(position)
            && let Some(place) = self.positions.get_mut(usize::from(self.len))
        {
            *place = position;
            self.len += 1;
        }
    }

    fn retain(&mut self, keep: impl Fn(SeqNumber) -> bool) {
        let before = *self;
        *self = Self::default();
        for position in before.as_slice().iter().filter(|position| keep(**position)) {
            self.insert(*position);
        }
    }
}

impl Incarnation {
    /// Whether a side has sent everything before a position.
    fn has_passed(&self, side: Side, position: SeqNumber) -> bool {
        self.streams[side].reach.is_some_and(|reach| !reach.next.is_before(position))
    }

    /// Whether both sides have passed a position.
    fn is_judged(&self, position: SeqNumber) -> bool {
        Side::BOTH.into_iter().all(|side| self.has_passed(side, position))
    }

    /// Whether urgent positions are open, or a segment announces one.
    #[inline(always)]
    fn is_urgent(&self, placed: &Placed) -> bool {
        placed.urgent_pointer.is_some()
            || !self.streams.primary.urgents.is_empty()
            || !self.streams.secondary.urgents.is_empty()
    }

    /// The lowest urgent position that a segment brings into contradiction: one that it announces and the other side
    /// passed in silence, or one that it passes in silence.
    #[inline(always)]
    pub(super) fn urgent_contradiction(
        &self,
        store: &Store,
        side: Side,
        placed: &Placed,
    ) -> Option<Contradiction> {
        if self.is_urgent(placed) { self.found_urgent_contradiction(store, side, placed) } else { None }
    }

    #[cold]
    fn found_urgent_contradiction(
        &self,
        store: &Store,
        side: Side,
        placed: &Placed,
    ) -> Option<Contradiction> {
        let (own, other) = (&self.streams[side], &self.streams[side.other()]);
        let announced = placed.urgent();
        let denied = announced.filter(|position| {
            let silent = self.has_passed(side.other(), *position) && !other.urgents.contains(*position);
            let unkept = !own.urgents.contains(*position) && !own.urgents.has_room();
            (silent && !self.has_passed(side, *position)) || (unkept && !self.is_judged(*position))
        });
        let passed = other.urgents.as_slice().iter().copied().filter(|position| {
            !own.urgents.contains(*position)
                && announced != Some(*position)
                && !self.has_passed(side, *position)
                && own.is_filled_by(&store.islands, placed.range, *position)
        });
        let position = passed.chain(denied).reduce(SeqNumber::min)?;
        // The byte before it is the urgent one, and the first that must not leave.
        let at = position - 1;
        Some(Contradiction { kind: MismatchKind::Urgent, at, with: other.holder_of(&store.spans, at) })
    }

    /// Takes note of what a segment announces, before what it sends.
    #[inline(always)]
    pub(super) fn note_urgent(&mut self, side: Side, placed: &Placed) {
        if let Some(position) = placed.urgent()
            && !self.is_judged(position)
        {
            self.streams[side].urgents.insert(position);
        }
    }

    /// Forgets the positions that both sides have passed: they are judged.
    #[inline(always)]
    pub(super) fn settle_urgent(&mut self) {
        if !self.streams.primary.urgents.is_empty() || !self.streams.secondary.urgents.is_empty() {
            self.forget_passed();
        }
    }

    #[cold]
    fn forget_passed(&mut self) {
        let [primary, secondary] = Side::BOTH.map(|side| self.streams[side].reach.map(|reach| reach.next));
        let (Some(primary), Some(secondary)) = (primary, secondary) else { return };
        let both = primary.min(secondary);
        for side in Side::BOTH {
            self.streams[side].urgents.retain(|position| both.is_before(position));
        }
    }

    /// What keeps a primary segment that announces an urgent position: the secondary must announce it, too. It has if it
    /// passed the position and nobody objected.
    #[inline(always)]
    pub(crate) fn urgent_obstacle(&self, placed: &Placed) -> Option<WaitsFor> {
        let position = placed.urgent()?;
        if self.contradicted_at().is_some_and(|at| at.is_before(position)) {
            return Some(WaitsFor::Checkpoint);
        }
        let announced =
            self.streams.secondary.urgents.contains(position) || self.has_passed(Side::Secondary, position);
        (!announced).then_some(WaitsFor::Secondary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_kept_within_bounds() {
        let mut urgents = Urgents::default();
        for position in [5, 5, 0, u32::MAX, 7, 8, 9] {
            urgents.insert(SeqNumber(position));
        }
        let kept: Vec<u32> = urgents.as_slice().iter().map(|position| position.0).collect();
        assert_eq!(kept, [5, 0, u32::MAX, 7]);
        urgents.retain(|position| position != SeqNumber(0));
        assert!(!urgents.contains(SeqNumber(0)) && urgents.contains(SeqNumber(7)));
        urgents.retain(|_| false);
        assert!(urgents.is_empty());
    }
}
