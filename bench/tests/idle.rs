//! `colo-bench idle` against `colo compare`: an engine that polls busily takes a core, one that polls adaptively far less, and
//! pairs come back after each pause. Needs `cargo build --bins` before it.
#![forbid(unsafe_code)]

use std::process::Command;

use serde_json::Value;

#[test]
fn adaptive_polling_sleeps_and_busy_polling_does_not() {
    let output = Command::new(env!("CARGO_BIN_EXE_colo-bench"))
        .args(["idle", "--json", "--seconds", "1", "--wakes", "5"])
        .output()
        .expect("the binary can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let [adaptive, busy] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((&adaptive["poll"], &busy["poll"]), (&"adaptive".into(), &"busy".into()));
    let cores = |seen: &Value| seen["idle_cores"].as_f64().expect("a number");
    // However busy the machine is: what sleeps takes far less of its turn than what does not.
    assert!(cores(adaptive) * 3.0 < cores(busy), "{seen:?}");
    for one in &seen {
        assert!(
            // Two writes and a read at least.
            one["wake_p50_ns"].as_u64() > Some(1_000)
                && one["wake_p99_ns"].as_u64() >= one["wake_p50_ns"].as_u64()
        );
    }
}
