//! Which tests are asked, in which order. Only such that say the same on a machine that is busy: no sockets, no clocks.

use std::collections::BTreeMap;

/// Tests of one executable.
pub struct Suite {
    /// What results call it.
    pub name: &'static str,
    /// Folder of the package.
    pub package: &'static str,
    /// Of cargo; a library's own tests have the library's name.
    pub target: &'static str,
    /// Arguments of the test executable that say which tests.
    pub filters: &'static [&'static str],
    pub environment: &'static [(&'static str, &'static str)],
    /// Processor seconds of one process, and seconds on the clock as a last resort. Beyond these a mutant has hung.
    pub processor_seconds: u32,
    pub seconds: u32,
}

/// The quick ones are asked about each mutant, the others about what these leave.
pub const PASSES: [(&str, &[Suite]); 2] = [("quick", QUICK), ("slow", SLOW)];

const QUICK: &[Suite] = &[
    Suite {
        name: "lib",
        package: "engine",
        target: "colo_engine",
        filters: &["compare::", "release::", "shard::", "virtual_time::", "spans::"],
        environment: &[],
        processor_seconds: 15,
        seconds: 600,
    },
    Suite {
        name: "oracle",
        package: "engine",
        target: "oracle",
        filters: &["agreement", "regressions", "hostile", "fragments::cut"],
        environment: &[("PROPTEST_CASES", "200")],
        processor_seconds: 15,
        seconds: 600,
    },
];

const SLOW: &[Suite] = &[
    Suite {
        name: "lib, the rest",
        package: "engine",
        target: "colo_engine",
        filters: &[
            "config::",
            "modes::",
            "policy::",
            "witness::",
            "explain::",
            "diverged::",
            "held::",
            "table::",
        ],
        environment: &[],
        processor_seconds: 60,
        seconds: 600,
    },
    Suite {
        name: "fuzz_corpus",
        package: "tests",
        target: "fuzz_corpus",
        filters: &["every_kept_input_passes"],
        environment: &[],
        processor_seconds: 60,
        seconds: 600,
    },
    Suite {
        name: "replay_contract",
        package: "tests",
        target: "replay_contract",
        filters: &[],
        environment: &[],
        processor_seconds: 60,
        seconds: 600,
    },
    Suite {
        name: "explain",
        package: "tests",
        target: "explain",
        filters: &["--skip", "running_engine", "--skip", "two_workers", "--skip", "nothing_is_lost"],
        environment: &[],
        processor_seconds: 60,
        seconds: 600,
    },
    Suite {
        name: "modes",
        package: "tests",
        target: "modes",
        filters: &[],
        environment: &[],
        processor_seconds: 120,
        seconds: 900,
    },
    Suite {
        name: "simulation",
        package: "tests",
        target: "simulation",
        filters: &[],
        environment: &[("COLO_SIM_SEEDS", "1500")],
        processor_seconds: 300,
        seconds: 1800,
    },
    Suite {
        name: "catalogue",
        package: "tests",
        target: "catalogue",
        filters: &[],
        environment: &[],
        processor_seconds: 60,
        seconds: 900,
    },
    Suite {
        name: "all interleavings, more of the oracle",
        package: "engine",
        target: "oracle",
        filters: &["--skip", "repeatable"],
        environment: &[("PROPTEST_CASES", "1500")],
        processor_seconds: 300,
        seconds: 1800,
    },
];

/// What cargo builds: options by package.
pub fn targets() -> BTreeMap<&'static str, Vec<String>> {
    let mut targets: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for suite in PASSES.iter().flat_map(|(_, suites)| *suites) {
        let own = targets.entry(suite.package).or_default();
        let options = if suite.target == "colo_engine" {
            vec!["--lib".to_owned()]
        } else {
            vec!["--test".into(), suite.target.into()]
        };
        if options.last().is_some_and(|last| !own.contains(last)) {
            own.extend(options);
        }
    }
    targets
}
