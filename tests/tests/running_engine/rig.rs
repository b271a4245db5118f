//! The engine under test, the far ends of its ports, and a back end that says what the test tells it to.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use colo_engine::checkpoint::{Backend, BackendEvent, Request};
use colo_engine::config::{Purpose, RunMode, Settings};
use colo_engine::metrics::{PairSnapshot, Snapshot};
use colo_engine::runtime::{Engine, EnginePorts};
use colo_engine::verdict::Reason;
use colo_tests::wait::until;
use etherparse::PacketBuilder;
use pmd_tap::{ChardevPort, Framing, Nanos, Port};

/// Every wait for what must come.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// How long to look for what must not come.
pub(crate) const QUIET: Duration = Duration::from_millis(80);

/// The wirings that everything here holds for.
pub(crate) const LAYOUTS: [(usize, RunMode); 4] =
    [(1, RunMode::Workers), (2, RunMode::Workers), (3, RunMode::Workers), (2, RunMode::Pipeline)];

#[derive(Debug, Default)]
struct Told {
    events: VecDeque<BackendEvent>,
    requests: Vec<Reason>,
    boundaries: usize,
}

/// What the checkpointing side says and was told; the test's end of the [`Backend`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpointer {
    told: Arc<Mutex<Told>>,
    polled: Nanos,
}

impl Checkpointer {
    fn told<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        look(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn say(&self, events: impl IntoIterator<Item = BackendEvent>) {
        self.told(|told| told.events.extend(events));
    }

    /// Pauses, and waits until the engine has taken the boundary.
    pub(crate) fn pause(&self) -> Result<()> {
        let before = self.told(|told| told.boundaries);
        self.say([BackendEvent::Paused]);
        until("the boundary is taken", LIMIT, || {
            self.told(|told| ensure_that(told.boundaries > before, || format!("{told:?}")))
        })
    }

    /// Says it, and waits until the engine has heard it.
    pub(crate) fn tell(&self, events: impl IntoIterator<Item = BackendEvent>) -> Result<()> {
        self.say(events);
        until("the engine has heard it", LIMIT, || {
            self.told(|told| ensure_that(told.events.is_empty(), || format!("{told:?}")))
        })
    }

    pub(crate) fn requests(&self) -> Vec<Reason> {
        self.told(|told| told.requests.clone())
    }
}

impl Backend for Checkpointer {
    fn request(&mut self, request: &Request) {
        self.told(|told| told.requests.push(request.cause.reason));
    }

    fn poll(&mut self, now: Nanos) -> Option<BackendEvent> {
        self.polled = now;
        self.told(|told| told.events.pop_front())
    }

    fn boundary_taken(&mut self) {
        self.told(|told| told.boundaries += 1);
    }

    fn readiness(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None, None]
    }

    fn next_deadline(&self) -> Option<Nanos> {
        Some(self.polled + Duration::from_millis(1))
    }
}

/// `Ok` if it is so.
pub(crate) fn ensure_that(so: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    ensure!(so, otherwise());
    Ok(())
}

/// The number of a datagram within its flow, and the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) flow: u16,
    pub(crate) number: u32,
}

/// `numbers` of each of `flows` flows, flow by flow within a number.
pub(crate) fn names(flows: u16, numbers: std::ops::Range<u32>) -> Vec<Name> {
    numbers.flat_map(|number| (0..flows).map(move |flow| Name { flow, number })).collect()
}

pub(crate) fn frame(name: Name) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(7_000, 10_000 + name.flow)
        .write(&mut frame, &name.number.to_be_bytes())
        .expect("a Vec takes everything");
    frame
}

fn name(frame: &[u8]) -> Result<Name> {
    let word = |at| frame.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    let number = frame.get(42..46).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let flow = word(36).and_then(|port| port.checked_sub(10_000)).context("a foreign frame came out")?;
    Ok(Name { flow, number: number.context("a short frame came out")? })
}

/// The far end of a port.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(stream: UnixStream) -> Result<Self> {
        stream.set_write_timeout(Some(LIMIT))?;
        stream.set_read_timeout(Some(Duration::from_millis(5)))?;
        Ok(Self { stream, bytes: Vec::new() })
    }

    pub(crate) fn send(&mut self, names: &[Name]) -> Result<()> {
        self.send_frames(names.iter().copied().map(frame))
    }

    pub(crate) fn send_frames(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) -> Result<()> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(&u32::try_from(frame.len())?.to_be_bytes());
            bytes.extend_from_slice(&frame);
        }
        self.stream.write_all(&bytes).context("the engine does not read")
    }

    /// The same end once more, for a thread that sends.
    pub(crate) fn again(&self) -> Result<Self> {
        Self::new(self.stream.try_clone()?)
    }

    /// The next `count` frames.
    pub(crate) fn receive(&mut self, count: usize) -> Result<Vec<Name>> {
        let deadline = Instant::now() + LIMIT;
        let mut names = Vec::new();
        while names.len() < count {
            names.extend(self.next()?);
            ensure!(Instant::now() < deadline, "{} of {count} frames within {LIMIT:?}", names.len());
        }
        Ok(names)
    }

    /// The next `count` frames, as they come.
    pub(crate) fn receive_frames(&mut self, count: usize) -> Result<Vec<Vec<u8>>> {
        let deadline = Instant::now() + LIMIT;
        let mut frames = Vec::new();
        while frames.len() < count {
            frames.extend(self.next_frame()?);
            ensure!(Instant::now() < deadline, "{} of {count} frames within {LIMIT:?}", frames.len());
        }
        Ok(frames)
    }

    /// Whatever comes without a pause.
    pub(crate) fn receive_some(&mut self) -> Result<Vec<Name>> {
        let mut names = Vec::new();
        while let Some(name) = self.next()? {
            names.push(name);
        }
        Ok(names)
    }

    /// Whatever comes until the engine has closed its end.
    pub(crate) fn receive_rest(&mut self) -> Result<Vec<Name>> {
        let deadline = Instant::now() + LIMIT;
        let mut names = Vec::new();
        loop {
            match self.next() {
                Ok(name) => names.extend(name),
                Err(error) if error.is::<Closed>() => return Ok(names),
                Err(error) => return Err(error),
            }
            ensure!(Instant::now() < deadline, "the engine's end is still open after {LIMIT:?}");
        }
    }

    /// Fails when a frame comes.
    pub(crate) fn stays_quiet(&mut self) -> Result<()> {
        let deadline = Instant::now() + QUIET;
        while Instant::now() < deadline {
            if let Some(name) = self.next()? {
                bail!("{name:?} came out and must not");
            }
        }
        Ok(())
    }

    /// The name of a frame, or none for now.
    fn next(&mut self) -> Result<Option<Name>> {
        self.next_frame()?.map(|frame| name(&frame)).transpose()
    }

    /// A frame, or none for now.
    fn next_frame(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some((length, rest)) = self.bytes.split_first_chunk()
                && let Some(frame) = rest.get(..usize::try_from(u32::from_be_bytes(*length))?)
            {
                let frame = frame.to_vec();
                self.bytes.drain(..4 + frame.len());
                return Ok(Some(frame));
            }
            let mut more = [0; 4096];
            match self.stream.read(&mut more) {
                Ok(0) => return Err(Closed.into()),
                Ok(read) => self.bytes.extend_from_slice(&more[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The engine has closed its end.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed by the engine")
    }
}

impl std::error::Error for Closed {}

/// An engine and everything around it.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) engine: Engine,
    pub(crate) primary: Peer,
    pub(crate) secondary: Peer,
    pub(crate) out: Peer,
    pub(crate) checkpointer: Checkpointer,
}

/// Nobody is late, and nobody asks, unless a test says so.
pub(crate) fn patient(layout: (usize, RunMode)) -> Settings {
    let mut settings = Settings::defaults(Purpose::Compare);
    settings.metrics = None;
    (settings.runtime.workers, settings.runtime.run_mode) = layout;
    settings.compare.compare_timeout = Duration::from_mins(5);
    settings.checkpoint.max_interval = None;
    settings.checkpoint.min_interval = Duration::from_millis(1);
    settings.limits.max_held_frames = 32_768;
    settings.compare.max_queue_size = 1 << 20;
    settings
}

impl Live {
    pub(crate) fn start(settings: &Settings) -> Result<Self> {
        Self::start_with(settings, |stream| Box::new(plain(stream, "secondary")))
    }

    /// With another port for the secondary's input than one on this stream.
    pub(crate) fn start_with(
        settings: &Settings,
        secondary_port: impl FnOnce(UnixStream) -> Box<dyn Port>,
    ) -> Result<Self> {
        let (primary, primary_in) = UnixStream::pair()?;
        let (secondary, secondary_in) = UnixStream::pair()?;
        let (out, outdev) = UnixStream::pair()?;
        let ports = EnginePorts {
            primary: Box::new(plain(primary_in, "primary")),
            secondary: secondary_port(secondary_in),
            out: Box::new(plain(outdev, "out")),
        };
        let checkpointer = Checkpointer::default();
        let engine = Engine::start(settings, ports, Box::new(checkpointer.clone()))?;
        let (primary, secondary, out) = (Peer::new(primary)?, Peer::new(secondary)?, Peer::new(out)?);
        Ok(Self { engine, primary, secondary, out, checkpointer })
    }

    /// Waits until what the engine counts is as told.
    pub(crate) fn wait(&self, what: &str, so: impl Fn(&PairSnapshot) -> bool) -> Result<()> {
        until(what, LIMIT, || {
            let pair = self.pair()?;
            ensure_that(so(&pair), || format!("{:?}", Books::of(&pair)))
        })
    }

    /// What the engine counts.
    pub(crate) fn pair(&self) -> Result<PairSnapshot> {
        pair(self.engine.snapshot())
    }

    /// A pause that comes to nothing.
    pub(crate) fn give_up(&self) {
        self.checkpointer.say([BackendEvent::Abandoned("the test says so".to_owned())]);
    }

    pub(crate) fn commit(&self) {
        self.checkpointer.say([BackendEvent::Committed]);
    }
}

fn plain(stream: UnixStream, name: &str) -> ChardevPort {
    ChardevPort::from_stream(stream, Framing::Plain, name)
}

fn pair(snapshot: Snapshot) -> Result<PairSnapshot> {
    snapshot.pairs.into_iter().next().context("no pair is counted")
}

/// received = released + held + dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) received: [u64; 2],
    pub(crate) released: u64,
    pub(crate) dropped: u64,
    pub(crate) over_budget: u64,
    pub(crate) held: [u64; 2],
    violations: u64,
}

impl Books {
    pub(crate) fn of(pair: &PairSnapshot) -> Self {
        Self {
            received: [pair.primary.frames, pair.secondary.frames],
            released: pair.released.by_label().map(|(_, count)| count).sum(),
            dropped: pair.secondary.dropped.by_label().map(|(_, count)| count).sum(),
            over_budget: pair.secondary.dropped.over_budget,
            held: [pair.primary.held_frames, pair.secondary.held_frames],
            violations: pair.invariant_violations,
        }
    }

    /// Of an engine that has stopped; they must balance.
    pub(crate) fn at_the_end(snapshot: Snapshot) -> Result<Self> {
        let books = Self::of(&pair(snapshot)?);
        ensure!(books.balance(), "the books do not balance: {books:?}");
        Ok(books)
    }

    pub(crate) fn balance(&self) -> bool {
        self.violations == 0
            && self.received[0] == self.released + self.held[0]
            && self.received[1] == self.dropped + self.held[1]
    }
}
