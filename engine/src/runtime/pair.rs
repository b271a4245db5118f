//! One pair of VMs in a running engine: what it is made of, and what can be said to it while it runs.

use std::sync::{Arc, Mutex};

use pmd_tap::Clock;
use tracing::Span;

use super::build::{Parts, build_cores, plan};
use super::control::{Control, ControlCounters, ControlSettings, Silence};
use super::core::{Core, Turns};
use super::diverged::DivergedThread;
use super::meters::Meters;
use super::rings::Rings;
use super::scrape::Scrape;
use super::shared::Shared;
use super::wake::Waker;
use super::{EngineError, EnginePorts, Reload, memory, orders};
use crate::checkpoint::{Backend, Lifecycle};
use crate::config::Settings;
use crate::flow::FlowHasher;
use crate::policy::RuleSet;
use crate::side::Side;
use crate::verdict::{Cause, Detail, Reason};
use crate::wiring::{lifecycle_settings, rule_set};

/// Frames that are on their way, not held: rings, bursts, the output's hands.
const FRAMES_UNDER_WAY: usize = 8192;

/// What an engine needs for a pair of VMs.
pub struct EnginePair {
    /// Its name, as in metrics and log lines.
    pub name: String,
    /// Its settings. Those of the whole engine are taken from the first pair's.
    pub settings: Settings,
    /// Where its frames come from and go to.
    pub ports: EnginePorts,
    /// Who takes its checkpoints.
    pub backend: Box<dyn Backend>,
}

impl std::fmt::Debug for EnginePair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnginePair").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A pair of a running engine.
#[derive(Debug)]
pub struct Pair {
    name: String,
    pub(super) shared: Arc<Shared>,
    pub(super) scrape: Arc<Scrape>,
    /// Writes down what the witnesses saw; ends after everybody else.
    pub(super) diverged: Option<DivergedThread>,
    memory: Option<u64>,
}

/// A pair whose threads do not run yet.
pub(super) struct NewPair {
    pub(super) pair: Pair,
    pub(super) rings: Arc<Rings>,
    pub(super) cores: Vec<Core>,
    pub(super) control: Control,
    /// What its threads' log lines are marked with.
    pub(super) span: Span,
}

/// What all pairs of an engine have together.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) clock: Clock,
    pub(super) wakers: Arc<[Waker]>,
    pub(super) turns: Turns,
}

impl NewPair {
    /// Takes all the memory that the pair will ever use. `place` is its place among the pairs.
    pub(super) fn new(common: &Common, place: usize, made_of: EnginePair) -> Result<Self, EngineError> {
        let before = memory::taken();
        let EnginePair { name, settings, ports, backend } = made_of;
        let span = match common.turns {
            Turns::Alone => Span::none(),
            Turns::Shared => tracing::error_span!("pair", pair = %name),
        };
        let plan = plan(&settings.runtime, place);
        let wakers = Arc::clone(&common.wakers);
        let shared = Shared::new(common.clock, wakers, Side::BOTH.len(), plan.shards, rule_set(&settings));
        let shared = shared.map_err(|source| EngineError::Start { what: "wake-ups", source })?;
        let shared = Arc::new(shared);
        let diverged = DivergedThread::start(&settings.diverged, plan.shards, &common.clock, &span)?;
        let parts = Parts {
            hasher: FlowHasher::random(),
            frames_under_way: FRAMES_UNDER_WAY,
            exchange: diverged.as_ref().map(DivergedThread::exchange),
            turns: common.turns,
        };
        let meters = Meters::new(&ports);
        let cores = build_cores(&settings, &plan, ports, &parts)?;
        let rings = Arc::new(Rings::new(plan));
        let counters = Arc::new(Mutex::new(ControlCounters::default()));
        let published: Vec<_> = cores.iter().map(|core| Arc::clone(&core.published)).collect();
        let scrape = Arc::new(Scrape {
            name: name.clone(),
            shared: Arc::clone(&shared),
            rings: Arc::clone(&rings),
            cores: published.clone(),
            control: Arc::clone(&counters),
            max_frames: settings.limits.max_held_frames,
            diverged: diverged.as_ref().map(DivergedThread::counts),
            meters,
        });
        let control = Control::new(
            Arc::clone(&shared),
            Lifecycle::new(lifecycle_settings(&settings), common.clock.now()),
            backend,
            counters,
            Silence::new(published),
            ControlSettings::new(&settings, rings.plan()),
        );
        let memory = before.zip(memory::taken()).map(|(before, after)| after.saturating_sub(before));
        let pair = Pair { name, shared, scrape, diverged, memory };
        Ok(Self { pair, rings, cores, control, span })
    }
}

impl Pair {
    /// Its name, as in metrics and log lines.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of memory that it took at the start, touched or not; without its threads' stacks, and as exact as the system's
    /// count while other threads take none. `None` where the system does not say.
    pub fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// Puts other rules in force, for all flows at once as far as each frame is concerned: it is judged by the former set
    /// or by this one. Frames held follow within the next iterations of their core.
    pub fn replace_rules(&self, rules: RuleSet) {
        self.shared.replace_rules(rules);
    }

    /// Puts other modes, another pace of checkpoints and another answer to losses in force. Holding and passing begin at
    /// once, comparing with the next commit.
    pub fn order(&self, settings: &Settings) {
        self.shared.order(orders(settings));
    }

    /// Asks for a checkpoint, for the operator.
    pub fn checkpoint(&self) {
        let cause =
            Cause { reason: Reason::Operator, at: self.shared.clock.now(), flow: None, detail: Detail::None };
        self.shared.ask(self.shared.committed(), cause);
    }

    /// Counts a reading of the configuration.
    pub fn count_reload(&self, reload: Reload) {
        self.shared.rules.count(reload);
    }
}
