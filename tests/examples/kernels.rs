//! Kernel, `colo`, kernel, for longer: through TAP and `AF_PACKET` ports, with and without offloads, and with the feature
//! `dpdk` through DPDK's drivers for both: a checked transfer each way, then iperf3 each way (Debian package iperf3), as one
//! table. Needs root and a built `colo`; `bench/ports.sh` sees to all of that.
//!
//! What the engine's processor time comes to depends less on what else the machine does than rates do.
//!
//! `cargo run --release -p colo-tests --example kernels [BYTES] [SECONDS]`, with 1 GiB and 5 s at first; 0 leaves either out
#![forbid(unsafe_code)]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use colo_engine::cli::print;
use colo_tests::kernels::transfer::Order;
use colo_tests::kernels::{Kernels, Kind, Offloads, Usage, gigabits};
use colo_tests::wait;
use serde_json::Value;

const DEFAULT_BYTES: u64 = 1 << 30;
const DEFAULT_SECONDS: u64 = 5;
/// How long iperf3's server may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

/// DPDK carries no virtio header, so its ports have no offloads.
const RUNS: &[(Kind, Offloads)] = &[
    (Kind::Tap, Offloads::On),
    (Kind::Tap, Offloads::Off),
    (Kind::Packet, Offloads::On),
    (Kind::Packet, Offloads::Off),
    #[cfg(feature = "dpdk")]
    (Kind::DpdkTap, Offloads::Off),
    #[cfg(feature = "dpdk")]
    (Kind::DpdkPacket, Offloads::Off),
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| {
        arguments.next().map_or(Ok(default), |text| text.parse().context("BYTES and SECONDS are numbers"))
    };
    let (bytes, seconds) = (number(DEFAULT_BYTES)?, number(DEFAULT_SECONDS)?);
    print(
        "| ports | offloads | checked, from the guest | to the guest | iperf3, from the guest | sent again | to the guest | \
         sent again | engine CPU a byte | a frame | lost | checkpoints |\n|---|---|---|---|---|---|---|---|---|---|---|---|",
    )?;
    for &(kind, offloads) in RUNS {
        let row = run(kind, offloads, bytes, seconds)
            .with_context(|| format!("{} with offloads {offloads:?}", kind.name()))?;
        let word = if offloads == Offloads::On { "on" } else { "off" };
        print(&format!("| `{}` | {word} | {row} |", kind.name()))?;
    }
    Ok(())
}

fn run(kind: Kind, offloads: Offloads, bytes: u64, seconds: u64) -> Result<String> {
    let kernels = Kernels::start(kind, offloads, "")?;
    let mut cells = Vec::new();
    // The engine's part of what comes from the guest, of both kinds of transfer.
    let mut usages = Vec::new();
    if bytes > 0 {
        let down = Order { down: bytes, up: 0, datagrams: 1_000 };
        let (speed, usage) = kernels.measure(|kernels| kernels.transfer(&down))?;
        usages.push(usage);
        cells.push(rate(gigabits(speed.down.0, speed.down.1)));
        let up = kernels.transfer(&Order { down: 0, up: bytes, datagrams: 0 })?.up;
        cells.push(rate(gigabits(up.0, up.1)));
    } else {
        cells.extend(["–", "–"].map(str::to_owned));
    }
    if seconds > 0 {
        let mut server = kernels.server().inside(serve)?;
        let down = kernels.measure(|kernels| iperf3(kernels, seconds, &["-R"]));
        let up = iperf3(&kernels, seconds, &[]);
        drop(server.kill());
        drop(server.wait());
        let (down, usage) = down?;
        usages.push(usage);
        cells.extend(down);
        cells.extend(up?);
    } else {
        cells.extend(["–"; 4].map(str::to_owned));
    }
    cells.extend(prices(&usages));
    let (lost, summary) = kernels.finish()?;
    let asked = ["mismatch", "timeout", "queue_full"].map(|reason| summary["checkpoints"][reason].as_u64());
    cells.push(lost.to_string());
    cells.push(asked.into_iter().flatten().sum::<u64>().to_string());
    Ok(cells.join(" | "))
}

/// The engine's processor time for a byte and for a frame of the primary's.
fn prices(usages: &[Usage]) -> [String; 2] {
    let cpu: u128 = usages.iter().map(|usage| usage.cpu.as_nanos()).sum();
    let bytes: u64 = usages.iter().map(|usage| usage.bytes).sum();
    let frames: u64 = usages.iter().map(|usage| usage.frames).sum();
    [
        format!("{} ps", cpu * 1_000 / u128::from(bytes.max(1))),
        format!("{} ns", cpu / u128::from(frames.max(1))),
    ]
}

fn rate(gigabits: f64) -> String {
    format!("{gigabits:.2} Gbit/s")
}

fn serve() -> Result<Child> {
    Command::new("iperf3")
        .args(["-s", "-B", Kernels::SERVER])
        .stdout(Stdio::null())
        .spawn()
        .context("cannot run `iperf3` (Debian package iperf3)")
}

/// What iperf3 says of one way: the rate at the receiver, and the segments that TCP sent again.
fn iperf3(kernels: &Kernels, seconds: u64, way: &[&str]) -> Result<[String; 2]> {
    let seconds = seconds.to_string();
    let report: Value = wait::until("iperf3", START_LIMIT, || {
        kernels.client().inside(|| {
            let output = Command::new("iperf3")
                .args(["-c", Kernels::SERVER, "-t", &seconds, "-J"])
                .args(way)
                .output()
                .context("cannot run `iperf3`")?;
            ensure!(output.status.success(), "iperf3: {}", String::from_utf8_lossy(&output.stdout));
            Ok(serde_json::from_slice(&output.stdout)?)
        })
    })?;
    let received = &report["end"]["sum_received"]["bits_per_second"];
    let again = report["end"]["sum_sent"]["retransmits"].as_u64();
    Ok([
        rate(received.as_f64().context("iperf3 says no rate")? / 1e9),
        again.map_or_else(|| "?".to_owned(), |again| again.to_string()),
    ])
}
