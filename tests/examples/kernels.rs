//! Kernel, `colo`, kernel, for longer: a checksummed transfer through TAP and `AF_PACKET` ports with and without offloads, as a
//! table of rates; with `--iperf3` what iperf3 (Debian package iperf3) says instead. Needs root and a built `colo`.
//!
//! `cargo run --release -p colo-tests --example kernels [BYTES] [--iperf3]`, with BYTES 1 GiB at first
#![forbid(unsafe_code)]

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use colo_engine::cli::print;
use colo_tests::kernels::transfer::Order;
use colo_tests::kernels::{Kernels, Kind, Offloads, gigabits};
use colo_tests::wait;
use serde_json::Value;

const SECONDS: &str = "5";

fn main() -> Result<()> {
    let mut bytes = 1 << 30;
    let mut iperf = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--iperf3" => iperf = true,
            text => bytes = text.parse().context("BYTES is a number")?,
        }
    }
    print(if iperf {
        "| ports | offloads | from the guest | to the guest |\n|---|---|---|---|"
    } else {
        "| ports | offloads | from the guest | to the guest | engine CPU a byte from the guest | lost | checkpoints |\n\
         |---|---|---|---|---|---|---|"
    })?;
    for (kind, name) in [(Kind::Tap, "tap:"), (Kind::Packet, "packet:")] {
        for offloads in [Offloads::On, Offloads::Off] {
            let row = if iperf { iperf3(kind, offloads)? } else { transfer(kind, offloads, bytes)? };
            let word = if offloads == Offloads::On { "on" } else { "off" };
            print(&format!("| `{name}` | {word} | {row} |"))?;
        }
    }
    Ok(())
}

fn transfer(kind: Kind, offloads: Offloads, bytes: u64) -> Result<String> {
    let order = Order { down: bytes, up: bytes, datagrams: 1_000 };
    let outcome = Kernels::start(kind, offloads, "")?.run(&order)?;
    let (down, up) = (outcome.speed.down, outcome.speed.up);
    let asked =
        ["mismatch", "timeout", "queue_full"].map(|reason| outcome.summary["checkpoints"][reason].as_u64());
    let asked: u64 = asked.into_iter().flatten().sum();
    let picos = outcome.engine_cpu.as_nanos() * 1_000 / u128::from(outcome.primary_bytes.max(1));
    Ok(format!(
        "{:.1} Gbit/s | {:.1} Gbit/s | {picos} ps | {} | {asked}",
        gigabits(down.0, down.1),
        gigabits(up.0, up.1),
        outcome.lost
    ))
}

/// One server, and a client once for each way.
fn iperf3(kind: Kind, offloads: Offloads) -> Result<String> {
    let kernels = Kernels::start(kind, offloads, "")?;
    let mut server = kernels.server().inside(|| {
        Command::new("iperf3")
            .args(["-s", "-B", Kernels::SERVER])
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run `iperf3` (Debian package iperf3)")
    })?;
    let measured = [&["-R"][..], &[]].map(|way| -> Result<f64> {
        wait::until("iperf3", Duration::from_secs(10), || {
            kernels.client().inside(|| {
                let output = Command::new("iperf3")
                    .args(["-c", Kernels::SERVER, "-t", SECONDS, "-J"])
                    .args(way)
                    .output()
                    .context("cannot run `iperf3`")?;
                ensure!(output.status.success(), "iperf3: {}", String::from_utf8_lossy(&output.stdout));
                let report: Value = serde_json::from_slice(&output.stdout)?;
                report["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 says no rate")
            })
        })
    });
    drop(server.kill());
    drop(server.wait());
    let [down, up] = measured;
    Ok(format!("{:.1} Gbit/s | {:.1} Gbit/s", down? / 1e9, up? / 1e9))
}
