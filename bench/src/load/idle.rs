//! `colo-bench idle`: what an engine without traffic takes of a core, and how long a pair takes that wakes it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::cpu::{Cores, Used};
use super::driver::Links;
use super::engine::{Engine, Kind, Start, Transport};
use super::mould::{Content, Mould, Name};
use super::shape::Shape;
use super::socket::{Inlet, Stream};

/// How long nothing comes before an engine is taken for idle.
const SETTLE: Duration = Duration::from_millis(200);
/// Pauses before the pairs that wake it.
const PAUSE: Duration = Duration::from_millis(20);
/// A pair that has not come back by then never will.
const LIMIT: Duration = Duration::from_secs(5);
const LONGEST_NANOS: u64 = 10_000_000_000;

/// Flags of `colo-bench idle`.
#[derive(Clone, Debug, Args)]
pub struct Idle {
    /// How long each way of polling is watched
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// Pairs that wake it, each after a pause of 20 ms
    #[arg(long, value_name = "N", default_value_t = 200)]
    wakes: u32,
    /// Threads of the data plane
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: u32,
    /// Sockets
    #[arg(long, value_enum, default_value = "unix")]
    transport: Transport,
    /// Print one JSON line for each instead
    #[arg(long)]
    pub json: bool,
}

/// What was seen of one way of polling.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// `adaptive` or `busy`.
    poll: &'static str,
    workers: u32,
    /// Processor seconds a second, all threads of the process, without traffic.
    idle_cores: f64,
    /// From before the first of its two frames was written until a reader that slept had read it, nanoseconds.
    wake_p50_ns: u64,
    wake_p99_ns: u64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64() * 1e6;
        write!(
            f,
            "{:<8}  {} worker(s)  idle {:>6.2} % of a core  a pair that wakes it: p50 {:.0} µs, p99 {:.0} µs",
            self.poll,
            self.workers,
            100.0 * self.idle_cores,
            micros(self.wake_p50_ns),
            micros(self.wake_p99_ns)
        )
    }
}

impl Idle {
    /// Watches both ways of polling, one after the other.
    ///
    /// # Errors
    /// When the engine cannot be started, ends, or loses a pair.
    pub fn run(&self, stop: &AtomicBool, mut each: impl FnMut(&Seen) -> Result<()>) -> Result<()> {
        ensure!(self.seconds > 0.0 && self.seconds < 1e6, "--seconds {} is no time to watch", self.seconds);
        ensure!(self.wakes > 0, "--wakes 0 says nothing about them");
        // Asked before this thread is bound to one of them. Where all have a worker, nobody else is bound.
        let cores = if self.workers == 1 { Cores::apart() } else { Cores::default() };
        for poll in ["adaptive", "busy"] {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            each(&self.watch(poll, cores)?)?;
        }
        Ok(())
    }

    fn watch(&self, poll: &'static str, cores: Cores) -> Result<Seen> {
        let shape = Shape::default();
        let settings = [format!("poll={poll}"), format!("workers={}", self.workers)];
        let start =
            Start { kind: Kind::Colo, transport: self.transport, shape: &shape, settings: &settings, cores };
        let mut engine = Engine::start(&start)?;
        let links = engine.connect(Kind::Colo, shape.framing())?;
        let mut pairs = Pairs::new(&shape, links);
        pairs.send()?;
        std::thread::sleep(SETTLE);
        let (before, started) = (Used::by(engine.process())?, Instant::now());
        std::thread::sleep(Duration::from_secs_f64(self.seconds));
        let (used, _) = Used::by(engine.process())?.since(&before);
        let idle_cores = used.as_secs_f64() / started.elapsed().as_secs_f64();
        let mut wakes = Histogram::<u64>::new_with_bounds(1, LONGEST_NANOS, 3)?;
        for _ in 0..self.wakes {
            std::thread::sleep(PAUSE);
            let took = pairs.send().map_err(|error| engine.explain(error))?;
            wakes.saturating_record(u64::try_from(took.as_nanos())?);
        }
        let [wake_p50_ns, wake_p99_ns] = [0.5, 0.99].map(|share| wakes.value_at_quantile(share));
        Ok(Seen { poll, workers: self.workers, idle_cores, wake_p50_ns, wake_p99_ns })
    }
}

/// One pair after the other, of one flow.
struct Pairs {
    mould: Mould,
    links: Links,
    inlet: Inlet,
    wire: Vec<u8>,
    sent: u32,
}

impl Pairs {
    fn new(shape: &Shape, links: Links) -> Self {
        let mould = Mould::new(shape);
        let (inlet, wire) = (Inlet::new(mould.prefix_bytes()), mould.wire().to_vec());
        Self { mould, links, inlet, wire, sent: 0 }
    }

    /// Sends a pair and sleeps until it is there; how long that took.
    fn send(&mut self) -> Result<Duration> {
        let name = Name { flow: 0, place: self.sent, number: self.sent };
        self.sent += 1;
        self.mould.name(&mut self.wire, name, Content::Equal);
        let started = Instant::now();
        for stream in [&self.links.primary, &self.links.secondary] {
            write(stream, &self.wire)?;
        }
        let patience = Timespec::try_from(LIMIT)?;
        loop {
            poll(&mut [PollFd::new(&self.links.out, PollFlags::IN)], Some(&patience))?;
            self.inlet.fill(&self.links.out)?;
            if let Some(frame) = self.inlet.next_frame()? {
                let took = started.elapsed();
                ensure!(self.mould.check(frame) == Some(name), "another frame than {name:?} came out");
                return Ok(took);
            }
            ensure!(started.elapsed() < LIMIT, "{name:?} did not come out");
        }
    }
}

fn write(stream: &Stream, mut bytes: &[u8]) -> Result<()> {
    let started = Instant::now();
    while !bytes.is_empty() {
        bytes = &bytes[stream.send(bytes)?..];
        ensure!(started.elapsed() < LIMIT, "the comparer does not read");
    }
    Ok(())
}
