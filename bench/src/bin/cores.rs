//! What a second core brings: two shards that each have a core and flows of their own, beside one of them alone, by turns. An
//! argument keeps the scenarios whose names contain it.
#![forbid(unsafe_code)]

use std::io::Write;
use std::sync::Barrier;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use colo_bench::cpu_time;
use colo_bench::load::cpu::{Cores, stay_on};
use colo_bench::rig::Rig;
use colo_bench::scenario::Scenario;

/// Turns; in each, one shard works alone and then both do.
const TURNS: usize = 21;
/// Pairs of a shard in a turn.
const PAIRS: usize = 50_000;

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// The passes of a turn; how much processor time each took.
fn turn(rig: &mut Rig) -> Vec<Duration> {
    let passes = (PAIRS / rig.pairs()).max(1);
    let times = (0..passes).map(|_| {
        rig.fill();
        cpu_time::of(|| rig.pass()).0
    });
    times.collect()
}

/// Which of the two shards.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It works alone, too.
    First,
    Second,
}

/// One shard's turns: alone, and beside the other.
fn work(mut rig: Rig, place: Place, step: &Barrier) -> [Vec<Duration>; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        step.wait();
        if place == Place::First {
            times[0].extend(turn(&mut rig));
        }
        step.wait();
        times[1].extend(turn(&mut rig));
    }
    rig.check();
    times
}

fn main() -> Result<()> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let Cores { driver: Some(here), engine: Some(there) } = Cores::apart() else {
        anyhow::bail!("this needs two cores");
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "| scenario | one shard, ns a pair | each of two | two over one |")?;
    writeln!(out, "|---|---|---|---|")?;
    for scenario in Scenario::matrix().into_iter().filter(|named| named.to_string().contains(&wanted)) {
        let step = Barrier::new(2);
        // Made where they work, and before anybody waits for the other. A thread begins where its parent is.
        stay_on(here)?;
        let first = Rig::new(scenario)?;
        stay_on(there)?;
        let second = Rig::new(scenario)?;
        let (first, second) = std::thread::scope(|scope| {
            let beside = scope.spawn(|| work(second, Place::Second, &step));
            drop(stay_on(here));
            (work(first, Place::First, &step), beside.join())
        });
        let ([alone, mut both], [_, theirs]) = (first, second.ok().context("a shard's thread panicked")?);
        both.extend(theirs);
        ensure!(!alone.is_empty() && !both.is_empty(), "nothing was measured");
        let pairs = u32::try_from(scenario.pairs).map_or(1.0, f64::from);
        let (alone, both) = (median(alone), median(both));
        let [one, each] = [alone, both].map(|seconds| seconds * 1e9 / pairs);
        writeln!(out, "| {scenario} | {one:.1} | {each:.1} | {:.2}× |", 2.0 * alone / both)?;
    }
    Ok(())
}
