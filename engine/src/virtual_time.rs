//! The same shards, comparer, timers and lifecycle as in a running engine, stepped in one thread by the timestamps of
//! their input. Replay, simulator and tests run on this.
//!
//! At one instant, timers come before frames, in the order commit, deferred request, grace, timeout, periodic; frames of
//! the primary come before those of the secondary. The verdicts do not depend on the number of shards.

use std::sync::Arc;
use std::time::Duration;

use pmd_tap::{Frame, FramePool, Nanos, PoolError, PoolSettings};

use crate::checkpoint::{Lifecycle, LifecycleSettings, Request};
use crate::flow::FlowHasher;
use crate::fragments::{FragmentSettings, Reassembly};
use crate::modes::{Conduct, ModeSettings, Modes, Switch};
use crate::policy::RuleSet;
use crate::rx::VerifyChecksums;
use crate::shard::{Budget, Label, Shard, ShardSettings, Work};
use crate::side::{BySide, Side};
use crate::verdict::{Cause, Detail, Discard, Reason, Release, Sink};
use crate::wire::{Packet, has_bad_checksum};
use crate::witness::{Record, Witness};

/// Longest piece of a secondary frame that is kept when there is no room for it: enough for its headers.
const HEADERS: usize = 120;

/// What runs in virtual time.
#[derive(Clone, Copy, Debug)]
pub struct VirtualSettings {
    /// Shards.
    pub shards: usize,
    /// Of each shard; its bounds hold for all shards together.
    pub shard: ShardSettings,
    /// When requests go out.
    pub lifecycle: LifecycleSettings,
    /// What is done with frames.
    pub modes: ModeSettings,
    /// From a request to its commit; `None`: never.
    pub commit_after: Option<Duration>,
    /// Frames beyond one jumbo frame that there is room for, per side.
    pub max_gso_frames: usize,
    /// Fragments that wait for the rest of their datagram, per side.
    pub max_fragments: usize,
    /// Whether wrong checksums are counted.
    pub checksums: VerifyChecksums,
}

/// A side's frames, in order. Times may run backwards; the run then stands still.
pub trait Input {
    /// What can go wrong.
    type Error;

    /// When the next frame comes; `None` at the end.
    fn next_time(&mut self) -> Result<Option<Nanos>, Self::Error>;

    /// The next frame; only asked for after [`next_time`](Self::next_time) gave its time.
    fn take(&mut self) -> Result<Vec<u8>, Self::Error>;
}

/// What happened, in order of decision. Frames are named by their place in their input.
#[expect(clippy::large_enum_variant, reason = "events are handed on one by one, never stored")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A primary frame left.
    Release {
        /// Its place in the primary's input.
        frame: u64,
        /// Why.
        why: Release,
        /// How long it was held.
        held: Duration,
    },
    /// A secondary frame was dropped.
    Drop {
        /// Its place in the secondary's input.
        frame: u64,
        /// Why.
        why: Discard,
    },
    /// A checkpoint was asked for.
    Request(Cause),
    /// A checkpoint was committed.
    Commit,
    /// A frame was still held when nothing could change any more.
    Held {
        /// Whose.
        side: Side,
        /// Its place in its input.
        frame: u64,
    },
}

/// Where events go.
pub trait Recorder {
    /// What can go wrong.
    type Error;

    /// Something happened at `at`; a release comes with its frame.
    fn record(&mut self, at: Nanos, event: Event, frame: Option<&Frame>) -> Result<(), Self::Error>;

    /// What a witness wrote down is complete; only with [`VirtualTime::watch`].
    fn witnessed(&mut self, _record: &Record) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// What the shards decided since the last look.
#[derive(Debug, Default)]
struct Decisions {
    releases: Vec<(Frame, Release)>,
    /// Dropped frames by their place in the input.
    drops: Vec<(u64, Discard)>,
    /// What was dropped, on its way back to its pool.
    spent: Vec<Frame>,
    causes: Vec<Cause>,
    /// Frames that left with a lower window, since the start.
    clamped: u64,
}

impl Sink for Decisions {
    fn release(&mut self, frame: Frame, why: Release) {
        self.releases.extend(frame.into_originals().map(|frame| (frame, why)));
    }

    fn discard(&mut self, frame: Frame, why: Discard) {
        self.drops.extend(frame.originals().map(|frame| (frame.ordinal(), why)));
        self.spent.push(frame);
    }

    fn note_clamped(&mut self) {
        self.clamped += 1;
    }

    fn ask(&mut self, cause: Cause) {
        self.causes.push(cause);
    }
}

/// An engine in virtual time.
#[derive(Debug)]
pub struct VirtualTime {
    settings: VirtualSettings,
    hasher: FlowHasher,
    shards: Vec<Shard>,
    pools: BySide<FramePool>,
    fragments: BySide<Reassembly>,
    /// Commits.
    epoch: u32,
    lifecycle: Lifecycle,
    modes: Modes,
    commit_due: Option<Nanos>,
    /// When the outstanding request went out.
    requested_at: Option<Nanos>,
    now: Nanos,
    decisions: Decisions,
    requests: Vec<Request>,
    received: BySide<u64>,
    bad_checksums: BySide<u64>,
    /// Contradictions found, those included that another request answered.
    mismatches: u64,
    stopped: Stopped,
    /// The primary's frame that found no room, until the next commit.
    set_aside: Option<Vec<u8>>,
}

/// What is still to come of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    Frames,
    Nothing,
}

/// Whether the primary's input is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    No,
    UntilCommit,
}

impl VirtualTime {
    /// Everything empty, at time zero, with the same hash keys each time.
    pub fn new(settings: VirtualSettings) -> Result<Self, PoolError> {
        let hasher = FlowHasher::fixed().with_tunnels(settings.shard.compare.tunnels);
        let shards =
            (0..settings.shards.max(1)).map(|_| Shard::new(settings.shard, hasher.clone())).collect();
        // A few more than may be held: those that are being judged, and datagrams put together from two or more.
        let held = settings.shard.max_held_frames;
        let pool = PoolSettings::for_frames(held + held / 2 + 8, settings.max_gso_frames);
        let fragments = FragmentSettings {
            max_fragments: settings.max_fragments,
            compare_timeout: settings.shard.compare.compare_timeout,
        };
        let fragments = |side| Reassembly::new(side, fragments, hasher.clone());
        let mut engine = Self {
            settings,
            shards,
            fragments: BySide { primary: fragments(Side::Primary), secondary: fragments(Side::Secondary) },
            hasher,
            epoch: 0,
            pools: BySide { primary: FramePool::new(pool)?, secondary: FramePool::new(pool)? },
            lifecycle: Lifecycle::new(settings.lifecycle, Nanos::ZERO),
            modes: Modes::new(settings.modes, Nanos::ZERO),
            commit_due: None,
            requested_at: None,
            now: Nanos::ZERO,
            decisions: Decisions::default(),
            requests: Vec::new(),
            received: BySide::default(),
            bad_checksums: BySide::default(),
            mismatches: 0,
            stopped: Stopped::No,
            set_aside: None,
        };
        engine.follow_modes();
        Ok(engine)
    }

    /// Has the shards do what the modes say.
    fn follow_modes(&mut self) {
        for shard in &mut self.shards {
            shard.set_conduct(self.modes.conduct(), &mut self.decisions);
            while shard.has_rules_to_follow() {
                shard.follow_rules(usize::MAX, &mut self.decisions);
            }
        }
        self.lifecycle.set_period(self.modes.period(self.lifecycle.settings().max_interval));
    }

    /// The latest changes of what is done with frames, the oldest first.
    pub fn switches(&self) -> &[Switch] {
        self.modes.history()
    }

    /// Puts other rules in force, for frames held too.
    pub fn replace_rules(&mut self, rules: &Arc<RuleSet>) {
        for shard in &mut self.shards {
            shard.replace_rules(Arc::clone(rules));
            while shard.has_rules_to_follow() {
                shard.follow_rules(usize::MAX, &mut self.decisions);
            }
        }
    }

    /// Frames with a wrong checksum, if they are counted.
    pub fn bad_checksums(&self) -> BySide<u64> {
        self.bad_checksums
    }

    /// Differences that payload masks forgave.
    pub fn forgiven(&self) -> u64 {
        self.shards.iter().flat_map(Shard::forgiven).sum()
    }

    /// Has what is held written down when the sides differ.
    pub fn watch(&mut self) {
        for shard in &mut self.shards {
            shard.set_witness(Witness::patient());
        }
    }

    /// Frames received of each side.
    pub fn received(&self) -> BySide<u64> {
        self.received
    }

    /// Contradictions found, those included that another request answered.
    pub fn mismatches(&self) -> u64 {
        self.mismatches
    }

    /// Primary frames that left with a lower window.
    pub fn window_clamped(&self) -> u64 {
        self.decisions.clamped
    }

    /// Runs both inputs to their end, and time on until nothing can change.
    pub fn run<I, R, E>(&mut self, mut inputs: BySide<I>, recorder: &mut R) -> Result<(), E>
    where
        I: Input<Error = E>,
        R: Recorder<Error = E>,
    {
        loop {
            let frame = self.next_frame(&mut inputs)?;
            match (self.next_timer(if frame.is_some() { Ahead::Frames } else { Ahead::Nothing }), frame) {
                (Some(due), Some((_, time))) if due <= time => self.advance(due, Ahead::Frames, recorder)?,
                (_, Some((side, time))) => {
                    self.move_to(time, recorder)?;
                    let bytes = match (side, self.set_aside.take()) {
                        (Side::Primary, Some(bytes)) => bytes,
                        _ => inputs[side].take()?,
                    };
                    self.receive(side, bytes);
                    self.make_spare(recorder)?;
                }
                (Some(due), None) => self.advance(due, Ahead::Nothing, recorder)?,
                (None, None) => break,
            }
        }
        self.settle(recorder)?;
        self.shards.iter_mut().filter_map(Shard::witness).for_each(Witness::close_all);
        self.hear_witnesses(recorder)?;
        self.report_held(&mut inputs, recorder)
    }

    /// Which side's frame comes next, and when.
    fn next_frame<I: Input>(&mut self, inputs: &mut BySide<I>) -> Result<Option<(Side, Nanos)>, I::Error> {
        let primary = match self.stopped {
            Stopped::No if self.set_aside.is_some() => Some(self.now),
            Stopped::No => inputs.primary.next_time()?,
            Stopped::UntilCommit => None,
        };
        let secondary = inputs.secondary.next_time()?;
        let [primary, secondary] = [primary, secondary].map(|time| time.map(|time| time.max(self.now)));
        Ok(match (primary, secondary) {
            (Some(primary), Some(secondary)) if secondary < primary => Some((Side::Secondary, secondary)),
            (Some(primary), _) => Some((Side::Primary, primary)),
            (None, secondary) => secondary.map(|time| (Side::Secondary, time)),
        })
    }

    /// Whether there is something that only a periodic checkpoint lets out.
    fn waits_for_period(&self) -> bool {
        self.modes.conduct() == Conduct::Hold && Side::BOTH.iter().any(|side| self.held_frames(*side) > 0)
    }

    /// When the next timer comes up. There are no periodic checkpoints after the last frame.
    fn next_timer(&self, ahead: Ahead) -> Option<Nanos> {
        let shards = self.shards.iter().filter_map(Shard::next_deadline);
        let periodic = match ahead {
            Ahead::Frames => self.lifecycle.periodic_deadline(),
            Ahead::Nothing => self.lifecycle.periodic_deadline().filter(|_| self.waits_for_period()),
        };
        let others = [self.commit_due, self.lifecycle.deferred_deadline(), periodic];
        let fragments = Side::BOTH.into_iter().filter_map(|side| self.fragments[side].next_deadline());
        shards.chain(fragments).chain(others.into_iter().flatten()).min().map(|due| due.max(self.now))
    }

    /// Moves the clock; what was decided at the instant before is complete.
    fn move_to<R: Recorder>(&mut self, time: Nanos, recorder: &mut R) -> Result<(), R::Error> {
        if time > self.now {
            self.settle(recorder)?;
            self.hear_witnesses(recorder)?;
            self.now = time;
        }
        Ok(())
    }

    /// Hands on the records that were completed at this instant, in the order of their causes, whatever the number of
    /// shards.
    fn hear_witnesses<R: Recorder>(&mut self, recorder: &mut R) -> Result<(), R::Error> {
        let witnesses = self.shards.iter_mut().filter_map(Shard::witness);
        let mut records: Vec<_> = witnesses.flat_map(Witness::take_records).collect();
        records.sort_by_key(|record| record.cause().map(|cause| (cause.at, order_of(cause))));
        records.iter().try_for_each(|record| recorder.witnessed(record))
    }

    /// Runs the timers that are due at `time`.
    fn advance<R: Recorder>(&mut self, time: Nanos, ahead: Ahead, recorder: &mut R) -> Result<(), R::Error> {
        self.move_to(time, recorder)?;
        if self.commit_due.is_some_and(|due| due <= time) {
            self.commit(recorder)?;
        }
        let deferred = self.lifecycle.poll_deferred(time);
        self.request(deferred);
        let before = self.decisions.releases.len();
        for shard in &mut self.shards {
            shard.expire(time, &mut self.decisions);
        }
        // Windows that have waited long enough leave by their place in the input, whatever the number of shards.
        self.decisions.releases[before..].sort_by_key(|(frame, _)| frame.ordinal());
        for side in Side::BOTH {
            let cause = self.fragments[side].expire(time);
            if cause.is_some() && self.modes.conduct() == Conduct::Pass {
                self.let_out_fragments(side);
            } else {
                self.decisions.causes.extend(cause);
            }
        }
        // All graces of all shards, then all timeouts, each by its frames: whatever the number of shards.
        self.decisions.causes.sort_by_key(order_of);
        self.heed_causes();
        if ahead == Ahead::Frames || self.waits_for_period() {
            let periodic = self.lifecycle.poll_periodic(time);
            self.request(periodic);
        }
        self.settle(recorder)
    }

    fn heed_causes(&mut self) {
        for cause in std::mem::take(&mut self.decisions.causes) {
            self.mismatches += u64::from(cause.reason == Reason::Mismatch);
            if !self.modes.heeds(&cause) {
                continue;
            }
            let request = self.lifecycle.handle_cause(cause, self.now);
            self.request(request);
        }
    }

    fn request(&mut self, request: Option<Request>) {
        if let Some(request) = request {
            self.commit_due = self.settings.commit_after.map(|after| self.now + after);
            self.requested_at = Some(self.now);
            self.requests.push(request);
        }
    }

    /// A frame arrives.
    fn receive(&mut self, side: Side, bytes: Vec<u8>) {
        let packet = Packet::parse(&bytes).in_tunnel(&bytes, &self.hasher).with_class_flow(&bytes);
        // Of the whole frame: for want of room only its headers may be kept.
        let bad_checksum = self.settings.checksums == VerifyChecksums::Count && has_bad_checksum(&bytes);
        let hash = packet.flow().map(|flow| self.hasher.hash(flow)).unwrap_or_default();
        let held = self.held_frames(side);
        let most = self.settings.shard.max_held_frames;
        let pool = &mut self.pools[side];
        let mut budget = if held < most || side == Side::Primary { Budget::Room } else { Budget::Exhausted };
        let mut frame = pool.frame_from(&bytes);
        if frame.is_none() && side == Side::Secondary {
            // It is dropped at once; only its flow matters.
            budget = Budget::Exhausted;
            frame = pool.frame_from(&bytes[..bytes.len().min(HEADERS)]);
        }
        let Some(mut frame) = frame else {
            self.set_aside = Some(bytes);
            self.stop_primary();
            return;
        };
        self.bad_checksums[side] += u64::from(bad_checksum);
        frame.stamp(self.now, self.received[side]);
        self.received[side] += 1;
        let work = Work { frame, label: Label { hash, packet, budget } };
        let work = match &work.label.packet {
            Packet::Fragment(_) => work.reassembled(&self.hasher, &mut self.fragments[side], pool),
            _ => Some(work),
        };
        if let Some(work) = work {
            self.handle(side, work);
        }
        self.decisions.causes.extend(self.fragments[side].take_cause());
        self.heed_causes();
        self.watch_budget(side, held);
    }

    fn handle(&mut self, side: Side, work: Work) {
        let shard = work.label.hash.shard(self.shards.len());
        self.shards[shard.0].handle(side, work, self.now, &mut self.decisions);
    }

    /// Frames held of a side, those included that wait for the rest of their datagram.
    fn held_frames(&self, side: Side) -> usize {
        let shards: usize = self.shards.iter().map(|shard| shard.held_frames(side)).sum();
        shards + self.fragments[side].held()
    }

    /// At half of what may be held a checkpoint is asked for; at all of it the primary's input is not read.
    fn watch_budget(&mut self, side: Side, held_before: usize) {
        let held = self.held_frames(side);
        let most = self.settings.shard.max_held_frames;
        let high_water = (most / 2).max(1);
        if held_before < high_water && held >= high_water {
            self.ask_for_room();
        }
        if side == Side::Primary && held >= most {
            self.stop_primary();
        }
    }

    fn stop_primary(&mut self) {
        self.stopped = Stopped::UntilCommit;
        self.ask_for_room();
    }

    fn ask_for_room(&mut self) {
        let detail = Detail::Bound { limit: "max_held_frames" };
        let cause = Cause { reason: Reason::QueueFull, at: self.now, flow: None, detail };
        if !self.modes.heeds(&cause) {
            return;
        }
        let request = self.lifecycle.handle_cause(cause, self.now);
        self.request(request);
    }

    /// A checkpoint is committed: everything held leaves or is dropped, in the order of the inputs.
    fn commit<R: Recorder>(&mut self, recorder: &mut R) -> Result<(), R::Error> {
        self.settle(recorder)?;
        self.hear_witnesses(recorder)?;
        self.commit_due = None;
        self.lifecycle.handle_commit(self.now);
        recorder.record(self.now, Event::Commit, None)?;
        self.epoch = self.epoch.wrapping_add(1);
        for side in Side::BOTH {
            self.let_out_fragments(side);
        }
        for shard in &mut self.shards {
            shard.flush(usize::MAX, self.now, &mut self.decisions);
        }
        self.modes.commit(self.now, self.requested_at.take());
        self.follow_modes();
        self.decisions.releases.sort_by_key(|(frame, _)| frame.ordinal());
        self.decisions.drops.sort_by_key(|(frame, _)| *frame);
        self.stopped = Stopped::No;
        self.settle(recorder)
    }

    /// What waits for the rest of its datagram waits no more.
    fn let_out_fragments(&mut self, side: Side) {
        if let Some((frame, packet)) = self.fragments[side].close(self.epoch, self.now) {
            self.handle(side, Work::unhashed(frame, packet));
        }
    }

    /// Takes home the frames that were judged. Nothing comes before releases in what is reported of an instant, so these
    /// are reported already.
    fn make_spare<R: Recorder>(&mut self, recorder: &mut R) -> Result<(), R::Error> {
        for (frame, why) in self.decisions.releases.drain(..) {
            let held = self.now.since(frame.arrival());
            recorder.record(self.now, Event::Release { frame: frame.ordinal(), why, held }, Some(&frame))?;
            self.pools.primary.recycle(frame);
        }
        for frame in self.decisions.spent.drain(..) {
            self.pools.secondary.recycle(frame);
        }
        Ok(())
    }

    /// Reports what was decided: releases, then drops, then requests.
    fn settle<R: Recorder>(&mut self, recorder: &mut R) -> Result<(), R::Error> {
        self.make_spare(recorder)?;
        for (frame, why) in self.decisions.drops.drain(..) {
            recorder.record(self.now, Event::Drop { frame, why }, None)?;
        }
        for request in self.requests.drain(..) {
            recorder.record(self.now, Event::Request(request.cause), None)?;
        }
        Ok(())
    }

    /// What is still held, and what a bound kept from being read.
    fn report_held<I, R, E>(&mut self, inputs: &mut BySide<I>, recorder: &mut R) -> Result<(), E>
    where
        I: Input<Error = E>,
        R: Recorder<Error = E>,
    {
        for side in Side::BOTH {
            let mut held: Vec<u64> = self.fragments[side].held_ordinals().collect();
            for shard in &self.shards {
                held.extend(shard.held_ordinals(side));
            }
            held.sort_unstable();
            for frame in held {
                recorder.record(self.now, Event::Held { side, frame }, None)?;
            }
        }
        let mut unread = u64::from(self.set_aside.take().is_some());
        while inputs.primary.next_time()?.is_some() {
            inputs.primary.take()?;
            unread += 1;
        }
        for _ in 0..unread {
            let frame = self.received.primary;
            self.received.primary += 1;
            recorder.record(self.now, Event::Held { side: Side::Primary, frame }, None)?;
        }
        Ok(())
    }
}

/// Causes of one instant: grace, then timeout; within, the primary's frames first, by their place in the input.
fn order_of(cause: &Cause) -> (u8, u8, u64) {
    let phase = u8::from(cause.reason == Reason::Timeout);
    match cause.detail {
        Detail::Mismatch { primary, secondary, .. } => (phase, 0, primary.or(secondary).unwrap_or(u64::MAX)),
        Detail::Timeout { side: Side::Primary, frame, .. } => (phase, 0, frame),
        Detail::Timeout { side: Side::Secondary, frame, .. } => (phase, 1, frame),
        Detail::None | Detail::Bound { .. } => (phase, 2, 0),
    }
}

#[cfg(test)]
mod tests;
