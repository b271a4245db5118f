//! What a shard has let go, until its output takes it.

use std::collections::VecDeque;

use pmd_tap::{BURST_FRAMES, Burst, Frame};

use super::{Next, OutBurst, OutItem};
use crate::ring::Ring;

/// The begin or the end of a flush.
#[derive(Clone, Copy, Debug)]
enum Mark {
    Begin,
    End,
}

/// What one shard has let go and its output has not taken yet. As long as the primary's pool has frames, so never full.
///
/// Frames are many and leave in runs, marks are rare: so they lie apart.
#[derive(Debug)]
pub struct OutQueue {
    frames: VecDeque<Frame>,
    /// Each with the number of frames, since the start, that go before it.
    marks: VecDeque<(u64, Mark)>,
    /// Frames taken since the start.
    taken: u64,
}

impl OutQueue {
    /// Room for `frames` frames and a few marks.
    pub fn new(frames: usize) -> Self {
        Self { frames: VecDeque::with_capacity(frames), marks: VecDeque::with_capacity(64), taken: 0 }
    }

    /// Appends an item.
    #[inline(always)]
    pub fn push(&mut self, item: OutItem) {
        match item {
            OutItem::Frame(frame) => self.frames.push_back(frame),
            OutItem::FlushBegin => self.mark(Mark::Begin),
            OutItem::FlushEnd => self.mark(Mark::End),
        }
    }

    #[cold]
    fn mark(&mut self, mark: Mark) {
        self.marks.push_back((self.taken + count(self.frames.len()), mark));
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.marks.is_empty()
    }

    /// Frames in front of the first mark.
    #[inline(always)]
    fn run(&self) -> usize {
        match self.marks.front() {
            None => self.frames.len(),
            Some((at, _)) => usize::try_from(at - self.taken).unwrap_or(0),
        }
    }

    /// Moves the frames in front of the first mark, as many as there is room for. Whether there were any.
    #[inline(always)]
    pub(super) fn move_frames(&mut self, burst: &mut Burst) -> bool {
        let run = self.run().min(burst.remaining_capacity());
        burst.extend(self.frames.drain(..run));
        self.taken += count(run);
        run > 0
    }

    /// What comes first.
    pub(super) fn next(&self) -> Option<Next> {
        match self.run() {
            0 => self.marks.front().map(|_| Next::Mark),
            _ => self.frames.front().map(Next::frame),
        }
    }

    /// The same, taken.
    pub(super) fn pop(&mut self) -> Option<OutItem> {
        if self.run() == 0 {
            return self.marks.pop_front().map(|(_, mark)| match mark {
                Mark::Begin => OutItem::FlushBegin,
                Mark::End => OutItem::FlushEnd,
            });
        }
        self.taken += 1;
        self.frames.pop_front().map(OutItem::Frame)
    }

    /// Moves as much as there is room for into the ring to another core's output. Returns whether anything was moved.
    pub fn hand_over(&mut self, ring: &Ring<OutBurst>) -> bool {
        let mut moved = false;
        // Nobody else pushes into the ring, so the room that it has stays.
        while !self.is_empty() && !ring.is_full() {
            let burst: OutBurst = std::iter::from_fn(|| self.pop()).take(BURST_FRAMES).collect();
            let pushed = ring.push(burst);
            debug_assert!(pushed.is_ok(), "the ring had room");
            moved = true;
        }
        moved
    }
}

/// A number of frames, to be counted with.
#[inline(always)]
fn count(frames: usize) -> u64 {
    u64::try_from(frames).unwrap_or(u64::MAX)
}
