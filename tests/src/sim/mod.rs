//! A seeded simulation of a whole engine: its real cores, rings, control thread and protocols stepped one at a time in
//! an order drawn from the seed, in virtual time, between guests, links and checkpoints that go wrong.
//!
//! A seed decides everything, so a failing one fails again. What must hold after each step is in `model.rs` and
//! `world.rs`. [`run`] takes one seed, [`run_many`] many.

pub mod backend;
pub mod checkpoints;
pub mod draws;
pub mod guest;
pub mod model;
pub mod packet;
pub mod plan;
pub mod ports;
pub mod tally;
pub mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use plan::{Marks, Plan, Weather};
pub use tally::{MUST_BE_REACHED, Tally};
pub use world::Record;

use colo_engine::config::RunMode;
use guest::Numbers;
use world::World;

/// Lines of a timeline that are shown, unless all are asked for: the last ones.
const TIMELINE: usize = 60;

/// A seed for which something did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub problem: String,
    /// What happened before, newest last.
    pub timeline: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plan = Plan::draw(self.seed);
        writeln!(f, "seed {}: {}", self.seed, self.problem)?;
        writeln!(f, "  {}", describe(&plan))?;
        let shown = if f.alternate() { 0 } else { self.timeline.len().saturating_sub(TIMELINE) };
        for line in &self.timeline[shown..] {
            writeln!(f, "  {line}")?;
        }
        write!(f, "again: tests/sim --seed {}", self.seed)
    }
}

/// What a seed stands for, in a line.
pub fn describe(plan: &Plan) -> String {
    let compare = &plan.settings.compare;
    let limits = &plan.settings.limits;
    format!(
        "{:?} weather, {:?} of {}, {} connections, {} flows of datagrams, marks {:?}, numbers {:?} then {:?} as {:?}, \
         ack_policy {:?}, compare_timeout {:?}, max_queue_size {}, max_held_frames {}, max_connections {}",
        plan.weather,
        plan.settings.runtime.run_mode,
        plan.settings.runtime.workers,
        plan.scripts.len(),
        plan.streams.len(),
        plan.marks,
        plan.numbers,
        plan.numbers_after,
        compare.secondary_sequence,
        compare.ack_policy,
        compare.compare_timeout,
        compare.max_queue_size,
        limits.max_held_frames,
        limits.max_connections,
    )
}

/// Runs one seed; what it exercised, or what did not hold.
pub fn run(seed: u64, record: Record) -> Result<Tally, Box<Failure>> {
    let plan = Plan::draw(seed);
    let fail = |problem: String, timeline: Vec<String>| Box::new(Failure { seed, problem, timeline });
    let mut world = World::new(&plan, record).map_err(|problem| fail(problem, Vec::new()))?;
    if let Err(problem) = world.live().and_then(|()| world.end()) {
        return Err(fail(problem, world.timeline));
    }
    let mut tally = std::mem::take(&mut world.tally);
    tally.add("seeds", 1);
    tally.add(if plan.weather == Weather::Clear { "clear seeds" } else { "rough seeds" }, 1);
    tally.add(if plan.settings.runtime.run_mode == RunMode::Workers { "workers" } else { "pipeline" }, 1);
    let cores = ["cores 0", "cores 1", "cores 2", "cores 3", "cores 4"];
    tally.add(cores[plan.settings.runtime.workers.min(4)], 1);
    tally.add(if plan.marks == Marks::Two { "marks two" } else { "marks one" }, 1);
    tally.add(if plan.numbers == Numbers::Own { "numbers raw" } else { "numbers translated" }, 1);
    Ok(tally)
}

/// What many seeds came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// What they exercised.
    pub tally: Tally,
    /// Those that failed; the search ends soon after the first.
    pub failures: Vec<Failure>,
}

/// Runs the seeds of a range on `jobs` threads; `done` grows as they are done. Stops soon after a failure.
pub fn run_many(seeds: Range<u64>, jobs: u64, done: &AtomicU64) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut summary = Summary::default();
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            match run(seed, Record::Nothing) {
                Ok(tally) => summary.tally.merge(&tally),
                Err(failure) => {
                    failed.store(true, Ordering::Relaxed);
                    // Once more, for its timeline.
                    summary.failures.push(*run(seed, Record::Timeline).err().unwrap_or(failure));
                }
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        summary
    };
    let mut all = Summary::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok(summary) => {
                    all.tally.merge(&summary.tally);
                    all.failures.extend(summary.failures);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    all.failures.sort_by_key(|failure| failure.seed);
    all
}
