//! Which life of a connection a segment belongs to, as far as one life can tell: by its SYN, by its position, by what it
//! acknowledges. Choosing between two lives is `tcp`'s part.
//!
//! Both guests acknowledge the same client, so their acknowledgments lie near each other. Where positions say nothing
//! yet, that tells a segment of this life from a latecomer of another, from which nothing may be learned: neither how
//! the secondary counts nor what it has acknowledged.

use super::incarnation::{Incarnation, LARGEST_WINDOW, Mapping, SEQUENCE_WINDOW};
use super::stream::Reach;
use crate::held::Placed;
use crate::side::Side;
use crate::wire::{Segment, SeqNumber, SeqShift};

impl Incarnation {
    /// Whether a SYN of `side` with this number belongs to it.
    pub(super) fn accepts_syn(&self, side: Side, segment: &Segment) -> bool {
        let (stream, seq) = (&self.streams[side], segment.seq);
        // Answers to different SYNs of the client open different lives, whichever came first.
        let client = segment.ack.zip(self.opening_ack[side.other()]).map(|(one, other)| one == other);
        if side == Side::Secondary && self.is_late_opening(segment) {
            return true;
        }
        match (side, stream.syn) {
            (_, Some(syn)) if syn == seq => true,
            // After a checkpoint the secondary has the primary's numbers, but for a SYN that was on its way.
            (Side::Secondary, _) if self.committed.is_some() => {
                self.streams.primary.syn == Some(seq) || client == Some(true)
            }
            (Side::Primary, None) => stream.reach.is_none() && client != Some(false),
            (Side::Secondary, None) => {
                stream.reach.is_none()
                    && self.secondary_first.is_none()
                    && self.opened_by_syn()
                    && client != Some(false)
            }
            (_, Some(_)) => false,
        }
    }

    /// Whether a SYN of the secondary opened what was picked up in the middle of the primary: it answers the same client,
    /// and comes too late to say anything.
    pub(super) fn is_late_opening(&self, segment: &Segment) -> bool {
        segment.flags.syn()
            && self.has_primary()
            && self.streams.primary.syn.is_none()
            && self.answers_as(Side::Primary, segment)
    }

    /// Whether another SYN of the secondary answers the client's SYN of this life: a copy of the primary chooses its number
    /// again, and the SYN it sent before the checkpoint may come late.
    pub(super) fn answers_again(&self, side: Side, segment: &Segment) -> bool {
        let known = self.opening_ack.primary.or(self.opening_ack.secondary);
        side == Side::Secondary && segment.ack.is_some() && segment.ack == known
    }

    /// Whether nothing was seen of it, or what was seen first is the primary's SYN.
    fn opened_by_syn(&self) -> bool {
        !self.has_primary() || self.streams.primary.syn.is_some()
    }

    /// Whether a segment answers the same client as `side` of this life.
    fn answers_as(&self, side: Side, segment: &Segment) -> bool {
        let both = segment.ack.zip(self.streams[side].ack);
        both.is_some_and(|(one, other)| one.distance(other) <= SEQUENCE_WINDOW)
    }

    /// How far a primary segment is from where the primary is in this life. It may begin anywhere, but answers the same
    /// client as the secondary.
    pub(super) fn primary_distance(&self, segment: &Segment) -> u32 {
        match self.streams.primary.reach {
            Some(reach) => segment.seq.distance(reach.top),
            None if self.answers_as(Side::Secondary, segment) => SEQUENCE_WINDOW,
            None => u32::MAX,
        }
    }

    /// How far a secondary segment is from where the secondary is in this life, in any space it may use.
    pub(super) fn secondary_distance(&self, segment: &Segment) -> u32 {
        let seq = segment.seq;
        let Some(reach) = self.streams.secondary.reach else {
            return match (self.secondary_first, self.streams.secondary.syn) {
                (Some((first, _)), _) => seq.distance(first),
                // It opened this life and a rewriter may count from anywhere: what is nowhere near another life is of this.
                (None, Some(_)) => SEQUENCE_WINDOW,
                (None, None) if self.answers_as(Side::Primary, segment) => SEQUENCE_WINDOW,
                (None, None) => u32::MAX,
            };
        };
        let shifts = match self.mapping {
            Mapping::Unknown { .. } => [SeqShift::IDENTITY; 2],
            Mapping::AfterSyn { raw: shift } | Mapping::AfterCommit { old: shift } => {
                [SeqShift::IDENTITY, shift]
            }
            Mapping::Fixed(shift) => [shift; 2],
        };
        let [one, other] = shifts.map(|shift| shift.apply(seq).distance(reach.top));
        one.min(other)
    }

    /// Whether a primary segment is of a life that nobody knows, so that neither its bytes nor its ack say anything here:
    /// it lies farther from the stream than any window reaches; or farther than any burst that can be missing, and
    /// answers another client or has no data, so that it would stand where the stream ends.
    pub(super) fn is_elsewhere(&self, placed: &Placed) -> bool {
        let Some(reach) = self.streams.primary.reach else { return false };
        if let Some(raw) = placed.reset {
            return is_strange_reset(raw, raw.distance(reach.top)) && self.is_strange(placed.ack);
        }
        let start = placed.range.start;
        !reach.is_near(start)
            && (placed.is_pure_ack()
                || self.is_strange(placed.ack)
                || start.distance(reach.top) > LARGEST_WINDOW)
    }

    /// Whether what a segment acknowledges is this life's client. A reset may come from anywhere.
    #[inline(always)]
    pub(super) fn ack_counts(&self, side: Side, placed: &Placed) -> bool {
        let is_near = |reach: Reach| reach.is_near(placed.range.start);
        let counts = side == Side::Secondary || self.streams.primary.reach.is_none_or(is_near);
        counts && (placed.reset.is_none() || !self.is_strange(placed.ack))
    }

    /// Whether an acknowledgment is nowhere near the primary's: it answers another life's client.
    pub(super) fn is_strange(&self, ack: Option<SeqNumber>) -> bool {
        ack.zip(self.streams.primary.ack).is_some_and(|(one, other)| one.distance(other) > SEQUENCE_WINDOW)
    }

    /// Whether a secondary segment must not tell where the secondary stands in this life. Once its place is known, its
    /// position judges it.
    #[inline(always)]
    pub(super) fn is_stranger(&self, segment: &Segment) -> bool {
        if !self.is_strange(segment.ack) {
            return false;
        }
        // What answers the SYN that the primary has answered is of this life, however far the client has got since.
        if segment.flags.syn() && segment.ack.is_some() && segment.ack == self.opening_ack.primary {
            return false;
        }
        self.streams.secondary.reach.is_none()
            || (segment.flags.rst() && is_strange_reset(segment.seq, self.secondary_distance(segment)))
    }

    /// The primary acknowledges something for the first time. What the secondary acknowledged before may have been
    /// another life's client, and would seem to be ahead of all of this.
    #[cold]
    pub(super) fn forget_strange_ack(&mut self, primary: SeqNumber) {
        let secondary = &mut self.streams.secondary;
        secondary.ack = secondary.ack.filter(|ack| ack.distance(primary) <= SEQUENCE_WINDOW);
    }
}

/// Whether a reset's number is neither near its stream nor that of one that answers a SYN (RFC 9293 section 3.10.7.1).
fn is_strange_reset(raw: SeqNumber, distance: u32) -> bool {
    distance > SEQUENCE_WINDOW && raw != SeqNumber(0)
}
