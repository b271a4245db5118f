//! What a cause says of both sides, and what the witness gets to see. All of it is off the ordinary way of a frame.

use pmd_tap::Nanos;

use super::incarnation::Incarnation;
use super::tcp::{Life, TcpState};
use super::{Arrival, Context, Flow, Store, Tracking};
use crate::held::{Content, HeldId};
use crate::modes::Sentence;
use crate::side::{BySide, Side};
use crate::verdict::{Cause, Reason, Scene, SideState, Sink, StreamState};
use crate::wire::{SeqNumber, SeqShift};
use crate::witness::{Sighting, Watch, Witness};

/// What is known beside the held frames when a cause is found.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen<'a> {
    /// The frame that arrived, if it is not held.
    pub(super) arriving: Option<&'a Arrival>,
    /// The held frame that it contradicts.
    pub(super) with: Option<HeldId>,
    /// The position that the cause is about.
    pub(super) at: Option<SeqNumber>,
}

impl Flow {
    /// Where both sides stand.
    #[cold]
    pub(super) fn scene(&self, store: &Store, life: Option<&Incarnation>, now: Nanos) -> Scene {
        let state = |side: Side| {
            let oldest = self.queues[side].head().map(|id| store.held.arrival(id));
            let state = life.map(|life| life.state_of(side)).unwrap_or_default();
            let oldest_held_ns = oldest.map_or(0, |arrival| now.nanos_since(arrival));
            SideState { held: self.queues[side].len(), oldest_held_ns, ..state }
        };
        let sides = BySide { primary: state(Side::Primary), secondary: state(Side::Secondary) };
        let rule = store.masks.rule().place().and_then(|place| u32::try_from(place + 1).ok());
        Scene { sides, rule }
    }

    /// Asks for a checkpoint, unless the flow keeps differing and is put aside instead, and lets the witness see why.
    #[cold]
    pub(super) fn accuse(
        &mut self,
        cx: &mut Context<'_>,
        cause: Cause,
        seen: &Seen<'_>,
        sink: &mut impl Sink,
    ) {
        let Store { held, witness, .. } = &mut *cx.store;
        // What follows from a contradiction tells nothing new: a flow is written down once an epoch, and once more if
        // the frame that came late turns out to differ.
        let is_new = match self.witnessed {
            None => true,
            Some(known) => known == Reason::Timeout && cause.reason == Reason::Mismatch,
        };
        if let Some(witness) = witness
            && is_new
        {
            self.witnessed = Some(cause.reason);
            let sighting = Sighting {
                cause,
                queues: self.queues,
                arriving: seen.arriving.map(|arrival| (arrival.side, &arrival.frame)),
                with: seen.with,
                at: seen.at,
            };
            if witness.write_down(held, &sighting) == Watch::Yes && self.tracking == Tracking::Compared {
                self.tracking = Tracking::Watched;
            }
        }
        if cause.reason == Reason::Mismatch
            && self.quarantine.differs(cx.settings.quarantine) == Sentence::Aside
        {
            self.tracking = Tracking::Aside;
            return sink.note_quarantined();
        }
        sink.ask(cause);
    }

    /// Whether a frame of a flow that is not simply compared goes on to the comparison. The witness sees it first.
    #[cold]
    pub(super) fn admits(&mut self, cx: &mut Context<'_>, arrival: &Arrival) -> bool {
        let see = |witness: &mut Witness| witness.see(&self.key, arrival.side, &arrival.frame);
        let watch = cx.store.witness.as_mut().map_or(Watch::No, see);
        match (self.tracking, arrival.side) {
            (Tracking::Watched, _) => {
                if watch == Watch::No {
                    self.tracking = Tracking::Compared;
                }
                true
            }
            (Tracking::Compared, _) | (Tracking::Diverged, Side::Primary) => true,
            (Tracking::Diverged, Side::Secondary)
            | (Tracking::Lost | Tracking::Aside | Tracking::Passed, _) => false,
        }
    }
}

impl TcpState {
    /// The life that a held frame is compared in, if it is known.
    #[cold]
    pub(super) fn life_of_frame<'a>(
        &'a self,
        store: &'a Store,
        content: &Content,
    ) -> Option<&'a Incarnation> {
        let generation = match content {
            Content::Segment { generation, .. } | Content::Unplaced { generation, .. } => *generation,
            Content::Datagram { .. } | Content::Opaque => self.current.generation,
        };
        match self.life_of(store, generation)? {
            Life::Current => Some(&self.current),
            Life::Former(index) => store.former.get(index),
        }
    }
}

impl Incarnation {
    /// How far a side has come in this life.
    fn state_of(&self, side: Side) -> SideState {
        let stream = &self.streams[side];
        let shift = match side {
            Side::Primary => SeqShift::IDENTITY,
            Side::Secondary => self.shift_or_identity(),
        };
        let reach = stream.reach.map(|reach| {
            let next = self.offset_of(reach.next);
            let low = u32::try_from(next.rem_euclid(1 << 32)).unwrap_or(0);
            // As the side itself counts: its shift, taken back.
            let zero = reach.next - low - shift.apply(SeqNumber(0)).0;
            let beyond = u32::try_from(reach.top.past(reach.next)).unwrap_or(0);
            StreamState { zero, next, beyond }
        });
        let edge = stream.ack.map(|_| stream.edge);
        SideState { stream: reach, ack: stream.ack, edge, ..SideState::default() }
    }
}
