//! Kernel, `colo`, kernel: real TCP and UDP through the engine's TAP and `AF_PACKET` ports, in namespaces that the test makes.
//! Every byte is checked, and both sides must be equal from beginning to end: no checkpoint, no frame lost, none held.
//!
//! `COLO_TRANSFER_BYTES` makes the transfers longer; `cargo run -p colo-tests --example kernels` measures.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use pmd_tap::{Burst, FramePool, Nanos, PacketPort, PoolSettings, Port};

use colo_tests::kernels::transfer::Order;
use colo_tests::kernels::{Kernels, Kind, Offloads};
use colo_tests::netns::Namespace;
use colo_tests::process::Colo;
use colo_tests::wait;

/// Bytes from the server to the client unless told otherwise; a quarter of them go the other way.
const DEFAULT_BYTES: u64 = 48 << 20;
/// How long a step may take that takes a second.
const STEP_LIMIT: Duration = Duration::from_secs(30);

fn transfer(kind: Kind, offloads: Offloads, more: &str) -> Result<()> {
    let down = match std::env::var("COLO_TRANSFER_BYTES") {
        Ok(text) => text.parse().context("COLO_TRANSFER_BYTES is no number")?,
        Err(_) => DEFAULT_BYTES,
    };
    let order = Order { down, up: down / 4, datagrams: 200 };
    let outcome = Kernels::start(kind, offloads, more)?.run(&order)?;
    outcome.expect_equal()
}

#[test]
fn tap_with_offloads_carries_every_byte() -> Result<()> {
    transfer(Kind::Tap, Offloads::On, "")
}

#[test]
fn tap_without_offloads_carries_every_byte() -> Result<()> {
    transfer(Kind::Tap, Offloads::Off, "")
}

#[test]
fn packet_sockets_with_offloads_carry_every_byte() -> Result<()> {
    transfer(Kind::Packet, Offloads::On, "")
}

#[test]
fn packet_sockets_without_offloads_carry_every_byte() -> Result<()> {
    transfer(Kind::Packet, Offloads::Off, "")
}

#[test]
fn packet_sockets_share_an_interface_out() -> Result<()> {
    transfer(Kind::PacketQueues, Offloads::On, "--workers 2")
}

#[test]
fn tap_devices_of_several_queues_are_attached_to() -> Result<()> {
    transfer(Kind::TapQueues, Offloads::On, "--workers 2")
}

/// The one sentence with which `colo compare` refuses these ports.
fn refusal(namespace: &Namespace, ports: [&str; 3]) -> Result<String> {
    let [primary, secondary, out] = ports;
    let line = format!(
        "compare --primary-in {primary} --secondary-in {secondary} --out {out} --checkpoint none --metrics off"
    );
    let finished = namespace.inside(|| Colo::run(line.split_whitespace(), STEP_LIMIT))?;
    finished.expect_code(2)?;
    let mut lines = finished.stderr.lines();
    let sentence = lines.next_back().unwrap_or_default().to_owned();
    ensure!(lines.next().is_none(), "more than a sentence: {}", finished.stderr);
    Ok(sentence)
}

#[test]
fn ports_that_do_not_go_together_are_refused_with_a_sentence() -> Result<()> {
    let namespace = Namespace::new()?;
    for (name, mtu) in [("pri", 9_000), ("sec", 9_000), ("out", 1_500)] {
        namespace.ip(&format!("tuntap add dev {name} mode tap"))?;
        namespace.ip(&format!("link set {name} addrgenmode none mtu {mtu} up"))?;
    }
    let sentence = refusal(&namespace, ["tap:pri", "tap:sec", "tap:out"])?;
    let expected = "colo: --primary-in tap:pri has an MTU of 9000 bytes, but --out tap:out one of 1500, so that longer \
                    frames could not leave; make them equal: ip link set DEVICE mtu 9000";
    ensure!(sentence == expected, "{sentence}");
    // The same across kinds of ports.
    namespace.ip("link add v0 mtu 1400 type veth peer name v1 mtu 1400")?;
    let sentence = refusal(&namespace, ["packet:out", "packet:sec", "packet:v0"])?;
    ensure!(
        sentence.contains("packet:out has an MTU of 1500 bytes, but --out packet:v0 one of 1400"),
        "{sentence}"
    );

    namespace.ip("link set out mtu 9000")?;
    let sentence = refusal(&namespace, ["tap:pri,vnet", "tap:sec,vnet", "tap:out"])?;
    let expected = "colo: --primary-in tap:pri,vnet carries virtio-net headers, but --out tap:out does not; write ,vnet \
                    behind both or neither";
    ensure!(sentence == expected, "{sentence}");
    let sentence = refusal(&namespace, ["tap:pri,vnet=20", "tap:sec", "tap:out"])?;
    ensure!(sentence.contains("vnet=20 is no length of a header here: 10 or 12"), "{sentence}");
    Ok(())
}

/// Sends one frame out of an interface, from where it comes in at the other end.
fn send(namespace: &Namespace, interface: &str) -> Result<()> {
    let mut bytes = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64);
    builder.udp(5_000, 6_000).write(&mut bytes, &[7; 100])?;
    namespace.inside(|| {
        let mut port = PacketPort::new(&format!("packet:{interface}").parse()?)?;
        let mut pool = FramePool::new(PoolSettings { small: 1, mtu: 1, jumbo: 0, gso: 0 })?;
        let mut burst = Burst::new();
        burst.push(pool.frame_from(&bytes).context("a pool without a slot")?);
        port.tx_burst(&mut pool, Nanos::ZERO, &mut burst);
        ensure!(burst.is_empty(), "{interface} takes no frame");
        Ok(())
    })
}

/// Frames that came into the kernel at an interface: the second number behind its name.
fn received(namespace: &Namespace, interface: &str) -> Result<u64> {
    let table = namespace.inside(|| Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?))?;
    let row = table.lines().find_map(|row| row.trim().strip_prefix(&format!("{interface}:")));
    let number = row.and_then(|row| row.split_whitespace().nth(1)).context("no such row")?;
    Ok(number.parse()?)
}

#[test]
fn interfaces_that_are_made_anew_are_used_again() -> Result<()> {
    let namespace = Namespace::new()?;
    let input = |name: &str, mtu: u16| {
        namespace.ip(&format!("link add {name}0 mtu {mtu} type veth peer name {name}1 mtu {mtu}"))?;
        ["0", "1"]
            .into_iter()
            .try_for_each(|end| namespace.ip(&format!("link set {name}{end} addrgenmode none up")))
    };
    let output = |mtu: u16| {
        namespace.ip("tuntap add dev out mode tap")?;
        namespace.ip(&format!("link set out addrgenmode none mtu {mtu} up"))
    };
    input("p", 1_500)?;
    input("s", 1_500)?;
    output(1_500)?;
    let line = "compare --primary-in packet:p1 --secondary-in packet:s1 --out tap:out --checkpoint none --metrics off --json";
    let mut colo = namespace.inside(|| Colo::start(line.split_whitespace()))?;
    for up in ["primary_in is up", "secondary_in is up", "out is up"] {
        colo.wait_for_log(up, STEP_LIMIT)?;
    }

    namespace.ip("link del p0")?;
    colo.wait_for_log("primary_in is down: the interface was deleted", STEP_LIMIT)?;
    let said = colo.wait_for_log("packet:p1 was deleted", STEP_LIMIT)?;
    ensure!(said.contains("make the interface anew; it is tried again and again"), "{said}");
    input("p", 1_400)?;
    colo.wait_for_log("primary_in is up: packet:p1 (MTU 1400)", STEP_LIMIT)?;

    // What is to leave while the output is gone leaves through its successor.
    namespace.ip("link del out")?;
    colo.wait_for_log("out is down: the interface was deleted", STEP_LIMIT)?;
    send(&namespace, "p0")?;
    send(&namespace, "s0")?;
    // Something of that name that is no TAP device is said, and does no harm.
    namespace.ip("link add out type veth peer name far")?;
    colo.wait_for_log("cannot attach to tap:out", STEP_LIMIT)?;
    namespace.ip("link del out")?;
    output(1_400)?;
    colo.wait_for_log("out is up: tap:out (MTU 1400)", STEP_LIMIT)?;
    wait::until("the frame that waited", STEP_LIMIT, || {
        ensure!(received(&namespace, "out")? == 1, "it is not there");
        Ok(())
    })?;

    // Both inputs gone is not the end.
    namespace.ip("link del p0")?;
    namespace.ip("link del s0")?;
    colo.wait_for_log("secondary_in is down: the interface was deleted", STEP_LIMIT)?;
    colo.check_alive()?;
    input("s", 1_300)?;
    colo.wait_for_log("secondary_in is up: packet:s1 (MTU 1300)", STEP_LIMIT)?;
    let finished = colo.terminate(STEP_LIMIT)?;
    finished.expect_code(0)?;
    let summary: serde_json::Value = serde_json::from_str(&finished.stdout)?;
    ensure!(summary["released_by"]["matched"] == 1 && summary["held"] == 0, "{summary}");
    Ok(())
}
