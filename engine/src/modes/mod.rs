//! What is done with a pair's frames, epoch by epoch: compared, held to the next checkpoint, or let pass.
//!
//! The operator sets a [`Mode`]; a [`Policy`] chooses for each epoch under [`Mode::Hybrid`]; the shards know only the
//! [`Conduct`]. Everything in here is pure: time is an argument, so that engine, replay and tests run the same code.

mod classic;
mod hybrid;
mod quarantine;
#[cfg(test)]
mod tests;

use std::time::Duration;

use arrayvec::ArrayVec;
use pmd_tap::Nanos;

use crate::verdict::{Cause, Detail, Reason};
pub use classic::Classic;
pub use hybrid::Hybrid;
pub use quarantine::{Quarantine, QuarantineSettings, Sentence};

/// Changes of conduct that are remembered.
const HISTORY: usize = 32;

/// What the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All epochs are compared.
    #[default]
    Colo,
    /// None is: everything is held to the next checkpoint, and there is one every `passive_interval`.
    Passive,
    /// A policy chooses between the two.
    Hybrid,
    /// Everything passes: there is no secondary.
    Off,
}

impl Mode {
    /// As a word of the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Colo => "colo",
            Self::Passive => "passive",
            Self::Hybrid => "hybrid",
            Self::Off => "off",
        }
    }
}

/// Which policy chooses under [`Mode::Hybrid`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyKind {
    /// [`Hybrid`].
    #[default]
    Hybrid,
    /// [`Classic`].
    Classic,
}

impl PolicyKind {
    /// As a word of the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Hybrid => "hybrid",
            Self::Classic => "classic",
        }
    }
}

/// What the shards do with frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conduct {
    /// They are compared.
    #[default]
    Compare,
    /// The primary's wait for the next commit, the secondary's are dropped.
    Hold,
    /// The primary's leave at once, the secondary's are dropped.
    Pass,
}

impl Conduct {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Compare, Self::Hold, Self::Pass];

    /// The mode it shows as, outside.
    pub fn label(self) -> &'static str {
        match self {
            Self::Compare => "colo",
            Self::Hold => "passive",
            Self::Pass => "off",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        match self {
            Self::Compare => 0,
            Self::Hold => 1,
            Self::Pass => 2,
        }
    }
}

/// How an epoch is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Comparing.
    Colo,
    /// Holding everything.
    Passive,
}

/// What modes and policies go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeSettings {
    /// What the operator wants.
    pub mode: Mode,
    /// Who chooses under [`Mode::Hybrid`].
    pub policy: PolicyKind,
    /// Passive when COLO epochs are shorter than this on average.
    pub passive_limit: Duration,
    /// Back to COLO when they are at least this long on average; [`PolicyKind::Hybrid`] only.
    pub passive_leave_limit: Duration,
    /// Passive epochs before COLO is tried again.
    pub passive_count: u32,
    /// The same after failed trials, each of which doubles it, at most; [`PolicyKind::Hybrid`] only.
    pub passive_count_max: u32,
    /// From one checkpoint to the next in passive epochs.
    pub passive_interval: Duration,
}

impl Default for ModeSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Colo,
            policy: PolicyKind::Hybrid,
            passive_limit: Duration::from_millis(400),
            passive_leave_limit: Duration::from_millis(600),
            passive_count: 100,
            passive_count_max: 1600,
            passive_interval: Duration::from_millis(250),
        }
    }
}

/// Chooses how epochs are spent, from how long COLO epochs last.
#[derive(Clone, Copy, Debug)]
pub enum Policy {
    /// See [`Classic`].
    Classic(Classic),
    /// See [`Hybrid`].
    Hybrid(Hybrid),
}

impl Policy {
    /// Nothing known yet.
    pub fn new(settings: &ModeSettings) -> Self {
        match settings.policy {
            PolicyKind::Classic => Self::Classic(Classic::new(settings)),
            PolicyKind::Hybrid => Self::Hybrid(Hybrid::new(settings)),
        }
    }

    /// An epoch of `kind` has ended after `length`; how the next one is spent.
    pub fn epoch_ends(&mut self, kind: Kind, length: Duration) -> Kind {
        match self {
            Self::Classic(policy) => policy.epoch_ends(kind, length),
            Self::Hybrid(policy) => policy.epoch_ends(kind, length),
        }
    }
}

/// Why the conduct changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is so from the start.
    Start,
    /// The operator said so.
    Operator,
    /// The policy chose so.
    Policy,
    /// The secondary is gone.
    SecondaryLost,
    /// The secondary is back: a checkpoint is being taken.
    SecondaryBack,
}

impl Why {
    /// As a word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Operator => "operator",
            Self::Policy => "policy",
            Self::SecondaryLost => "secondary_lost",
            Self::SecondaryBack => "secondary_back",
        }
    }
}

/// A change of conduct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// When.
    pub at: Nanos,
    /// What holds from then on.
    pub to: Conduct,
    /// Why.
    pub why: Why,
}

/// The latest changes, the oldest first.
pub type History = ArrayVec<Switch, HISTORY>;

/// Whether there is a secondary to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secondary {
    Present,
    /// Given up: everything passes.
    Lost,
    /// Back; a checkpoint that makes it the primary's copy is under way.
    Returning,
}

/// The modes of one VM pair.
#[derive(Clone, Debug)]
pub struct Modes {
    settings: ModeSettings,
    policy: Policy,
    conduct: Conduct,
    secondary: Secondary,
    /// When the epoch began.
    began: Nanos,
    /// Changes to each conduct, in the order of [`Conduct::ALL`].
    switches: [u64; 3],
    history: History,
}

/// What to do after a change of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Ask for a checkpoint: only with it the new mode begins.
    Checkpoint,
}

impl Modes {
    /// As set, from `now` on.
    pub fn new(settings: ModeSettings, now: Nanos) -> Self {
        let conduct = match settings.mode {
            Mode::Colo | Mode::Hybrid => Conduct::Compare,
            Mode::Passive => Conduct::Hold,
            Mode::Off => Conduct::Pass,
        };
        let mut history = History::new();
        history.push(Switch { at: now, to: conduct, why: Why::Start });
        Self {
            settings,
            policy: Policy::new(&settings),
            conduct,
            secondary: Secondary::Present,
            began: now,
            switches: [0; 3],
            history,
        }
    }

    /// What is done with frames now.
    #[inline(always)]
    pub fn conduct(&self) -> Conduct {
        self.conduct
    }

    /// What the operator wants.
    pub fn settings(&self) -> &ModeSettings {
        &self.settings
    }

    /// Changes to each conduct, in the order of [`Conduct::ALL`].
    pub fn switches(&self) -> [u64; 3] {
        self.switches
    }

    /// The latest changes, the oldest first.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Whether the secondary was given up, so that everything passes until it is back.
    pub fn is_secondary_lost(&self) -> bool {
        self.secondary != Secondary::Present
    }

    /// From a commit to the next periodic request, where comparing has `max_interval`.
    pub fn period(&self, max_interval: Option<Duration>) -> Option<Duration> {
        match self.conduct {
            Conduct::Compare => max_interval,
            Conduct::Hold => Some(self.settings.passive_interval),
            Conduct::Pass => None,
        }
    }

    /// Whether a cause is one for a checkpoint. Where nothing is compared frames wait for the periodic one: only a bound
    /// that is reached brings it forward.
    pub fn heeds(&self, cause: &Cause) -> bool {
        match self.conduct {
            Conduct::Compare => true,
            Conduct::Hold => match cause.reason {
                Reason::Mismatch | Reason::Timeout => false,
                Reason::QueueFull => cause.detail != Detail::Bound { limit: "max_queue_size" },
                Reason::TableFull | Reason::Periodic | Reason::Operator => true,
            },
            Conduct::Pass => false,
        }
    }

    /// A checkpoint was committed at `now`; `paused` is when the primary stopped for it, if anybody knows. Returns what is
    /// done from here on.
    pub fn commit(&mut self, now: Nanos, paused: Option<Nanos>) -> Conduct {
        let length = paused.unwrap_or(now).since(self.began);
        self.began = now;
        let (kind, why) = match (self.conduct, self.secondary) {
            (Conduct::Pass, _) => return self.conduct,
            (_, Secondary::Returning) => (None, Why::SecondaryBack),
            (Conduct::Compare, _) => (Some(Kind::Colo), Why::Policy),
            (Conduct::Hold, _) => (Some(Kind::Passive), Why::Policy),
        };
        self.secondary = Secondary::Present;
        let (next, why) = match self.settings.mode {
            Mode::Colo => (Kind::Colo, if kind.is_some() { Why::Operator } else { why }),
            Mode::Passive => (Kind::Passive, if kind.is_some() { Why::Operator } else { why }),
            Mode::Hybrid => (kind.map_or(Kind::Colo, |kind| self.policy.epoch_ends(kind, length)), why),
            Mode::Off => return self.conduct,
        };
        let conduct = match next {
            Kind::Colo => Conduct::Compare,
            Kind::Passive => Conduct::Hold,
        };
        self.switch(conduct, why, now);
        self.conduct
    }

    /// Other settings. Holding and passing begin at once, comparing with the next commit.
    pub fn replace(&mut self, settings: ModeSettings, now: Nanos) -> Next {
        if settings == self.settings {
            return Next::Nothing;
        }
        let was_off = self.settings.mode == Mode::Off;
        self.settings = settings;
        self.policy = Policy::new(&settings);
        if settings.mode == Mode::Off {
            self.secondary = Secondary::Present;
            self.switch(Conduct::Pass, Why::Operator, now);
            return Next::Nothing;
        }
        if self.secondary == Secondary::Lost {
            return Next::Nothing;
        }
        if was_off {
            self.began = now;
        }
        if was_off || settings.mode == Mode::Passive {
            self.switch(Conduct::Hold, Why::Operator, now);
        }
        if was_off { Next::Checkpoint } else { Next::Nothing }
    }

    /// The secondary is gone, and what the primary sends passes from here on.
    pub fn give_up_secondary(&mut self, now: Nanos) {
        if self.settings.mode != Mode::Off {
            self.secondary = Secondary::Lost;
            self.switch(Conduct::Pass, Why::SecondaryLost, now);
        }
    }

    /// The primary is paused for a checkpoint although the secondary was given up: it will be back with the commit. Returns
    /// whether that is so.
    pub fn begin_return(&mut self, now: Nanos) -> bool {
        if self.secondary != Secondary::Lost {
            return false;
        }
        self.secondary = Secondary::Returning;
        self.switch(Conduct::Hold, Why::SecondaryBack, now);
        true
    }

    /// The checkpoint of [`begin_return`](Self::begin_return) was given up.
    pub fn fail_return(&mut self, now: Nanos) {
        if self.secondary == Secondary::Returning {
            self.secondary = Secondary::Lost;
            self.switch(Conduct::Pass, Why::SecondaryLost, now);
        }
    }

    fn switch(&mut self, to: Conduct, why: Why, now: Nanos) {
        if to == self.conduct {
            return;
        }
        self.conduct = to;
        self.switches[to.index()] += 1;
        if self.history.is_full() {
            self.history.remove(0);
        }
        self.history.push(Switch { at: now, to, why });
    }
}
