//! One segment's passage through one life of its connection: placed, compared with what the other side sent, and let go,
//! held or dropped. Which life that is, and what leaves afterwards, is decided in `tcp`.

use super::contradiction::Contradiction;
use super::incarnation::{Incarnation, Standing};
use super::scene::Seen;
use super::stream::difference_in;
use super::{Arrival, Context, Field, Flow, Store, release_word};
use crate::held::{Content, HeldId, Placed};
use crate::release::Leave;
use crate::side::Side;
use crate::verdict::{Detail, Discard, MismatchKind, Reason, Sink};
use crate::wire::{Segment, SeqRange, urgent_pointer};

/// The state has no room to follow this segment.
pub(super) struct Untrackable(pub(super) Arrival);

/// One segment's passage through one life of its connection.
pub(super) struct Session<'a, 'b, K> {
    pub(super) flow: &'a mut Flow,
    pub(super) cx: &'a mut Context<'b>,
    pub(super) incarnation: &'a mut Incarnation,
    pub(super) sink: &'a mut K,
}

impl<K: Sink> Session<'_, '_, K> {
    #[inline(always)]
    pub(super) fn handle(&mut self, arrival: Arrival, segment: &Segment) -> Result<(), Untrackable> {
        match arrival.side {
            Side::Primary => self.primary(arrival, segment),
            Side::Secondary => {
                self.secondary(arrival, segment);
                Ok(())
            }
        }
    }

    fn primary(&mut self, arrival: Arrival, segment: &Segment) -> Result<(), Untrackable> {
        let opens = !self.incarnation.has_primary();
        if opens {
            self.incarnation.open_primary(segment);
        }
        let mut placed = self.incarnation.place_primary(segment);
        if !opens && self.incarnation.is_elsewhere(&placed) {
            self.flow.hold(self.cx, arrival, Content::Opaque);
            return Ok(());
        }
        self.read_urgent(&mut placed, segment, arrival.frame.ethernet());
        if self.incarnation.ack_counts(Side::Primary, &placed) {
            self.incarnation.note_primary_ack(&placed);
        }
        let pure_ack = placed.is_pure_ack();
        if pure_ack {
            self.announce(&placed, &arrival);
        }
        if pure_ack && opens {
            // What the secondary sent early is placed first: it may contradict itself.
            self.hold(arrival, &placed, 0);
        } else if pure_ack {
            self.leave_or_hold(arrival, &placed);
        } else if !self.incarnation.reach_down(&mut self.cx.store.islands, &placed) {
            return Err(Untrackable(arrival));
        } else if !self.incarnation.is_trackable(&placed) {
            // Nowhere near the stream: there is nothing to compare it with, so it waits for a checkpoint. Numbers that
            // far off must not be judged by position: they would seem to lie before it.
            self.flow.hold(self.cx, arrival, Content::Opaque);
        } else {
            self.primary_data(arrival, &placed)?;
        }
        self.incarnation.settle_urgent();
        if opens {
            self.place_early_secondaries();
        }
        Ok(())
    }

    fn primary_data(&mut self, arrival: Arrival, placed: &Placed) -> Result<(), Untrackable> {
        let ethernet = arrival.frame.ethernet();
        if placed.is_syn() {
            // The secondary's is judged when it is placed, which is never before.
            let ignored = self.cx.settings.ignored;
            self.incarnation.note_syn(self.cx.store, ignored, Side::Primary, placed, ethernet);
        }
        let contradiction = self.incarnation.contradiction_of(self.cx.store, Side::Primary, placed, ethernet);
        self.incarnation.note_urgent(Side::Primary, placed);
        if let Some(contradiction) = contradiction {
            // While the frame on its other end is still held.
            self.report(contradiction, Side::Primary, &arrival);
        }
        self.meet_secondary(placed, ethernet, contradiction);
        self.incarnation.note_end(Side::Primary, placed);
        self.match_secondary_reset(placed);
        let leave = self.leave(&arrival, placed);
        let range = placed.range;
        if let Some(leave) = leave {
            let why = release_word(placed);
            return if self.incarnation.streams.primary.cover(&mut self.cx.store.islands, range) {
                self.incarnation.move_mark();
                leave.release(arrival.frame, why, self.sink);
                Ok(())
            } else {
                Err(Untrackable(arrival))
            };
        }
        let id = self.hold(arrival, placed, 0);
        let stream = &mut self.incarnation.streams.primary;
        let Store { islands, spans, .. } = &mut *self.cx.store;
        let followed = stream.hold(islands, spans, range, id) && stream.cover(islands, range);
        self.incarnation.move_mark();
        if !followed {
            self.flow.lose(self.sink);
        }
        Ok(())
    }

    /// Counts off what the secondary's held frames were waiting for, and drops those that wait no more.
    #[inline(always)]
    fn meet_secondary(&mut self, placed: &Placed, ethernet: &[u8], contradiction: Option<Contradiction>) {
        let mut rest = placed.range;
        while let Some(gap) = self.incarnation.streams.primary.gap(&self.cx.store.islands, rest) {
            rest.start = gap.end;
            let mut at = gap;
            while let Some((common, id)) =
                self.incarnation.streams.secondary.held_in(&self.cx.store.spans, at)
            {
                at.start = common.end;
                let differs = contradiction.is_some_and(|found| {
                    let ends_differ = found.kind == MismatchKind::Fin && found.with == Some(id);
                    let origin = self.incarnation.stream_origin();
                    ends_differ
                        || difference_in(self.cx.store, id, origin, placed, ethernet, common).is_some()
                });
                self.count_off(id, if differs { u32::MAX } else { common.len() });
            }
        }
    }

    /// `positions` of a held secondary frame have met their partner; [`u32::MAX`]: they never will.
    fn count_off(&mut self, id: HeldId, positions: u32) {
        let Some(Content::Segment { unmatched, placed, .. }) = self.cx.store.held.content_mut(id) else {
            return;
        };
        if *unmatched == u32::MAX || positions == u32::MAX {
            *unmatched = u32::MAX;
            return;
        }
        *unmatched = unmatched.saturating_sub(positions);
        if *unmatched == 0 {
            let range = placed.range;
            self.incarnation.streams.secondary.unhold(&mut self.cx.store.spans, range, id);
            self.discard_held(id, Discard::Matched);
        }
    }

    #[inline(always)]
    pub(super) fn discard_held(&mut self, id: HeldId, why: Discard) {
        if let Some(held) = self.cx.store.held.take(&mut self.flow.queues.secondary, id) {
            self.sink.discard(held.frame, why);
        }
    }

    /// A frame whose bytes need no comparison leaves if it may.
    fn leave_or_hold(&mut self, arrival: Arrival, placed: &Placed) {
        if let Some(leave) = self.leave(&arrival, placed) {
            leave.release(arrival.frame, release_word(placed), self.sink);
        } else {
            self.hold(arrival, placed, 0);
        }
    }

    /// How a primary frame that just came leaves; `None`: it waits.
    #[inline(always)]
    pub(super) fn leave(&self, arrival: &Arrival, placed: &Placed) -> Option<Leave> {
        if !self.flow.queues.primary.is_empty() {
            return None;
        }
        let arrived = || arrival.frame.arrival();
        let leave = Leave::of(self.incarnation, self.cx.settings, placed, arrived, self.flow.last_seen);
        (!matches!(leave, Leave::No(_))).then_some(leave)
    }

    /// Takes note of what a segment announces as urgent.
    #[inline(always)]
    fn read_urgent(&self, placed: &mut Placed, segment: &Segment, ethernet: &[u8]) {
        if segment.flags.urg() && !segment.flags.rst() && !self.cx.settings.ignored.has(Field::Urgent) {
            placed.urgent_pointer = urgent_pointer(ethernet);
        }
    }

    /// A pure ACK announces urgent data when the client's window is closed.
    fn announce(&mut self, placed: &Placed, arrival: &Arrival) {
        let side = arrival.side;
        let contradiction = self.incarnation.urgent_contradiction(self.cx.store, side, placed);
        self.incarnation.note_urgent(side, placed);
        if let Some(contradiction) = contradiction {
            self.report(contradiction, side, arrival);
        }
    }

    #[inline(always)]
    pub(super) fn hold(&mut self, arrival: Arrival, placed: &Placed, unmatched: u32) -> HeldId {
        let generation = self.incarnation.generation;
        self.flow.hold(self.cx, arrival, Content::Segment { placed: *placed, generation, unmatched })
    }

    /// The segments that the secondary sent before the primary showed where they belong.
    fn place_early_secondaries(&mut self) {
        let mut at = self.flow.queues.secondary.head();
        while let Some(id) = at {
            at = self.cx.store.held.next_in_flow(id);
            let Some(held) = self.cx.store.held.get(id) else { continue };
            let Content::Unplaced { segment, generation } = held.content else { continue };
            if generation == self.incarnation.generation {
                self.place_early_secondary(id, &segment);
            }
        }
    }

    fn place_early_secondary(&mut self, id: HeldId, segment: &Segment) {
        if self.incarnation.is_stranger(segment) {
            return self.discard_held(id, Discard::Stale);
        }
        if !self.incarnation.join(self.cx.settings, self.cx.store, segment) {
            // Without the primary's SYN a translated secondary's says nothing, and never will.
            if segment.flags.syn() && self.incarnation.has_primary() {
                self.discard_held(id, Discard::Stale);
            }
            return;
        }
        let mut placed = self.incarnation.place_secondary(self.cx.settings, segment);
        // The frame is taken out for the comparison's sake and keeps its place in both orders.
        let Some(held) = self.cx.store.held.get(id) else { return };
        let ordinal = held.frame.ordinal();
        self.read_urgent(&mut placed, segment, held.frame.ethernet());
        let (fate, contradiction) = self.weigh_held(id, &placed);
        if let Some(contradiction) = contradiction {
            self.report_with(contradiction, Side::Secondary, ordinal, None);
        }
        match fate {
            Fate::Drop(why) => {
                self.cover_matched(&placed, why);
                self.discard_held(id, why);
            }
            Fate::Wait { unmatched } => {
                let generation = self.incarnation.generation;
                if let Some(content) = self.cx.store.held.content_mut(id) {
                    *content = Content::Segment { placed, generation, unmatched };
                }
                self.follow_secondary(&placed, id);
            }
        }
        self.incarnation.settle_urgent();
    }

    fn weigh_held(&mut self, id: HeldId, placed: &Placed) -> (Fate, Option<Contradiction>) {
        match self.cx.store.held.get(id) {
            Some(held) => weigh(self.incarnation, self.cx, placed, held.frame.ethernet()),
            None => (Fate::Drop(Discard::Stale), None),
        }
    }

    fn secondary(&mut self, arrival: Arrival, segment: &Segment) {
        if self.incarnation.is_stranger(segment) || self.incarnation.is_late_opening(segment) {
            return self.sink.discard(arrival.frame, Discard::Stale);
        }
        if !self.incarnation.join(self.cx.settings, self.cx.store, segment) {
            return self.unplaced_secondary(arrival, segment);
        }
        let mut placed = self.incarnation.place_secondary(self.cx.settings, segment);
        self.read_urgent(&mut placed, segment, arrival.frame.ethernet());
        let (fate, contradiction) = weigh(self.incarnation, self.cx, &placed, arrival.frame.ethernet());
        if let Some(contradiction) = contradiction {
            self.report(contradiction, Side::Secondary, &arrival);
        }
        match fate {
            Fate::Drop(why) => {
                self.cover_matched(&placed, why);
                self.sink.discard(arrival.frame, why);
            }
            Fate::Wait { unmatched } => {
                let id = self.hold(arrival, &placed, unmatched);
                self.follow_secondary(&placed, id);
            }
        }
        self.incarnation.settle_urgent();
    }

    /// Takes note that the secondary sent what the primary had sent before.
    #[inline(always)]
    fn cover_matched(&mut self, placed: &Placed, why: Discard) {
        if why == Discard::Matched {
            let stream = &mut self.incarnation.streams.secondary;
            if !stream.cover(&mut self.cx.store.islands, placed.range) {
                self.flow.lose(self.sink);
            }
        }
    }

    /// Nothing tells yet where the segment belongs. A pure ACK need not be kept for that.
    fn unplaced_secondary(&mut self, arrival: Arrival, segment: &Segment) {
        if segment.flags.syn() && !self.incarnation.has_secondary_syn() {
            self.incarnation.note_unplaced_syn(arrival.frame.ethernet());
        }
        self.incarnation.note_unplaced(segment);
        if segment.is_pure_ack() {
            self.sink.discard(arrival.frame, Discard::Matched);
        } else {
            let generation = self.incarnation.generation;
            self.flow.hold(self.cx, arrival, Content::Unplaced { segment: *segment, generation });
        }
    }

    fn follow_secondary(&mut self, placed: &Placed, id: HeldId) {
        let stream = &mut self.incarnation.streams.secondary;
        let Store { islands, spans, .. } = &mut *self.cx.store;
        let followed = stream.hold(islands, spans, placed.range, id) && stream.cover(islands, placed.range);
        if !followed {
            self.flow.lose(self.sink);
        }
    }

    fn report(&mut self, contradiction: Contradiction, side: Side, arrival: &Arrival) {
        self.report_with(contradiction, side, arrival.frame.ordinal(), Some(arrival));
    }

    fn report_with(
        &mut self,
        contradiction: Contradiction,
        side: Side,
        ordinal: u64,
        arriving: Option<&Arrival>,
    ) {
        self.incarnation.contradict(contradiction.at);
        let other = contradiction.with.and_then(|id| self.cx.store.held.get(id));
        let mut frames = [None, None];
        for (place, of) in frames.iter_mut().zip(Side::BOTH) {
            *place = match other {
                _ if of == side => Some(ordinal),
                Some(held) if held.side == of => Some(held.frame.ordinal()),
                _ => None,
            };
        }
        // A side that contradicts itself: the frame that arrived speaks for its side.
        let [primary, secondary] = frames;
        let offset = match contradiction.kind {
            // A SYN has options, not positions.
            MismatchKind::SynOptions => 0,
            // An urgent position lies behind its byte.
            MismatchKind::Urgent => self.incarnation.offset_of(contradiction.at + 1),
            _ => self.incarnation.offset_of(contradiction.at),
        };
        let scene = self.flow.scene(self.cx.store, Some(&*self.incarnation), self.flow.last_seen);
        let detail = Detail::Mismatch { kind: contradiction.kind, offset, primary, secondary, scene };
        let cause = self.flow.cause(Reason::Mismatch, detail);
        let seen = Seen { arriving, with: contradiction.with, at: Some(contradiction.at) };
        self.flow.accuse(self.cx, cause, &seen, self.sink);
    }
}

/// What becomes of a secondary segment.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Drop(Discard),
    Wait { unmatched: u32 },
}

/// Judges a secondary segment whose place is known, and takes note of its ack and end if they count.
#[inline(always)]
fn weigh(
    incarnation: &mut Incarnation,
    cx: &Context<'_>,
    placed: &Placed,
    ethernet: &[u8],
) -> (Fate, Option<Contradiction>) {
    let store = &*cx.store;
    let standing = incarnation.standing(store, placed);
    if standing == Standing::Stale {
        return (Fate::Drop(Discard::Stale), None);
    }
    let offers = if placed.is_syn() {
        incarnation.note_syn(store, cx.settings.ignored, Side::Secondary, placed, ethernet)
    } else {
        None
    };
    if incarnation.ack_counts(Side::Secondary, placed) {
        incarnation.note_secondary_ack(placed);
    }
    if placed.is_pure_ack() {
        let contradiction = incarnation.urgent_contradiction(store, Side::Secondary, placed);
        incarnation.note_urgent(Side::Secondary, placed);
        return (Fate::Drop(Discard::Matched), contradiction);
    }
    let contradiction =
        offers.or_else(|| incarnation.contradiction_of(store, Side::Secondary, placed, ethernet));
    incarnation.note_urgent(Side::Secondary, placed);
    incarnation.note_end(Side::Secondary, placed);
    if placed.reset.is_some() {
        let answered = incarnation.reset_answered(Side::Secondary, placed);
        let fate = if answered { Fate::Drop(Discard::Matched) } else { Fate::Wait { unmatched: 1 } };
        return (fate, contradiction);
    }
    if standing == Standing::Duplicate && contradiction.is_none() {
        return (Fate::Drop(Discard::Duplicate), None);
    }
    let unmatched = if contradiction.is_some_and(|found| found.kind != MismatchKind::Rst) {
        u32::MAX
    } else {
        unmatched_positions(incarnation, store, placed.range)
    };
    let fate = if unmatched == 0 { Fate::Drop(Discard::Matched) } else { Fate::Wait { unmatched } };
    (fate, contradiction)
}

/// How many positions of `range` are new of the secondary and were not sent by the primary.
#[inline(always)]
fn unmatched_positions(incarnation: &Incarnation, store: &Store, range: SeqRange) -> u32 {
    let (primary, secondary) = (&incarnation.streams.primary, &incarnation.streams.secondary);
    let mut unmatched = 0;
    let mut rest = range;
    while let Some(mut new) = secondary.gap(&store.islands, rest) {
        rest.start = new.end;
        while let Some(gap) = primary.gap(&store.islands, new) {
            new.start = gap.end;
            unmatched += gap.len();
        }
    }
    unmatched
}
