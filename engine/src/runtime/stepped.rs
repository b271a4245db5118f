//! The parts of a running engine without its threads: whoever owns them says which core goes on, and what time it is.
//!
//! For simulators and tests: the same cores, rings, control and back end as in [`Engine`](super::Engine), in any order
//! that threads could take, and the same order again for the same calls. Nothing here runs by itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pmd_tap::{Clock, Nanos};

use super::build::{Parts, build_cores, plan};
use super::control::{Control, ControlCounters, ControlSettings, Silence};
use super::core::{Core, Env, Found, Turns};
use super::rings::Rings;
use super::shared::{Shared, wakers};
use super::{EngineError, EnginePorts, orders};
use crate::checkpoint::{Backend, Lifecycle};
use crate::config::Settings;
use crate::flow::FlowHasher;
use crate::metrics::Checkpoints;
use crate::side::{BySide, Side};
use crate::stats::Counters;
use crate::wiring::{lifecycle_settings, rule_set};

/// What a stepped engine needs beyond the settings.
#[derive(Clone, Copy, Debug)]
pub struct SteppedSettings {
    /// Decides which flow goes to which shard.
    pub hash_seed: u64,
    /// Frames of a side that there is room for beyond those that may be held.
    pub frames_under_way: usize,
}

/// Where an engine stands between two commits. Epochs count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// The epoch whose end the inputs are to mark.
    pub boundary: u32,
    /// The epoch whose end was committed.
    pub committed: u32,
    /// The epoch that frames of each input belong to when they are received now.
    pub receiving: BySide<u32>,
    /// Flushes of shards that are complete.
    pub flushed: u64,
}

/// An engine that goes on only when told to.
pub struct SteppedEngine {
    shared: Arc<Shared>,
    rings: Arc<Rings>,
    cores: Vec<Core>,
    control: Control,
    told: Arc<Mutex<ControlCounters>>,
    now: Nanos,
}

impl std::fmt::Debug for SteppedEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SteppedEngine").field("now", &self.now).finish_non_exhaustive()
    }
}

impl SteppedEngine {
    /// An engine at time zero, with all the memory it will ever use.
    ///
    /// # Errors
    /// Those of [`Engine::start`](super::Engine::start).
    pub fn new(
        settings: &Settings,
        ports: EnginePorts,
        backend: Box<dyn Backend>,
        stepped: SteppedSettings,
    ) -> Result<Self, EngineError> {
        let plan = plan(&settings.runtime, 0);
        let failed = |source| EngineError::Start { what: "wake-ups", source };
        // Its clock is never read: time is an argument from here on.
        let wakers = wakers(plan.cores()).map_err(failed)?;
        let shared = Shared::new(Clock::start(), wakers, 2, plan.shards, rule_set(settings));
        let shared = shared.map_err(failed)?;
        let shared = Arc::new(shared);
        let parts = Parts {
            hasher: FlowHasher::seeded(stepped.hash_seed),
            frames_under_way: stepped.frames_under_way,
            exchange: None,
            turns: Turns::Alone,
        };
        let cores = build_cores(settings, &plan, ports, &parts)?;
        let told = Arc::new(Mutex::new(ControlCounters::default()));
        let lifecycle = Lifecycle::new(lifecycle_settings(settings), Nanos::ZERO);
        let control = Control::new(
            Arc::clone(&shared),
            lifecycle,
            backend,
            Arc::clone(&told),
            Silence::new(cores.iter().map(|core| Arc::clone(&core.published)).collect()),
            ControlSettings::new(settings, &plan),
        );
        Ok(Self { shared, rings: Arc::new(Rings::new(plan)), cores, control, told, now: Nanos::ZERO })
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// Lets time go by.
    pub fn advance(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Cores that can be stepped.
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// One iteration of a core's loop. Returns whether it found work; a core that is not there finds none.
    pub fn step(&mut self, core: usize) -> bool {
        let env = Env::new(&self.shared, &self.rings, core);
        self.cores.get_mut(core).is_some_and(|core| core.step(self.now, &env) == Found::Work)
    }

    /// One round of the control thread.
    pub fn control_step(&mut self) {
        self.control.turn(self.now);
    }

    /// Puts other modes in force, as [`Pair::order`](super::Pair::order) does.
    pub fn order(&self, settings: &Settings) {
        self.shared.order(orders(settings));
    }

    /// What a core counts now. [`Counters::violations`] grows whenever its books do not balance.
    pub fn counters(&mut self, core: usize) -> Option<&Counters> {
        let core = self.cores.get_mut(core)?;
        core.refresh_counters(&self.rings);
        Some(&core.counters)
    }

    /// What the control thread counts.
    pub fn checkpoints(&self) -> Checkpoints {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).checkpoints.clone()
    }

    /// Where it stands between two commits.
    pub fn epochs(&self) -> Epochs {
        let mut receiving = BySide::default();
        for input in self.cores.iter().flat_map(|core| &core.inputs) {
            receiving[input.side()] = input.last_marked();
        }
        Epochs {
            boundary: self.shared.boundary(),
            committed: self.shared.committed(),
            receiving,
            flushed: self.shared.flushed(),
        }
    }

    /// Whether the boundary of a decided epoch stands for no commit.
    pub fn is_void(&self, epoch: u32) -> bool {
        self.shared.is_void(epoch)
    }

    /// Frames of a side's pool that are out, exactly.
    pub fn frames_out(&mut self, side: Side) -> usize {
        let inputs = self.cores.iter_mut().flat_map(|core| &mut core.inputs);
        inputs
            .filter(|input| input.side() == side)
            .map(|input| {
                input.pool().collect();
                input.frames_out()
            })
            .sum()
    }
}
