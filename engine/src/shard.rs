//! One worker core's share of the flows: ring → table → compare → release.
//!
//! A shard has one input for each side. It is stepped: by its worker core with frames from rings, or by
//! [`virtual_time`](crate::virtual_time) with frames from captures. It knows neither threads nor clocks.

mod rules;
mod survey;
mod together;
mod work;

use std::time::Duration;

use pmd_tap::{BURST_FRAMES, Frame, Nanos};

use crate::compare::{Arrival, CompareSettings, Connection, Context, Stamp, Store};
use crate::flow::{FlowHash, FlowHasher};
use crate::held::{Content, Held, Queue};
use crate::modes::Conduct;
use crate::policy::{Action, RuleSet};
use crate::side::Side;
use crate::table::Table;
use crate::timer::Timers;
use crate::verdict::{Cause, Detail, Discard, Reason, Release, Scene, Sink, WaitsFor};
use crate::wire::{Packet, Stray};
use crate::witness::Witness;
use rules::Rules;
pub use survey::{Survey, WAITING_FLOWS, Waiting};
use together::Discord;
pub use work::{Budget, Label, Place, Work, WorkBurst};

/// Connections from which on their memory is asked for ahead: what fewer have stays in the cache.
const PREFETCHED: usize = 4096;
/// How many frames before its turn a connection's memory is asked for: by measurement, see docs/PERFORMANCE.md.
const AHEAD: usize = 4;

/// No connection: the table was full.
const UNTRACKED: u32 = u32::MAX;

/// Bounds and pace of a shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardSettings {
    /// What the comparison goes by.
    pub compare: CompareSettings,
    /// Most connections.
    pub max_connections: usize,
    /// Most frames held, per side.
    pub max_held_frames: usize,
    /// How often timers are looked at.
    pub tick: Duration,
}

/// Which timers run: at one instant, all graces before all timeouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Grace,
    Timeout,
}

/// Whether a flow found the table full in this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    Wanted,
}

/// One shard.
#[derive(Debug)]
pub struct Shard {
    settings: ShardSettings,
    table: Table,
    timers: Timers,
    store: Store,
    /// Commits flushed.
    epoch: u32,
    /// Boundaries gone by, with a commit or without.
    boundaries: u32,
    /// How many those were at the last flush.
    flushed_at: u32,
    /// Frames of flows that found the table full.
    untracked: Queue,
    /// Fragments that are not compared, until the commit.
    strays: Queue,
    /// Whether some of them are left behind by a boundary without a commit.
    left_behind: bool,
    /// During a flush: what was in chains, the oldest last.
    loose: Vec<Frame>,
    /// The set of rules when the first of them came.
    untracked_under: u32,
    room: Room,
    rules: Rules,
    discord: Discord,
    /// Connections whose timer came up at this instant.
    due: Vec<u32>,
}

impl Shard {
    /// A shard with all the memory it will ever use.
    pub fn new(settings: ShardSettings, hasher: FlowHasher) -> Self {
        // A former life is rare: ports are reused within the lifetime of their connection.
        let former = settings.max_connections.min(4096);
        Self {
            settings,
            table: Table::new(settings.max_connections),
            timers: Timers::new(settings.max_connections),
            store: Store::new(settings.max_held_frames, settings.compare.max_queue_size, former, hasher),
            epoch: 0,
            boundaries: 0,
            flushed_at: 0,
            untracked: Queue::default(),
            strays: Queue::default(),
            left_behind: false,
            loose: Vec::with_capacity(settings.max_held_frames + BURST_FRAMES),
            untracked_under: 0,
            room: Room::Enough,
            rules: Rules::new(RuleSet::empty(settings.compare)),
            discord: Discord::default(),
            due: Vec::with_capacity(settings.max_connections),
        }
    }

    /// Connections known.
    pub fn connections(&self) -> usize {
        self.table.len()
    }

    /// Frames held of one side.
    #[inline(always)]
    pub fn held_frames(&self, side: Side) -> usize {
        self.store.held.count(side) + if side == Side::Primary { self.loose.len() } else { 0 }
    }

    /// Bytes held of one side.
    pub fn held_bytes(&self, side: Side) -> usize {
        self.store.held.bytes(side)
    }

    /// The frames held of one side, by their place in their input, in no order.
    pub fn held_ordinals(&self, side: Side) -> impl Iterator<Item = u64> {
        self.store.held.iter(side).flat_map(|held| held.frame.originals().map(Frame::ordinal))
    }

    /// What is in use beyond held frames: stretches of streams, gaps in streams, former lives.
    pub fn used(&self) -> [usize; 3] {
        self.store.used()
    }

    /// Asks for the memory that says where a flow's connection stands, ahead of its frame's turn.
    #[inline(always)]
    pub fn prefetch(&self, hash: FlowHash) {
        self.table.prefetch(hash);
    }

    /// Asks for the connections of the first frames of a burst, if there are `from` connections at least; how far to look
    /// ahead from then on.
    #[inline(always)]
    fn look_ahead(&self, from: usize, burst: &WorkBurst) -> usize {
        if self.table.len() < from {
            return BURST_FRAMES;
        }
        for label in (0..AHEAD).map_while(|ahead| burst.label_ahead(ahead)) {
            self.prefetch_connection(label);
        }
        AHEAD
    }

    #[inline(always)]
    fn prefetch_connection(&self, label: &Label) {
        match label.packet {
            Packet::Tcp(..) => self.table.prefetch_connection(label.hash, Connection::HOT_LINES),
            _ => self.table.prefetch_connection(label.hash, Connection::HOT_LINES_OF_DATAGRAMS),
        }
    }

    /// The frames of a burst of one side. Of a large table the memory of their connections is asked for some frames before
    /// their turn: asked for all at once, the last would push the first out of the cache again.
    #[inline]
    pub fn handle_burst(&mut self, side: Side, burst: &mut WorkBurst, now: Nanos, sink: &mut impl Sink) {
        // Each side has its own copy of the way through the comparison, without questions about the side.
        match side {
            Side::Primary => self.handle_burst_of(Side::Primary, burst, now, sink),
            Side::Secondary => self.handle_burst_of(Side::Secondary, burst, now, sink),
        }
    }

    #[inline(always)]
    fn handle_burst_of(&mut self, side: Side, burst: &mut WorkBurst, now: Nanos, sink: &mut impl Sink) {
        let ahead = self.look_ahead(PREFETCHED, burst);
        loop {
            if let Some(label) = burst.label_ahead(ahead) {
                self.prefetch_connection(label);
            }
            let Some((frame, label)) = burst.take() else { break };
            sink.begin(side, &frame, &label.packet);
            self.handle_of(side, frame, label, now, sink);
            sink.end(side);
        }
        burst.tidy();
    }

    /// A frame of one side.
    pub fn handle(&mut self, side: Side, work: Work, now: Nanos, sink: &mut impl Sink) {
        let Work { frame, label } = work;
        self.handle_of(side, frame, &label, now, sink);
    }

    #[inline(always)]
    fn handle_of(&mut self, side: Side, frame: Frame, label: &Label, now: Nanos, sink: &mut impl Sink) {
        let Label { hash, packet, budget } = label;
        let (hash, budget) = (*hash, *budget);
        let Packet::Tcp(flow, segment) = packet else {
            return self.handle_any(side, frame, packet, hash, budget, now, sink);
        };
        if let Some(index) = self.table.find(flow, hash)
            && let Some(connection) = self.table.get_mut(index)
            && connection.is_in_step(Stamp::new(self.epoch, self.rules.number))
            && !connection.is_expired(&self.settings.compare, now)
            && (side == Side::Primary || budget == Budget::Room)
        {
            let settings = self.rules.set.settings(connection.rule());
            let mut cx = Context { settings, store: &mut self.store };
            let arrival = Arrival { side, frame, connection: index };
            match connection.handle_in_step(&mut cx, arrival, segment, now, sink) {
                Ok(Nanos::NEVER) => {}
                Ok(deadline) => connection.set_alarm(&mut self.timers, index, deadline),
                Err(Arrival { frame, .. }) => {
                    self.handle_any(side, frame, packet, hash, budget, now, sink);
                }
            }
            return;
        }
        self.handle_any(side, frame, packet, hash, budget, now, sink);
    }

    /// A frame that is not of a connection in step, or not an ordinary one.
    #[inline(never)]
    #[expect(clippy::too_many_arguments)]
    fn handle_any(
        &mut self,
        side: Side,
        frame: Frame,
        packet: &Packet,
        hash: FlowHash,
        budget: Budget,
        now: Nanos,
        sink: &mut impl Sink,
    ) {
        let Some(flow) = packet.flow() else {
            if let Packet::Fragment(_) | Packet::Stray(_) = packet {
                return self.handle_stray(side, frame, packet, sink);
            }
            return match side {
                Side::Primary => sink.release(frame, Release::Pass),
                Side::Secondary => sink.discard(frame, Discard::Pass),
            };
        };
        let found = self.table.find(flow, hash);
        let Some(index) = self.admit(found, packet, hash, now) else {
            return self.handle_untracked(side, frame, packet, now, sink);
        };
        let Some(connection) = self.table.get_mut(index) else { return };
        if connection.ruled_by() != self.rules.number {
            self.rules.put_over(connection, &mut self.store, sink);
        }
        let rule = connection.rule();
        self.store.masks.turn_to(rule);
        let mut cx = Context { settings: self.rules.set.settings(rule), store: &mut self.store };
        if side == Side::Secondary && budget == Budget::Exhausted {
            return connection.handle_over_budget(frame, now, sink);
        }
        connection.handle(&mut cx, Arrival { side, frame, connection: index }, packet, now, sink);
        connection.set_alarm(&mut self.timers, index, connection.deadline(&cx));
    }

    /// The connection that a frame belongs to, a new one if need be; `None` if the table has no room.
    #[inline(always)]
    fn admit(&mut self, found: Option<u32>, packet: &Packet, hash: FlowHash, now: Nanos) -> Option<u32> {
        match found {
            Some(index) => {
                let connection = self.table.get_mut(index)?;
                connection.refresh(self.epoch);
                if connection.is_expired(&self.settings.compare, now) {
                    connection.free(&mut self.store);
                    *connection = Connection::new(*connection.key(), packet, self.epoch, now);
                }
                Some(index)
            }
            None => self.admit_new(packet, hash, now),
        }
    }

    #[cold]
    fn admit_new(&mut self, packet: &Packet, hash: FlowHash, now: Nanos) -> Option<u32> {
        // Once a flow had to wait untracked, later frames of it must not overtake.
        let needs_no_place = || packet.flow().is_some_and(|flow| flow.class().is_some()) || self.passes_all();
        if !self.untracked.is_empty() || (self.passes(packet) && needs_no_place()) {
            return None;
        }
        let connection = Connection::new(*packet.flow()?, packet, self.epoch, now);
        let mut cx = Context { settings: &self.settings.compare, store: &mut self.store };
        self.table.insert(connection, hash, &mut cx, now).ok()
    }

    /// Whether a flow that is not in the table needs no place in it.
    fn passes(&self, packet: &Packet) -> bool {
        packet.flow().is_some_and(|flow| self.rules.ruling(flow).action == Action::Pass)
    }

    #[cold]
    fn handle_untracked(
        &mut self,
        side: Side,
        frame: Frame,
        packet: &Packet,
        now: Nanos,
        sink: &mut impl Sink,
    ) {
        // Frames that wait here may be of this flow, if they came under other rules.
        let alone = self.untracked.is_empty() || self.untracked_under == self.rules.number;
        if alone && self.passes(packet) {
            return match side {
                Side::Primary => sink.release(frame, Release::Pass),
                Side::Secondary => sink.discard(frame, Discard::Pass),
            };
        }
        if self.untracked.is_empty() {
            self.untracked_under = self.rules.number;
        }
        if self.room == Room::Enough {
            self.room = Room::Wanted;
            let detail = Detail::Bound { limit: "max_connections" };
            sink.ask(Cause { reason: Reason::TableFull, at: now, flow: packet.flow().copied(), detail });
        }
        match side {
            Side::Primary => {
                let held = Held { frame, connection: UNTRACKED, side, content: Content::Opaque };
                self.store.held.push(&mut self.untracked, held);
            }
            Side::Secondary => sink.discard(frame, Discard::OverBudget),
        }
    }

    /// Fragments that are not compared: they wait for the commit, as far as there is room and it has not been.
    #[cold]
    fn handle_stray(&mut self, side: Side, frame: Frame, packet: &Packet, sink: &mut impl Sink) {
        match (packet, side) {
            (Packet::Stray(Stray::Late { epoch }), side) if self.has_ended(*epoch) => match side {
                Side::Primary => sink.release(frame, Release::Pass),
                Side::Secondary => sink.discard(frame, Discard::Stale),
            },
            (Packet::Stray(Stray::OverBudget), Side::Secondary) => sink.discard(frame, Discard::OverBudget),
            (_, Side::Primary) if self.passes_all() => sink.release(frame, Release::Pass),
            (_, Side::Secondary) if self.passes_all() => sink.discard(frame, Discard::Pass),
            _ => {
                let held = Held { frame, connection: UNTRACKED, side, content: Content::Opaque };
                self.store.held.push(&mut self.strays, held);
            }
        }
    }

    /// Whether what came before a boundary, counted from 1, was flushed: at it, or at a later one. Counts wrap.
    fn has_ended(&self, boundary: u32) -> bool {
        self.flushed_at.wrapping_sub(boundary) <= u32::MAX / 2
    }

    /// A boundary without a commit went by: what is held stays so.
    pub fn pass_boundary(&mut self) {
        self.boundaries = self.boundaries.wrapping_add(1);
        self.left_behind = !self.strays.is_empty();
    }

    /// What waited for the rest of its datagram was handed on for a commit that did not come. Nobody else asks for the next
    /// one, so the shard does when it has waited long enough.
    #[cold]
    fn ask_for_strays(&mut self, now: Nanos, sink: &mut impl Sink) {
        let Some(held) = self.strays.head().and_then(|id| self.store.held.get(id)) else { return };
        if now < held.frame.arrival() + self.settings.compare.compare_timeout {
            return;
        }
        self.left_behind = false;
        let (side, frame, scene) = (held.side, held.frame.ordinal(), Scene::default());
        let detail = Detail::Timeout { side, frame, waits_for: WaitsFor::Fragments, scene };
        sink.ask(Cause { reason: Reason::Timeout, at: now, flow: None, detail });
    }

    /// Has a witness write down what is held when the sides differ.
    pub fn set_witness(&mut self, witness: Witness) {
        self.store.witness = Some(witness);
    }

    /// The witness, if there is one.
    pub fn witness(&mut self) -> Option<&mut Witness> {
        self.store.witness.as_mut()
    }

    /// Runs the timers that are due at `now`: first all graces, then all timeouts.
    pub fn expire(&mut self, now: Nanos, sink: &mut impl Sink) {
        if let Some(witness) = &mut self.store.witness {
            witness.close_due(now);
        }
        if self.left_behind {
            self.ask_for_strays(now, sink);
        }
        self.due.clear();
        while let Some(index) = self.timers.pop_due(now) {
            self.due.push(index);
            if let Some(connection) = self.table.get_mut(index) {
                connection.clear_alarm();
            }
        }
        for phase in [Phase::Grace, Phase::Timeout] {
            for at in 0..self.due.len() {
                let index = self.due[at];
                self.expire_connection(index, phase, now, sink);
            }
        }
    }

    /// Forgets some connections whose lifetime is over. To be called now and then; nothing that is decided depends on it
    /// while the table has room.
    pub fn forget_expired(&mut self, now: Nanos) {
        let mut cx = Context { settings: &self.settings.compare, store: &mut self.store };
        self.table.forget_expired(self.epoch, &mut cx, now);
    }

    fn expire_connection(&mut self, index: u32, phase: Phase, now: Nanos, sink: &mut impl Sink) {
        let Some(connection) = self.table.get_mut(index) else { return };
        connection.refresh(self.epoch);
        let rule = connection.rule();
        self.store.masks.turn_to(rule);
        let mut cx = Context { settings: self.rules.set.settings(rule), store: &mut self.store };
        match phase {
            Phase::Grace => connection.expire_grace(&mut cx, now, sink),
            Phase::Timeout if self.rules.conduct() == Conduct::Hold => {
                connection.wait_quietly(&cx, now);
                connection.set_alarm(&mut self.timers, index, connection.deadline(&cx));
            }
            Phase::Timeout => {
                connection.expire_timeout(&mut cx, now, sink);
                connection.set_alarm(&mut self.timers, index, connection.deadline(&cx));
            }
        }
    }

    /// When timers run next: a lower bound.
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.timers.next_deadline()
    }

    /// A checkpoint was committed: all held frames of the primary leave in order, all of the secondary are dropped, and
    /// the secondary is the primary's copy. Does at most `most` frames of work; returns whether it is complete.
    pub fn flush(&mut self, most: usize, now: Nanos, sink: &mut impl Sink) -> Flushed {
        self.loosen();
        for _ in 0..most {
            if let Some(frame) = self.take_oldest_primary() {
                sink.release(frame, Release::Flush);
            } else if let Some(held) = self.store.held.take_oldest(Side::Secondary) {
                sink.discard(held.frame, Discard::Flush);
            } else {
                self.begin_epoch(now);
                return Flushed::Completely;
            }
        }
        Flushed::Partly
    }

    /// Takes the primary's chains apart, so that what is in them leaves by its own arrival.
    fn loosen(&mut self) {
        let Self { store, loose, .. } = self;
        let before = loose.len();
        store.held.take_chains(Side::Primary, |chain| loose.extend(chain.into_originals()));
        if loose.len() > before {
            loose.sort_unstable_by_key(|frame| std::cmp::Reverse(frame.ordinal()));
        }
    }

    fn take_oldest_primary(&mut self) -> Option<Frame> {
        let held = self.store.held.oldest_place(Side::Primary);
        match self.loose.last() {
            Some(loose) if held.is_none_or(|held| loose.ordinal() < held) => self.loose.pop(),
            _ => self.store.held.take_oldest(Side::Primary).map(|held| held.frame),
        }
    }

    fn begin_epoch(&mut self, now: Nanos) {
        self.strays = Queue::default();
        self.left_behind = false;
        self.epoch = self.epoch.wrapping_add(1);
        self.boundaries = self.boundaries.wrapping_add(1);
        self.flushed_at = self.boundaries;
        self.store.clear();
        if let Some(witness) = &mut self.store.witness {
            witness.end_epoch();
        }
        if self.room == Room::Wanted {
            self.room = Room::Enough;
            self.untracked = Queue::default();
            self.bring_up_to_date();
            self.table.make_room(now);
        }
    }

    /// Connections learn of a commit when they are looked at; this looks at all.
    fn bring_up_to_date(&mut self) {
        for index in 0..self.settings.max_connections {
            if let Some(connection) = u32::try_from(index).ok().and_then(|index| self.table.get_mut(index)) {
                connection.refresh(self.epoch);
            }
        }
    }
}

/// How far a flush has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// There is more to do.
    Partly,
    /// A new epoch has begun.
    Completely,
}

#[cfg(test)]
mod tests;
