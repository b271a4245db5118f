//! `colo-bench load` against `colo compare`: whatever the secondary does within reason, every frame comes back once, in
//! order and unchanged, and the summary says so. No time is judged. Needs `cargo build --bins` before it.
#![forbid(unsafe_code)]

use std::process::{Command, Output};

use serde_json::Value;

fn load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_colo-bench"))
        // Nobody is late on purpose; a slow machine must not look like it.
        .args(["load", "--json", "--seed", "7", "--patience", "60", "--engine-set", "compare_timeout=60000"])
        .args(arguments)
        .output()
        .expect("the binary can be started")
}

/// The run's line, of a run that was sound.
fn sound(arguments: &[&str]) -> Value {
    let output = load(arguments);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {words}{}", String::from_utf8_lossy(&output.stdout));
    let run: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    for fault in ["lost", "duplicates", "out_of_order", "altered", "unmatched"] {
        assert_eq!(run["faults"][fault], 0, "{fault} of {arguments:?}: {run}");
    }
    // The kernel counts a thread's time when it is switched or the clock ticks: a short run may have had none.
    assert!(run["cpu"]["ns_per_pair"].as_f64().is_some_and(|ns| ns >= 0.0));
    assert!(run["memory"]["resident"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    run
}

#[test]
fn a_secondary_behind_and_out_of_order_is_no_fault_on_either_kind_of_socket() {
    for transport in ["unix", "tcp"] {
        for protocol in ["tcp", "udp"] {
            let run = sound(&[
                "--transport",
                transport,
                "--protocol",
                protocol,
                "--pairs",
                "5000",
                "--window",
                "256",
                "--flows",
                "40",
                "--skew",
                "64",
                "--reorder",
                "0.05",
                "--frame",
                "300",
            ]);
            assert_eq!((&run["sent"], &run["requests"]), (&5500.into(), &0.into()), "{run}");
            assert!(run["latency_ns"]["p50"].as_u64().unwrap() > 0);
        }
    }
}

#[test]
fn what_differs_asks_for_checkpoints_that_are_committed() {
    let run = sound(&[
        "--pairs",
        "4000",
        "--mismatch",
        "0.001",
        "--flows",
        "20",
        "--skew",
        "16",
        "--window",
        "128",
    ]);
    let count = |name: &str| run[name].as_u64().unwrap();
    assert!(count("commits") >= 1 && count("requests") >= count("commits"), "{run}");
    assert_eq!((count("sent"), count("false_requests")), (4400, 0));
}

#[test]
fn super_frames_and_fixed_times_and_single_writes_come_back_whole() {
    sound(&["--frame", "60000", "--window", "8", "--pairs", "200", "--flows", "3"]);
    sound(&["--vnet", "--writes", "single", "--pairs", "500", "--window", "32", "--transport", "tcp"]);
    let run = sound(&["--rate", "5000", "--late-us", "400", "--pairs", "1000", "--protocol", "udp"]);
    assert!(run["cpu"]["cores"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_comparer_that_compares_nothing_is_caught() {
    let output = load(&["--engine", "echo", "--pairs", "2000", "--skew", "100", "--window", "64"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(run["faults"]["unmatched"].as_u64().unwrap() > 1000, "{run}");
}

#[test]
fn what_cannot_be_is_said_in_a_sentence() {
    for (arguments, words) in [
        (&["--frame", "12"][..], "--frame 12 is not 64 to 65549"),
        (&["--late-us", "5"], "--late-us needs --rate"),
        (&["--engine", "given"], "--engine given needs --primary-in"),
    ] {
        let output = load(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(words), "{said}");
    }
}
