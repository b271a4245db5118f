//! TCP by stream position: a segment of either side goes in, what it makes possible comes out.

use std::time::Duration;

use pmd_tap::Nanos;

use super::contradiction::Ending;
use super::former::FormerId;
use super::incarnation::Incarnation;
use super::session::{Session, Untrackable};
use super::{Arrival, CompareSettings, Context, Flow, Store, Tracking, Worth, release_word};
use crate::held::{Content, Held};
use crate::release::Leave;
use crate::side::{BySide, Side};
use crate::verdict::{Discard, Sink, WaitsFor};
use crate::wire::{Segment, SeqNumber, SeqShift};

/// What a connection of which only one FIN was seen, or none, is remembered for (RFC 5382 REQ-5).
const ESTABLISHED: Duration = Duration::from_mins(124);
/// After both guests sent their FIN: the client may still send for a while (RFC 5382 REQ-5).
const FINISHED: Duration = Duration::from_mins(4);

/// Of which only the primary's SYN was seen: as long as a guest sends it again (Linux: `TCP_SYNACK_RETRIES`, 63 seconds).
const EMBRYONIC: Duration = Duration::from_mins(1);

/// The lives of one TCP connection.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
#[repr(C)]
pub(crate) struct TcpState {
    pub(super) current: Incarnation,
    /// The life before, in [`Store::former`], while something of it may still come.
    former: Option<FormerId>,
    /// When the oldest held frame leaves, if it is a pure ACK that waits for a window.
    window_grace: Nanos,
    /// The latest SYNs that came while nobody followed the connection.
    overheard: BySide<Option<Syn>>,
}

/// A SYN: its number, and what it acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Syn {
    seq: SeqNumber,
    ack: Option<SeqNumber>,
}

/// Which life a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Current,
    Former(FormerId),
}

impl TcpState {
    pub(crate) fn new() -> Self {
        Self {
            current: Incarnation::new(0),
            former: None,
            window_grace: Nanos::NEVER,
            overheard: BySide::default(),
        }
    }

    /// A segment came while the connection is not followed.
    #[cold]
    pub(super) fn overhear(&mut self, side: Side, segment: &Segment) {
        if segment.flags.syn() {
            self.overheard[side] = Some(Syn { seq: segment.seq, ack: segment.ack });
        }
    }

    /// A checkpoint was committed while the connection was not followed: it is picked up wherever it goes on. What stays
    /// is how the secondary counts.
    pub(super) fn commit_unfollowed(&mut self) {
        let shift = match (self.overheard.primary, self.overheard.secondary) {
            (None, _) => self.current.shift(),
            (Some(primary), Some(secondary)) if primary.ack == secondary.ack => {
                Some(SeqShift::between(secondary.seq, primary.seq))
            }
            (Some(_), _) => Some(SeqShift::IDENTITY),
        };
        *self = Self { current: Incarnation::after(0, shift), ..Self::new() };
    }

    pub(crate) fn commit(&mut self) {
        // The store forgot all former lives with the flush.
        self.former = None;
        self.window_grace = Nanos::NEVER;
        self.overheard = BySide::default();
        self.current.commit();
    }

    /// Gives back the memory of what is noted of it, when nothing of it is held any more, and begins anew. What stays is how
    /// the secondary counts.
    pub(super) fn forget(&mut self, store: &mut Store) {
        let shift = self.current.shift();
        self.free(store);
        self.current = Incarnation::after(0, shift);
    }

    /// Gives back what its lives take up.
    pub(super) fn free(&mut self, store: &mut Store) {
        let (former, mut memory) = store.lives();
        if let Some(id) = self.former.take() {
            former.forget(id, &mut memory);
        }
        self.current.free(&mut memory);
    }

    /// Forgets the former life when it is over and done with, so that the usual segment takes the short way again.
    fn forget_aged_life(&mut self, cx: &mut Context<'_>, now: Nanos) {
        let Some(id) = self.former else { return };
        let (former, mut memory) = cx.store.lives();
        if former.has_aged(id, cx.settings.compare_timeout, now) {
            former.forget(id, &mut memory);
        }
        if former.get(id).is_none() {
            self.former = None;
        }
    }

    pub(crate) fn lifetime(&self, settings: &CompareSettings) -> Duration {
        match self.current.ending() {
            None => ESTABLISHED,
            Some(Ending::Finished) => FINISHED,
            // Long enough for the last ACK to find it.
            Some(Ending::Reset) => settings.compare_timeout.max(Duration::from_secs(1)),
        }
    }

    /// How long it is kept when room is short: less when it never got beyond the primary's SYN, or has ended.
    pub(crate) fn patience(&self, settings: &CompareSettings) -> Duration {
        let linger = settings.compare_timeout.max(Duration::from_secs(1));
        match self.current.ending() {
            Some(_) => linger,
            None if self.current.is_embryonic() => EMBRYONIC,
            None => ESTABLISHED,
        }
    }

    /// Which connections go before others when a commit has to make room.
    pub(crate) fn worth(&self) -> Worth {
        match self.current.ending() {
            Some(_) => Worth::Closed,
            None if self.current.is_embryonic() => Worth::Embryonic,
            None => Worth::Open,
        }
    }

    /// What the release rule says of a held primary frame.
    #[inline(always)]
    fn leave(&self, cx: &Context<'_>, held: &Held, now: Nanos) -> Leave {
        const WAITS: Leave = Leave::No(WaitsFor::Checkpoint);
        let Content::Segment { placed, generation, .. } = &held.content else { return WAITS };
        let life = match self.life_of(cx.store, *generation) {
            Some(Life::Current) => Some(&self.current),
            Some(Life::Former(index)) => cx.store.former.get(index),
            None => None,
        };
        life.map_or(WAITS, |life| Leave::of(life, cx.settings, placed, || held.frame.arrival(), now))
    }

    /// Why a held primary frame does not leave.
    pub(crate) fn waits_for(&self, cx: &Context<'_>, held: &Held, now: Nanos) -> WaitsFor {
        match self.leave(cx, held, now) {
            Leave::No(waits_for) => waits_for,
            Leave::Unchanged | Leave::Clamped(_) => WaitsFor::Secondary,
        }
    }

    /// When a window has waited long enough.
    #[inline(always)]
    pub(super) fn grace_ends_at(&self) -> Nanos {
        self.window_grace
    }

    /// A window has waited long enough.
    pub(super) fn expire_grace(
        &mut self,
        flow: &mut Flow,
        cx: &mut Context<'_>,
        now: Nanos,
        sink: &mut impl Sink,
    ) {
        self.window_grace = Nanos::NEVER;
        // What is not followed waits for a checkpoint.
        if !matches!(flow.tracking, Tracking::Lost | Tracking::Aside) {
            self.drain(flow, cx, now, sink);
        }
    }

    /// The life that a held frame belongs to; `None` if it is forgotten.
    #[inline(always)]
    pub(super) fn life_of(&self, store: &Store, generation: u8) -> Option<Life> {
        if generation == self.current.generation {
            return Some(Life::Current);
        }
        let index = self.former?;
        let former = store.former.get(index)?;
        (former.generation == generation).then_some(Life::Former(index))
    }

    /// The life that a segment belongs to, `None` if a new one begins with it.
    fn find_life(&self, store: &Store, side: Side, segment: &Segment) -> Option<Life> {
        let former = self.former.and_then(|index| Some((index, store.former.get(index)?)));
        if segment.flags.syn() {
            return match former {
                _ if self.current.accepts_syn(side, segment) => Some(Life::Current),
                Some((index, former)) if former.accepts_syn(side, segment) => Some(Life::Former(index)),
                _ if self.current.answers_again(side, segment) => Some(Life::Current),
                _ => None,
            };
        }
        let Some((index, former)) = former else { return Some(Life::Current) };
        let [to_former, to_current] = [former, &self.current].map(|life| match side {
            Side::Primary => life.primary_distance(segment),
            Side::Secondary => life.secondary_distance(segment),
        });
        Some(if to_former < to_current { Life::Former(index) } else { Life::Current })
    }
}

impl TcpState {
    /// Whether no other life of it is remembered.
    #[inline(always)]
    pub(super) fn has_one_life(&self) -> bool {
        self.former.is_none()
    }

    /// A segment of either side.
    pub(super) fn handle(
        &mut self,
        flow: &mut Flow,
        cx: &mut Context<'_>,
        arrival: Arrival,
        segment: &Segment,
        sink: &mut impl Sink,
    ) {
        self.forget_aged_life(cx, flow.last_seen);
        let followed = match self.enter_life(flow, cx, arrival.side, segment, sink) {
            Some(Life::Current) => {
                Session { flow, cx, incarnation: &mut self.current, sink }.handle(arrival, segment)
            }
            Some(Life::Former(index)) => match cx.store.former.take(index) {
                Some(mut former) => {
                    let followed =
                        Session { flow, cx, incarnation: &mut former, sink }.handle(arrival, segment);
                    cx.store.former.put_back(index, former);
                    followed
                }
                None => Err(Untrackable(arrival)),
            },
            None => Err(Untrackable(arrival)),
        };
        match followed {
            Ok(()) => self.drain(flow, cx, flow.last_seen, sink),
            Err(Untrackable(arrival)) => {
                flow.lose(sink);
                self.overhear(arrival.side, segment);
                flow.set_aside(cx, arrival, sink);
            }
        }
    }

    /// Finds the life of a segment, beginning a new one if need be. `None`: there is no room for another.
    #[inline(always)]
    fn enter_life(
        &mut self,
        flow: &mut Flow,
        cx: &mut Context<'_>,
        side: Side,
        segment: &Segment,
        sink: &mut impl Sink,
    ) -> Option<Life> {
        if self.former.is_none() && !segment.flags.syn() {
            return Some(Life::Current);
        }
        match self.find_life(cx.store, side, segment) {
            None => self.begin_life(flow, cx, sink),
            life => life,
        }
    }

    #[cold]
    fn begin_life(&mut self, flow: &mut Flow, cx: &mut Context<'_>, sink: &mut impl Sink) -> Option<Life> {
        if let Some(index) = self.former {
            let generation = cx.store.former.get(index).map(|former| former.generation);
            if generation.is_some_and(|generation| !forget_life(flow, cx, generation, sink)) {
                return None;
            }
            let (former, mut memory) = cx.store.lives();
            former.forget(index, &mut memory);
        }
        // Should a checkpoint end this life before the primary has begun it, the one before goes on.
        let next = Incarnation::after(self.current.generation.wrapping_add(1), self.current.shift());
        let before = std::mem::replace(&mut self.current, next);
        let (former, memory) = cx.store.lives();
        self.former = former.insert(before, flow.last_seen, memory);
        self.former.map(|_| Life::Current)
    }

    /// Lets go what may leave now, in the order of arrival.
    pub(super) fn drain(&mut self, flow: &mut Flow, cx: &mut Context<'_>, now: Nanos, sink: &mut impl Sink) {
        self.window_grace = Nanos::NEVER;
        while let Some(id) = flow.queues.primary.head() {
            let Some(held) = cx.store.held.get(id) else { return };
            let Content::Segment { placed, generation, .. } = &held.content else { return };
            let leave = self.leave(cx, held, now);
            if let Leave::No(waits_for) = leave {
                if waits_for == WaitsFor::SecondaryWindow {
                    self.window_grace = held.frame.arrival() + cx.settings.window_grace;
                }
                return;
            }
            let (range, why) = (placed.range, release_word(placed));
            match self.life_of(cx.store, *generation) {
                Some(Life::Current) => self.current.streams.primary.let_go(cx.store, range, id),
                Some(Life::Former(index)) => {
                    if let Some(mut former) = cx.store.former.take(index) {
                        former.streams.primary.unhold(&mut cx.store.spans, range, id);
                        cx.store.former.put_back(index, former);
                    }
                }
                None => return,
            }
            let Some(held) = cx.store.held.take(&mut flow.queues.primary, id) else { return };
            leave.release(held.frame, why, sink);
        }
    }
}

/// Drops what the secondary still has of a life; false if the primary still has something.
fn forget_life(flow: &mut Flow, cx: &mut Context<'_>, generation: u8, sink: &mut impl Sink) -> bool {
    let is_of = |content: &Content| match content {
        Content::Segment { generation: of, .. } | Content::Unplaced { generation: of, .. } => {
            *of == generation
        }
        Content::Datagram { .. } | Content::Opaque => false,
    };
    let oldest = flow.queues.primary.head().and_then(|id| cx.store.held.get(id));
    if oldest.is_some_and(|held| is_of(&held.content)) {
        return false;
    }
    let mut at = flow.queues.secondary.head();
    while let Some(id) = at {
        at = cx.store.held.next_in_flow(id);
        if cx.store.held.get(id).is_some_and(|held| is_of(&held.content))
            && let Some(held) = cx.store.held.take(&mut flow.queues.secondary, id)
        {
            sink.discard(held.frame, Discard::Stale);
        }
    }
    true
}
