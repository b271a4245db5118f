//! A running engine: threads, their wiring, their end.

mod build;
mod control;
mod core;
mod diverged;
mod epochs;
mod memory;
mod meters;
mod pair;
mod pending;
mod publish;
mod rings;
mod rules;
mod scrape;
mod shared;
mod sink;
mod sleep;
mod stepped;
mod sync;
mod thread;
mod wake;

use std::sync::Arc;
use std::thread::JoinHandle;

use pmd_tap::{Clock, PoolError, Port};

use crate::checkpoint::Backend;
use crate::config::{DEFAULT_PAIR, Settings};
use crate::metrics::Snapshot;
use crate::side::Side;
use crate::wiring::lifecycle_settings;

use build::plan;
use control::Orders;
use core::Turns;
use diverged::DivergedThread;
use pair::{Common, NewPair};
use scrape::Scrape;
use shared::wakers;
use thread::{Place, Thread};

pub use pair::{EnginePair, Pair};
pub use rules::Reload;
pub use shared::PortRole;
pub use stepped::{Epochs, SteppedEngine, SteppedSettings};

/// The ports of a pair.
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
    /// There is nothing to compare.
    #[error("an engine needs a pair of VMs")]
    NoPair,
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
    pairs: Vec<Pair>,
    resident: Option<u64>,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// An engine for one pair of VMs; see [`start_pairs`](Self::start_pairs).
    pub fn start(
        settings: &Settings,
        ports: EnginePorts,
        backend: Box<dyn Backend>,
    ) -> Result<Self, EngineError> {
        let (name, settings) = (DEFAULT_PAIR.to_owned(), settings.clone());
        Self::start_pairs(vec![EnginePair { name, settings, ports, backend }])
    }

    /// Takes all the memory it will ever use, starts the threads, pins them. Each thread of the data plane works for all
    /// pairs in turn; what is the whole engine's is taken from the first pair's settings.
    pub fn start_pairs(pairs: Vec<EnginePair>) -> Result<Self, EngineError> {
        let Some(runtime) = pairs.first().map(|pair| pair.settings.runtime.clone()) else {
            return Err(EngineError::NoPair);
        };
        let cores = plan(&runtime, 0).cores();
        let wakers = wakers(cores).map_err(|source| EngineError::Start { what: "wake-ups", source })?;
        let turns = if pairs.len() > 1 { Turns::Shared } else { Turns::Alone };
        let common = Common { clock: Clock::start(), wakers: Arc::clone(&wakers), turns };
        let mut threads: Vec<_> = (0..cores)
            .map(|index| Thread {
                index,
                clock: common.clock,
                wakers: Arc::clone(&wakers),
                poll: runtime.poll,
                places: Vec::new(),
            })
            .collect();
        let mut engine = Self { pairs: Vec::new(), resident: None, threads: Vec::new() };
        let mut controls = Vec::new();
        for (place, mut pair) in pairs.into_iter().enumerate() {
            let (workers, mode) = (runtime.workers, runtime.run_mode);
            (pair.settings.runtime.workers, pair.settings.runtime.run_mode) = (workers, mode);
            let NewPair { pair, rings, cores, control, span } = NewPair::new(&common, place, pair)?;
            for (thread, core) in threads.iter_mut().zip(cores) {
                let (shared, rings) = (Arc::clone(&pair.shared), Arc::clone(&rings));
                thread.places.push(Place { core, shared, rings });
            }
            engine.pairs.push(pair);
            controls.push((control, span));
        }
        engine.resident = memory::settle(runtime.memory, engine.pairs.iter().filter_map(Pair::memory).sum());
        let pins = pins(&runtime.cores);
        for thread in threads {
            let pin = (!pins.is_empty()).then(|| pins[thread.index % pins.len()]);
            let run = move || {
                if let Some(pin) = pin {
                    // A core that is not there for us (a container's limits) is no reason not to work.
                    core_affinity::set_for_current(pin);
                }
                thread.run();
            };
            engine.spawn(format!("colo-core-{}", engine.threads.len()), run)?;
        }
        // A thread for each pair's: nobody waits for another's monitor, command or log lines.
        for (place, (control, span)) in controls.into_iter().enumerate() {
            let name = if place == 0 { "colo-control".to_owned() } else { format!("colo-control-{place}") };
            engine.spawn(name, move || span.in_scope(|| control.run()))?;
        }
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

    /// Its pairs of VMs, in the order they were given.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Bytes that the process had resident when the engine had taken its memory, the program's own included. `None` where
    /// the system does not say.
    pub fn resident(&self) -> Option<u64> {
        self.resident
    }

    /// What it counts, summed.
    pub fn snapshot(&self) -> Snapshot {
        scrape::snapshot(self.scrapes())
    }

    /// The same for a server that outlives this borrow.
    pub fn source(&self) -> Arc<dyn Fn() -> Snapshot + Send + Sync> {
        let scrapes: Vec<_> = self.pairs.iter().map(|pair| Arc::clone(&pair.scrape)).collect();
        Arc::new(move || scrape::snapshot(scrapes.iter().map(AsRef::as_ref)))
    }

    fn scrapes(&self) -> impl Iterator<Item = &Scrape> {
        self.pairs.iter().map(|pair| pair.scrape.as_ref())
    }

    /// Whether a primary is lost and the engine is to end for that.
    pub fn has_lost_primary(&self) -> bool {
        self.pairs.iter().any(|pair| pair.shared.is_primary_lost())
    }

    /// Whether a thread has ended although nobody stopped the engine: it must not go on half alive.
    pub fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Whether all inputs are down for good, and [`snapshot`](Self::snapshot) has all that they brought.
    pub fn inputs_are_over(&self) -> bool {
        self.pairs.iter().all(|pair| pair.shared.inputs_over() == Side::BOTH.len())
    }

    /// Numbers that grow as long as every thread is alive and comes to every pair, at least ten times a second.
    pub fn beats(&self) -> Vec<u64> {
        self.scrapes().flat_map(Scrape::beats).collect()
    }

    /// Takes no more frames, lets out what has left, ends the threads; what it counted.
    pub fn stop(mut self) -> Snapshot {
        self.end();
        self.snapshot()
    }

    fn end(&mut self) {
        self.pairs.iter().for_each(|pair| pair.shared.stop());
        for thread in self.threads.drain(..) {
            // Its panic has been printed by the hook.
            let _ = thread.join();
        }
        self.pairs.iter_mut().filter_map(|pair| pair.diverged.take()).for_each(DivergedThread::finish);
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
