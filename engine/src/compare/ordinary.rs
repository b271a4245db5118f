//! The ordinary segment: data without SYN, FIN or RST that goes on exactly where its side stopped, on a connection where
//! nothing is missing, contradicted or at its end. It is either the first of its pair, or the twin of a held one.
//!
//! Nothing is decided here that the long way ([`Session`]) would decide otherwise; it has the same outcome with
//! most questions answered beforehand. Whatever is not ordinary comes back untouched.

use super::Arrival;
use super::incarnation::Incarnation;
use super::session::Session;
use super::stream::Stream;
use crate::held::{Content, HeldId, Placed};
use crate::release::obstacle;
use crate::side::Side;
use crate::spans::{Owner, Span};
use crate::verdict::{Discard, Release, Sink};
use crate::wire::{Segment, SeqRange};

impl Incarnation {
    /// The place of an ordinary segment; `None` if it is not one.
    #[inline(always)]
    fn place_ordinary(&self, side: Side, segment: &Segment) -> Option<Placed> {
        let (primary, secondary) = (&self.streams.primary, &self.streams.secondary);
        let shift = self.settled_shift()?;
        if !primary.is_whole() || !secondary.is_whole() {
            return None;
        }
        if segment.flags.is_eventful() || segment.payload.len == 0 {
            return None;
        }
        let (own, position) = match side {
            Side::Primary => (primary.reach?, segment.seq),
            Side::Secondary => (secondary.reach?, shift.apply(segment.seq)),
        };
        if own.next != position || own.top != position {
            return None;
        }
        let range = SeqRange::new(position, segment.payload.len);
        let (extent, ack) = (segment.payload, segment.ack);
        let window = segment.window;
        Some(Placed {
            range,
            payload: range,
            extent,
            ack,
            fin: None,
            reset: None,
            window,
            urgent_pointer: None,
        })
    }
}

/// Whether something that the primary still holds may have become free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freed {
    Perhaps,
    Nothing,
}

/// What an ordinary segment is to its connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ordinary {
    /// The other side has not begun to send it.
    First(Placed),
    /// The other side's half is held, and equal.
    Twin(Placed, HeldId),
}

impl<K: Sink> Session<'_, '_, K> {
    /// Whether a segment is an ordinary one. Nothing changes yet.
    #[inline(always)]
    pub(super) fn ordinary(&self, arrival: &Arrival, segment: &Segment) -> Option<Ordinary> {
        #[cfg(test)]
        if short_way::is_closed() {
            return None;
        }
        let placed = self.incarnation.place_ordinary(arrival.side, segment)?;
        let other = &self.incarnation.streams[arrival.side.other()];
        // What the other side has not begun to send cannot be compared yet, and waits.
        if !placed.range.start.is_before(other.reach?.top) {
            return Some(Ordinary::First(placed));
        }
        let twin = self.twin(other, &placed, arrival.frame.ethernet())?;
        let leaves = arrival.side == Side::Secondary
            || (self.flow.queues.primary.is_empty() && self.leaves_unchanged(&placed));
        leaves.then_some(Ordinary::Twin(placed, twin))
    }

    /// Handles an ordinary segment.
    #[inline(always)]
    pub(super) fn handle_ordinary(&mut self, arrival: Arrival, ordinary: &Ordinary) -> Freed {
        #[cfg(test)]
        short_way::count();
        match ordinary {
            Ordinary::First(placed) => self.hold_first(arrival, placed),
            Ordinary::Twin(placed, twin) => self.meet_twin(arrival, placed, *twin),
        }
    }

    #[inline(always)]
    fn hold_first(&mut self, arrival: Arrival, placed: &Placed) -> Freed {
        let side = arrival.side;
        let (unmatched, freed) = match side {
            // No ack of the secondary waits for this one, so it changes nothing for those before it.
            Side::Primary => {
                self.incarnation.note_primary_ack(placed);
                (0, Freed::Nothing)
            }
            Side::Secondary => {
                self.incarnation.note_secondary_ack(placed);
                (placed.range.len(), Freed::Perhaps)
            }
        };
        let id = self.hold(arrival, placed, unmatched);
        let stream = &mut self.incarnation.streams[side];
        let span = Span { range: placed.range, owner: Owner(id.0) };
        if self.cx.store.spans.insert(&mut stream.held, span) {
            stream.advance(placed.range.end);
        } else {
            self.flow.lose(self.sink);
        }
        if side == Side::Primary {
            self.incarnation.move_mark();
        }
        freed
    }

    /// The held frame with exactly the same positions and bytes.
    #[inline(always)]
    fn twin(&self, other: &Stream, placed: &Placed, ethernet: &[u8]) -> Option<HeldId> {
        let span = self.cx.store.spans.first_ending_after(&other.held, placed.range.start)?;
        let id = HeldId(span.owner.0);
        let held = self.cx.store.held.get(id)?;
        let Content::Segment { placed: theirs, unmatched, .. } = &held.content else { return None };
        let whole = span.range == placed.range && theirs.payload == placed.payload;
        // A secondary's frame that met parts of its partner before takes the long way.
        if !whole || (held.side == Side::Secondary && *unmatched != placed.range.len()) {
            return None;
        }
        (placed.extent.of(ethernet) == theirs.extent.of(held.frame.ethernet())).then_some(id)
    }

    #[inline(always)]
    fn meet_twin(&mut self, arrival: Arrival, placed: &Placed, twin: HeldId) -> Freed {
        match arrival.side {
            Side::Primary => {
                self.incarnation.note_primary_ack(placed);
                let secondary = &mut self.incarnation.streams.secondary;
                self.cx.store.spans.remove(&mut secondary.held, placed.range.start);
                self.discard_held(twin, Discard::Matched);
                self.incarnation.streams.primary.advance(placed.range.end);
                self.incarnation.move_mark();
                self.sink.release(arrival.frame, Release::Matched);
            }
            Side::Secondary => {
                self.incarnation.note_secondary_ack(placed);
                self.incarnation.streams.secondary.advance(placed.range.end);
                self.sink.discard(arrival.frame, Discard::Matched);
                self.release_twin(placed, twin);
            }
        }
        Freed::Perhaps
    }

    /// Whether nothing keeps a primary segment, nor its window as it is; all else is drained, or takes the long way.
    #[inline(always)]
    fn leaves_unchanged(&self, placed: &Placed) -> bool {
        obstacle(self.incarnation, self.cx.settings, placed).is_none()
            && self.incarnation.clamp(self.cx.settings, placed).is_none()
    }

    /// Lets the primary's half go if it is the oldest of its queue and nothing else keeps it; what is behind it is
    /// drained as ever.
    #[inline(always)]
    fn release_twin(&mut self, placed: &Placed, twin: HeldId) {
        let Some(held) = self.cx.store.held.get(twin) else { return };
        let Content::Segment { placed: theirs, .. } = &held.content else { return };
        if self.flow.queues.primary.head() != Some(twin)
            || theirs.range != placed.range
            || !self.leaves_unchanged(theirs)
        {
            return;
        }
        let primary = &mut self.incarnation.streams.primary;
        self.cx.store.spans.remove(&mut primary.held, placed.range.start);
        if let Some(held) = self.cx.store.held.take(&mut self.flow.queues.primary, twin) {
            self.sink.release(held.frame, Release::Matched);
        }
    }
}

/// For tests: everything takes the long way while the short one is closed, on this thread.
#[cfg(test)]
pub(crate) mod short_way {
    use std::cell::Cell;

    thread_local! {
        static CLOSED: Cell<bool> = const { Cell::new(false) };
        static TAKEN: Cell<u64> = const { Cell::new(0) };
    }

    pub(in crate::compare) fn is_closed() -> bool {
        CLOSED.get()
    }

    pub(in crate::compare) fn count() {
        TAKEN.set(TAKEN.get() + 1);
    }

    /// Segments that have taken it.
    pub(crate) fn taken() -> u64 {
        TAKEN.get()
    }

    /// Runs `test` without the short way.
    pub(crate) fn without<T>(test: impl FnOnce() -> T) -> T {
        CLOSED.set(true);
        let outcome = test();
        CLOSED.set(false);
        outcome
    }
}
