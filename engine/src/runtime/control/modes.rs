//! The control thread's part in modes: orders of the operator, sides that are lost and come back, and what both mean for a
//! checkpoint that is under way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pmd_tap::Nanos;

use super::{Committed, Control, Phase};
use crate::checkpoint::{ExitReason, FailOver, LifecycleSettings};
use crate::config::{Failover, LossSettings, OnPrimaryLoss, OnSecondaryLoss};
use crate::metrics::LinkState;
use crate::modes::{Conduct, History, ModeSettings, Next};
use crate::runtime::publish::Published;
use crate::runtime::shared::PortRole;
use crate::shard::Waiting;
use crate::side::Side;
use crate::verdict::{Cause, Detail, Reason};

/// What the operator wants from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Orders {
    pub(in crate::runtime) modes: ModeSettings,
    pub(in crate::runtime) lifecycle: LifecycleSettings,
    pub(in crate::runtime) loss: LossSettings,
}

/// What a scrape sees of modes.
#[derive(Clone, Debug, Default)]
pub(in crate::runtime) struct ModeCounters {
    pub(in crate::runtime) settings: ModeSettings,
    pub(in crate::runtime) conduct: Conduct,
    pub(in crate::runtime) switches: [u64; 3],
    pub(in crate::runtime) history: History,
    pub(in crate::runtime) is_secondary_lost: bool,
    pub(in crate::runtime) pace: LifecycleSettings,
}

/// Watches for a secondary that says nothing more.
#[derive(Debug)]
pub(in crate::runtime) struct Silence {
    cores: Vec<Arc<Mutex<Published>>>,
    /// Frames of the secondary, when they were looked at last.
    frames: u64,
    /// Since when there was no other, or nothing waited for one.
    since: Nanos,
    due: Nanos,
}

impl Silence {
    /// `cores` publish what they count.
    pub(in crate::runtime) fn new(cores: Vec<Arc<Mutex<Published>>>) -> Self {
        Self { cores, frames: 0, since: Nanos::ZERO, due: Nanos::ZERO }
    }

    /// The flows whose frames the cores saw waiting.
    pub(super) fn each_waiting(&self, mut see: impl FnMut(&Waiting)) {
        for core in &self.cores {
            core.lock().unwrap_or_else(PoisonError::into_inner).waiting.iter().for_each(&mut see);
        }
    }

    /// Begins anew.
    fn is_broken(&mut self, now: Nanos) {
        self.since = now;
    }

    /// Whether the secondary has said nothing for `limit` although frames of the primary wait for it.
    fn lasts(&mut self, limit: Duration, now: Nanos) -> bool {
        if now < self.due {
            return false;
        }
        self.due = now + limit / 4;
        let (mut frames, mut held) = (0, 0);
        for core in &self.cores {
            let published = core.lock().unwrap_or_else(PoisonError::into_inner);
            frames += published.counters.received.secondary;
            held += published.counters.held_frames.primary;
        }
        if held == 0 || frames != self.frames {
            self.frames = frames;
            self.is_broken(now);
        }
        now.since(self.since) >= limit
    }
}

impl Control {
    /// What the operator ordered.
    pub(super) fn heed_orders(&mut self, now: Nanos) {
        while let Some(orders) = self.shared.next_orders() {
            self.settings.loss = orders.loss;
            self.lifecycle.replace(orders.lifecycle);
            let before = self.modes.settings().mode;
            let next = self.modes.replace(orders.modes, now);
            if before != orders.modes.mode {
                tracing::info!("mode: {}, was {}", orders.modes.mode.label(), before.label());
            }
            self.follow_modes();
            if next == Next::Checkpoint {
                self.ask_as_operator(now);
            }
        }
    }

    fn ask_as_operator(&mut self, now: Nanos) {
        let cause = Cause { reason: Reason::Operator, at: now, flow: None, detail: Detail::None };
        let request = self.lifecycle.handle_cause(cause, now);
        self.request(request);
    }

    /// Has everybody do what the modes say.
    pub(super) fn follow_modes(&mut self) {
        let conduct = self.modes.conduct();
        self.lifecycle.set_period(self.modes.period(self.lifecycle.settings().max_interval));
        if conduct == self.shared.conduct() {
            return self.show_modes();
        }
        self.shared.set_conduct(conduct);
        self.show_modes();
        if let Some(switch) = self.modes.history().last() {
            tracing::info!("from here on: {} ({})", conduct.label(), switch.why.label());
        }
        if conduct != Conduct::Pass {
            return;
        }
        // Nobody is waited for: neither for a commit nor for an answer.
        self.lifecycle.cancel();
        (self.overdue_at, self.requested_at) = (None, None);
        if self.phase == Phase::Paused {
            self.backend.given_up();
            self.pass_boundary();
        }
    }

    /// For the next scrape.
    pub(super) fn show_modes(&self) {
        let shown = ModeCounters {
            settings: *self.modes.settings(),
            conduct: self.modes.conduct(),
            switches: self.modes.switches(),
            history: self.modes.history().clone(),
            is_secondary_lost: self.modes.is_secondary_lost(),
            pace: self.lifecycle.settings(),
        };
        self.counters().modes = shown;
    }

    /// The inputs have marked a boundary while everything passes: it stands for nothing.
    pub(super) fn pass_boundary(&mut self) {
        self.begin_flush();
        self.shared.set_void(self.epoch);
    }

    /// A port's link came up or went down.
    pub(super) fn heed_change(&mut self, role: PortRole, state: LinkState, now: Nanos) {
        match (role, state) {
            (PortRole::Secondary, LinkState::Up) => {
                self.silence.is_broken(now);
                self.secondary_returns(now);
            }
            (PortRole::Secondary, LinkState::Down) => self.lose_secondary("its link is down", now),
            (PortRole::Primary, LinkState::Down) => self.lose_primary("its link is down"),
            (PortRole::Primary, LinkState::Up) | (PortRole::Out, _) => {}
        }
    }

    /// The back end says that a side's VM has left COLO: nobody takes checkpoints of this pair any more.
    pub(super) fn heed_exit(&mut self, side: Side, why: ExitReason, now: Nanos) {
        match (side, why) {
            // It goes on alone: whatever was to be done without a secondary, waiting has no end.
            (Side::Primary, ExitReason::Request) => {
                self.give_up_secondary("the primary's VM was told to go on alone", now);
            }
            (Side::Primary, ExitReason::Error) => {
                self.lose_secondary("the primary's VM has lost it and left COLO", now);
            }
            // What the primary still has must not leave: the secondary goes on without it, or is about to.
            (Side::Secondary, _) => self.lose_primary("the secondary's VM left COLO"),
        }
    }

    pub(super) fn poll_silence(&mut self, now: Nanos) {
        let Some(limit) = self.settings.loss.silence else { return };
        let comparing = self.modes.conduct() == Conduct::Compare && self.phase == Phase::Idle;
        if !comparing || !self.counters().up[1] {
            return self.silence.is_broken(now);
        }
        if self.silence.lasts(limit, now) {
            self.silence.is_broken(now);
            self.lose_secondary(&format!("it has said nothing for {} ms", limit.as_millis()), now);
        }
    }

    /// When silence is looked at next.
    pub(super) fn silence_due(&self) -> Option<Nanos> {
        self.settings.loss.silence.map(|_| self.silence.due)
    }

    fn lose_secondary(&mut self, why: &str, now: Nanos) {
        if self.modes.conduct() == Conduct::Pass {
            return;
        }
        match self.settings.loss.on_secondary {
            OnSecondaryLoss::Pass => {
                self.give_up_secondary(why, now);
                if self.settings.loss.failover == Failover::Primary {
                    self.fail_over();
                }
            }
            OnSecondaryLoss::Hold => {
                tracing::warn!(
                    "the secondary is lost: {why}; the primary's frames wait for it (on_secondary_loss = \"hold\")"
                );
            }
        }
    }

    /// Tells the primary's VM to go on alone.
    fn fail_over(&mut self) {
        match self.backend.fail_over() {
            FailOver::Asked => tracing::warn!("the primary's VM is told to go on alone"),
            FailOver::Waits => {
                tracing::warn!("the primary's VM will be told to go on alone when its monitor is there");
            }
            FailOver::Nothing => tracing::warn!("nobody can be told that the primary goes on alone"),
        }
    }

    fn give_up_secondary(&mut self, why: &str, now: Nanos) {
        if self.modes.conduct() == Conduct::Pass {
            return;
        }
        tracing::error!("the secondary is lost: {why}; the primary's frames pass until it is back");
        self.modes.give_up_secondary(now);
        self.follow_modes();
    }

    /// The secondary's link is up again. A back end that takes checkpoints by itself says when it is a copy; another one has
    /// to be asked.
    fn secondary_returns(&mut self, now: Nanos) {
        if self.modes.is_secondary_lost() && !self.backend.begins_by_itself() && self.modes.begin_return(now)
        {
            self.follow_modes();
            self.ask_as_operator(now);
        }
    }

    /// A pause, or a commit without one, while everything passes. Returns whether it is one to go by: it brings a lost
    /// secondary back, if there is one.
    pub(super) fn returns_with(&mut self, committed: Committed, now: Nanos) -> bool {
        let returns = self.counters().up[1] && self.modes.begin_return(now);
        if returns {
            self.follow_modes();
        } else if committed == Committed::NotYet {
            self.backend.given_up();
        }
        returns
    }

    fn lose_primary(&mut self, why: &str) {
        if self.settings.loss.on_primary == OnPrimaryLoss::Exit {
            tracing::error!("the primary is lost: {why}; ending, and nothing of what is held leaves");
            self.shared.lose_primary();
        } else {
            tracing::warn!("the primary is lost: {why}; what is held stays held");
        }
    }
}
