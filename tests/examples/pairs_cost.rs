//! What several pairs in one engine cost each other: a look at a pair that has nothing; engine CPU a compared pair of frames,
//! beside more and more pairs that do nothing, then of several that all work; and the memory a pair takes. Prints tables;
//! measures no latency. The guests do not keep an engine busy all the time, and its looking for work is in its time.
//!
//! `cargo run --release -p colo-tests --example pairs_cost [SECONDS]`
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use colo_engine::checkpoint::NoBackend;
use colo_engine::cli::print;
use colo_engine::config::{PollMode, Purpose, Settings};
use colo_engine::metrics::Snapshot;
use colo_engine::runtime::{Engine, EnginePair, EnginePorts};
use colo_tests::qemu_link::Framing;
use etherparse::PacketBuilder;
use pmd_tap::ChardevPort;

/// Datagrams of a round, one a flow.
const FLOWS: u16 = 1_000;
/// Bytes of UDP payload: frames of 64 and of 1442 bytes, without the checksum that no socket carries.
const PAYLOADS: [usize; 2] = [22, 1_400];
/// Idle pairs beside the one that works.
const IDLE: [usize; 5] = [0, 1, 4, 16, 63];
/// Pairs that all work.
const BUSY: [usize; 3] = [1, 2, 4];

/// The far ends of a pair's links.
struct Ends {
    primary: UnixStream,
    secondary: UnixStream,
    out: UnixStream,
}

/// What guests say, for ever: both the same, and somebody reads it.
struct Guests {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

fn round(payload: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for flow in 0..FLOWS {
        let mut frame = Vec::new();
        let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64);
        step.udp(5_000, 20_000 + flow).write(&mut frame, &vec![7; payload])?;
        Framing::Plain.encode(&frame, &mut bytes)?;
    }
    Ok(bytes)
}

impl Guests {
    fn start(ends: Ends, payload: usize) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let Ends { mut primary, mut secondary, mut out } = ends;
        let bytes = round(payload)?;
        let told = Arc::clone(&stop);
        let sender = std::thread::spawn(move || {
            // Whole rounds, so that both sides have said the same at the end. An engine that is gone ends it, too.
            while !told.load(Ordering::Acquire) {
                for chunk in bytes.chunks(64 << 10) {
                    if primary.write_all(chunk).and_then(|()| secondary.write_all(chunk)).is_err() {
                        return;
                    }
                }
            }
        });
        let reader = std::thread::spawn(move || {
            let mut room = vec![0; 1 << 20];
            while out.read(&mut room).is_ok_and(|read| read > 0) {}
        });
        Ok(Self { stop, threads: vec![sender, reader] })
    }

    fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

fn start(pairs: usize, poll: PollMode) -> Result<(Engine, Vec<Ends>)> {
    let mut settings = Settings::defaults(Purpose::Compare);
    settings.runtime.poll = poll;
    settings.metrics = None;
    settings.compare.compare_timeout = Duration::from_mins(5);
    settings.compare.reorder_grace = Duration::from_mins(5);
    settings.checkpoint.max_interval = None;
    // Room for 64 pairs on a small machine.
    settings.limits.max_held_frames = 4_096;
    settings.limits.max_connections = 4_096;
    settings.compare.max_queue_size = 1_024;
    let (mut made, mut ends) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        let (primary, primary_in) = UnixStream::pair()?;
        let (secondary, secondary_in) = UnixStream::pair()?;
        let (out, outdev) = UnixStream::pair()?;
        let port = |stream, name| Box::new(ChardevPort::from_stream(stream, pmd_tap::Framing::Plain, name));
        let ports = EnginePorts {
            primary: port(primary_in, "primary"),
            secondary: port(secondary_in, "secondary"),
            out: port(outdev, "out"),
        };
        let backend = Box::new(NoBackend::new(Some(Duration::from_millis(5))));
        made.push(EnginePair { name: format!("p{pair}"), settings: settings.clone(), ports, backend });
        ends.push(Ends { primary, secondary, out });
    }
    Ok((Engine::start_pairs(made)?, ends))
}

/// Time on a processor of the data plane's only thread, ns: `utime` and `stime` of proc(5), in ticks of 10 ms.
fn engine_cpu_ns() -> Result<u64> {
    for entry in std::fs::read_dir("/proc/self/task")? {
        let path = entry?.path();
        let Ok(stat) = std::fs::read_to_string(path.join("stat")) else { continue };
        let (name, rest) = stat.rsplit_once(") ").context("stat")?;
        if name.ends_with("(colo-core-0") {
            let ticks = rest.split(' ').skip(11).take(2).map(str::parse::<u64>);
            return Ok(ticks.sum::<std::result::Result<u64, _>>()? * 10_000_000);
        }
    }
    anyhow::bail!("the engine's thread is not there")
}

fn released(snapshot: &Snapshot) -> Vec<u64> {
    snapshot.pairs.iter().map(|pair| pair.released.matched).collect()
}

/// Engine CPU a compared pair of frames in ns, and each working pair's share of them.
fn measure(pairs: usize, busy: usize, payload: usize, time: Duration) -> Result<(u64, Vec<u64>, u64)> {
    let (engine, ends) = start(pairs, PollMode::Adaptive)?;
    let memory = engine.pairs().first().and_then(colo_engine::runtime::Pair::memory).unwrap_or(0);
    let mut idle = Vec::new();
    let mut guests = Vec::new();
    for (place, ends) in ends.into_iter().enumerate() {
        if place < busy {
            guests.push(Guests::start(ends, payload)?);
        } else {
            idle.push(ends);
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    let (before, cpu) = (released(&engine.snapshot()), engine_cpu_ns()?);
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (after, cpu) = (released(&engine.snapshot()), engine_cpu_ns()? - cpu);
    let each: Vec<_> = after.iter().zip(before).map(|(after, before)| after - before).take(busy).collect();
    let all: u64 = each.iter().sum();
    let snapshot = engine.stop();
    guests.into_iter().for_each(Guests::end);
    let asked: u64 = snapshot.pairs.iter().map(|pair| pair.checkpoints.requested.mismatch).sum();
    anyhow::ensure!(all > 0 && asked == 0, "{all} pairs were compared, {asked} differed");
    Ok((cpu / all, each.iter().map(|pairs| pairs * 100 / all).collect(), memory))
}

/// What a look at a pair costs that has nothing, ns, in an engine of so many that spins.
fn look(pairs: usize, time: Duration) -> Result<u64> {
    let (engine, ends) = start(pairs, PollMode::Busy)?;
    let looks = || engine.snapshot().cores.iter().map(|core| core.polls.idle + core.polls.busy).sum::<u64>();
    std::thread::sleep(Duration::from_millis(300));
    let (before, cpu) = (looks(), engine_cpu_ns()?);
    std::thread::sleep(time);
    let (looks, cpu) = (looks() - before, engine_cpu_ns()? - cpu);
    drop(engine.stop());
    drop(ends);
    Ok(cpu / looks.max(1))
}

fn main() -> Result<()> {
    let seconds =
        std::env::args().nth(1).map_or(Ok(2), |text| text.parse()).context("SECONDS is a number")?;
    let time = Duration::from_secs(seconds);
    print("no pair works; one thread that spins; ns of engine CPU a look at a pair")?;
    print("| pairs | ns |")?;
    for pairs in [1, 4, 16, 64] {
        print(&format!("| {pairs} | {} |", look(pairs, time)?))?;
    }
    print("one pair works, others are idle; one thread; ns of engine CPU a compared pair of frames")?;
    print("| UDP payload | idle pairs | ns | memory of a pair |")?;
    for payload in PAYLOADS {
        for idle in IDLE {
            let (ns, _, memory) = measure(1 + idle, 1, payload, time)?;
            print(&format!("| {payload} B | {idle} | {ns} | {} MiB |", memory.div_ceil(1 << 20)))?;
        }
    }
    print("all pairs work; one thread; ns as above, and the share of each in percent")?;
    print("| UDP payload | pairs | ns | shares |")?;
    for payload in PAYLOADS {
        for busy in BUSY {
            let (ns, shares, _) = measure(busy, busy, payload, time)?;
            print(&format!("| {payload} B | {busy} | {ns} | {shares:?} |"))?;
        }
    }
    Ok(())
}
