//! What contradicts: bytes against bytes, ends of a stream against what goes on beyond them.

use super::Store;
use super::incarnation::Incarnation;
use super::stream::{Difference, Reach, Reset, Stream};
use crate::held::{HeldId, Placed};
use crate::side::Side;
use crate::verdict::MismatchKind;
use crate::wire::SeqNumber;

/// A contradiction, before it becomes a cause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contradiction {
    pub(super) kind: MismatchKind,
    pub(super) at: SeqNumber,
    /// The held frame on the other end of it.
    pub(super) with: Option<HeldId>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both guests sent a RST.
    Reset,
    /// Both guests sent their FIN.
    Finished,
}

impl Incarnation {
    /// What `side`'s segment contradicts: the other side's bytes, its own, or an end of the stream.
    #[inline(always)]
    pub(super) fn contradiction_of(
        &self,
        store: &Store,
        side: Side,
        placed: &Placed,
        ethernet: &[u8],
    ) -> Option<Contradiction> {
        let (own, other) = (&self.streams[side], &self.streams[side.other()]);
        let theirs = other.first_difference(store, self.stream_origin(), placed, ethernet);
        let repeats = own.reach.is_some_and(|reach| placed.payload.start.is_before(reach.top));
        let mine =
            if repeats { own.first_difference(store, self.stream_origin(), placed, ethernet) } else { None };
        match Difference::earlier(theirs, mine) {
            None => self
                .end_contradiction(store, side, placed)
                .or_else(|| self.urgent_contradiction(store, side, placed)),
            Some(difference) => Some(Self::byte_contradiction(store, own, difference)),
        }
    }

    #[cold]
    fn byte_contradiction(store: &Store, own: &Stream, difference: Difference) -> Contradiction {
        let said_before = own.has_sent(&store.islands, difference.at);
        let kind = if said_before { MismatchKind::SelfInconsistent } else { MismatchKind::Payload };
        Contradiction { kind, at: difference.at, with: difference.with }
    }

    /// FIN and RST against what goes on beyond them.
    #[inline(always)]
    fn end_contradiction(&self, store: &Store, side: Side, placed: &Placed) -> Option<Contradiction> {
        let (own, other) = (&self.streams[side], &self.streams[side.other()]);
        if placed.fin.is_none()
            && placed.reset.is_none()
            && own.fin.is_none()
            && other.fin.is_none()
            && other.resets[0].is_none()
        {
            return None;
        }
        self.found_end_contradiction(store, side, placed)
    }

    #[cold]
    fn found_end_contradiction(&self, store: &Store, side: Side, placed: &Placed) -> Option<Contradiction> {
        let (own, other) = (&self.streams[side], &self.streams[side.other()]);
        let at = |kind, at: SeqNumber| {
            let with = other.holder_of(&store.spans, at);
            Some(Contradiction { kind, at, with })
        };
        let beyond = |stream: &Stream, fin: SeqNumber| {
            stream.fin != Some(fin) && stream.reach.is_some_and(|reach| fin.is_before(reach.top))
        };
        if let Some(fin) = placed.fin {
            if beyond(own, fin) {
                return at(MismatchKind::SelfInconsistent, own.fin.map_or(fin, |own| own.min(fin)));
            }
            if beyond(other, fin) {
                return at(MismatchKind::Fin, other.fin.map_or(fin, |other| other.min(fin)));
            }
        }
        for (stream, kind) in [(own, MismatchKind::SelfInconsistent), (other, MismatchKind::Fin)] {
            // A reset has no position, so behind a FIN it goes on with nothing.
            if let Some(fin) = stream.fin
                && !placed.range.is_empty()
                && placed.fin != Some(fin)
                && fin.is_before(placed.range.end)
            {
                return at(kind, fin);
            }
        }
        self.reset_contradiction(side, placed).and_then(|position| at(MismatchKind::Rst, position))
    }

    /// A reset against a side that has sent beyond it, and beyond all that the resetting side sent.
    fn reset_contradiction(&self, side: Side, placed: &Placed) -> Option<SeqNumber> {
        let (own, other) = (self.streams[side].reach?, self.streams[side.other()].reach?);
        let goes_on = |reset: SeqNumber, resetting: Reach, top: SeqNumber| {
            reset.is_before(top) && resetting.top.is_before(top)
        };
        if let Some(raw) = placed.reset {
            let reset = Reset { position: placed.range.start, raw };
            let answered =
                self.streams[side.other()].resets.iter().flatten().any(|other| other.matches(reset));
            return (!answered && goes_on(reset.position, own, other.top)).then_some(reset.position);
        }
        if placed.range.is_empty() {
            return None;
        }
        let top = own.top.max(placed.range.end);
        let mine = self.streams[side].resets;
        let theirs = self.streams[side.other()].resets;
        theirs
            .iter()
            .flatten()
            .filter(|reset| !mine.iter().flatten().any(|mine| mine.matches(**reset)))
            .find(|reset| goes_on(reset.position, other, top))
            .map(|reset| reset.position)
    }

    /// Takes note of a side's FIN and RST.
    #[inline(always)]
    pub(super) fn note_end(&mut self, side: Side, placed: &Placed) {
        let stream = &mut self.streams[side];
        if placed.fin.is_some() {
            stream.fin = stream.fin.or(placed.fin);
        }
        if let Some(raw) = placed.reset {
            let reset = Some(Reset { position: placed.range.start, raw });
            if !stream.resets.contains(&reset) {
                stream.resets = [reset, stream.resets[0]];
            }
        }
    }

    /// Whether the other side has sent the same reset.
    pub(crate) fn reset_answered(&self, side: Side, placed: &Placed) -> bool {
        placed.reset.is_some_and(|raw| {
            let reset = Reset { position: placed.range.start, raw };
            self.streams[side.other()].resets.iter().flatten().any(|other| other.matches(reset))
        })
    }

    /// The end of this life, if it has come: both sides reset, or both sent their FIN.
    pub(super) fn ending(&self) -> Option<Ending> {
        let [primary, secondary] = Side::BOTH.map(|side| &self.streams[side]);
        if primary.resets[0].is_some() && secondary.resets[0].is_some() {
            Some(Ending::Reset)
        } else if primary.fin.is_some() && primary.fin == secondary.fin {
            Some(Ending::Finished)
        } else {
            None
        }
    }
}
