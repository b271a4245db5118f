//! Whole engines in virtual time, from seeds: `tests/sim` runs more of them.
#![forbid(unsafe_code)]

use std::sync::atomic::AtomicU64;

use colo_tests::sim::{MUST_BE_REACHED, Record, run, run_many};

/// Seeds that failed before what they found was mended, and how.
const REGRESSIONS: [(u64, &str); 25] = [
    (3, "an early secondary's data was taken for that of the life before"),
    (203, "a primary left whose ack the secondary had not sent"),
    (303, "the same"),
    (347, "the same: an ack of another life counted where a connection had been picked up"),
    (419, "the same, with a small budget"),
    (540, "the same: a latecomer of another life where a connection that was lost track of is picked up"),
    (589, "the same"),
    (323, "the model: a fragment without its siblings takes its place at the boundary"),
    (3_108, "the model: a connection whose SYNs were lost begins where it is seen"),
    (4_653, "a checkpoint was asked for while a commit waited for its boundary"),
    (7_588, "who was lost track of was picked up in other numbers of the secondary"),
    (8_253, "data of a life whose SYN was lost left as a retransmission of the life before"),
    (
        16_278,
        "the primary's first segment was taken for the life after it, which only the secondary had begun",
    ),
    (17_765, "the secondary's first segment, likewise"),
    (173_022, "a reset of a life whose SYN was lost was matched by one of the life before"),
    (18_334, "a secondary's late SYN made the life before it be forgotten at the commit"),
    (216_361, "the model: who is first seen behind a boundary begins there, not in the epoch before"),
    (403_724, "the check of what agrees: one former life of a connection is kept, not two"),
    (498_223, "translated numbers: an early SYN said where the secondary's stream begins"),
    (502_123, "the same"),
    (584_929, "the model: a UDP length of 0, a bit having flipped, is the whole payload"),
    (788_740, "fragments left behind by a checkpoint that was given up asked for no other"),
    (446_972, "the check of timeouts: a passive epoch begins with a late commit"),
    (5_003_671, "a secondary whose SYN was lost came before the primary's late one, which was at hand"),
    (222_181, "the model: a SYN in numbers that the data do not go on in shows no place"),
];

#[test]
fn what_was_wrong_once_is_not() {
    for (seed, what) in REGRESSIONS {
        if let Err(failure) = run(seed, Record::Timeline) {
            panic!("{what}: {failure}");
        }
    }
}

#[test]
fn ten_thousand_seeds_hold_and_reach_what_matters() {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    // For runs that ask the same tests again and again: tests/mutants/run.
    let fewer = std::env::var("COLO_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let summary = run_many(0..fewer.unwrap_or(10_000), u64::try_from(jobs).unwrap(), &AtomicU64::new(0));
    if let Some(failure) = summary.failures.first() {
        panic!("{failure}");
    }
    for name in MUST_BE_REACHED.into_iter().filter(|_| fewer.is_none()) {
        assert!(summary.tally.of(name) > 0, "no seed reaches {name:?}");
    }
}

#[test]
fn a_seed_is_the_same_each_time() {
    for seed in 1_000..1_020 {
        assert_eq!(run(seed, Record::Nothing).unwrap(), run(seed, Record::Timeline).unwrap());
    }
}
