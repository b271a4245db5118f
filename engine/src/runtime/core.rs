//! What one thread of the data plane does for one pair: inputs → shard → output, whichever of them the core has.
//!
//! In `workers` mode a core has a shard, and some have an input or the output as well. In `pipeline` mode one core has
//! the ports and the others a shard each. An iteration is the same. Who iterates, and for which pairs, is `thread`'s.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pmd_tap::{FramePool, Nanos, Port, RxState};

use super::epochs::{Gate, Turn};
use super::pending::{Activity, Pending, Wait};
use super::publish::Published;
use super::rings::Rings;
use super::shared::{PortNews, PortRole, Shared};
use super::sink::{CoreSink, Current, Latencies, Tally};
use crate::flow::{FlowKey, ShardId};
use crate::metrics::ReleaseLatency;
use crate::modes::Conduct;
use crate::ring::Ring;
use crate::rx::{Input, Lane, Pressure, RingItem};
use crate::shard::{Flushed, Shard};
use crate::side::{BySide, Side};
use crate::stats::{Counters, verdict_cells};
use crate::tx::{Feed, Haste, OutItem, OutQueue, Output};
use crate::verdict::{Cause, Detail, Reason};

/// Frames flushed in one iteration, so that a core with a large flush still polls its ports.
const FLUSH_STEP: usize = 1024;
/// Bursts read of an input while its boundary is due, at most: what a socket holds, several times over.
const DRAIN_BURSTS: usize = 8192;
/// Bursts of those in one iteration, where another pair waits for its turn.
const DRAIN_STEP: usize = 64;
/// How long an ending engine tries to push out what has left.
const DRAIN: Duration = Duration::from_secs(2);

/// A shard and what its core keeps for it.
#[derive(Debug)]
pub(super) struct ShardSeat {
    pub(super) shard: Shard,
    pub(super) gate: Gate,
    next_tick: Nanos,
    pub(super) tick: Duration,
    /// The set of rules that the shard has.
    pub(super) rules: u32,
}

impl ShardSeat {
    pub(super) fn new(shard: Shard, tick: Duration) -> Self {
        Self { shard, gate: Gate::default(), next_tick: Nanos::ZERO, tick, rules: 0 }
    }
}

/// Everything one thread works on.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) index: usize,
    pub(super) inputs: Vec<Input>,
    pub(super) seat: Option<ShardSeat>,
    /// What is at hand for its shard.
    pub(super) pending: Pending,
    pub(super) output: Option<Output>,
    pub(super) queue: OutQueue,
    /// For the output's port, when the core has no input.
    pub(super) spare_pool: FramePool,
    pub(super) counters: Counters,
    pub(super) latency: ReleaseLatency,
    pub(super) published: Arc<Mutex<Published>>,
    pub(super) turns: Turns,
}

/// Whether a thread has other cores, of other pairs, to turn to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turns {
    /// It has only this one.
    Alone,
    /// It has, and none may be long.
    Shared,
}

impl Turns {
    /// Bursts of an input that are read in one iteration while its boundary is due.
    fn drain_step(self) -> usize {
        match self {
            Self::Alone => DRAIN_BURSTS,
            Self::Shared => DRAIN_STEP,
        }
    }
}

/// What a core shares with the others, and its way to them.
pub(super) struct Env<'a> {
    pub(super) shared: &'a Shared,
    pub(super) rings: &'a Rings,
    lanes: BySide<Vec<Lane<'a>>>,
    feeds: Vec<Feed<'a>>,
}

impl<'a> Env<'a> {
    pub(super) fn new(shared: &'a Shared, rings: &'a Rings, core: usize) -> Self {
        Self { shared, rings, lanes: rings.lanes(core), feeds: rings.feeds(core) }
    }

    fn wake(&self, core: usize) {
        if let Some(waker) = self.shared.cores.get(core) {
            waker.wake();
        }
    }

    fn wake_shard(&self, shard: ShardId) {
        if let Some(core) = self.rings.core_of(shard) {
            self.wake(core);
        }
    }
}

/// What an iteration came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Work,
    Nothing,
}

impl Found {
    pub(super) fn note(&mut self, found: bool) {
        if found {
            *self = Self::Work;
        }
    }
}

impl Core {
    /// One iteration: a burst of each input, what is in the rings, timers, the output.
    pub(super) fn step(&mut self, now: Nanos, env: &Env<'_>) -> Found {
        let mut found = Found::Nothing;
        self.poll_conduct(now, env);
        found.note(self.poll_rules(now, env));
        let mut haste = Haste::Now;
        for input in 0..self.inputs.len() {
            let outcome = self.poll_input(input, now, env);
            found.note(outcome != RxOutcome::Nothing);
            if outcome == RxOutcome::More {
                haste = Haste::MoreFollows;
            }
        }
        found.note(self.poll_rings(now, env));
        let wait = if env.shared.is_stopping() { Wait::No } else { Wait::Little };
        found.note(self.handle_pending(wait, now, env));
        found.note(self.poll_flush(now, env));
        self.poll_timers(now, env);
        self.poll_fragments(now, env);
        found.note(self.poll_output(now, env, haste));
        found
    }

    /// Receives of one input, or marks its boundary.
    fn poll_input(&mut self, at: usize, now: Nanos, env: &Env<'_>) -> RxOutcome {
        let input = &mut self.inputs[at];
        let side = input.side();
        while let Some(event) = input.port().poll_link() {
            env.shared.tell_link(role_of(side), event);
        }
        if !input.hand_over(&env.lanes[side], |shard| env.wake_shard(shard)) {
            return RxOutcome::Last;
        }
        if env.shared.is_stopping() {
            return RxOutcome::Nothing;
        }
        let boundary = env.shared.boundary();
        if input.must_mark(boundary) {
            self.mark_boundary(at, boundary, now, env);
            return RxOutcome::Last;
        }
        if self.seat.as_ref().is_some_and(|seat| seat.gate.is_blocked(side)) {
            return RxOutcome::Nothing;
        }
        self.receive(at, now, env)
    }

    /// One burst, unless one is at hand: for the shard, or gathered for the rings.
    fn receive(&mut self, at: usize, now: Nanos, env: &Env<'_>) -> RxOutcome {
        let input = &mut self.inputs[at];
        let side = input.side();
        if !self.pending.bursts[side].is_empty() {
            return RxOutcome::Last;
        }
        let before = input.last_pressure();
        let pressure = input.pressure();
        // Once at the high-water mark and once when there is no more room: a checkpoint that came in between made
        // less room than was used up meanwhile.
        if pressure > before {
            ask_for_room("max_held_frames", now, env);
        }
        if pressure == Pressure::Full && side == Side::Primary {
            self.counters.reading_stops += u64::from(before != Pressure::Full);
            return RxOutcome::Nothing;
        }
        let (received, _) = input.received();
        let seat = self.seat.as_ref();
        let ahead = |hash| seat.into_iter().for_each(|seat| seat.shard.prefetch(hash));
        let state = input.poll(now, &env.lanes[side], &mut self.pending.bursts[side], ahead);
        let any = input.received().0 != received;
        input.hand_over(&env.lanes[side], |shard| env.wake_shard(shard));
        if let Some(cause) = input.take_cause() {
            env.shared.ask(env.shared.committed(), cause);
        }
        if input.begins_to_starve() {
            self.counters.reading_stops += 1;
            ask_for_room("max_gso_frames", now, env);
        }
        if input.is_over_now() {
            self.handle_pending(Wait::No, now, env);
            // Whoever is told that it is over sees all that it brought.
            self.publish_last(env.rings);
            env.shared.input_is_over();
        }
        match (any, state) {
            (true, RxState::More) => RxOutcome::More,
            (true, _) => RxOutcome::Last,
            (false, _) => RxOutcome::Nothing,
        }
    }

    /// Reads what the input has, which belongs to the old epoch, and marks its end.
    fn mark_boundary(&mut self, at: usize, boundary: u32, now: Nanos, env: &Env<'_>) {
        let mut left = self.turns.drain_step();
        while !self.inputs[at].has_closed(boundary) {
            if left == 0 {
                return;
            }
            left -= 1;
            if self.inputs[at].count_drained(DRAIN_BURSTS) {
                break;
            }
            self.handle_pending(Wait::No, now, env);
            let received = self.receive(at, now, env);
            self.handle_pending(Wait::No, now, env);
            if received != RxOutcome::More {
                break;
            }
            if self.inputs[at].has_gathered() {
                // A ring is full: its core must go on first. The rest follows in the next iteration.
                return;
            }
        }
        if self.inputs[at].has_gathered() {
            return;
        }
        if !self.inputs[at].has_closed(boundary) {
            self.close_fragments(at, boundary, now, env);
            if self.inputs[at].has_gathered() {
                return;
            }
        }
        let (input, seat) = (&mut self.inputs[at], &mut self.seat);
        let side = input.side();
        let tell_own = || {
            if let Some(seat) = seat {
                seat.gate.mark(side, boundary);
            }
        };
        if input.mark(boundary, &env.lanes[side], tell_own, |shard| env.wake_shard(shard)) {
            env.shared.count_marked();
        }
    }

    /// What waits for the rest of its datagram belongs to the epoch that ends: the shard gets it in front of the mark.
    fn close_fragments(&mut self, at: usize, boundary: u32, now: Nanos, env: &Env<'_>) {
        self.handle_pending(Wait::No, now, env);
        let input = &mut self.inputs[at];
        let side = input.side();
        input.close(boundary, now, &env.lanes[side], &mut self.pending.bursts[side]);
        input.hand_over(&env.lanes[side], |shard| env.wake_shard(shard));
        self.handle_pending(Wait::No, now, env);
    }

    /// Frames from other cores' inputs.
    fn poll_rings(&mut self, now: Nanos, env: &Env<'_>) -> bool {
        let ring = |side| env.rings.shard_input(self.index, side);
        // As many as are there now, so that an input that never pauses cannot keep the core here.
        let mut left = Side::BOTH.map(|side| ring(side).map_or(0, Ring::len));
        let mut found = false;
        while self.poll_ring(Side::Primary, &mut left[0], env)
            | self.poll_ring(Side::Secondary, &mut left[1], env)
        {
            found = true;
            if left != [0, 0] {
                self.handle_pending(Wait::Little, now, env);
            }
        }
        found
    }

    /// The next of a side, of so many as are left, unless something of it is at hand. Whether there was one.
    fn poll_ring(&mut self, side: Side, left: &mut usize, env: &Env<'_>) -> bool {
        let Some(ring) = env.rings.shard_input(self.index, side) else { return false };
        let Some(seat) = &mut self.seat else { return false };
        if *left == 0 || !self.pending.bursts[side].is_empty() || seat.gate.is_blocked(side) {
            return false;
        }
        *left -= 1;
        match ring.pop() {
            Some(RingItem::Frames(burst)) => {
                burst.hashes().for_each(|hash| seat.shard.prefetch(hash));
                self.pending.bursts[side] = burst;
            }
            Some(RingItem::Mark(epoch)) => seat.gate.mark(side, epoch),
            None => return false,
        }
        true
    }

    /// The shard, and where its decisions go.
    #[inline(always)]
    pub(super) fn desk<'a>(
        &'a mut self,
        now: Nanos,
        env: &'a Env<'_>,
    ) -> Option<(&'a mut ShardSeat, CoreSink<'a>)> {
        self.whole_desk(now, env).map(|(seat, _, sink)| (seat, sink))
    }

    /// The same, with the frames at hand.
    #[inline(always)]
    fn whole_desk<'a>(
        &'a mut self,
        now: Nanos,
        env: &'a Env<'_>,
    ) -> Option<(&'a mut ShardSeat, &'a mut Pending, CoreSink<'a>)> {
        let seat = self.seat.as_mut()?;
        let sink = CoreSink {
            now,
            epoch: seat.gate.epoch(),
            queue: &mut self.queue,
            counters: &mut self.counters,
            latency: Latencies::new(&mut self.latency),
            pool: pool_for_drops(&mut self.inputs),
            shared: env.shared,
            tally: Tally::default(),
            current: Current::default(),
        };
        Some((seat, &mut self.pending, sink))
    }

    /// Walks what is at hand through the shard, pairs together. Returns whether anything was.
    fn handle_pending(&mut self, wait: Wait, now: Nanos, env: &Env<'_>) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let Some((seat, pending, mut sink)) = self.whole_desk(now, env) else { return false };
        let mut other = Activity::Silent;
        if pending.has_both() {
            if seat.shard.handle_bursts(&mut pending.bursts, now, &mut sink) > 0 {
                pending.have_met();
            }
            other = Activity::Busy;
        }
        for side in Side::BOTH {
            seat.shard.handle_loners(side, &mut pending.bursts[side], now, &mut sink);
            if pending.bursts[side].is_empty() {
                pending.is_done(side);
                continue;
            }
            if wait == Wait::No || !pending.keeps_waiting(side, other, now) {
                seat.shard.handle_burst(side, &mut pending.bursts[side], now, &mut sink);
            }
        }
        true
    }

    /// Flushes when both sides' boundaries are here and the checkpoint was committed.
    fn poll_flush(&mut self, now: Nanos, env: &Env<'_>) -> bool {
        let Some((seat, mut sink)) = self.desk(now, env) else { return false };
        match seat.gate.turn(|| env.shared.committed(), |epoch| env.shared.is_void(epoch)) {
            Turn::Wait => return false,
            Turn::Void => {
                seat.shard.pass_boundary();
                env.shared.count_flushed();
                return true;
            }
            Turn::Begin => sink.queue.push(OutItem::FlushBegin),
            Turn::GoOn => {}
        }
        if seat.shard.flush(FLUSH_STEP, now, &mut sink) == Flushed::Completely {
            seat.gate.has_flushed();
            seat.shard.set_conduct(env.shared.conduct(), &mut sink);
            sink.queue.push(OutItem::FlushEnd);
            env.shared.count_flushed();
        }
        true
    }

    /// Says what keeps links from coming up, once a second while they are down.
    #[cold]
    pub(super) fn tell_obstacles(&mut self, env: &Env<'_>) {
        for input in &mut self.inputs {
            let role = role_of(input.side());
            tell_obstacle(role, input.port(), env);
        }
        if let Some(output) = &mut self.output {
            tell_obstacle(PortRole::Out, output.port(), env);
        }
    }

    fn poll_timers(&mut self, now: Nanos, env: &Env<'_>) {
        let Some((seat, mut sink)) = self.desk(now, env) else { return };
        if now >= seat.next_tick && !seat.gate.is_flushing() {
            seat.next_tick = now + seat.tick;
            seat.shard.expire(now, &mut sink);
            seat.shard.forget_expired(now);
        }
    }

    /// Asks for a checkpoint when a fragment waits too long for the rest of its datagram.
    fn poll_fragments(&mut self, now: Nanos, env: &Env<'_>) {
        for at in 0..self.inputs.len() {
            if let Some(cause) = self.inputs[at].expire(now) {
                if env.shared.conduct() == Conduct::Pass {
                    self.close_fragments(at, env.shared.boundary(), now, env);
                    continue;
                }
                let protocol = cause.flow.as_ref().map_or(0, FlowKey::protocol);
                verdict_cells(&mut self.counters.verdicts, protocol).timeout += 1;
                env.shared.ask(env.shared.committed(), cause);
            }
        }
    }

    fn poll_output(&mut self, now: Nanos, env: &Env<'_>, haste: Haste) -> bool {
        let Some(output) = &mut self.output else {
            let Some(ring) = env.rings.shard_output(self.index) else { return false };
            let moved = self.queue.hand_over(ring);
            if moved {
                env.wake(env.rings.output_core());
            }
            return moved;
        };
        let pool = self.inputs.first_mut().map_or(&mut self.spare_pool, Input::pool);
        let moved = output.poll(pool, now, &mut self.queue, &env.feeds, haste);
        while let Some(event) = output.port().poll_link() {
            env.shared.tell_link(PortRole::Out, event);
        }
        moved
    }

    /// Whether this core's part is over: inputs first, then shards, then the output.
    pub(super) fn has_ended(&mut self, ending: &mut Ending, now: Nanos, env: &Env<'_>) -> bool {
        let deadline = *ending.deadline.get_or_insert(now + DRAIN);
        let late = now >= deadline;
        if !ending.inputs && (late || self.inputs.iter().all(|input| !input.has_gathered())) {
            ending.inputs = true;
            self.inputs.iter().for_each(|_| env.shared.input_ends());
        }
        // In this order: an input pushes its last frames before it ends.
        let inputs_ended = env.shared.inputs_ended();
        let rings_empty =
            Side::BOTH.iter().all(|side| env.rings.shard_input(self.index, *side).is_none_or(Ring::is_empty));
        let handed_over = self.output.is_some() || self.queue.is_empty();
        let settled = env.shared.control_ended()
            && self.seat.as_mut().is_none_or(|seat| seat.gate.settles(env.shared.committed()));
        let rings_empty = rings_empty && self.pending.is_empty();
        if !ending.shard && ending.inputs && (late || (inputs_ended && settled && rings_empty && handed_over))
        {
            ending.shard = true;
            if self.seat.is_some() {
                env.shared.shard_ends();
            }
        }
        let drained = match &self.output {
            Some(output) => env.shared.shards_ended() && output.is_drained(&self.queue, &env.feeds),
            None => true,
        };
        ending.shard && (late || drained)
    }

    /// Whether another thread has something for this core. Looked at after it said that it falls asleep, so that
    /// nothing slips in between.
    pub(super) fn has_news(&self, env: &Env<'_>) -> bool {
        let boundary = env.shared.boundary();
        let frames = Side::BOTH.iter().any(|side| {
            let blocked = self.seat.as_ref().is_some_and(|seat| seat.gate.is_blocked(*side));
            !blocked && env.rings.shard_input(self.index, *side).is_some_and(|ring| !ring.is_empty())
        });
        let commit = self.seat.as_ref().is_some_and(|seat| env.shared.committed() != seat.gate.epoch());
        // Nobody says when the ring to the output has room again.
        let unsent = self.output.is_none() && !self.queue.is_empty();
        let rules = self.seat.as_ref().is_some_and(|seat| env.shared.rules.number() != seat.rules);
        frames
            || !self.pending.is_empty()
            || commit
            || rules
            || unsent
            || env.rings.feeds_waiting(self.index)
            || self.inputs.iter().any(|input| input.must_mark(boundary))
            || env.shared.is_stopping()
    }

    pub(super) fn refresh_counters(&mut self, rings: &Rings) {
        let counters = &mut self.counters;
        for input in &self.inputs {
            let side = input.side();
            (counters.received[side], counters.received_bytes[side]) = input.received();
            counters.bad_checksums[side] = input.bad_checksums();
            counters.frames_out[side] = u64::try_from(input.frames_out()).unwrap_or(0);
            counters.fragments[side] = input.fragments();
            let lost = input.lost();
            match side {
                Side::Primary => counters.lost.primary_in = lost,
                Side::Secondary => counters.lost.secondary_in = lost,
            }
        }
        if let Some(output) = &self.output {
            counters.lost.out = output.lost();
        }
        let Some(seat) = &self.seat else { return };
        counters.connections = u64::try_from(seat.shard.connections()).unwrap_or(0);
        counters.forgiven.set(seat.shard.forgiven());
        for side in Side::BOTH {
            counters.held_frames[side] = u64::try_from(seat.shard.held_frames(side)).unwrap_or(0);
            counters.held_bytes[side] = u64::try_from(seat.shard.held_bytes(side)).unwrap_or(0);
            let waiting = rings.shard_input(self.index, side).map_or(0, Ring::len);
            counters.ring_bursts[side] = u64::try_from(waiting).unwrap_or(0);
        }
        counters.violations += u64::from(!counters.balances());
    }
}

/// What one receive came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RxOutcome {
    /// Frames, and more may follow.
    More,
    /// Frames, and then the port was empty.
    Last,
    /// No frame.
    Nothing,
}

/// How far the end of a core has come.
#[derive(Debug, Default)]
pub(super) struct Ending {
    deadline: Option<Nanos>,
    inputs: bool,
    shard: bool,
}

fn tell_obstacle(role: PortRole, port: &dyn Port, env: &Env<'_>) {
    if !port.is_up()
        && let Some(obstacle) = port.obstacle()
    {
        env.shared.tell(role, PortNews::Obstacle(obstacle));
    }
}

/// Asks for the checkpoint that empties everything.
fn ask_for_room(limit: &'static str, now: Nanos, env: &Env<'_>) {
    let detail = Detail::Bound { limit };
    let cause = Cause { reason: Reason::QueueFull, at: now, flow: None, detail };
    env.shared.ask(env.shared.committed(), cause);
}

/// The pool that dropped secondary frames most likely came from: the fast way home. From another pool they go home all
/// the same.
fn pool_for_drops(inputs: &mut [Input]) -> Option<&mut FramePool> {
    inputs.iter_mut().rev().find(|input| input.side() == Side::Secondary).map(Input::pool)
}

fn role_of(side: Side) -> PortRole {
    match side {
        Side::Primary => PortRole::Primary,
        Side::Secondary => PortRole::Secondary,
    }
}
