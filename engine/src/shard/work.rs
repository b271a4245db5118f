//! Frames on their way to a shard, parsed and hashed.

use arrayvec::ArrayVec;
use pmd_tap::{BURST_FRAMES, Frame, FramePool};

use crate::flow::{FlowHash, FlowHasher};
use crate::fragments::Reassembly;
use crate::wire::{Packet, Plain};

/// What is known of a frame before its shard has it.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its flow's hash.
    pub hash: FlowHash,
    /// What it is.
    pub packet: Packet,
    /// Whether there is room to hold it.
    pub budget: Budget,
}

/// Whether a side has room to hold more frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// It has.
    Room,
    /// It has not: a secondary's frame is dropped and its flow waits for the next commit.
    Exhausted,
}

/// A frame and its label.
#[derive(Debug)]
pub struct Work {
    /// The frame.
    pub frame: Frame,
    /// What is known of it.
    pub label: Label,
}

impl Work {
    /// Parses and hashes a frame.
    #[inline(never)]
    pub fn receive(frame: Frame, hasher: &FlowHasher, budget: Budget) -> Self {
        let packet = Packet::received(frame.ethernet(), hasher);
        let hash = packet.flow().map(|flow| hasher.hash(flow)).unwrap_or_default();
        Self { frame, label: Label { hash, packet, budget } }
    }

    /// A fragment's way: what can go on once it has come, if anything. What turns out to be of a class goes by that
    /// class's policy, like a frame that was never cut.
    #[cold]
    #[must_use]
    pub fn reassembled(
        self,
        hasher: &FlowHasher,
        fragments: &mut Reassembly,
        pool: &mut FramePool,
    ) -> Option<Self> {
        let Self { frame, label: Label { packet, budget, .. } } = self;
        let Packet::Fragment(fragment) = &packet else {
            let work = Self::unhashed(frame, packet);
            return Some(Self { label: Label { budget, ..work.label }, ..work });
        };
        let (frame, packet) = fragments.receive(frame, fragment, budget, pool)?;
        let packet = packet.with_class_flow(frame.ethernet());
        let hash = packet.flow().map(|flow| hasher.hash(flow)).unwrap_or_default();
        Some(Self { frame, label: Label { hash, packet, budget } })
    }

    /// Work without a flow.
    pub fn unhashed(frame: Frame, packet: Packet) -> Self {
        Self { frame, label: Label { hash: FlowHash::default(), packet, budget: Budget::Room } }
    }
}

/// Where a frame goes whose flow's hash is known.
pub trait Place {
    /// The burst that it goes to, which has room.
    fn place(&mut self, hash: FlowHash) -> &mut WorkBurst;
}

impl Place for WorkBurst {
    #[inline(always)]
    fn place(&mut self, _: FlowHash) -> &mut WorkBurst {
        self
    }
}

/// A frame in a burst.
#[derive(Debug)]
pub(super) struct Entry {
    /// `None`: taken out.
    pub(super) frame: Option<Frame>,
    pub(super) label: Label,
}

/// Frames on their way to one shard. Labels are large, so they are read where they were written, and only frames move.
///
/// It is filled, then emptied from the front, and can be filled again once it is empty.
#[derive(Debug, Default)]
pub struct WorkBurst {
    entries: ArrayVec<Entry, BURST_FRAMES>,
    /// Frames that were taken out.
    taken: usize,
}

impl WorkBurst {
    /// Without a frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.taken == self.entries.len()
    }

    /// Adds a frame.
    ///
    /// # Panics
    /// If the burst is full.
    #[inline(always)]
    pub fn push(&mut self, work: Work) {
        self.entries.push(Entry { frame: Some(work.frame), label: work.label });
    }

    /// Parses and hashes a frame and adds it.
    ///
    /// # Panics
    /// If the burst is full.
    #[inline(always)]
    pub fn receive(&mut self, frame: Frame, hasher: &FlowHasher, budget: Budget) {
        if let Err(frame) = Self::receive_usual(frame, hasher, budget, self) {
            self.push(Work::receive(frame, hasher, budget));
        }
    }

    /// Parses and hashes a usual frame and adds it where its hash belongs; any other comes back.
    ///
    /// Nobody here has the label as a value and wants its address, so its fields are written straight to where they go.
    /// Copied before they have settled in the cache, they would stall the processor.
    ///
    /// # Panics
    /// If the burst is full.
    #[inline(always)]
    pub fn receive_usual(
        frame: Frame,
        hasher: &FlowHasher,
        budget: Budget,
        to: &mut impl Place,
    ) -> Result<(), Frame> {
        let Some(plain) = Plain::new(frame.ethernet()) else { return Err(frame) };
        if let Some(segment) = plain.segment() {
            let flow = plain.flow();
            let hash = hasher.hash(&flow);
            let label = Label { hash, packet: Packet::Tcp(flow, segment), budget };
            to.place(hash).entries.push(Entry { frame: Some(frame), label });
            return Ok(());
        }
        if let Some(payload) = plain.udp_payload()
            && !plain.is_opened(hasher.tunnels())
        {
            let flow = plain.flow();
            let hash = hasher.hash(&flow);
            let label = Label { hash, packet: Packet::Datagram(flow, payload), budget };
            to.place(hash).entries.push(Entry { frame: Some(frame), label });
            return Ok(());
        }
        Err(frame)
    }

    /// What is still here.
    #[inline(always)]
    pub(super) fn rest(&mut self) -> &mut [Entry] {
        self.entries.get_mut(self.taken..).unwrap_or_default()
    }

    /// So many were taken out of the front of [`rest`](Self::rest).
    #[inline(always)]
    pub(super) fn advance(&mut self, taken: usize) {
        self.taken += taken;
    }

    /// The first frame that is still here, and its label.
    #[inline(always)]
    pub(super) fn first(&self) -> Option<(&Frame, &Label)> {
        let entry = self.entries.get(self.taken)?;
        Some((entry.frame.as_ref()?, &entry.label))
    }

    /// The label of the frame that comes so many after the first that is still here.
    #[inline(always)]
    pub(super) fn label_ahead(&self, frames: usize) -> Option<&Label> {
        self.entries.get(self.taken + frames).map(|entry| &entry.label)
    }

    /// Takes the first frame out.
    #[inline(always)]
    pub(super) fn take(&mut self) -> Option<(Frame, &Label)> {
        let entry = self.entries.get_mut(self.taken)?;
        self.taken += 1;
        Some((entry.frame.take()?, &entry.label))
    }

    /// Makes room, when all frames were taken out.
    #[inline(always)]
    pub(super) fn tidy(&mut self) {
        if self.is_empty() {
            self.entries.clear();
            self.taken = 0;
        }
    }

    /// Takes the frames out, first to last.
    pub fn drain(&mut self) -> impl Iterator<Item = Work> {
        self.taken = 0;
        self.entries.drain(..).filter_map(|entry| Some(Work { frame: entry.frame?, label: entry.label }))
    }

    /// The hashes of the frames' flows, first to last.
    pub fn hashes(&self) -> impl Iterator<Item = FlowHash> {
        self.entries.iter().skip(self.taken).map(|entry| entry.label.hash)
    }

    /// The frames, first to last.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.entries.iter().filter_map(|entry| entry.frame.as_ref())
    }
}
