//! What a pair of frames costs the engine on TAP and `AF_PACKET` ports: processor time of one thread that is an engine, from
//! both ports to the output, filled before and looked at afterwards. Needs root; works in a network namespace of its own.
//! Measures no latency, and nothing of whoever fills the ports.
//!
//! `cargo run --release -p colo-tests --example port_cost [ROUNDS]`
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use colo_engine::checkpoint::NoBackend;
use colo_engine::cli::print;
use colo_engine::config::{Purpose, Settings};
use colo_engine::runtime::{EnginePorts, SteppedEngine, SteppedSettings};
use colo_tests::netns::Namespace;
use etherparse::PacketBuilder;
use pmd_tap::{Burst, FramePool, Nanos, PacketPort, PacketSettings, PoolSettings, Port, TapPort};
use rustix::time::{ClockId, clock_gettime};

/// Pairs of a round: what stays in the cache between whoever fills the ports and the engine.
const PAIRS: u64 = 512;
/// Calls by which the price of a system call is found, for comparison.
const CALLS: u32 = 200_000;
const FLOWS: u16 = 64;
/// Bytes of UDP payload: frames of 60 bytes, which are 64 on a wire, and of 1514.
const PAYLOADS: [usize; 2] = [18, 1_472];
const DEFAULT_ROUNDS: usize = 201;
const DEVICES: [&str; 3] = ["pri", "sec", "out"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tap,
    Packet,
}

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(DEFAULT_ROUNDS), |text| text.parse())?;
    let before = thread_time();
    for _ in 0..CALLS {
        std::hint::black_box(rustix::process::getppid());
    }
    let call = thread_time().saturating_sub(before) / CALLS;
    print(&format!("A system call that does nothing takes {} ns here and now.\n", call.as_nanos()))?;
    print(
        "| ports | frame | engine CPU a pair | pairs a second and core | of it the ports' system calls |\n|---|---|---|---|---|",
    )?;
    for (kind, vnet) in [(Kind::Tap, ""), (Kind::Tap, ",vnet"), (Kind::Packet, ""), (Kind::Packet, ",vnet")] {
        for payload in PAYLOADS {
            let namespace = Namespace::new()?;
            prepare(&namespace, kind)?;
            let alone = namespace.inside(|| measure_ports(kind, vnet, payload, rounds))?;
            let nanos = namespace.inside(|| measure(kind, vnet, payload, rounds))?;
            let name = if kind == Kind::Tap { "tap:" } else { "packet:" };
            let rate = 1_000_000_000 / nanos.max(1);
            print(&format!(
                "| `{name}NAME{vnet}` | {} B | {nanos} ns | {rate} | {alone} ns |",
                payload + 46
            ))?;
        }
    }
    Ok(())
}

/// Devices without a word of their own.
fn prepare(namespace: &Namespace, kind: Kind) -> Result<()> {
    for name in DEVICES {
        if kind == Kind::Tap {
            namespace.ip(&format!("tuntap add dev {name} mode tap"))?;
        } else {
            namespace.ip(&format!("link add {name} type veth peer name {name}-far"))?;
            namespace.ip(&format!("link set {name}-far addrgenmode none up"))?;
        }
        namespace.ip(&format!("link set {name} addrgenmode none txqueuelen 20000 up"))?;
    }
    Ok(())
}

fn open(kind: Kind, name: &str, vnet: &str) -> Result<Box<dyn Port>> {
    Ok(match kind {
        Kind::Tap => Box::new(TapPort::new(&format!("tap:{name}{vnet}").parse()?)?),
        Kind::Packet => Box::new(PacketPort::new(&format!("packet:{name},promisc,ring=32{vnet}").parse()?)?),
    })
}

fn senders(kind: Kind) -> Result<[PacketPort; 2]> {
    let far = if kind == Kind::Tap { "" } else { "-far" };
    let sender = |name: &str| -> Result<PacketPort> {
        let name = format!("{name}{far}").parse().map_err(anyhow::Error::msg)?;
        Ok(PacketPort::new(&PacketSettings::new(name))?)
    };
    Ok([sender("pri")?, sender("sec")?])
}

/// What a round does before the time is taken.
fn fill_both(
    kind: Kind,
    senders: &mut [PacketPort; 2],
    pool: &mut FramePool,
    payload: usize,
    round: usize,
) -> Result<()> {
    for sender in senders {
        fill(sender, pool, payload, u64::try_from(round)? * PAIRS)?;
    }
    if kind == Kind::Packet {
        // The last block of the ring is handed over a little later.
        std::thread::sleep(Duration::from_millis(15));
    }
    Ok(())
}

fn median(mut costs: Vec<u64>) -> Result<u64> {
    costs.sort_unstable();
    costs.get(costs.len() / 2).copied().context("no round")
}

/// The ports without an engine: both are read, what the first had is sent. Median over the rounds, nanoseconds a pair.
fn measure_ports(kind: Kind, vnet: &str, payload: usize, rounds: usize) -> Result<u64> {
    let mut inputs = [open(kind, "pri", vnet)?, open(kind, "sec", vnet)?];
    let mut out = open(kind, "out", vnet)?;
    let mut senders = senders(kind)?;
    let slots = PoolSettings { small: 2_048, mtu: 2_048, jumbo: 0, gso: 8 };
    let mut pool = FramePool::new(slots)?;
    let mut costs = Vec::new();
    for round in 0..rounds {
        fill_both(kind, &mut senders, &mut pool, payload, round)?;
        let now = Nanos(u64::try_from(round)? * 1_000_000);
        let mut read = 0;
        let before = thread_time();
        while read < 2 * PAIRS {
            let start = read;
            for (at, input) in inputs.iter_mut().enumerate() {
                let mut burst = Burst::new();
                input.rx_burst(&mut pool, now, &mut burst);
                read += u64::try_from(burst.len())?;
                while at == 0 && !burst.is_empty() {
                    out.tx_burst(&mut pool, now, &mut burst);
                }
                burst.drain(..).for_each(|frame| pool.recycle(frame));
            }
            ensure!(read > start, "{read} of {} frames came", 2 * PAIRS);
        }
        costs.push(u64::try_from(thread_time().saturating_sub(before).as_nanos())? / PAIRS);
    }
    median(costs)
}

/// The same with an engine.
fn measure(kind: Kind, vnet: &str, payload: usize, rounds: usize) -> Result<u64> {
    let ports = EnginePorts {
        primary: open(kind, "pri", vnet)?,
        secondary: open(kind, "sec", vnet)?,
        out: open(kind, "out", vnet)?,
    };
    let stepped = SteppedSettings { hash_seed: 1, frames_under_way: 8_192 };
    let backend = Box::new(NoBackend::new(None));
    let settings = Settings::defaults(Purpose::Compare);
    let mut engine = SteppedEngine::new(&settings, ports, backend, stepped)?;
    let mut senders = senders(kind)?;
    let mut pool = FramePool::new(PoolSettings { small: 64, mtu: 64, jumbo: 0, gso: 0 })?;
    let mut costs = Vec::new();
    for round in 0..rounds {
        fill_both(kind, &mut senders, &mut pool, payload, round)?;
        let wanted = PAIRS * (u64::try_from(round)? + 1);
        let before = thread_time();
        let mut idle = 0;
        while idle < 3 {
            engine.advance(Duration::from_micros(20));
            idle = if engine.step(0) { 0 } else { idle + 1 };
        }
        let took = thread_time().saturating_sub(before);
        let counters = engine.counters(0).context("an engine without a core")?;
        let (matched, lost) = (counters.released.matched, counters.lost);
        ensure!(matched == wanted, "{matched} of {wanted} pairs left as matched; lost: {lost:?}");
        costs.push(u64::try_from(took.as_nanos())? / PAIRS);
    }
    median(costs)
}

/// Sends a round of frames, each with a number of its own.
fn fill(sender: &mut PacketPort, pool: &mut FramePool, payload: usize, first: u64) -> Result<()> {
    let mut burst = Burst::new();
    let mut frame = Vec::new();
    for number in first..first + PAIRS {
        let mut content = vec![7; payload];
        content[..8].copy_from_slice(&number.to_be_bytes());
        frame.clear();
        let flow = u16::try_from(number % u64::from(FLOWS))?;
        let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64);
        step.udp(5_000, 20_000 + flow).write(&mut frame, &content)?;
        burst.push(pool.frame_from(&frame).context("a pool too small")?);
        while burst.is_full() || (number + 1 == first + PAIRS && !burst.is_empty()) {
            sender.tx_burst(pool, Nanos::ZERO, &mut burst);
        }
    }
    Ok(())
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
