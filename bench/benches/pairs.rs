//! What a pair costs in memory, beside `memcmp` and parse + hash of the same frames.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Duration;

use colo_bench::cpu_time;
use colo_bench::rig::Rig;
use colo_bench::scenario::Scenario;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Thread time of `iterations` pairs, measured pass by pass.
fn measure<T>(rig: &mut Rig, iterations: u64, mut work: impl FnMut(&mut Rig) -> T) -> Duration {
    let pairs = u64::try_from(rig.pairs()).unwrap_or(1);
    let passes = iterations.div_ceil(pairs);
    let mut total = Duration::ZERO;
    for _ in 0..passes {
        rig.fill();
        total += cpu_time::of(|| black_box(work(rig))).0;
        rig.empty();
    }
    let nanos = u128::from(iterations) * total.as_nanos() / u128::from(passes * pairs);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn pairs(criterion: &mut Criterion) {
    for scenario in Scenario::matrix() {
        let mut group = criterion.benchmark_group(scenario.to_string());
        group.throughput(Throughput::Elements(1));
        let mut rig = Rig::new(scenario).expect("memory for the frames");
        group.bench_function("engine", |b| b.iter_custom(|n| measure(&mut rig, n, Rig::pass)));
        group
            .bench_function("memcmp", |b| b.iter_custom(|n| measure(&mut rig, n, |rig| rig.compare_bytes())));
        group.bench_function("parse_hash", |b| {
            b.iter_custom(|n| measure(&mut rig, n, |rig| rig.parse_and_hash()));
        });
        rig.check();
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = pairs
}
criterion_main!(benches);
