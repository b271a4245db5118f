//! The comparison of one connection's frames. Pure: `now` is an argument, decisions go to a [`Sink`], nothing here
//! reads a clock, takes a lock, logs, allocates or does I/O.

mod acks_ahead;
mod alarm;
mod belonging;
mod contradiction;
mod datagram;
mod fields;
mod former;
mod in_step;
mod incarnation;
mod line;
mod masking;
mod ordinary;
mod resets;
mod ruling;
mod same;
mod scene;
mod session;
mod settings;
mod stream;
mod syn;
mod tcp;
#[cfg(test)]
mod tests;
mod together;
mod urgent;
mod volatile;
mod window;

use std::time::Duration;

use pmd_tap::{Frame, Nanos};

use crate::digests::Digests;
use crate::flow::{FlowHasher, FlowKey};
use crate::held::{Content, Held, HeldFrames, HeldId, Placed, Queue};
use crate::modes::Quarantine;
use crate::policy::{Action, RuleIndex, Ruling};
use crate::side::{BySide, Side};
use crate::spans::Spans;
use crate::verdict::{Cause, Detail, Discard, Reason, Release, Sink};
use crate::wire::Packet;
use crate::witness::Witness;

use datagram::DatagramState;
pub use fields::{Field, IgnoredFields};
use former::{FormerLives, Memory};
pub(crate) use in_step::Stamp;
pub(crate) use incarnation::Incarnation;
pub use masking::MaskDesk;
#[cfg(test)]
pub(crate) use ordinary::short_way;
pub use settings::{AckPolicy, CompareSettings, SecondarySequence};
use tcp::TcpState;
pub(crate) use together::Half;
pub(crate) use window::Clamp;

/// The fixed memory of one shard's comparison, shared by its connections.
#[derive(Debug)]
pub struct Store {
    /// Frames that wait.
    pub held: HeldFrames,
    /// Which stream positions they have.
    pub(crate) spans: Spans,
    /// Which stream positions were sent beyond a gap.
    pub(crate) islands: Spans,
    /// Former lives of connections.
    pub(crate) former: FormerLives,
    /// Held datagrams by content.
    pub(crate) digests: Digests,
    /// For digests.
    pub(crate) hasher: FlowHasher,
    /// By how much the places of the latest twins in their inputs differ: the primary's less the secondary's, wrapping.
    pub(crate) apart: u64,
    /// What of the payload does not count on the connection at hand.
    pub(crate) masks: MaskDesk,
    /// Writes down what is held when the sides differ, if anybody wants to know.
    pub(crate) witness: Option<Witness>,
}

impl Store {
    /// Memory for `max_held_frames` held frames of each side, and `max_former` former lives. One stream may have as
    /// many gaps as frames of it may be held.
    pub fn new(max_held_frames: usize, max_queue_size: u32, max_former: usize, hasher: FlowHasher) -> Self {
        let both_sides = 2 * max_held_frames;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        // One connection's two streams leave the others at least half of what there is.
        let gaps = max_queue_size.min(count(both_sides / 4)).max(1);
        // The primary's queue is bounded by the frames of the side alone: a stretch for each, and one for each gap.
        let stretches = count(max_held_frames).saturating_add(gaps).min(count(both_sides));
        let seed = |of: u32| hasher.digest(of, b"heights");
        Self {
            held: HeldFrames::new(both_sides),
            // A frame is usually one span; gaps and overlaps make more.
            spans: Spans::new(2 * both_sides, stretches, seed(0)),
            islands: Spans::new(both_sides, gaps, seed(1)),
            former: FormerLives::new(max_former),
            digests: Digests::new(both_sides),
            hasher,
            apart: 0,
            masks: MaskDesk::default(),
            witness: None,
        }
    }

    /// The former lives, and the memory that lives give back.
    pub(crate) fn lives(&mut self) -> (&mut FormerLives, Memory<'_>) {
        (&mut self.former, Memory { spans: &mut self.spans, islands: &mut self.islands })
    }

    /// Takes note of how far apart twins are: the one that just came, of `side`, and a held one.
    #[inline(always)]
    pub(crate) fn note_twins(&mut self, side: Side, frame: &Frame, twin: HeldId) {
        let Some(held) = self.held.get(twin) else { return };
        let apart = frame.ordinal().wrapping_sub(held.frame.ordinal());
        self.apart = match side {
            Side::Primary => apart,
            Side::Secondary => apart.wrapping_neg(),
        };
    }

    /// What is in use beyond held frames: stretches of streams, gaps in streams, former lives.
    pub fn used(&self) -> [usize; 3] {
        [self.spans.used(), self.islands.used(), self.former.len()]
    }

    /// Forgets what belongs to held frames, after a flush emptied [`held`](Self::held).
    pub(crate) fn clear(&mut self) {
        self.spans.clear();
        self.islands.clear();
        self.former.clear();
        self.digests.clear();
    }
}

/// What a connection speaks. Most speak TCP, and a box would be an allocation for each.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
#[expect(clippy::large_enum_variant)]
pub(crate) enum Protocol {
    Tcp(TcpState),
    Datagram(DatagramState),
}

/// Whether a connection is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tracking {
    /// It is.
    Compared,
    /// It is, and the witness wants to see its next frames.
    Watched,
    /// The secondary has run out of room: its frames are dropped until the commit.
    Diverged,
    /// The primary cannot be followed: everything of it waits for the commit.
    Lost,
    /// A rule or class policy holds it, or has held what is still here: everything of it waits for the commit.
    Aside,
    /// A rule or class policy lets it pass.
    Passed,
}

/// What would be lost with a connection that is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Nothing: it has ended.
    Closed,
    /// Little: nobody may ever have answered the primary's SYN. Most of a SYN flood looks so.
    Embryonic,
    /// Its numbers.
    Open,
}

/// One flow: what is held of it, and how it is compared.
///
/// Of a large table most connections are in no cache. So what an ordinary frame asks stands in few cache lines, here and in
/// the structures below, and those alone are asked for ahead.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Connection {
    /// Whether its ordinary segments may take the short way.
    in_step: Stamp,
    flow: Flow,
    ruling: Ruling,
    /// Which set of rules said so; 0: none yet.
    ruled_by: u32,
    epoch: u32,
    /// Whether a timeout was reported in this epoch.
    overdue: Reported,
    /// By when its timer comes up, as far as it knows. While that is early enough the timer need not be looked at, which
    /// would be one more place that no cache has.
    alarm: Nanos,
    protocol: Protocol,
}

/// The part of a connection that does not depend on its protocol.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Flow {
    key: FlowKey,
    last_seen: Nanos,
    queues: BySide<Queue>,
    tracking: Tracking,
    /// What the witness has of it in this epoch.
    witnessed: Option<Reason>,
    /// Whether it keeps differing.
    quarantine: Quarantine,
    /// A held frame may have arrived as early as this although it is not the head of its queue: fragments take their
    /// place together, which is after the first of them came. The frame may have gone since.
    early: Nanos,
}

impl Flow {
    fn cause(&self, reason: Reason, detail: Detail) -> Cause {
        Cause { reason, at: self.last_seen, flow: Some(self.key), detail }
    }

    #[inline(always)]
    fn hold(&mut self, cx: &mut Context<'_>, arrival: Arrival, content: Content) -> HeldId {
        let Arrival { side, frame, connection } = arrival;
        if frame.has_followers() {
            self.early = self.early.min(frame.arrival());
        }
        cx.store.held.push(&mut self.queues[side], Held { frame, connection, side, content })
    }

    /// The connection's state has no room for what it is asked to follow: from here on everything waits for a commit.
    #[cold]
    fn lose(&mut self, sink: &mut impl Sink) {
        if self.tracking != Tracking::Lost {
            self.tracking = Tracking::Lost;
            sink.ask(self.cause(Reason::QueueFull, Detail::Bound { limit: "max_held_frames" }));
        }
    }

    /// Holds a primary frame uncompared, drops a secondary's.
    #[cold]
    fn set_aside(&mut self, cx: &mut Context<'_>, arrival: Arrival, sink: &mut impl Sink) {
        match arrival.side {
            Side::Primary => {
                self.hold(cx, arrival, Content::Opaque);
            }
            // Nothing of it is compared, whether there is room or not.
            Side::Secondary if self.tracking == Tracking::Aside => sink.discard(arrival.frame, Discard::Pass),
            Side::Secondary => sink.discard(arrival.frame, Discard::OverBudget),
        }
    }

    /// The secondary's frame has no room: drops it, and all that follow until the commit, because a stream with a
    /// hole cannot be compared.
    #[cold]
    fn diverge(&mut self, frame: Frame, limit: &'static str, sink: &mut impl Sink) {
        if matches!(self.tracking, Tracking::Compared | Tracking::Watched) {
            self.tracking = Tracking::Diverged;
            sink.ask(self.cause(Reason::QueueFull, Detail::Bound { limit }));
        }
        sink.discard(frame, Discard::OverBudget);
    }

    /// Asks for a checkpoint when a queue passes half of what it may hold: the other half is for what comes until then.
    #[inline(always)]
    fn watch_queue(&self, cx: &Context<'_>, side: Side, held_before: u32, sink: &mut impl Sink) {
        let high_water = (cx.settings.max_queue_size / 2).max(1);
        if held_before < high_water && self.queues[side].len() >= high_water {
            sink.ask(self.cause(Reason::QueueFull, Detail::Bound { limit: "max_queue_size" }));
        }
    }

    /// The frame that came first, primary first, wherever it stands.
    fn oldest_anywhere(&mut self, cx: &Context<'_>) -> Option<(Nanos, HeldId)> {
        let mut oldest = self.oldest(cx)?;
        if self.early < oldest.0 {
            for side in Side::BOTH {
                let mut at = self.queues[side].head();
                while let Some(id) = at {
                    let arrival = cx.store.held.arrival(id);
                    if arrival < oldest.0 {
                        oldest = (arrival, id);
                    }
                    at = cx.store.held.next_in_flow(id);
                }
            }
            self.early = oldest.0;
        }
        Some(oldest)
    }

    /// The head that came first, primary first.
    #[inline(always)]
    fn oldest(&self, cx: &Context<'_>) -> Option<(Nanos, HeldId)> {
        let stamped = |id: HeldId| (cx.store.held.arrival(id), id);
        match (self.queues.primary.head(), self.queues.secondary.head()) {
            (None, None) => None,
            (Some(id), None) | (None, Some(id)) => Some(stamped(id)),
            (Some(primary), Some(secondary)) => {
                let (primary, secondary) = (stamped(primary), stamped(secondary));
                Some(if secondary.0 < primary.0 { secondary } else { primary })
            }
        }
    }
}

/// Whether something was reported in this epoch; it is reported once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reported {
    Yes,
    No,
}

/// A frame on its way through the comparison.
pub(crate) struct Arrival {
    pub(crate) side: Side,
    pub(crate) frame: Frame,
    pub(crate) connection: u32,
}

/// What the comparison needs besides the connection.
pub struct Context<'a> {
    /// What it goes by.
    pub settings: &'a CompareSettings,
    /// Where held frames are.
    pub store: &'a mut Store,
}

impl Connection {
    /// The cache lines, counted from 0, that an ordinary segment touches: key and time; queues and ruling; how the
    /// secondary counts; the front of each stream.
    pub(crate) const HOT_LINES: [usize; 5] = [0, 1, 2, 5, 8];
    /// The same of a datagram: key and time; queues and ruling; what its flow remembers.
    pub(crate) const HOT_LINES_OF_DATAGRAMS: [usize; 3] = [0, 1, 2];

    /// A flow of which nothing was seen.
    pub fn new(key: FlowKey, packet: &Packet, epoch: u32, now: Nanos) -> Self {
        let protocol = match packet {
            Packet::Tcp(..) => Protocol::Tcp(TcpState::new()),
            _ => Protocol::Datagram(DatagramState::default()),
        };
        let flow = Flow {
            key,
            last_seen: now,
            queues: BySide::default(),
            tracking: Tracking::Compared,
            early: Nanos::NEVER,
            witnessed: None,
            quarantine: Quarantine::default(),
        };
        let ruling = Ruling { action: Action::Compare, rule: RuleIndex::NONE };
        Self {
            flow,
            epoch,
            overdue: Reported::No,
            ruling,
            ruled_by: 0,
            alarm: Nanos::NEVER,
            in_step: Stamp::default(),
            protocol,
        }
    }

    /// Its flow.
    #[inline(always)]
    pub fn key(&self) -> &FlowKey {
        &self.flow.key
    }

    /// Whether it is up to this epoch and this set of rules.
    #[inline(always)]
    pub(crate) fn is_up_to(&self, epoch: u32, rules: u32) -> bool {
        self.epoch == epoch && self.ruled_by == rules
    }

    /// The epoch it was brought up to.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Gives back what it takes up in the store: it is forgotten. It must be up to the shard's epoch.
    pub(crate) fn free(&mut self, store: &mut Store) {
        if let Protocol::Tcp(tcp) = &mut self.protocol {
            tcp.free(store);
        }
    }

    /// When a frame of it came last.
    pub fn last_seen(&self) -> Nanos {
        self.flow.last_seen
    }

    /// Whether nothing of it is held.
    pub fn is_idle(&self) -> bool {
        self.flow.queues.primary.is_empty() && self.flow.queues.secondary.is_empty()
    }

    /// How long it is remembered after its last frame.
    pub fn lifetime(&self, settings: &CompareSettings) -> Duration {
        match &self.protocol {
            Protocol::Tcp(tcp) if self.ruling.action == Action::Compare => tcp.lifetime(settings),
            // As connection trackers do for a flow that saw both directions.
            Protocol::Datagram(_) | Protocol::Tcp(_) => Duration::from_mins(3),
        }
    }

    /// Whether it may be forgotten for the sake of a new one.
    pub fn is_dispensable(&self, settings: &CompareSettings, now: Nanos) -> bool {
        let patience = match &self.protocol {
            Protocol::Tcp(tcp) => tcp.patience(settings),
            Protocol::Datagram(_) => self.lifetime(settings),
        };
        self.is_idle() && now.since(self.flow.last_seen) > patience
    }

    /// Which connections go before others when a commit has to make room.
    pub fn worth(&self) -> Worth {
        match &self.protocol {
            Protocol::Tcp(tcp) => tcp.worth(),
            Protocol::Datagram(_) => Worth::Open,
        }
    }

    /// Whether it may be forgotten.
    #[inline(always)]
    pub fn is_expired(&self, settings: &CompareSettings, now: Nanos) -> bool {
        // Asked for every frame; all lifetimes are longer than this.
        const SHORTEST_LIFETIME_NANOS: u64 = 1_000_000_000;
        now.nanos_since(self.flow.last_seen) > SHORTEST_LIFETIME_NANOS && self.has_outlived(settings, now)
    }

    #[cold]
    fn has_outlived(&self, settings: &CompareSettings, now: Nanos) -> bool {
        self.is_idle() && now.since(self.flow.last_seen) > self.lifetime(settings)
    }

    /// Brings it up to the shard's epoch: a commit emptied all queues and made the secondary the primary's copy.
    #[inline(always)]
    pub fn refresh(&mut self, epoch: u32) {
        if self.epoch != epoch {
            self.commit(epoch);
        }
    }

    #[cold]
    fn commit(&mut self, epoch: u32) {
        self.in_step.clear();
        self.flow.quarantine.commits(epoch.wrapping_sub(self.epoch));
        self.epoch = epoch;
        self.overdue = Reported::No;
        self.flow.queues = BySide::default();
        self.flow.early = Nanos::NEVER;
        let lost = matches!(self.flow.tracking, Tracking::Lost | Tracking::Aside);
        self.flow.tracking = ruling::resting(self.ruling.action);
        if self.flow.tracking == Tracking::Compared && self.flow.quarantine.is_aside() {
            self.flow.tracking = Tracking::Aside;
        }
        self.flow.witnessed = None;
        match &mut self.protocol {
            Protocol::Tcp(tcp) if lost => tcp.commit_unfollowed(),
            Protocol::Tcp(tcp) => tcp.commit(),
            Protocol::Datagram(datagrams) => *datagrams = DatagramState::default(),
        }
    }

    /// A frame of this flow.
    #[inline(never)]
    pub(crate) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        arrival: Arrival,
        packet: &Packet,
        now: Nanos,
        sink: &mut impl Sink,
    ) {
        self.in_step.clear();
        self.break_lines(cx.store, sink);
        self.handle_any(cx, arrival, packet, now, sink);
        self.find_step();
    }

    #[inline(always)]
    fn handle_any(
        &mut self,
        cx: &mut Context<'_>,
        arrival: Arrival,
        packet: &Packet,
        now: Nanos,
        sink: &mut impl Sink,
    ) {
        let Self { flow, protocol, .. } = self;
        flow.last_seen = now;
        let side = arrival.side;
        if flow.tracking == Tracking::Passed {
            return ruling::pass(arrival, sink);
        }
        if flow.tracking != Tracking::Compared && !flow.admits(cx, &arrival) {
            let held_before = flow.queues[side].len();
            if let (Protocol::Tcp(tcp), Packet::Tcp(_, segment)) = (protocol, packet) {
                tcp.overhear(side, segment);
            }
            flow.set_aside(cx, arrival, sink);
            return flow.watch_queue(cx, side, held_before, sink);
        }
        let held_before = flow.queues[side].len();
        if side == Side::Secondary && held_before >= cx.settings.max_queue_size {
            return flow.diverge(arrival.frame, "max_queue_size", sink);
        }
        match (protocol, packet) {
            (Protocol::Tcp(tcp), Packet::Tcp(_, segment)) => tcp.handle(flow, cx, arrival, segment, sink),
            (Protocol::Datagram(datagrams), Packet::Datagram(_, content)) => {
                datagrams.handle(flow, cx, arrival, *content, sink);
            }
            // A flow's key has its protocol, so this does not come; if it did, nothing might leave unseen.
            _ => {
                flow.lose(sink);
                flow.set_aside(cx, arrival, sink);
            }
        }
        flow.watch_queue(cx, side, held_before, sink);
    }

    /// A secondary frame of this flow for which the shard has no room.
    pub(crate) fn handle_over_budget(&mut self, frame: Frame, now: Nanos, sink: &mut impl Sink) {
        self.flow.last_seen = now;
        self.in_step.clear();
        match self.flow.tracking {
            Tracking::Aside | Tracking::Passed => sink.discard(frame, Discard::Pass),
            _ => self.flow.diverge(frame, "max_held_frames", sink),
        }
    }
}

/// How a released frame is reported: frames without payload or event are acks.
fn release_word(placed: &Placed) -> Release {
    if placed.is_pure_ack() { Release::Ack } else { Release::Matched }
}
