//! Nanoseconds a pair of every scenario, beside `memcmp` and parse + hash of the same frames in the same run: medians of
//! thread time over alternating passes. An argument keeps the scenarios whose names contain it.
#![forbid(unsafe_code)]

use std::io::Write;
use std::time::Duration;

use colo_bench::cpu_time;
use colo_bench::rig::Rig;
use colo_bench::scenario::Scenario;

const PASSES: usize = 301;
/// Pairs after which a scenario has had enough passes.
const PAIRS: usize = 1_000_000;

fn median(mut times: Vec<Duration>, pairs: usize) -> f64 {
    times.sort_unstable();
    let nanos = u32::try_from(times[times.len() / 2].as_nanos()).map_or(f64::MAX, f64::from);
    nanos / u32::try_from(pairs).map_or(1.0, f64::from)
}

fn main() -> anyhow::Result<()> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    writeln!(out, "| scenario | engine, ns a pair | memcmp | parse + hash | engine / memcmp |")?;
    writeln!(out, "|---|---|---|---|---|")?;
    for scenario in Scenario::matrix() {
        if !scenario.to_string().contains(&wanted) {
            continue;
        }
        let mut rig = Rig::new(scenario)?;
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..PASSES.min(PAIRS / rig.pairs()) {
            rig.fill();
            times[1].push(cpu_time::of(|| std::hint::black_box(rig.compare_bytes())).0);
            times[2].push(cpu_time::of(|| std::hint::black_box(rig.parse_and_hash())).0);
            times[0].push(cpu_time::of(|| rig.pass()).0);
        }
        rig.check();
        let [engine, memcmp, parse] = times.map(|times| median(times, rig.pairs()));
        let ratio = engine / memcmp;
        writeln!(out, "| {scenario} | {engine:.1} | {memcmp:.1} | {parse:.1} | {ratio:.2} |")?;
    }
    Ok(())
}
