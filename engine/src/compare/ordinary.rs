//! The ordinary segment: data or an acknowledgment without SYN, FIN, RST or URG that goes on exactly where its side
//! stopped, on a connection that is [in step](super::in_step). Data is either the first of its pair, or the twin of a held
//! frame.
//!
//! Nothing is decided here that the long way ([`Session`]) would decide otherwise; it has the same outcome with
//! most questions answered beforehand. Whatever is not ordinary comes back untouched.

use pmd_tap::{Frame, Nanos};

use super::incarnation::{Incarnation, Mapping};
use super::same::is_same;
use super::session::Session;
use super::window::plain_edge;
use super::{Arrival, Connection, Context, Protocol, Reported};
use crate::held::{Content, HeldId, Placed};
use crate::release::ack_obstacle;
use crate::side::Side;
use crate::verdict::{Discard, Release, Sink};
use crate::wire::{Segment, SeqRange};

/// What became of an ordinary segment's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// It is held.
    ToStay,
    /// It was released or dropped.
    AndWent,
}

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
        #[cfg(test)]
        if short_way::is_closed() {
            return Err(arrival);
        }
        let Self { flow, protocol: Protocol::Tcp(tcp), overdue, in_step, .. } = self else {
            return Err(arrival);
        };
        let (side, arrived) = (arrival.side, arrival.frame.arrival());
        let held_before = flow.queues[side].len();
        let mut session = Session { flow, cx, incarnation: &mut tcp.current, sink };
        let came = match side {
            Side::Primary => session.primary_in_step(arrival, segment)?,
            Side::Secondary if held_before >= session.cx.settings.max_queue_size => return Err(arrival),
            Side::Secondary => session.secondary_in_step(arrival, segment)?,
        };
        #[cfg(test)]
        short_way::count();
        flow.last_seen = now;
        let mut deadline = Nanos::NEVER;
        if side == Side::Secondary {
            if !tcp.current.expects_no_ack() {
                in_step.clear();
            }
            // What the secondary has not sent cannot leave, nor what is behind it.
            let head = flow.queues.primary.head();
            if head.is_some() && head != tcp.current.streams.primary.line.awaited() {
                tcp.drain(flow, cx, now, sink);
                deadline = tcp.grace_ends_at();
            }
        }
        if came == Came::ToStay {
            if held_before == 0 && *overdue == Reported::No {
                deadline = deadline.min(arrived + cx.settings.compare_timeout);
            }
            flow.watch_queue(cx, side, held_before, sink);
            if flow.has_left_comparison() {
                in_step.clear();
            }
        }
        Ok(deadline)
    }
}

impl Incarnation {
    /// The positions of an ordinary segment; `None` if it is not one.
    #[inline(always)]
    pub(super) fn ordinary_range(&self, side: Side, segment: &Segment) -> Option<SeqRange> {
        let position = match (side, self.mapping) {
            (Side::Primary, _) => segment.seq,
            (Side::Secondary, Mapping::Fixed(shift)) => shift.apply(segment.seq),
            (Side::Secondary, _) => return None,
        };
        let goes_on = self.streams[side].reach?.next == position;
        (goes_on && !segment.flags.is_eventful()).then(|| SeqRange::new(position, segment.payload.len))
    }

    /// Whether the other side has not begun to send what starts there, so that nothing of it can be compared yet.
    #[inline(always)]
    fn is_first(&self, side: Side, range: SeqRange) -> bool {
        self.streams[side.other()].reach.is_none_or(|reach| !range.start.is_before(reach.next))
    }

    /// Takes note of what an ordinary segment acknowledges.
    #[inline(always)]
    pub(super) fn note_ordinary_ack(&mut self, side: Side, segment: &Segment) {
        let Some(ack) = segment.ack else { return };
        let edge = plain_edge(ack, segment.window, self.streams[side].scale);
        match side {
            Side::Primary => self.primary_acks(ack, edge),
            Side::Secondary => self.secondary_acks(ack, edge),
        }
    }
}

impl<K: Sink> Session<'_, '_, K> {
    #[inline(always)]
    fn primary_in_step(&mut self, arrival: Arrival, segment: &Segment) -> Result<Came, Arrival> {
        let Some(range) = self.incarnation.ordinary_range(Side::Primary, segment) else {
            return Err(arrival);
        };
        if range.is_empty() {
            return self.primary_ack_in_step(arrival, segment, range);
        }
        if self.incarnation.is_first(Side::Primary, range) {
            // No ack of the secondary waits for this one, so it changes nothing for those before it.
            self.hold_ordinary(arrival, segment, range);
            return Ok(Came::ToStay);
        }
        let Some(twin) = self.twin(Side::Primary, range, segment, &arrival.frame) else {
            return Err(arrival);
        };
        let leaves = self.flow.queues.primary.is_empty()
            && ack_obstacle(self.incarnation, self.cx.settings, segment.ack).is_none()
            && self.incarnation.keeps_window(self.cx.settings, segment.ack, segment.window);
        if !leaves {
            return Err(arrival);
        }
        self.incarnation.note_ordinary_ack(Side::Primary, segment);
        let secondary = &mut self.incarnation.streams.secondary;
        secondary.meet(self.cx.store);
        secondary.let_go(self.cx.store, range, twin);
        self.discard_held(twin, Discard::Matched);
        self.incarnation.streams.primary.advance(range.end);
        self.incarnation.move_mark();
        self.sink.release(arrival.frame, Release::Matched);
        Ok(Came::AndWent)
    }

    /// A pure ACK of the primary: it leaves, or waits for the secondary's.
    #[inline(always)]
    fn primary_ack_in_step(
        &mut self,
        arrival: Arrival,
        segment: &Segment,
        range: SeqRange,
    ) -> Result<Came, Arrival> {
        let waits = !self.flow.queues.primary.is_empty()
            || ack_obstacle(self.incarnation, self.cx.settings, segment.ack).is_some();
        if waits {
            self.hold_ordinary(arrival, segment, range);
            return Ok(Came::ToStay);
        }
        // A window that reaches further than the secondary's waits or is lowered: the long way.
        if !self.incarnation.keeps_window(self.cx.settings, segment.ack, segment.window) {
            return Err(arrival);
        }
        self.incarnation.note_ordinary_ack(Side::Primary, segment);
        self.sink.release(arrival.frame, Release::Ack);
        Ok(Came::AndWent)
    }

    #[inline(always)]
    fn secondary_in_step(&mut self, arrival: Arrival, segment: &Segment) -> Result<Came, Arrival> {
        let Some(range) = self.incarnation.ordinary_range(Side::Secondary, segment) else {
            return Err(arrival);
        };
        if range.is_empty() {
            if self.incarnation.is_below_commit(range) {
                return Err(arrival);
            }
            self.incarnation.note_ordinary_ack(Side::Secondary, segment);
            self.sink.discard(arrival.frame, Discard::Matched);
            return Ok(Came::AndWent);
        }
        if self.incarnation.is_first(Side::Secondary, range) {
            self.hold_ordinary(arrival, segment, range);
            return Ok(Came::ToStay);
        }
        let Some(twin) = self.twin(Side::Secondary, range, segment, &arrival.frame) else {
            return Err(arrival);
        };
        self.incarnation.note_ordinary_ack(Side::Secondary, segment);
        self.incarnation.streams.secondary.advance(range.end);
        self.incarnation.streams.primary.meet(self.cx.store);
        self.sink.discard(arrival.frame, Discard::Matched);
        self.release_twin(range, twin);
        Ok(Came::AndWent)
    }

    #[inline(always)]
    fn hold_ordinary(&mut self, arrival: Arrival, segment: &Segment, range: SeqRange) {
        let side = arrival.side;
        self.incarnation.note_ordinary_ack(side, segment);
        let placed = Placed {
            range,
            payload: range,
            extent: segment.payload,
            ack: segment.ack,
            fin: None,
            reset: None,
            window: segment.window,
            urgent_pointer: None,
        };
        let unmatched = match side {
            Side::Primary => 0,
            Side::Secondary => segment.payload.len,
        };
        let id = self.hold(arrival, &placed, unmatched);
        if range.is_empty() {
            return;
        }
        let stream = &mut self.incarnation.streams[side];
        if stream.hold_next(self.cx.store, range, id) {
            stream.advance(range.end);
        } else {
            self.flow.lose(self.sink);
        }
        if side == Side::Primary {
            self.incarnation.move_mark();
        }
    }

    /// The other side's held frame with exactly the same positions and bytes.
    #[inline(always)]
    fn twin(&mut self, side: Side, range: SeqRange, segment: &Segment, frame: &Frame) -> Option<HeldId> {
        let id = self.incarnation.streams[side.other()].held_at(self.cx.store, range)?;
        let held = self.cx.store.held.get(id)?;
        held.frame.prefetch();
        let Content::Segment { placed: theirs, unmatched, .. } = &held.content else { return None };
        // A secondary's frame that met parts of its partner before takes the long way.
        let is_untouched = side == Side::Secondary || *unmatched == segment.payload.len;
        if theirs.range != range || theirs.payload != range || !is_untouched {
            return None;
        }
        if !is_same(segment.payload.of(frame.ethernet()), theirs.extent.of(held.frame.ethernet())) {
            return None;
        }
        self.cx.store.note_twins(side, frame, id);
        Some(id)
    }

    /// Lets the primary's half go if it is the oldest of its queue and nothing else keeps it; what is behind it is
    /// drained as ever.
    #[inline(always)]
    fn release_twin(&mut self, range: SeqRange, twin: HeldId) {
        let Some(held) = self.cx.store.held.get(twin) else { return };
        let Content::Segment { placed: theirs, .. } = &held.content else { return };
        let leaves = self.flow.queues.primary.head() == Some(twin)
            && theirs.is_plain(range)
            && ack_obstacle(self.incarnation, self.cx.settings, theirs.ack).is_none()
            && self.incarnation.keeps_window(self.cx.settings, theirs.ack, theirs.window);
        if !leaves {
            return;
        }
        self.incarnation.streams.primary.let_go(self.cx.store, range, twin);
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
