//! The ordinary segment: data or an acknowledgment without SYN, FIN, RST or URG that goes on exactly where its side
//! stopped, on a connection that is [in step](super::in_step). Data is either the first of its pair, or the twin of a held
//! frame.
//!
//! Nothing is decided here that the long way ([`Session`]) would decide otherwise; it has the same outcome with
//! most questions answered beforehand. Whatever is not ordinary comes back untouched.

use pmd_tap::Nanos;

use super::incarnation::Incarnation;
use super::session::Session;
use super::stream::Stream;
use super::{Arrival, Connection, Context, Protocol, Reported};
use crate::held::{Content, HeldId, Placed};
use crate::release::obstacle;
use crate::side::Side;
use crate::spans::{Owner, Span};
use crate::verdict::{Discard, Release, Sink};
use crate::wire::{Segment, SeqRange};

impl Connection {
    /// Handles a segment if it is an ordinary one, and says by when the connection's timer must come up, if that is news;
    /// otherwise the frame comes back and nothing has changed. To be asked only while the connection is in step.
    #[inline(always)]
    pub(crate) fn handle_in_step(
        &mut self,
        cx: &mut Context<'_>,
        arrival: Arrival,
        segment: &Segment,
        now: Nanos,
        sink: &mut impl Sink,
    ) -> Result<Nanos, Arrival> {
        debug_assert!(self.keeps_step(), "a stamp outlived its reason");
        let Self { flow, protocol: Protocol::Tcp(tcp), overdue, in_step, .. } = self else {
            return Err(arrival);
        };
        #[cfg(test)]
        if short_way::is_closed() {
            return Err(arrival);
        }
        let side = arrival.side;
        let held_before = flow.queues[side].len();
        if side == Side::Secondary && held_before >= cx.settings.max_queue_size {
            return Err(arrival);
        }
        let mut session = Session { flow, cx, incarnation: &mut tcp.current, sink };
        let Some(ordinary) = session.ordinary(&arrival, segment) else { return Err(arrival) };
        #[cfg(test)]
        short_way::count();
        session.flow.last_seen = now;
        let mut deadline = Nanos::NEVER;
        let freed = match &ordinary {
            Ordinary::Twin(placed, twin) => session.meet_twin(arrival, placed, *twin),
            Ordinary::Ack(placed) => session.pass_ack(arrival, placed),
            Ordinary::First(placed) | Ordinary::EarlyAck(placed) => {
                if held_before == 0 && *overdue == Reported::No {
                    deadline = arrival.frame.arrival() + session.cx.settings.compare_timeout;
                }
                session.hold_ordinary(arrival, placed)
            }
        };
        if !tcp.current.expects_no_ack() || flow.has_left_comparison() {
            in_step.clear();
        }
        if freed == Freed::Perhaps && !flow.queues.primary.is_empty() {
            tcp.drain(flow, cx, now, sink);
            deadline = deadline.min(tcp.grace_ends_at());
        }
        flow.watch_queue(cx, side, held_before, sink);
        Ok(deadline)
    }
}

impl Incarnation {
    /// The place of an ordinary segment; `None` if it is not one.
    #[inline(always)]
    fn place_ordinary(&self, side: Side, segment: &Segment) -> Option<Placed> {
        if segment.flags.is_eventful() {
            return None;
        }
        let position = match side {
            Side::Primary => segment.seq,
            Side::Secondary => self.settled_shift()?.apply(segment.seq),
        };
        if self.streams[side].reach?.next != position {
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
enum Freed {
    Perhaps,
    Nothing,
}

/// What an ordinary segment is to its connection.
#[derive(Clone, Copy, Debug)]
enum Ordinary {
    /// Data that the other side has not begun to send.
    First(Placed),
    /// The other side's half is held, and equal.
    Twin(Placed, HeldId),
    /// An acknowledgment that needs nothing (more) of the other side.
    Ack(Placed),
    /// An acknowledgment of the primary that the secondary has not sent yet.
    EarlyAck(Placed),
}

impl<K: Sink> Session<'_, '_, K> {
    /// What an ordinary segment is; `None` if it is not one. Nothing changes yet.
    #[inline(always)]
    fn ordinary(&self, arrival: &Arrival, segment: &Segment) -> Option<Ordinary> {
        let placed = self.incarnation.place_ordinary(arrival.side, segment)?;
        if segment.payload.len == 0 {
            return self.ordinary_ack(arrival.side, placed);
        }
        let other = &self.incarnation.streams[arrival.side.other()];
        // What the other side has not begun to send cannot be compared yet, and waits.
        if !placed.range.start.is_before(other.reach?.next) {
            return Some(Ordinary::First(placed));
        }
        let twin = self.twin(other, &placed, arrival.frame.ethernet())?;
        let leaves = arrival.side == Side::Secondary
            || (self.flow.queues.primary.is_empty() && self.leaves_unchanged(&placed));
        leaves.then_some(Ordinary::Twin(placed, twin))
    }

    #[inline(always)]
    fn ordinary_ack(&self, side: Side, placed: Placed) -> Option<Ordinary> {
        match side {
            Side::Secondary if self.incarnation.is_below_commit(placed.range) => None,
            Side::Secondary => Some(Ordinary::Ack(placed)),
            Side::Primary if !self.flow.queues.primary.is_empty() => Some(Ordinary::EarlyAck(placed)),
            Side::Primary if obstacle(self.incarnation, self.cx.settings, &placed).is_some() => {
                Some(Ordinary::EarlyAck(placed))
            }
            // A window that reaches further than the secondary's waits or is lowered: the long way.
            Side::Primary => self.leaves_unchanged(&placed).then_some(Ordinary::Ack(placed)),
        }
    }

    #[inline(always)]
    fn pass_ack(&mut self, arrival: Arrival, placed: &Placed) -> Freed {
        match arrival.side {
            Side::Primary => {
                self.incarnation.note_primary_ack(placed);
                self.sink.release(arrival.frame, Release::Ack);
                Freed::Nothing
            }
            Side::Secondary => {
                self.incarnation.note_secondary_ack(placed);
                self.sink.discard(arrival.frame, Discard::Matched);
                Freed::Perhaps
            }
        }
    }

    #[inline(always)]
    fn hold_ordinary(&mut self, arrival: Arrival, placed: &Placed) -> Freed {
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
        if placed.range.is_empty() {
            return freed;
        }
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
