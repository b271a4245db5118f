//! The epoch boundary, as numbers: what the control thread announces, what inputs and shards report, and the gate that
//! keeps a shard from taking frames of a new epoch before it has flushed the old one. It knows no frames.

use super::sync::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::side::{BySide, Side};

/// Shared by all threads of one engine.
#[derive(Debug)]
pub(super) struct Epochs {
    /// The epoch whose end the inputs are to mark.
    boundary: AtomicU32,
    /// The epoch whose end was committed, or whose boundary is void.
    committed: AtomicU32,
    /// The last epoch whose boundary is void: the frames behind it go on as if it had never been.
    void: AtomicU32,
    /// Inputs that have marked the boundary, and shards that have flushed, counted up for ever.
    marked: AtomicU64,
    flushed: AtomicU64,
}

impl Epochs {
    pub(super) fn new() -> Self {
        Self {
            boundary: AtomicU32::new(0),
            committed: AtomicU32::new(0),
            void: AtomicU32::new(0),
            marked: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
        }
    }

    /// Asks the inputs to mark the end of `epoch`.
    pub(super) fn set_boundary(&self, epoch: u32) {
        self.boundary.store(epoch, Ordering::Release);
    }

    #[inline(always)]
    pub(super) fn boundary(&self) -> u32 {
        self.boundary.load(Ordering::Acquire)
    }

    /// Tells the shards that `epoch` was committed.
    pub(super) fn set_committed(&self, epoch: u32) {
        self.committed.store(epoch, Ordering::Release);
    }

    /// Tells the shards that the boundary of `epoch` is void: nothing was committed that it could stand for.
    pub(super) fn set_void(&self, epoch: u32) {
        // In this order: who sees it decided sees how.
        self.void.store(epoch, Ordering::Release);
        self.set_committed(epoch);
    }

    /// Whether the boundary of a decided epoch is void.
    pub(super) fn is_void(&self, epoch: u32) -> bool {
        self.void.load(Ordering::Acquire) == epoch
    }

    #[inline(always)]
    pub(super) fn committed(&self) -> u32 {
        self.committed.load(Ordering::Acquire)
    }

    pub(super) fn count_marked(&self) {
        self.marked.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn marked(&self) -> u64 {
        self.marked.load(Ordering::Acquire)
    }

    pub(super) fn count_flushed(&self) {
        self.flushed.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn flushed(&self) -> u64 {
        self.flushed.load(Ordering::Acquire)
    }
}

/// Who has not ended yet, in the order in which they end: inputs, shards, the output.
#[derive(Debug)]
pub(super) struct Endings {
    stopping: AtomicBool,
    inputs: AtomicUsize,
    shards: AtomicUsize,
    /// Whether the control thread runs: until it has ended a commit may come.
    control: AtomicBool,
}

impl Endings {
    pub(super) fn new(inputs: usize, shards: usize) -> Self {
        Self {
            stopping: AtomicBool::new(false),
            inputs: AtomicUsize::new(inputs),
            shards: AtomicUsize::new(shards),
            control: AtomicBool::new(true),
        }
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    #[inline(always)]
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(super) fn input_ends(&self) {
        self.inputs.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn inputs_ended(&self) -> bool {
        self.inputs.load(Ordering::Acquire) == 0
    }

    pub(super) fn shard_ends(&self) {
        self.shards.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn shards_ended(&self) -> bool {
        self.shards.load(Ordering::Acquire) == 0
    }

    pub(super) fn control_ends(&self) {
        self.control.store(false, Ordering::Release);
    }

    pub(super) fn control_ended(&self) -> bool {
        !self.control.load(Ordering::Acquire)
    }
}

/// Where one shard stands between two epochs.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// The epoch whose end each side has shown; frames behind it wait for the flush.
    marked: BySide<u32>,
    /// Epochs flushed.
    epoch: u32,
    flushing: Flushing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flushing {
    #[default]
    No,
    Yes,
}

/// What a shard is to do about its flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing: a mark or the commit is missing.
    Wait,
    /// Begin it.
    Begin,
    /// Go on with it.
    GoOn,
    /// The boundary is void: let it pass.
    Void,
}

impl Gate {
    /// Epochs flushed.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The end of `epoch` came in a side's stream.
    pub(super) fn mark(&mut self, side: Side, epoch: u32) {
        self.marked[side] = epoch;
    }

    /// Whether frames of a side must wait for a flush.
    #[inline(always)]
    pub(super) fn is_blocked(&self, side: Side) -> bool {
        self.marked[side] != self.epoch
    }

    pub(super) fn is_flushing(&self) -> bool {
        self.flushing == Flushing::Yes
    }

    /// Whose turn it is: a flush begins when both sides' boundaries are here and the checkpoint was committed.
    #[inline(always)]
    pub(super) fn turn(
        &mut self,
        committed: impl FnOnce() -> u32,
        is_void: impl FnOnce(u32) -> bool,
    ) -> Turn {
        if self.is_flushing() {
            return Turn::GoOn;
        }
        let next = self.epoch.wrapping_add(1);
        let both = self.marked.primary == next && self.marked.secondary == next;
        if !both || committed() != next {
            return Turn::Wait;
        }
        if is_void(next) {
            self.epoch = next;
            return Turn::Void;
        }
        self.flushing = Flushing::Yes;
        Turn::Begin
    }

    /// The flush is complete.
    pub(super) fn has_flushed(&mut self) {
        self.flushing = Flushing::No;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Whether everything is done about epochs, when no further commit comes: a committed one is flushed, and frames
    /// behind a boundary that nobody commits wait no longer for their flush, but as ordinary held ones.
    pub(super) fn settles(&mut self, committed: u32) -> bool {
        if committed != self.epoch || self.is_flushing() {
            return false;
        }
        self.marked = BySide { primary: self.epoch, secondary: self.epoch };
        true
    }
}
