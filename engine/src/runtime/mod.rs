//! A running engine: threads, their wiring, their end.

mod control;
mod core;
mod diverged;
mod epochs;
mod publish;
mod rings;
mod rules;
mod scrape;
mod shared;
mod sink;
mod sleep;
mod stepped;
mod sync;
mod wake;

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use pmd_tap::{Clock, FramePool, PoolError, PoolSettings, Port};

use crate::checkpoint::{Backend, Lifecycle};
use crate::config::{RunMode, Settings};
use crate::flow::FlowHasher;
use crate::metrics::{ReleaseLatency, Snapshot};
use crate::policy::RuleSet;
use crate::rx::{Input, WorkBurst};
use crate::shard::{Shard, ShardSettings};
use crate::side::{BySide, Side};
use crate::stats::Counters;
use crate::tx::{OutQueue, Output};
use crate::wiring::{fragment_settings, lifecycle_settings, rule_set, shard_settings};
use crate::witness::{Exchange, Witness};

use control::{Control, ControlCounters, ControlSettings, Orders, Silence};
use core::{Core, ShardSeat};
use diverged::DivergedThread;
use publish::Published;
use rings::{Plan, Rings};
use scrape::Scrape;
use shared::Shared;

pub use rules::Reload;
pub use shared::PortRole;
pub use stepped::{Epochs, SteppedEngine, SteppedSettings};

/// Frames that are on their way, not held: rings, bursts, the output's hands.
const FRAMES_UNDER_WAY: usize = 8192;
/// Slots of a pool that only lends itself to an output.
const SPARE_SLOTS: PoolSettings = PoolSettings { small: 32, mtu: 32, jumbo: 4, gso: 2 };

/// The ports of an engine.
pub struct EnginePorts {
    /// What the primary sends.
    pub primary: Box<dyn Port>,
    /// What the secondary sends.
    pub secondary: Box<dyn Port>,
    /// Where released frames go.
    pub out: Box<dyn Port>,
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No memory for frames.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The diverged file cannot be made.
    #[error(transparent)]
    Diverged(#[from] pmd_tap::CaptureError),
    /// A thread or an event descriptor could not be made.
    #[error("cannot start {what}: {source}")]
    Start {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// A running engine. Stops when told to, or when dropped.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    scrape: Arc<Scrape>,
    threads: Vec<JoinHandle<()>>,
    /// Writes down what the witnesses saw; ends after everybody else.
    diverged: Option<DivergedThread>,
}

impl Engine {
    /// Takes all the memory it will ever use, starts the threads, pins them.
    pub fn start(
        settings: &Settings,
        ports: EnginePorts,
        backend: Box<dyn Backend>,
    ) -> Result<Self, EngineError> {
        let plan = plan(settings);
        let failed = |what| move |source| EngineError::Start { what, source };
        let shared = Shared::new(Clock::start(), plan.cores(), 2, plan.shards, rule_set(settings))
            .map_err(failed("wake-ups"))?;
        let shared = Arc::new(shared);
        let diverged = DivergedThread::start(&settings.diverged, plan.shards, &shared.clock)?;
        let parts = Parts {
            hasher: FlowHasher::random(),
            frames_under_way: FRAMES_UNDER_WAY,
            exchange: diverged.as_ref().map(DivergedThread::exchange),
        };
        let cores = build_cores(settings, &plan, ports, &parts)?;
        let rings = Arc::new(Rings::new(plan));
        let counters = Arc::new(Mutex::new(ControlCounters::default()));
        let scrape = Arc::new(Scrape {
            shared: Arc::clone(&shared),
            rings: Arc::clone(&rings),
            cores: cores.iter().map(|core| Arc::clone(&core.published)).collect(),
            control: Arc::clone(&counters),
            max_frames: settings.limits.max_held_frames,
            diverged: diverged.as_ref().map(DivergedThread::counts),
        });
        let mut engine = Self { shared: Arc::clone(&shared), scrape, threads: Vec::new(), diverged };
        let lifecycle = Lifecycle::new(lifecycle_settings(settings), shared.clock.now());
        let control = Control::new(
            Arc::clone(&shared),
            lifecycle,
            backend,
            counters,
            Silence::new(cores.iter().map(|core| Arc::clone(&core.published)).collect()),
            ControlSettings::new(settings, rings.plan()),
        );
        let pins = pins(&settings.runtime.cores);
        for core in cores {
            let (shared, rings) = (Arc::clone(&shared), Arc::clone(&rings));
            let pin = (!pins.is_empty()).then(|| pins[core.index % pins.len()]);
            let run = move || {
                if let Some(pin) = pin {
                    // A core that is not there for us (a container's limits) is no reason not to work.
                    core_affinity::set_for_current(pin);
                }
                core.run(&shared, &rings);
            };
            engine.spawn(format!("colo-core-{}", engine.threads.len()), run)?;
        }
        engine.spawn("colo-control".to_owned(), move || control.run())?;
        Ok(engine)
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), EngineError> {
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(|source| EngineError::Start { what: "a thread", source })?;
        self.threads.push(thread);
        Ok(())
    }

    /// What it counts, summed.
    pub fn snapshot(&self) -> Snapshot {
        self.scrape.snapshot()
    }

    /// The same for a server that outlives this borrow.
    pub fn source(&self) -> Arc<dyn Fn() -> Snapshot + Send + Sync> {
        let scrape = Arc::clone(&self.scrape);
        Arc::new(move || scrape.snapshot())
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

    /// Whether the primary is lost and the engine is to end for that.
    pub fn has_lost_primary(&self) -> bool {
        self.shared.is_primary_lost()
    }

    /// Counts a reading of the configuration.
    pub fn count_reload(&self, reload: Reload) {
        self.shared.rules.count(reload);
    }

    /// Whether a thread has ended although nobody stopped the engine: it must not go on half alive.
    pub fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Whether both inputs are down for good, and [`snapshot`](Self::snapshot) has all that they brought.
    pub fn inputs_are_over(&self) -> bool {
        self.shared.inputs_over() == Side::BOTH.len()
    }

    /// A number for each thread that grows as long as the thread is alive, at least ten times a second.
    pub fn beats(&self) -> Vec<u64> {
        self.scrape.beats()
    }

    /// Takes no more frames, lets out what has left, ends the threads; what it counted.
    pub fn stop(mut self) -> Snapshot {
        self.end();
        self.scrape.snapshot()
    }

    fn end(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // Its panic has been printed by the hook.
            let _ = thread.join();
        }
        if let Some(diverged) = self.diverged.take() {
            diverged.finish();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}

fn pins(cores: &[usize]) -> Vec<core_affinity::CoreId> {
    let available = core_affinity::get_core_ids().unwrap_or_default();
    if cores.is_empty() {
        return available;
    }
    cores.iter().map(|&id| core_affinity::CoreId { id }).collect()
}

/// What of the settings can be changed while it runs.
fn orders(settings: &Settings) -> Orders {
    Orders { modes: settings.modes, lifecycle: lifecycle_settings(settings), loss: settings.loss }
}

/// Who works on what.
fn plan(settings: &Settings) -> Plan {
    let workers = settings.runtime.workers.max(1);
    match settings.runtime.run_mode {
        RunMode::Workers => Plan::workers(workers),
        RunMode::Pipeline => Plan::pipeline(workers),
    }
}

/// What all cores of a plan are made with.
struct Parts {
    hasher: FlowHasher,
    /// Frames of a side that are received and not held, at most.
    frames_under_way: usize,
    exchange: Option<Arc<Exchange>>,
}

/// Makes the cores of a plan, each with what it works on.
fn build_cores(
    settings: &Settings,
    plan: &Plan,
    ports: EnginePorts,
    parts: &Parts,
) -> Result<Vec<Core>, EngineError> {
    let hasher = parts.hasher.clone().with_tunnels(settings.compare.tunnels);
    let whole = shard_settings(settings);
    // A shard may get more than its share of the frames, hardly of the connections.
    let share = ShardSettings { max_connections: whole.max_connections.div_ceil(plan.shards), ..whole };
    let pool = PoolSettings::for_frames(
        whole.max_held_frames + parts.frames_under_way,
        settings.limits.max_gso_frames,
    );
    let mut inputs = BySide {
        primary: Some((ports.primary, FramePool::new(pool)?)),
        secondary: Some((ports.secondary, FramePool::new(pool)?)),
    };
    let mut out = Some(ports.out);
    let mut cores = Vec::new();
    for (index, shard) in plan.shard_of_core.iter().enumerate() {
        let mut own_inputs = Vec::new();
        for side in Side::BOTH {
            if plan.input_core[side] == index
                && let Some((port, pool)) = inputs[side].take()
            {
                let input = Input::new(
                    side,
                    port,
                    pool,
                    hasher.clone(),
                    whole.max_held_frames,
                    plan.shards,
                    fragment_settings(settings),
                );
                own_inputs.push(input.verifying(settings.policy.verify_checksums));
            }
        }
        cores.push(Core {
            index,
            inputs: own_inputs,
            seat: shard.map(|_| {
                let mut shard = Shard::new(share, hasher.clone());
                if let Some(exchange) = &parts.exchange {
                    shard.set_witness(Witness::new(Arc::clone(exchange)));
                }
                ShardSeat::new(shard, whole.tick)
            }),
            output: out.take_if(|_| plan.output_core == index).map(|port| Output::new(port, plan.shards)),
            queue: OutQueue::new(pool.frames()),
            spare_pool: FramePool::new(SPARE_SLOTS)?,
            own: WorkBurst::new(),
            counters: Counters::default(),
            latency: ReleaseLatency::default(),
            published: Arc::new(Mutex::new(Published::default())),
            poll: settings.runtime.poll,
        });
    }
    Ok(cores)
}
