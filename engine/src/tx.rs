//! The way out: one owner core per output; every shard hands it what leaves, in order.
//!
//! Between flushes each shard's frames go out as they come. At a flush all shards' old frames go out merged by their
//! arrival, and nothing new before the last of them.

mod queue;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use arrayvec::ArrayVec;
use pmd_tap::{BURST_FRAMES, Burst, Frame, FramePool, Nanos, Port};

use crate::ring::Ring;

/// Bursts that leave in one poll, so that a reader that takes all at once cannot keep the core here.
const POLL_BURSTS: usize = 64;

/// What a shard hands to the output.
#[derive(Debug)]
pub enum OutItem {
    /// A frame that leaves.
    Frame(Frame),
    /// The shard's flush begins: what follows is in order of arrival.
    FlushBegin,
    /// The shard's flush is over.
    FlushEnd,
}

pub use queue::OutQueue;

/// Items that move together.
pub type OutBurst = ArrayVec<OutItem, BURST_FRAMES>;

/// Whether what leaves may wait a little, to be written together with what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Nothing follows at once.
    Now,
    /// The inputs have more frames at hand.
    MoreFollows,
}

/// Polls in a row that may leave what the port took unwritten: a write costs as much as several pairs of small frames.
const DEFERRALS: u8 = 8;
/// Polls in a row that may leave the link alone while frames leave: what they mean for it is seen by writing.
const UNWATCHED: u8 = 16;

/// Where a source of the output stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its frames go out as they come.
    Running,
    /// Its flush has begun.
    Flushing,
    /// Its flush is over, others' is not.
    Flushed,
}

/// One shard, seen from the output.
#[derive(Debug)]
struct Source {
    stage: Stage,
    /// Items taken from a ring and not used yet.
    taken: VecDeque<OutItem>,
}

/// Where the items of a shard come from.
#[derive(Debug)]
pub enum Feed<'a> {
    /// The shard is on the output's own core.
    Own,
    /// From another core.
    Ring(&'a Ring<OutBurst>),
}

impl Feed<'_> {
    /// When the frame that comes next of it arrived and its place in its input, or that it is no frame.
    #[inline(always)]
    fn next(&self, source: &mut Source, own: &OutQueue) -> Option<Next> {
        match self {
            Feed::Own => own.next(),
            Feed::Ring(ring) => {
                source.refill(ring);
                source.taken.front().map(|item| match item {
                    OutItem::Frame(frame) => Next::frame(frame),
                    OutItem::FlushBegin | OutItem::FlushEnd => Next::Mark,
                })
            }
        }
    }

    /// What comes next of it, taken. Items of the output's own core are never moved into `source` first.
    #[inline(always)]
    fn pop(&self, source: &mut Source, own: &mut OutQueue) -> Option<OutItem> {
        match self {
            Feed::Own => own.pop(),
            Feed::Ring(ring) => {
                source.refill(ring);
                source.taken.pop_front()
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Feed::Own => true,
            Feed::Ring(ring) => ring.is_empty(),
        }
    }
}

/// What comes next of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A frame: when it arrived, and its place in its input.
    Frame(Nanos, u64),
    /// The begin or the end of a flush.
    Mark,
}

impl Next {
    fn frame(frame: &Frame) -> Self {
        Self::Frame(frame.arrival(), frame.ordinal())
    }
}

impl Source {
    #[inline(always)]
    fn refill(&mut self, ring: &Ring<OutBurst>) {
        if self.taken.is_empty()
            && let Some(burst) = ring.pop()
        {
            self.taken.extend(burst);
        }
    }
}

/// An output port and the merge in front of it.
pub struct Output {
    port: Box<dyn Port>,
    sources: Vec<Source>,
    burst: Burst,
    /// Frames that somebody sent to the output; nobody should.
    ignored: Burst,
    sent: u64,
    flushed: bool,
    /// Polls since the last write that was due.
    deferred: u8,
    /// Polls since the link was looked at.
    unwatched: u8,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl Output {
    /// An output for frames of `shards` shards.
    pub fn new(port: Box<dyn Port>, shards: usize) -> Self {
        let source = || Source { stage: Stage::Running, taken: VecDeque::with_capacity(BURST_FRAMES) };
        Self {
            port,
            sources: (0..shards).map(|_| source()).collect(),
            burst: Burst::new(),
            ignored: Burst::new(),
            sent: 0,
            flushed: true,
            deferred: 0,
            unwatched: UNWATCHED,
        }
    }

    /// The port.
    pub fn port(&mut self) -> &mut dyn Port {
        self.port.as_mut()
    }

    /// Frames that the port took.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Frames of those that whoever carries them refused.
    pub fn lost(&self) -> u64 {
        self.port.losses().sent
    }

    /// What to wait on.
    pub fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.port.readiness()
    }

    /// How long its core may sleep, if the port says so.
    pub fn longest_nap(&self) -> Option<Duration> {
        self.port.longest_nap()
    }

    /// Whether the port has bytes that the other end did not take yet.
    pub fn is_blocked(&self) -> bool {
        !self.flushed || !self.burst.is_empty()
    }

    /// Whether everything is out.
    pub fn is_drained(&self, own: &OutQueue, feeds: &[Feed<'_>]) -> bool {
        !self.is_blocked()
            && own.is_empty()
            && self.sources.iter().all(|source| source.taken.is_empty())
            && feeds.iter().all(Feed::is_empty)
    }

    /// Keeps the link, and sends what there is. Returns whether anything moved.
    pub fn poll(
        &mut self,
        pool: &mut FramePool,
        now: Nanos,
        own: &mut OutQueue,
        feeds: &[Feed<'_>],
        haste: Haste,
    ) -> bool {
        if self.unwatched >= UNWATCHED {
            self.unwatched = 0;
            self.port.rx_burst(pool, now, &mut self.ignored);
            self.ignored.clear();
        }
        let before = self.sent;
        for _ in 0..POLL_BURSTS {
            self.fill(own, feeds);
            if self.burst.is_empty() {
                break;
            }
            let waiting = self.burst.len();
            self.port.tx_burst(pool, now, &mut self.burst);
            self.sent += u64::try_from(waiting - self.burst.len()).unwrap_or(0);
            if !self.burst.is_empty() {
                break;
            }
        }
        let moved = self.sent != before;
        self.unwatched = if moved { self.unwatched + 1 } else { UNWATCHED };
        if haste == Haste::MoreFollows && self.deferred < DEFERRALS {
            self.deferred += 1;
            self.flushed &= !moved;
        } else {
            self.deferred = 0;
            self.flushed = self.port.flush();
        }
        moved
    }

    /// Fills the burst with what may go out next.
    fn fill(&mut self, own: &mut OutQueue, feeds: &[Feed<'_>]) {
        loop {
            for (at, feed) in feeds.iter().enumerate() {
                self.fill_running(at, own, feed);
            }
            if self.sources.iter().any(|source| source.stage == Stage::Running) {
                return;
            }
            self.fill_merged(own, feeds);
            // A merge that is over leaves all running, and what stands behind it must not wait for the next poll.
            if self.sources.iter().any(|source| source.stage != Stage::Running) {
                return;
            }
        }
    }

    fn fill_running(&mut self, at: usize, own: &mut OutQueue, feed: &Feed<'_>) {
        let source = &mut self.sources[at];
        while source.stage == Stage::Running && !self.burst.is_full() {
            if let Feed::Own = feed
                && own.move_frames(&mut self.burst)
            {
                continue;
            }
            match feed.pop(source, own) {
                Some(OutItem::Frame(frame)) => self.burst.push(frame),
                Some(OutItem::FlushBegin) => source.stage = Stage::Flushing,
                Some(OutItem::FlushEnd) => {}
                None => return,
            }
        }
    }

    /// All shards are flushing: the oldest of their frames goes first. Stops where a shard has not come so far.
    fn fill_merged(&mut self, own: &mut OutQueue, feeds: &[Feed<'_>]) {
        while !self.burst.is_full() {
            let mut oldest: Option<(Nanos, u64, usize)> = None;
            for (at, (source, feed)) in self.sources.iter_mut().zip(feeds).enumerate() {
                if source.stage == Stage::Flushed {
                    continue;
                }
                match feed.next(source, own) {
                    Some(Next::Frame(arrival, ordinal)) => {
                        let key = (arrival, ordinal, at);
                        oldest = Some(oldest.map_or(key, |oldest| oldest.min(key)));
                    }
                    Some(Next::Mark) => {
                        feed.pop(source, own);
                        source.stage = Stage::Flushed;
                    }
                    None => return,
                }
            }
            let Some((_, _, at)) = oldest else {
                self.sources.iter_mut().for_each(|source| source.stage = Stage::Running);
                return;
            };
            if let Some(OutItem::Frame(frame)) = feeds[at].pop(&mut self.sources[at], own) {
                self.burst.push(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests;
