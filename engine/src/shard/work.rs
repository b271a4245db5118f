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

/// Frames on their way to one shard. Labels are large, so they are read where they were written, and only frames move.
#[derive(Debug, Default)]
pub struct WorkBurst {
    pub(super) frames: ArrayVec<Frame, BURST_FRAMES>,
    pub(super) labels: ArrayVec<Label, BURST_FRAMES>,
}

impl WorkBurst {
    /// Without a frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds a frame.
    ///
    /// # Panics
    /// If the burst is full.
    #[inline(always)]
    pub fn push(&mut self, work: Work) {
        self.frames.push(work.frame);
        self.labels.push(work.label);
    }

    /// Parses and hashes a frame and adds it.
    ///
    /// # Panics
    /// If the burst is full.
    #[inline(always)]
    pub fn receive(&mut self, frame: Frame, hasher: &FlowHasher, budget: Budget) {
        if let Err(frame) = Self::receive_usual(frame, hasher, budget, |_| self) {
            self.push(Work::receive(frame, hasher, budget));
        }
    }

    /// Parses and hashes a usual frame and adds it to the burst that `place` chooses by its hash; any other comes back.
    ///
    /// Nobody here has the label as a value and wants its address, so its fields are written straight to where they go.
    /// Copied before they have settled in the cache, they would stall the processor.
    ///
    /// # Panics
    /// If the burst is full.
    #[inline(always)]
    pub fn receive_usual<'a>(
        frame: Frame,
        hasher: &FlowHasher,
        budget: Budget,
        place: impl FnOnce(FlowHash) -> &'a mut Self,
    ) -> Result<(), Frame> {
        let Some(plain) = Plain::new(frame.ethernet()) else { return Err(frame) };
        if let Some(segment) = plain.segment() {
            let flow = plain.flow();
            let hash = hasher.hash(&flow);
            let burst = place(hash);
            burst.frames.push(frame);
            burst.labels.push(Label { hash, packet: Packet::Tcp(flow, segment), budget });
            return Ok(());
        }
        if let Some(payload) = plain.udp_payload()
            && !plain.is_opened(hasher.tunnels())
        {
            let flow = plain.flow();
            let hash = hasher.hash(&flow);
            let burst = place(hash);
            burst.frames.push(frame);
            burst.labels.push(Label { hash, packet: Packet::Datagram(flow, payload), budget });
            return Ok(());
        }
        Err(frame)
    }

    /// Takes the frames out, first to last.
    pub fn drain(&mut self) -> impl Iterator<Item = Work> {
        let Self { frames, labels } = self;
        frames.drain(..).zip(labels.drain(..)).map(|(frame, label)| Work { frame, label })
    }

    /// The hashes of the frames' flows, first to last.
    pub fn hashes(&self) -> impl Iterator<Item = FlowHash> {
        self.labels.iter().map(|label| label.hash)
    }

    /// The frames, first to last.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }
}
