//! The control thread: causes → lifecycle → back end → boundary → commit → flush.
//!
//! ```text
//! idle --Paused--> marking --both inputs marked--> paused --Committed--> flushing --all shards--> idle
//! idle --Committed (one message for both)--> marking, committed ------------------------^
//! ```

mod flows;
mod links;
mod log;
mod modes;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arrayvec::ArrayVec;
use pmd_tap::Nanos;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::rings::Plan;
use super::shared::Shared;
use crate::checkpoint::{Backend, BackendEvent, BackendLink, Lifecycle, Request};
use crate::config::{LossSettings, Settings};
use crate::metrics::{Checkpoints, Requested};
use crate::modes::{Conduct, ModeSettings, Modes};
use crate::verdict::{Cause, Detail, Reason};
use crate::wiring::checkpoint_deadline;
use flows::FlowBook;
pub(super) use flows::{Differing, Held};
use log::{LogBudget, Of};
pub(super) use modes::{ModeCounters, Orders, Silence};

/// Longest wait, so that nothing depends on a wake-up alone.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// After the first checkpoint given up it is asked for again that much later; twice as long after each further one in a
/// row, up to `min_checkpoint_interval`.
const BACK_OFF: Duration = Duration::from_millis(10);

/// What a scrape sees of the control thread.
#[derive(Clone, Debug, Default)]
pub(super) struct ControlCounters {
    pub(super) checkpoints: Checkpoints,
    pub(super) up: [bool; 3],
    pub(super) refused: u64,
    /// The link to the back end, if it has one.
    pub(super) backend: Option<BackendLink>,
    pub(super) connections_refused: u64,
    pub(super) modes: ModeCounters,
    /// Single flows.
    pub(super) flows: FlowBook,
    /// Rounds of the thread: it is alive while they grow.
    pub(super) beats: u64,
}

/// Where a checkpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// The inputs are told to mark the end of the epoch.
    Marking {
        marks: u64,
        committed: Committed,
    },
    /// They have; the commit is to come.
    Paused,
    /// The shards are told to flush.
    Flushing {
        flushes: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Committed {
    Yes,
    NotYet,
}

/// What the control thread goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct ControlSettings {
    /// Shards that flush.
    pub(super) shards: u64,
    /// From a request, or a pause, to the commit at most; `None`: it may take for ever.
    pub(super) deadline: Option<Duration>,
    /// What is compared when, at first.
    pub(super) modes: ModeSettings,
    /// What happens when a side is lost.
    pub(super) loss: LossSettings,
}

impl ControlSettings {
    pub(super) fn new(settings: &Settings, plan: &Plan) -> Self {
        let shards = u64::try_from(plan.shards).unwrap_or(1);
        let deadline = checkpoint_deadline(settings);
        Self { shards, deadline, modes: settings.modes, loss: settings.loss }
    }
}

/// The control thread.
pub(super) struct Control {
    shared: Arc<Shared>,
    lifecycle: Lifecycle,
    modes: Modes,
    silence: Silence,
    backend: Box<dyn Backend>,
    counters: Arc<Mutex<ControlCounters>>,
    phase: Phase,
    /// Boundaries decided, with a commit or without.
    epoch: u32,
    /// How many those were at the last commit.
    committed_at: u32,
    inputs: u64,
    settings: ControlSettings,
    requested_at: Option<Nanos>,
    /// When the outstanding request is asked for again.
    overdue_at: Option<Nanos>,
    /// Checkpoints given up since the last commit.
    given_up: u32,
    /// When the primary was paused for the checkpoint under way.
    paused_at: Option<Nanos>,
    /// For links, and apart from it for causes: a storm of mismatches must not hide a lost link.
    link_log: LogBudget,
    /// What stood in the way of each link when it was last said.
    obstacles: [String; 3],
    cause_log: LogBudget,
}

impl Control {
    #[expect(clippy::large_types_passed_by_value, reason = "moved once, at the start")]
    pub(super) fn new(
        shared: Arc<Shared>,
        lifecycle: Lifecycle,
        backend: Box<dyn Backend>,
        counters: Arc<Mutex<ControlCounters>>,
        silence: Silence,
        settings: ControlSettings,
    ) -> Self {
        let mut control = Self {
            shared,
            lifecycle,
            modes: Modes::new(settings.modes, Nanos::ZERO),
            silence,
            backend,
            counters,
            phase: Phase::Idle,
            epoch: 0,
            committed_at: 0,
            inputs: 2,
            settings,
            requested_at: None,
            overdue_at: None,
            given_up: 0,
            paused_at: None,
            link_log: LogBudget::default(),
            obstacles: Default::default(),
            cause_log: LogBudget::default(),
        };
        control.follow_modes();
        control
    }

    /// Runs until the engine is stopped.
    pub(super) fn run(mut self) {
        while !self.shared.is_stopping() {
            let now = self.shared.clock.now();
            self.turn(now);
            self.wait();
        }
        self.shared.control_ends();
    }

    /// One round: what was told, what is due.
    pub(super) fn turn(&mut self, now: Nanos) {
        self.counters().beats += 1;
        self.heed_orders(now);
        self.heed_links(now);
        self.heed_causes(now);
        self.poll_lifecycle(now);
        self.poll_phase(now);
        self.poll_deadline(now);
        self.poll_silence(now);
        self.look_at_flows(now);
    }

    fn counters(&self) -> std::sync::MutexGuard<'_, ControlCounters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heed_causes(&mut self, now: Nanos) {
        while let Some((epoch, cause)) = self.shared.next_cause() {
            self.count_cause(&cause);
            // A commit has answered what was found before it, or is about to.
            let answered = epoch.wrapping_sub(self.committed_at) > u32::MAX / 2;
            if answered || self.is_commit_under_way() || !self.modes.heeds(&cause) {
                self.absorb(cause.reason);
                continue;
            }
            self.log_cause(&cause, now);
            let absorbed = self.lifecycle.absorbed();
            let request = self.lifecycle.handle_cause(cause, now);
            if self.lifecycle.absorbed() != absorbed {
                self.absorb(cause.reason);
            }
            self.request(request);
        }
    }

    fn count_cause(&self, cause: &Cause) {
        let mut counters = self.counters();
        counters.connections_refused += u64::from(cause.reason == Reason::TableFull);
        counters.flows.note_cause(cause);
    }

    fn absorb(&self, reason: Reason) {
        *reason_cell(&mut self.counters().checkpoints.absorbed, reason) += 1;
    }

    fn log_cause(&mut self, cause: &Cause, now: Nanos) {
        if !self.cause_log.allows(now) {
            return;
        }
        let flow = Of(cause.flow);
        match cause.detail {
            Detail::Mismatch { kind, offset, .. } => {
                tracing::info!("{flow}: mismatch, {} at offset {offset}", kind.label());
            }
            Detail::Timeout { side, waits_for, .. } => {
                tracing::info!("{flow}: timeout, a {side} frame waited too long for: {}", waits_for.label());
            }
            Detail::Bound { limit } => tracing::warn!("{flow}: {limit} is reached"),
            Detail::None => {}
        }
    }

    /// Whether a checkpoint is committed and only the boundary is missing: a request now would ask for another one, and
    /// the lifecycle would take the commit that is already there for the answer.
    fn is_commit_under_way(&self) -> bool {
        matches!(self.phase, Phase::Marking { committed: Committed::Yes, .. })
    }

    fn poll_lifecycle(&mut self, now: Nanos) {
        if self.is_commit_under_way() {
            return;
        }
        let deferred = self.lifecycle.poll_deferred(now);
        self.request(deferred);
        let periodic = self.lifecycle.poll_periodic(now);
        self.request(periodic);
    }

    fn request(&mut self, request: Option<Request>) {
        let Some(request) = request else { return };
        *reason_cell(&mut self.counters().checkpoints.requested, request.cause.reason) += 1;
        self.requested_at = Some(request.at);
        self.ask(&request);
    }

    fn ask(&mut self, request: &Request) {
        self.overdue_at = self.settings.deadline.map(|deadline| request.at + deadline);
        self.backend.request(request);
    }

    /// A checkpoint that was asked for or begun, and does not come: nothing of what is held leaves, people are told, and
    /// it is asked for again.
    fn poll_deadline(&mut self, now: Nanos) {
        let Some(deadline) = self.settings.deadline else { return };
        if self.phase == Phase::Paused && self.paused_at.is_some_and(|paused| now >= paused + deadline) {
            self.backend.given_up();
            let why =
                format!("the primary was paused, but no commit came within {} s", deadline.as_secs_f64());
            self.abandon(&why, now);
        }
        if self.overdue_at.is_none_or(|due| now < due) {
            return;
        }
        self.overdue_at = None;
        let Some(cause) = self.lifecycle.requested() else { return };
        self.counters().checkpoints.overdue += 1;
        tracing::error!(
            "no checkpoint within {} s of asking for it ({}); what is held stays held; it is asked for again",
            deadline.as_secs_f64(),
            cause.reason.label()
        );
        self.ask(&Request { at: now, cause });
    }

    fn poll_phase(&mut self, now: Nanos) {
        match self.phase {
            Phase::Idle | Phase::Paused => self.poll_backend(now),
            Phase::Marking { marks, committed } => {
                if self.shared.marked() < marks {
                    return;
                }
                match committed {
                    Committed::NotYet if self.modes.conduct() == Conduct::Pass => {
                        self.backend.given_up();
                        self.pass_boundary();
                    }
                    Committed::Yes => self.flush(now),
                    Committed::NotYet => {
                        self.phase = Phase::Paused;
                        self.paused_at = Some(now);
                        self.backend.boundary_taken();
                    }
                }
            }
            Phase::Flushing { flushes } => {
                if self.shared.flushed() >= flushes {
                    self.phase = Phase::Idle;
                }
            }
        }
    }

    fn poll_backend(&mut self, now: Nanos) {
        self.poll_backend_events(now);
        self.counters().backend = self.backend.link();
    }

    fn poll_backend_events(&mut self, now: Nanos) {
        while let Some(event) = self.backend.poll(now) {
            match (event, self.phase) {
                (BackendEvent::Note(note), _) => {
                    if self.link_log.allows(now) {
                        tracing::info!("checkpoint back end: {note}");
                    }
                    continue;
                }
                (BackendEvent::Alarm(alarm), _) => {
                    if self.link_log.allows(now) {
                        tracing::warn!("checkpoint back end: {alarm}");
                    }
                    continue;
                }
                (BackendEvent::Exited(side, why), _) => {
                    self.heed_exit(side, why, now);
                    continue;
                }
                (BackendEvent::Paused, Phase::Idle) => {
                    if self.modes.conduct() == Conduct::Pass && !self.returns_with(Committed::NotYet, now) {
                        continue;
                    }
                    self.mark(Committed::NotYet);
                }
                (BackendEvent::Committed, Phase::Idle) => {
                    if self.modes.conduct() == Conduct::Pass && !self.returns_with(Committed::Yes, now) {
                        continue;
                    }
                    self.mark(Committed::Yes);
                }
                (BackendEvent::Committed, Phase::Paused) => self.flush(now),
                (BackendEvent::Abandoned(why), Phase::Paused) => {
                    self.abandon(&format!("{why}; nothing leaves for that checkpoint"), now);
                }
                // Paused twice is paused.
                (BackendEvent::Paused | BackendEvent::Committed | BackendEvent::Abandoned(_), _) => continue,
            }
            return;
        }
    }

    fn mark(&mut self, committed: Committed) {
        self.phase = Phase::Marking { marks: self.shared.marked() + self.inputs, committed };
        self.shared.set_boundary(self.epoch.wrapping_add(1));
    }

    /// The boundary is decided: every shard is to say that it has gone by.
    fn begin_flush(&mut self) {
        self.phase = Phase::Flushing { flushes: self.shared.flushed() + self.settings.shards };
        self.epoch = self.epoch.wrapping_add(1);
        self.paused_at = None;
    }

    /// Whether the checkpoint was committed is not known, or frames of the new epoch are in front of its boundary:
    /// nothing leaves for it, and what was asked for is asked for again.
    fn abandon(&mut self, why: &str, now: Nanos) {
        self.begin_flush();
        self.counters().checkpoints.abandoned += 1;
        if self.link_log.allows(now) {
            tracing::warn!("checkpoint back end: {why}");
        }
        self.shared.set_void(self.epoch);
        self.modes.fail_return(now);
        self.follow_modes();
        // Where it happens again and again the machine is too busy, and checkpoints make it busier.
        let back_off = BACK_OFF.saturating_mul(1 << self.given_up.min(16)).min(self.lifecycle.min_interval());
        self.given_up = self.given_up.saturating_add(1);
        if let Some(cause) = self.lifecycle.requested() {
            self.ask(&Request { at: now + back_off, cause });
        }
    }

    fn flush(&mut self, now: Nanos) {
        let paused_at = self.paused_at;
        self.begin_flush();
        self.committed_at = self.epoch;
        self.overdue_at = None;
        self.given_up = 0;
        self.lifecycle.handle_commit(now);
        let requested_at = self.requested_at.take();
        {
            let mut counters = self.counters();
            counters.checkpoints.completed += 1;
            if let Some(requested_at) = requested_at {
                counters.checkpoints.duration_ns.saturating_record(now.nanos_since(requested_at));
            }
            counters.checkpoints.last_commit_unix = unix_time();
        }
        // Before the shards begin the new epoch, which may be spent otherwise.
        self.modes.commit(now, paused_at);
        self.follow_modes();
        self.shared.set_committed(self.epoch);
    }

    /// Sleeps until there is something to do.
    fn wait(&self) {
        self.shared.control.fall_asleep();
        if !self.shared.has_news() && !self.is_phase_over() && !self.shared.is_stopping() {
            let now = self.shared.clock.now();
            let deadlines = [
                self.lifecycle.deferred_deadline(),
                self.lifecycle.periodic_deadline(),
                self.backend.next_deadline(),
                self.overdue_at,
                self.silence_due(),
                self.paused_at.zip(self.settings.deadline).map(|(paused, deadline)| paused + deadline),
            ];
            let next = deadlines.into_iter().flatten().min();
            let most = next.map_or(LONGEST_WAIT, |next| next.since(now).min(LONGEST_WAIT));
            let waker = PollFd::from_borrowed_fd(self.shared.control.bell().fd(), PollFlags::IN);
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(most.subsec_nanos()) };
            // An interrupted wait is a short one.
            let links = self.backend.readiness().into_iter().flatten();
            let mut polled: ArrayVec<PollFd<'_>, 3> = ArrayVec::new();
            polled.push(waker);
            polled.extend(links.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let _ = poll(&mut polled, Some(&timeout));
        }
        self.shared.control.awake();
    }

    fn is_phase_over(&self) -> bool {
        match self.phase {
            Phase::Idle | Phase::Paused => false,
            Phase::Marking { marks, .. } => self.shared.marked() >= marks,
            Phase::Flushing { flushes } => self.shared.flushed() >= flushes,
        }
    }
}

/// The counter of a reason.
pub(super) fn reason_cell(requested: &mut Requested, reason: Reason) -> &mut u64 {
    match reason {
        Reason::Mismatch => &mut requested.mismatch,
        Reason::Timeout => &mut requested.timeout,
        Reason::QueueFull => &mut requested.queue_full,
        Reason::TableFull => &mut requested.table_full,
        Reason::Periodic => &mut requested.periodic,
        Reason::Operator => &mut requested.operator,
    }
}

/// For people and Prometheus only: nothing is decided by the wall clock.
#[expect(clippy::disallowed_methods)]
pub(super) fn unix_time() -> Option<Duration> {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests;
