//! An engine of two cores under shuttle, for [`boundary`](super::boundary). Real are `runtime/{wake,epochs}.rs`, the
//! rings, the output with its merge, and the frames. A model is the loop of a core, which follows `runtime/core.rs`
//! method by method, its input, and its shard: a list of held frames. Queues are lock-free and each step of theirs is
//! one step here, with a point at which the scheduler may go on elsewhere before and after.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use colo_engine::ring::Ring;
use colo_engine::tx::{Feed, Haste, OutBurst, OutItem, OutQueue, Output};
use pmd_tap::{Burst, Caps, Frame, FramePool, LinkEvent, Nanos, PoolSettings, Port, RxState};
use shuttle::thread;

use crate::side::{BySide, Side};

/// What `runtime/sync.rs` has, of shuttle.
mod sync {
    use shuttle::sync::{Condvar, Mutex};

    pub(super) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

    /// Stays rung until it is silenced, as an eventfd is readable until it is read.
    #[derive(Debug)]
    pub(super) struct Bell {
        rung: Mutex<bool>,
        changed: Condvar,
    }

    impl Bell {
        pub(super) fn new() -> Self {
            Self { rung: Mutex::new(false), changed: Condvar::new() }
        }

        pub(super) fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_one();
        }

        pub(super) fn silence(&self) {
            *self.rung.lock().unwrap() = false;
        }

        /// `poll` without a timeout: a wake-up that is lost is a deadlock.
        pub(super) fn wait(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.changed.wait(rung).unwrap();
            }
        }
    }
}

#[path = "../../src/runtime/epochs.rs"]
mod epochs;
#[path = "../../src/runtime/wake.rs"]
mod wake;

use epochs::{Endings, Epochs, Gate, Turn};
use sync::Bell;
use wake::Waker;

/// Cores and shards: `Plan::workers(2)`. Core 0 has the primary's input and the output, core 1 the secondary's input.
const CORES: usize = 2;

/// The planted faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A shard takes frames of a side that has shown its mark.
    OpenGate,
    /// Nobody is woken for a commit, and a core does not look for one.
    SilentCommit,
    /// A core sleeps although the ring to the output had no room for all it has.
    ForgottenQueue,
    /// A shard ends while frames are in its rings.
    HastyEnd,
    /// A shard looks into its rings before it asks whether the inputs have ended.
    LooksTooEarly,
    /// A shard flushes at a boundary that stands for no commit.
    FlushesAnyway,
}

/// What the control thread decides about a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Commit,
    /// It stands for no commit.
    GiveUp,
}

/// What a frame does in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Waits for a flush.
    Held,
    /// Leaves at once.
    Leaves,
}

/// A frame to come: its shard, and what it does.
pub(crate) type Coming = (usize, Kind);

/// What goes to another core's shard.
enum Item {
    Frames(Vec<Frame>),
    Mark(u32),
}

/// `runtime/shared.rs` and `runtime/rings.rs`.
pub(crate) struct Shared {
    epochs: Epochs,
    endings: Endings,
    control: Waker,
    cores: [Waker; CORES],
    /// By shard and side; the smallest there are, so that they are full now and then.
    to_shard: [BySide<Ring<Item>>; CORES],
    to_output: [Ring<OutBurst>; CORES],
    fault: Fault,
    /// What left, in order.
    pub(crate) sent: Arc<Mutex<Vec<u64>>>,
}

impl Shared {
    pub(crate) fn new(fault: Fault) -> Self {
        let waker = || Waker::new(Bell::new());
        let rings = || BySide { primary: Ring::new(1), secondary: Ring::new(1) };
        Self {
            epochs: Epochs::new(),
            endings: Endings::new(2, CORES),
            control: waker(),
            cores: [waker(), waker()],
            to_shard: [rings(), rings()],
            to_output: [Ring::new(1), Ring::new(1)],
            fault,
            sent: Arc::default(),
        }
    }

    fn wake_cores(&self) {
        self.cores.iter().for_each(Waker::wake);
    }

    /// Asks everybody to finish.
    pub(crate) fn stop(&self) {
        self.endings.stop();
        self.wake_cores();
        self.control.wake();
    }

    /// The control thread: so many boundaries, or until it is stopped. Returns how many were decided.
    pub(crate) fn control(&self, decisions: &[Decision]) -> usize {
        let mut decided = 0;
        for (epoch, decision) in (1..).zip(decisions) {
            let (marks, flushes) = (self.epochs.marked() + 2, self.epochs.flushed() + 2);
            self.epochs.set_boundary(epoch);
            self.wake_cores();
            if !self.wait_until(|| self.epochs.marked() >= marks) {
                break;
            }
            match decision {
                Decision::Commit => self.epochs.set_committed(epoch),
                Decision::GiveUp => self.epochs.set_void(epoch),
            }
            if self.fault != Fault::SilentCommit {
                self.wake_cores();
            }
            decided += 1;
            if !self.wait_until(|| self.epochs.flushed() >= flushes) {
                break;
            }
        }
        self.endings.control_ends();
        self.wake_cores();
        decided
    }

    /// False: it was told to stop.
    fn wait_until(&self, is_over: impl Fn() -> bool) -> bool {
        while !is_over() {
            if self.endings.is_stopping() {
                return false;
            }
            self.control.fall_asleep();
            if !is_over() && !self.endings.is_stopping() {
                self.control.bell().wait();
            }
            self.control.awake();
        }
        true
    }
}

/// The output's port: writes down what leaves.
struct Log(Arc<Mutex<Vec<u64>>>);

impl Port for Log {
    fn rx_burst(&mut self, _: &mut FramePool, _: Nanos, _: &mut Burst) -> RxState {
        RxState::Empty
    }

    fn tx_burst(&mut self, _: &mut FramePool, _: Nanos, burst: &mut Burst) {
        self.0.lock().unwrap().extend(burst.drain(..).map(|frame| frame.ordinal()));
    }

    fn flush(&mut self) -> bool {
        true
    }

    fn is_up(&self) -> bool {
        true
    }

    fn poll_link(&mut self) -> Option<LinkEvent> {
        None
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn caps(&self) -> Caps {
        Caps::default()
    }
}

/// What a core has come to.
#[derive(Debug, Default)]
pub(crate) struct Came {
    /// Frames that its input received.
    pub(crate) received: u64,
    /// How many of them were received when each boundary was marked.
    pub(crate) boundaries: Vec<u64>,
    /// Primary frames that its shard holds.
    pub(crate) held: Vec<u64>,
}

/// One core: `runtime/core.rs`.
pub(crate) struct Core<'a> {
    shared: &'a Shared,
    index: usize,
    side: Side,
    pool: FramePool,
    /// What comes in, in batches: after each the port is empty for a moment.
    input: VecDeque<Vec<Coming>>,
    gathered: [Vec<Frame>; CORES],
    marked: [u32; CORES],
    gate: Gate,
    held: VecDeque<Frame>,
    queue: OutQueue,
    output: Option<Output>,
    came: Came,
    ended: (bool, bool),
}

/// A point at which the scheduler may go on elsewhere.
fn point() {
    thread::yield_now();
}

impl<'a> Core<'a> {
    pub(crate) fn new(shared: &'a Shared, index: usize, input: &[Vec<Coming>]) -> Self {
        let output = (index == 0).then(|| Output::new(Box::new(Log(Arc::clone(&shared.sent))), CORES));
        Self {
            shared,
            index,
            side: Side::BOTH[index],
            pool: FramePool::new(PoolSettings { small: 64, mtu: 0, jumbo: 0, gso: 2 }).unwrap(),
            input: input.iter().cloned().collect(),
            gathered: Default::default(),
            marked: [0; CORES],
            gate: Gate::default(),
            held: VecDeque::new(),
            queue: OutQueue::new(64),
            output,
            came: Came::default(),
            ended: (false, false),
        }
    }

    /// `run`, in the mode that sleeps.
    pub(crate) fn run(mut self) -> Came {
        loop {
            let found = self.step();
            if self.shared.endings.is_stopping() && self.has_ended() {
                break;
            }
            if !found {
                self.sleep();
            }
            point();
        }
        self.came.held.extend(self.held.iter().map(Frame::ordinal));
        self.came
    }

    fn step(&mut self) -> bool {
        let input = self.poll_input();
        let rings = Side::BOTH.map(|side| self.poll_ring(side));
        let flush = self.poll_flush();
        let output = self.poll_output();
        input || rings.contains(&true) || flush || output
    }

    fn poll_input(&mut self) -> bool {
        if !self.hand_over() {
            return true;
        }
        if self.shared.endings.is_stopping() {
            return false;
        }
        let boundary = self.shared.epochs.boundary();
        if self.marked.iter().any(|marked| *marked != boundary) {
            self.mark_boundary(boundary);
            return true;
        }
        if self.gate.is_blocked(self.side) && self.shared.fault != Fault::OpenGate {
            return false;
        }
        self.receive().is_some()
    }

    /// `Input::hand_over`. False: a ring has no room.
    fn hand_over(&mut self) -> bool {
        let other = 1 - self.index;
        if self.gathered[other].is_empty() {
            return true;
        }
        point();
        let frames = std::mem::take(&mut self.gathered[other]);
        match self.shared.to_shard[other][self.side].push(Item::Frames(frames)) {
            Ok(()) => {
                self.shared.cores[other].wake();
                true
            }
            Err(Item::Frames(back)) => {
                self.gathered[other] = back;
                false
            }
            Err(Item::Mark(_)) => unreachable!("frames were pushed"),
        }
    }

    /// One frame. `Some(true)`: more may follow in its batch.
    fn receive(&mut self) -> Option<bool> {
        let batch = self.input.front_mut()?;
        let (shard, kind) = batch.remove(0);
        let more = !batch.is_empty();
        if !more {
            self.input.pop_front();
        }
        let mut frame = self.pool.frame_from(&[u8::from(kind == Kind::Held)]).unwrap();
        frame.stamp(Nanos(self.came.received), self.came.received);
        self.came.received += 1;
        if shard == self.index {
            self.handle(self.side, frame);
        } else {
            self.gathered[shard].push(frame);
            self.hand_over();
        }
        Some(more)
    }

    fn mark_boundary(&mut self, boundary: u32) {
        while !self.marked.contains(&boundary) {
            if self.receive() != Some(true) {
                break;
            }
            if self.gathered.iter().any(|frames| !frames.is_empty()) {
                return;
            }
        }
        if self.gathered.iter().any(|frames| !frames.is_empty()) {
            return;
        }
        // `Input::mark`.
        if !self.marked.contains(&boundary) {
            self.came.boundaries.push(self.came.received);
        }
        for shard in 0..CORES {
            if self.marked[shard] == boundary {
                continue;
            }
            point();
            if shard == self.index {
                self.gate.mark(self.side, boundary);
            } else if self.shared.to_shard[shard][self.side].push(Item::Mark(boundary)).is_err() {
                continue;
            } else {
                self.shared.cores[shard].wake();
            }
            self.marked[shard] = boundary;
        }
        if self.marked == [boundary; CORES] {
            self.shared.epochs.count_marked();
            self.shared.control.wake();
        }
    }

    fn shard_input(&self, side: Side) -> Option<&'a Ring<Item>> {
        (side != self.side).then(|| &self.shared.to_shard[self.index][side])
    }

    fn poll_ring(&mut self, side: Side) -> bool {
        let Some(ring) = self.shard_input(side) else { return false };
        let mut found = false;
        point();
        for _ in 0..ring.len() {
            if self.gate.is_blocked(side) && self.shared.fault != Fault::OpenGate {
                break;
            }
            match ring.pop() {
                Some(Item::Frames(frames)) => frames.into_iter().for_each(|frame| self.handle(side, frame)),
                Some(Item::Mark(epoch)) => self.gate.mark(side, epoch),
                None => break,
            }
            found = true;
        }
        found
    }

    /// The shard.
    fn handle(&mut self, side: Side, frame: Frame) {
        match (side, frame.bytes()) {
            (Side::Secondary, _) => {}
            (Side::Primary, [0]) => self.queue.push(OutItem::Frame(frame)),
            (Side::Primary, _) => self.held.push_back(frame),
        }
    }

    /// In steps of one frame.
    fn poll_flush(&mut self) -> bool {
        let epochs = &self.shared.epochs;
        let is_void = |epoch| epochs.is_void(epoch) && self.shared.fault != Fault::FlushesAnyway;
        match self.gate.turn(|| epochs.committed(), is_void) {
            Turn::Wait => return false,
            Turn::Void => {
                epochs.count_flushed();
                self.shared.control.wake();
                return true;
            }
            Turn::Begin => self.queue.push(OutItem::FlushBegin),
            Turn::GoOn => {}
        }
        if let Some(frame) = self.held.pop_front() {
            self.queue.push(OutItem::Frame(frame));
        } else {
            self.gate.has_flushed();
            self.queue.push(OutItem::FlushEnd);
            self.shared.epochs.count_flushed();
            self.shared.control.wake();
        }
        true
    }

    fn poll_output(&mut self) -> bool {
        point();
        let Some(output) = &mut self.output else {
            let moved = self.queue.hand_over(&self.shared.to_output[self.index]);
            if moved {
                self.shared.cores[0].wake();
            }
            return moved;
        };
        let feeds = [Feed::Own, Feed::Ring(&self.shared.to_output[1])];
        output.poll(&mut self.pool, Nanos(0), &mut self.queue, &feeds, Haste::Now)
    }

    fn has_ended(&mut self) -> bool {
        let endings = &self.shared.endings;
        if !self.ended.0 && self.gathered.iter().all(Vec::is_empty) {
            self.ended.0 = true;
            endings.input_ends();
            self.shared.wake_cores();
        }
        let in_time = endings.inputs_ended();
        point();
        let rings_empty = Side::BOTH.iter().all(|side| self.shard_input(*side).is_none_or(Ring::is_empty));
        let handed_over = self.output.is_some() || self.queue.is_empty();
        let settled = endings.control_ended() && self.gate.settles(self.shared.epochs.committed());
        let inputs_ended = in_time || self.shared.fault == Fault::LooksTooEarly && endings.inputs_ended();
        let through = inputs_ended && settled && rings_empty && handed_over;
        if !self.ended.1 && self.ended.0 && (through || self.shared.fault == Fault::HastyEnd) {
            self.ended.1 = true;
            endings.shard_ends();
            self.shared.wake_cores();
        }
        let drained = self.output.as_ref().is_none_or(|output| {
            let feeds = [Feed::Own, Feed::Ring(&self.shared.to_output[1])];
            endings.shards_ended() && output.is_drained(&self.queue, &feeds)
        });
        self.ended.1 && drained
    }

    fn sleep(&mut self) {
        let waker = &self.shared.cores[self.index];
        waker.fall_asleep();
        // A port with something in it is readable, so `poll` comes back at once.
        if !self.has_news() && self.input.is_empty() {
            waker.bell().wait();
        }
        waker.awake();
    }

    fn has_news(&self) -> bool {
        let (epochs, fault) = (&self.shared.epochs, self.shared.fault);
        point();
        let boundary = epochs.boundary();
        let frames = Side::BOTH.iter().any(|side| {
            !self.gate.is_blocked(*side) && self.shard_input(*side).is_some_and(|ring| !ring.is_empty())
        });
        let commit = fault != Fault::SilentCommit && epochs.committed() != self.gate.epoch();
        let unsent = fault != Fault::ForgottenQueue && self.output.is_none() && !self.queue.is_empty();
        let feeds = self.output.is_some() && !self.shared.to_output[1].is_empty();
        frames
            || commit
            || unsent
            || feeds
            || self.marked.iter().any(|marked| *marked != boundary)
            || self.shared.endings.is_stopping()
    }
}
