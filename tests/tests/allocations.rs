//! After its start the engine takes no more memory: 100,000 pairs over 1,000 flows, then divergence with checkpoints and
//! flushes, and the process's allocator is not called once. The driver lives in the same process, so it takes all its
//! memory beforehand too; one test only, because another thread's allocations would count.
#![forbid(unsafe_code)]

use std::alloc::System;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use colo_engine::checkpoint::NoBackend;
use colo_engine::config::{PollMode, Purpose, RunMode, Settings};
use colo_engine::runtime::{Engine, EnginePair, EnginePorts};
use colo_engine::summary::Summary;
use colo_tests::traffic::{Flow, Shape};
use etherparse::PacketBuilder;
use pmd_tap::{ChardevPort, Framing};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Frames of each flow.
const ROUNDS: usize = 100;
const TCP_FLOWS: usize = 900;
const UDP_FLOWS: usize = 100;
/// Frames of one leg at most.
const CHUNK_FRAMES: usize = 256;
/// Primary frames on the way at most: far from the engine's bounds.
const WINDOW_FRAMES: usize = 8_192;
/// Nothing came out for so long: nothing will, on a busy machine and under a sanitizer too.
const STANDSTILL: Duration = Duration::from_mins(1);

/// Bytes of one side that are written together.
#[derive(Clone, Copy)]
struct Leg {
    secondary: usize,
    primary: usize,
    primary_frames: usize,
}

/// What both guests send, ready for the sockets.
#[derive(Default)]
struct Script {
    primary: Vec<u8>,
    secondary: Vec<u8>,
    /// Ends of the legs in both.
    legs: Vec<Leg>,
    frames: usize,
}

fn put(bytes: &mut Vec<u8>, frame: &[u8]) {
    let length = u32::try_from(frame.len()).expect("a frame is short");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(frame);
}

impl Script {
    fn put_primary(&mut self, frame: &[u8]) {
        put(&mut self.primary, frame);
        self.frames += 1;
        if self.frames.is_multiple_of(CHUNK_FRAMES) {
            self.end_leg();
        }
    }

    fn end_leg(&mut self) {
        let (secondary, primary) = (self.secondary.len(), self.primary.len());
        self.legs.push(Leg { secondary, primary, primary_frames: self.frames });
    }

    /// Both guests say the same: TCP from SYN to FIN with other segment boundaries and some reordering, UDP with
    /// every two datagrams swapped.
    fn agreeing() -> Result<Self> {
        let mut script = Self::default();
        let shape = Shape { flows: TCP_FLOWS, frames_per_flow: ROUNDS, seed: 41 };
        let mut flows: Vec<_> = (0..TCP_FLOWS).map(|index| Flow::new(&shape, index)).collect();
        for round in 0..ROUNDS {
            for (index, flow) in flows.iter_mut().enumerate() {
                let mut step = flow.step()?.context("a flow ended early")?;
                if index % 5 == 0 {
                    step.secondary.reverse();
                }
                script.put_primary(&step.primary);
                step.secondary.iter().for_each(|frame| put(&mut script.secondary, frame));
            }
            for flow in 0..UDP_FLOWS {
                script.put_primary(&datagram(flow, round, 0)?);
                put(&mut script.secondary, &datagram(flow, round ^ 1, 0)?);
            }
        }
        script.end_leg();
        Ok(script)
    }

    /// Every tenth flow of the secondary says something else.
    fn diverging() -> Result<Self> {
        let mut script = Self::default();
        let shape = Shape { flows: 200, frames_per_flow: 50, seed: 42 };
        let mut flows: Vec<_> = (2_000..2_200).map(|index| Flow::new(&shape, index)).collect();
        for round in 0..shape.frames_per_flow {
            for (index, flow) in flows.iter_mut().enumerate() {
                let mut step = flow.step()?.context("a flow ended early")?;
                script.put_primary(&step.primary);
                for frame in &mut step.secondary {
                    if index % 10 == round % 10
                        && frame.len() > 100
                        && let Some(last) = frame.last_mut()
                    {
                        *last ^= 0xff;
                    }
                    put(&mut script.secondary, frame);
                }
            }
            for flow in 200..220 {
                script.put_primary(&datagram(flow, round, 0)?);
                put(&mut script.secondary, &datagram(flow, round, u8::from(flow == 200))?);
            }
        }
        script.end_leg();
        Ok(script)
    }
}

fn datagram(flow: usize, number: usize, twist: u8) -> Result<Vec<u8>> {
    let port = 20_000 + u16::try_from(flow)?;
    let payload = [number.to_le_bytes(), flow.to_le_bytes(), [twist; 8]].concat();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 8, 0, 1], 64)
        .udp(5_000, port)
        .write(&mut frame, &payload)?;
    Ok(frame)
}

/// The far ends of the engine's ports. Nothing in here allocates once it is made.
struct Driver {
    primary: UnixStream,
    secondary: UnixStream,
    out: UnixStream,
    read: Box<[u8]>,
    /// Bytes of the frame, or of the prefix, that are still to come.
    skip: usize,
    prefix: [u8; 4],
    prefix_bytes: usize,
    got: usize,
    sent: usize,
    /// When something came out last.
    moved: Instant,
}

impl Driver {
    /// Plays a part of a script; returns when as many frames came out as went in.
    fn play(&mut self, script: &Script, from: usize, to: usize) -> Result<()> {
        self.moved = Instant::now();
        let begin = |at: usize| match at.checked_sub(1) {
            Some(before) => script.legs[before],
            None => Leg { secondary: 0, primary: 0, primary_frames: 0 },
        };
        for at in from..to {
            let (begin, end) = (begin(at), script.legs[at]);
            self.sent += end.primary_frames - begin.primary_frames;
            while self.sent > self.got + WINDOW_FRAMES {
                self.look()?;
            }
            let ours = &script.primary[begin.primary..end.primary];
            let theirs = &script.secondary[begin.secondary..end.secondary];
            self.write(at % 2 == 0, ours, theirs)?;
        }
        while self.got < self.sent {
            self.look()?;
        }
        Ok(())
    }

    fn write(&mut self, primary_first: bool, ours: &[u8], theirs: &[u8]) -> Result<()> {
        let mut left = [ours, theirs];
        for at in if primary_first { [0, 1] } else { [1, 0] } {
            while !left[at].is_empty() {
                let socket = if at == 0 { &mut self.primary } else { &mut self.secondary };
                match socket.write(left[at]) {
                    Ok(written) => left[at] = &left[at][written..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => self.look()?,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Counts what came out; gives way when nothing did.
    fn look(&mut self) -> Result<()> {
        match self.out.read(&mut self.read) {
            Ok(read) => {
                self.moved = Instant::now();
                self.count(read);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                ensure!(self.moved.elapsed() < STANDSTILL, "{} of {} came out", self.got, self.sent);
                std::thread::yield_now();
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn count(&mut self, read: usize) {
        let mut at = 0;
        while at < read {
            if self.skip > 0 {
                let step = self.skip.min(read - at);
                at += step;
                self.skip -= step;
                self.got += usize::from(self.skip == 0);
                continue;
            }
            self.prefix[self.prefix_bytes] = self.read[at];
            self.prefix_bytes += 1;
            at += 1;
            if self.prefix_bytes == 4 {
                self.prefix_bytes = 0;
                self.skip = usize::try_from(u32::from_be_bytes(self.prefix)).unwrap_or(0);
            }
        }
    }
}

/// How an engine is laid out.
#[derive(Clone, Copy, Debug)]
struct Layout {
    workers: usize,
    run_mode: RunMode,
    pairs: usize,
}

/// An engine, and a driver for each of its pairs.
fn start(layout: Layout, diverged: Option<&Path>) -> Result<(Engine, Vec<Driver>)> {
    let mut settings = Settings::defaults(Purpose::Compare);
    settings.metrics = None;
    settings.runtime.workers = layout.workers;
    settings.runtime.run_mode = layout.run_mode;
    settings.runtime.poll = PollMode::Adaptive;
    // What is late or out of order on a busy machine is no divergence.
    settings.compare.reorder_grace = Duration::from_secs(5);
    settings.compare.compare_timeout = Duration::from_secs(6);
    settings.checkpoint.min_interval = Duration::from_millis(10);
    let (mut pairs, mut drivers) = (Vec::new(), Vec::new());
    for name in ["a", "b", "c"].into_iter().take(layout.pairs) {
        let (ports, driver) = links()?;
        // A file has one writer: the first pair's.
        settings.diverged.path = diverged.filter(|_| pairs.is_empty()).map(Path::to_owned);
        let backend = Box::new(NoBackend::new(Some(Duration::from_millis(2))));
        pairs.push(EnginePair { name: name.to_owned(), settings: settings.clone(), ports, backend });
        drivers.push(driver);
    }
    Ok((Engine::start_pairs(pairs)?, drivers))
}

fn links() -> Result<(EnginePorts, Driver)> {
    let (primary, primary_in) = UnixStream::pair()?;
    let (secondary, secondary_in) = UnixStream::pair()?;
    let (out, outdev) = UnixStream::pair()?;
    for socket in [&primary, &secondary, &out] {
        socket.set_nonblocking(true)?;
    }
    let port = |stream, name| Box::new(ChardevPort::from_stream(stream, Framing::Plain, name));
    let ports = EnginePorts {
        primary: port(primary_in, "primary"),
        secondary: port(secondary_in, "secondary"),
        out: port(outdev, "out"),
    };
    let driver = Driver {
        primary,
        secondary,
        out,
        read: vec![0; 256 * 1024].into(),
        skip: 0,
        prefix: [0; 4],
        prefix_bytes: 0,
        got: 0,
        sent: 0,
        moved: Instant::now(),
    };
    Ok((ports, driver))
}

/// Allocations and reallocations while `work` runs, of all threads.
fn allocations(work: impl FnOnce() -> Result<()>) -> Result<(usize, usize)> {
    let region = Region::new(ALLOCATOR);
    work()?;
    let change = region.change();
    Ok((change.allocations, change.reallocations))
}

#[test]
fn nothing_is_allocated_after_the_start() -> Result<()> {
    // The counter counts, other threads' allocations too; otherwise the rest proves nothing.
    let counted = allocations(|| {
        let thread = std::thread::spawn(|| std::hint::black_box(Vec::<u8>::with_capacity(100)).capacity());
        ensure!(thread.join().is_ok_and(|capacity| capacity >= 100));
        Ok(())
    })?;
    ensure!(counted.0 > 0, "the counting allocator is not in use");

    let (agreeing, diverging) = (Script::agreeing()?, Script::diverging()?);
    ensure!(agreeing.frames == 100_000);
    // Writing down what differs takes no memory either.
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("d.pcapng");
    let alone = |workers, run_mode| Layout { workers, run_mode, pairs: 1 };
    for (layout, diverged) in [
        (alone(1, RunMode::Workers), None),
        (alone(2, RunMode::Workers), Some(file.as_path())),
        (alone(2, RunMode::Pipeline), Some(file.as_path())),
        (Layout { pairs: 3, ..alone(2, RunMode::Workers) }, Some(file.as_path())),
    ] {
        let (engine, mut drivers) = start(layout, diverged)?;
        let name = format!("{layout:?}");
        // Links come up, threads run for the first time: that is the start.
        drivers.iter_mut().try_for_each(|driver| driver.play(&agreeing, 0, 2))?;
        let phase = allocations(|| drivers[0].play(&agreeing, 2, agreeing.legs.len()));
        let phase = phase.with_context(|| format!("{name}, agreeing"))?;
        assert_eq!(phase, (0, 0), "{name}: allocations, reallocations while both agree");
        let phase = allocations(|| {
            drivers.iter_mut().try_for_each(|driver| driver.play(&diverging, 0, diverging.legs.len()))
        });
        let phase = phase.with_context(|| format!("{name}, diverging"))?;
        assert_eq!(phase, (0, 0), "{name}: allocations, reallocations while they differ");
        let sent: Vec<_> = drivers.iter().map(|driver| driver.sent).collect();
        for (summary, sent) in Summary::of_each(engine.stop()).into_iter().zip(sent) {
            assert_eq!(
                (summary.released(), summary.invariant_violations()),
                (u64::try_from(sent)?, 0),
                "{name}"
            );
            assert!(summary.completed() > 0, "{name}: nobody differed");
        }
        if let Some(file) = diverged {
            assert!(std::fs::metadata(file)?.len() > 1_000, "{name}: nothing was written down");
        }
    }
    Ok(())
}
