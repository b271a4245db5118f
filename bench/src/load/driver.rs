//! The thread that drives a comparer: writes both sides, reads the output, answers requests for checkpoints, and
//! measures once all is warm. It never waits in the kernel, so that the comparer never has to wake it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::books::Books;
use super::cpu::Used;
use super::gate::Gate;
use super::lane::Lane;
use super::mould::{Content, Mould};
use super::notify::Notify;
use super::order::Order;
use super::random::Random;
use super::shape::{Limit, Requests, Shape};
use super::socket::{Inlet, Stream};
use crate::cpu_time;

/// How long both sides are silent before a commit: a comparer has read everything by then.
const QUIET: u64 = 2_000_000;
/// How long a commit's frames may take.
const FLUSH: u64 = 200_000_000;
/// How long the first pair may take.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often somebody is told how it goes.
const TELL: u64 = 200_000_000;
/// Iterations between two looks at the notifier while there is other work.
const HEAR_EVERY: u32 = 16;

/// Connected sockets.
#[derive(Debug)]
pub struct Links {
    /// Primary's output goes in here.
    pub primary: Stream,
    /// Secondary's output goes in here.
    pub secondary: Stream,
    /// What leaves.
    pub out: Stream,
    /// Who hears requests.
    pub notify: Option<Notify>,
}

/// How it goes.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    /// Frames that came back.
    pub back: u64,
    /// The measured part of it, 0 to 1, as far as that is known.
    pub done: f64,
    /// Since the start.
    pub elapsed: Duration,
}

/// What is left when all is done.
#[derive(Debug)]
pub struct Measured {
    /// Pairs that came back in the measured part.
    pub pairs: u64,
    /// From its begin to the last frame.
    pub time: Duration,
    /// Of the comparer meanwhile, and the share in the kernel.
    pub engine: Option<(Duration, f64)>,
    /// Of this thread meanwhile.
    pub driver: Duration,
    /// Everything from the first frame on.
    pub books: Books,
    /// Times that all was written off because nothing came back for a second.
    pub stalls: u64,
    /// Requests and commits.
    pub requests: u64,
    /// Commits.
    pub commits: u64,
    /// Frames in a write, and bytes in a read, on average.
    pub frames_per_write: f64,
    /// Frames in a read of the output, on average.
    pub frames_per_read: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// A checkpoint is wanted: the primary pauses, the secondary comes up to it.
    Settling,
    /// It was committed at that time.
    Flushing(u64),
}

struct Begin {
    at: u64,
    back: u64,
    engine: Option<Used>,
    driver: Duration,
}

/// A run.
pub struct Driver<'a> {
    shape: &'a Shape,
    mould: Mould,
    links: Links,
    primary: Lane,
    secondary: Lane,
    inlet: Inlet,
    books: Books,
    order: Order,
    random: Random,
    epoch: Instant,
    engine: Option<u32>,
    gate: Option<Gate>,
    phase: Phase,
    window: u64,
    batch: u64,
    skew: u64,
    patience: u64,
    /// Secondary frames written.
    twins: u64,
    last_back: u64,
    begin: Option<Begin>,
    finished: bool,
    stalls: u64,
}

impl<'a> Driver<'a> {
    /// Over these sockets; `engine` is the process whose time counts.
    pub fn new(shape: &'a Shape, links: Links, engine: Option<u32>) -> Self {
        let mould = Mould::new(shape);
        let (primary, secondary) = (Lane::new(&mould, shape.writes), Lane::new(&mould, shape.writes));
        let frames = u64::try_from(primary.frames()).unwrap_or(1);
        let window = shape.in_flight();
        // A comparer that turns frames round keeps single ones back for long, and they are not lost for that; an open
        // loop remembers two seconds of what is late.
        let remembered = (8 * window).max(32_768).max(2 * u64::from(shape.rate.unwrap_or(0)));
        let (inlet, seed) = (Inlet::new(mould.prefix_bytes()), shape.seed);
        Self {
            mould,
            links,
            primary,
            secondary,
            inlet,
            books: Books::new(shape.flows, remembered),
            order: Order::new(shape.reorder, shape.reorder_depth, seed),
            random: Random::new(seed),
            epoch: Instant::now(),
            engine,
            gate: None,
            phase: Phase::Running,
            window,
            // An eighth of the window at a time: large enough for large writes however the frames come back, and small enough
            // for a comparer to have work while the next is written.
            batch: (u64::from(shape.window) / 8).min(frames / 2).max(1),
            skew: shape.skew.into(),
            patience: u64::try_from(Duration::from_secs_f64(shape.patience).as_nanos()).unwrap_or(u64::MAX),
            twins: 0,
            last_back: 0,
            begin: None,
            finished: false,
            stalls: 0,
            shape,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Until the limit, or until `stop` is set.
    ///
    /// # Errors
    /// When the comparer hangs up, ends, or sends what is no frame.
    pub fn run(mut self, stop: &AtomicBool, tell: &mut dyn FnMut(Live)) -> Result<Measured> {
        if self.shape.gated {
            let process = self.engine.context("--gated needs --engine-pid, to let it stand still")?;
            self.gate = Some(Gate::new(process)?);
        }
        self.greet()?;
        let (mut told, mut turn) = (0, 0_u32);
        loop {
            let now = self.now();
            let mut busy = self.read(now)?;
            turn = turn.wrapping_add(1);
            if !busy || turn.is_multiple_of(HEAR_EVERY) {
                self.hear(now)?;
            }
            self.close_gate()?;
            self.write_pairs(now);
            busy |= self.primary.push(&self.links.primary)?;
            busy |= self.secondary.push(&self.links.secondary)?;
            self.open_gate()?;
            self.commit_when_quiet(now)?;
            self.begin_when_warm(now)?;
            if now > told + TELL {
                told = now;
                tell(self.live(now));
            }
            self.finished |= self.is_enough(now) || stop.load(Ordering::Relaxed);
            if self.is_over(now) {
                return self.measured();
            }
            self.give_up_when_stuck(now);
            if !busy {
                std::thread::yield_now();
            }
        }
    }

    /// One pair there and back, so that a comparer that is still starting delays no pair that is due.
    fn greet(&mut self) -> Result<()> {
        let flow = self.random.below(self.shape.flows);
        let name = self.books.send(flow);
        self.primary.put(&self.mould, name, Content::Equal);
        if let Some(turn) = self.order.hurry(1) {
            let name = self.books.twin(turn.pair, 0);
            self.secondary.put(&self.mould, name, Content::Equal);
            self.twins += 1;
        }
        while self.books.away() > 0 {
            self.primary.push(&self.links.primary)?;
            self.secondary.push(&self.links.secondary)?;
            self.read(0)?;
            ensure!(self.epoch.elapsed() < START_LIMIT, "the first pair did not come back: does it compare?");
            std::thread::yield_now();
        }
        self.epoch = Instant::now();
        Ok(())
    }

    fn read(&mut self, now: u64) -> Result<bool> {
        if !self.inlet.fill(&self.links.out)? {
            return Ok(false);
        }
        while let Some(frame) = self.inlet.next_frame()? {
            self.books.receive(self.mould.check(frame), now);
        }
        self.last_back = now;
        Ok(true)
    }

    fn hear(&mut self, now: u64) -> Result<()> {
        let Some(notify) = &mut self.links.notify else { return Ok(()) };
        if notify.hear()? && self.shape.requests() == Requests::Answered && self.phase == Phase::Running {
            self.phase = Phase::Settling;
            self.last_back = now;
        }
        Ok(())
    }

    /// All is back that can come back: time to write, with nobody reading.
    fn close_gate(&mut self) -> Result<()> {
        match &mut self.gate {
            Some(gate) if !self.finished && self.books.away() <= self.shape.behind() => gate.close(),
            _ => Ok(()),
        }
    }

    /// All that fits is written.
    fn open_gate(&mut self) -> Result<()> {
        match &mut self.gate {
            Some(gate) if gate.is_closed() => gate.open(),
            _ => Ok(()),
        }
    }

    /// Fills both lanes with what is due.
    fn write_pairs(&mut self, now: u64) {
        if self.phase == Phase::Running && !self.finished {
            for _ in 0..self.due_primaries(now) {
                let flow = self.random.below(self.shape.flows);
                let name = self.books.send(flow);
                self.primary.put(&self.mould, name, Content::Equal);
            }
        }
        let sent = self.books.sent();
        let due = self.due_twins(now);
        let hurry = self.phase != Phase::Running || (self.finished && self.shape.late_us == 0);
        for _ in 0..self.secondary.room() {
            let turn = if hurry { self.order.hurry(sent) } else { self.order.next(due) };
            let Some(turn) = turn else { break };
            let at = match self.shape.rate {
                Some(_) if !hurry => self.scheduled(turn.at + self.skew) + self.late(),
                _ => now,
            };
            let differs = self.random.happens(self.shape.mismatch);
            let content = if differs { Content::Different } else { Content::Equal };
            let name = self.books.twin(turn.pair, at);
            self.secondary.put(&self.mould, name, content);
            self.twins += 1;
        }
    }

    /// Pairs to begin now.
    fn due_primaries(&self, now: u64) -> u64 {
        let room = u64::try_from(self.primary.room()).unwrap_or(0);
        let sent = self.books.sent();
        if self.gate.as_ref().is_some_and(|gate| !gate.is_closed()) {
            return 0;
        }
        let mut due = if self.shape.rate.is_some() {
            (self.scheduled_by(now) + 1).saturating_sub(sent)
        } else {
            let free = self.window.saturating_sub(self.books.away());
            if free < self.batch { 0 } else { free }
        };
        if let Limit::Pairs(pairs) = self.shape.limit() {
            due = due.min((self.shape.warm_up() + pairs).saturating_sub(sent));
        }
        due.min(room)
    }

    /// Pairs of which the secondary's frame may go out now.
    fn due_twins(&self, now: u64) -> u64 {
        let mut due = self.books.sent();
        if self.shape.late_us > 0 {
            due = due.min(now.checked_sub(self.late()).map_or(0, |then| self.scheduled_by(then) + 1));
        }
        if self.finished { due } else { due.saturating_sub(self.skew) }
    }

    fn late(&self) -> u64 {
        u64::from(self.shape.late_us) * 1000
    }

    /// When a pair is due in an open loop.
    fn scheduled(&self, pair: u64) -> u64 {
        let rate = u64::from(self.shape.rate.unwrap_or(1));
        pair / rate * 1_000_000_000 + pair % rate * 1_000_000_000 / rate
    }

    /// The last pair that is due by then.
    fn scheduled_by(&self, then: u64) -> u64 {
        let rate = u64::from(self.shape.rate.unwrap_or(1));
        then / 1_000_000_000 * rate + then % 1_000_000_000 * rate / 1_000_000_000
    }

    fn all_is_written(&self) -> bool {
        self.twins == self.books.sent() && self.primary.is_empty() && self.secondary.is_empty()
    }

    fn commit_when_quiet(&mut self, now: u64) -> Result<()> {
        match self.phase {
            Phase::Settling if self.all_is_written() && now > self.last_back + QUIET => {
                self.books.excuse(now);
                if let Some(notify) = &mut self.links.notify {
                    notify.commit()?;
                }
                self.phase = Phase::Flushing(now);
            }
            Phase::Flushing(since) if self.books.away() == 0 || now > since + FLUSH => {
                self.phase = Phase::Running;
            }
            _ => {}
        }
        Ok(())
    }

    fn begin_when_warm(&mut self, now: u64) -> Result<()> {
        if self.begin.is_some() || self.books.sent() - self.books.away() < self.shape.warm_up() {
            return Ok(());
        }
        let engine = self.engine.map(Used::by).transpose()?;
        self.books.measure();
        self.begin = Some(Begin { at: now, back: self.books.back(), engine, driver: cpu_time::now() });
        Ok(())
    }

    fn is_enough(&self, now: u64) -> bool {
        let Some(begin) = &self.begin else { return false };
        match self.shape.limit() {
            Limit::Pairs(pairs) => self.books.sent() >= self.shape.warm_up() + pairs,
            Limit::Seconds(seconds) => Duration::from_nanos(now - begin.at).as_secs_f64() >= seconds,
        }
    }

    fn is_over(&self, now: u64) -> bool {
        self.finished
            && self.phase == Phase::Running
            && self.all_is_written()
            && (self.books.back() == self.books.sent() || now > self.last_back + self.patience)
    }

    fn give_up_when_stuck(&mut self, now: u64) {
        if self.finished || self.phase != Phase::Running {
            return;
        }
        if self.books.away() == 0 {
            self.last_back = now;
        } else if now > self.last_back + self.patience + self.late() {
            self.stalls += 1;
            self.books.write_off_all();
            self.last_back = now;
        }
    }

    fn live(&self, now: u64) -> Live {
        let done = self.begin.as_ref().map_or(0.0, |begin| match self.shape.limit() {
            Limit::Pairs(pairs) => super::cpu::ratio(self.books.back() - begin.back, pairs),
            Limit::Seconds(seconds) => Duration::from_nanos(now - begin.at).as_secs_f64() / seconds,
        });
        Live { back: self.books.back(), done: done.min(1.0), elapsed: Duration::from_nanos(now) }
    }

    fn measured(mut self) -> Result<Measured> {
        let now = self.now();
        let engine = self.engine.map(Used::by).transpose()?;
        self.books.write_off_all();
        let begin =
            self.begin.unwrap_or(Begin { at: now, back: self.books.back(), engine, driver: cpu_time::now() });
        let engine = engine.zip(begin.engine).map(|(now, then)| now.since(&then));
        let calls = self.primary.calls + self.secondary.calls;
        Ok(Measured {
            pairs: self.books.back() - begin.back,
            time: Duration::from_nanos(self.last_back.saturating_sub(begin.at)),
            engine,
            driver: cpu_time::now().saturating_sub(begin.driver),
            stalls: self.stalls,
            requests: self.links.notify.as_ref().map_or(0, |notify| notify.requests),
            commits: self.links.notify.as_ref().map_or(0, |notify| notify.commits),
            frames_per_write: super::cpu::ratio(self.books.sent() + self.twins, calls),
            frames_per_read: super::cpu::ratio(self.books.back(), self.inlet.calls),
            books: self.books,
        })
    }
}
