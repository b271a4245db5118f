//! What becomes of a shard's decisions on its core: counted, and handed to the output or home. Decides nothing itself.

use pmd_tap::{Frame, FramePool, Nanos};

use super::shared::Shared;
use crate::metrics::ReleaseLatency;
use crate::side::{BySide, Side};
use crate::stats::{Counters, drop_cell, latency_of, release_cell, verdict_cells};
use crate::tx::{OutItem, OutQueue};
use crate::verdict::{Cause, Discard, Reason, Release, Sink, release_one_by_one};
use crate::wire::Packet;

/// Where the shard's decisions go while this core works.
pub(super) struct CoreSink<'a> {
    pub(super) now: Nanos,
    pub(super) epoch: u32,
    pub(super) queue: &'a mut OutQueue,
    pub(super) counters: &'a mut Counters,
    pub(super) latency: Latencies<'a>,
    pub(super) pool: Option<&'a mut FramePool>,
    pub(super) shared: &'a Shared,
    /// What was decided as frames went through, and is not in the counters yet.
    pub(super) tally: Tally,
    /// The frame at hand.
    pub(super) current: Current,
}

/// Comparison's decisions on frames of one protocol that came one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// `None`: of frames that count as none, or of no frame; such decisions are in no protocol's numbers.
    protocol: Option<u8>,
    released: u64,
    dropped: u64,
    held: u64,
}

/// The frame that goes through the shard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Current {
    /// Frames that it stands for.
    frames: u64,
    /// How many had been released before it.
    released: u64,
}

/// How long frames were held. Frames that came and leave together have waited equally long, so they are recorded together.
pub(super) struct Latencies<'a> {
    recorders: &'a mut ReleaseLatency,
    /// Matched frames not yet recorded, and how long each of them was held.
    matched: u64,
    nanos: u64,
}

impl<'a> Latencies<'a> {
    pub(super) fn new(recorders: &'a mut ReleaseLatency) -> Self {
        Self { recorders, matched: 0, nanos: 0 }
    }

    #[inline(always)]
    fn record(&mut self, why: Release, nanos: u64) {
        if why != Release::Matched {
            return self.record_rare(why, nanos);
        }
        if nanos != self.nanos {
            self.settle();
            self.nanos = nanos;
        }
        self.matched += 1;
    }

    fn record_rare(&mut self, why: Release, nanos: u64) {
        if let Some(recorder) = latency_of(self.recorders, why) {
            recorder.saturating_record(nanos);
        }
    }

    #[inline(never)]
    fn settle(&mut self) {
        if self.matched > 0 {
            self.recorders.matched.saturating_record_n(self.nanos, self.matched);
            self.matched = 0;
        }
    }
}

impl Drop for Latencies<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Sink for CoreSink<'_> {
    #[inline(always)]
    fn begin(&mut self, side: Side, frame: &Frame, packet: &Packet) {
        let frames = u64::try_from(frame.stands_for()).unwrap_or(1);
        self.counters.handled[side] += frames;
        let protocol = match packet {
            Packet::Tcp(flow, _) => Some(flow.protocol()),
            packet => self.protocol_of(side, packet, frames),
        };
        if protocol != self.tally.protocol {
            self.begin_tally(protocol);
        }
        self.current = Current { frames, released: self.tally.released };
    }

    #[inline(always)]
    fn end(&mut self, side: Side) {
        if side == Side::Primary && self.tally.released == self.current.released {
            self.tally.held += self.current.frames;
        }
    }

    #[inline(always)]
    fn release_pair(&mut self, pair: BySide<Frame>, packets: BySide<&Packet>, why: Release) {
        let (Packet::Tcp(flow, _), false) = (packets.primary, is_chain(&pair)) else {
            return release_one_by_one(self, pair, packets, why);
        };
        self.counters.handled.primary += 1;
        self.counters.handled.secondary += 1;
        if self.tally.protocol != Some(flow.protocol()) {
            self.begin_tally(Some(flow.protocol()));
        }
        self.release(pair.primary, why);
        self.discard(pair.secondary, Discard::Matched);
    }

    #[inline(always)]
    fn release(&mut self, frame: Frame, why: Release) {
        if frame.has_followers() {
            return self.release_chain(frame, why);
        }
        *release_cell(&mut self.counters.released, why) += 1;
        self.tally.released += u64::from(matches!(why, Release::Matched | Release::Ack));
        self.latency.record(why, self.now.nanos_since(frame.arrival()));
        self.queue.push(OutItem::Frame(frame));
    }

    #[inline(always)]
    fn discard(&mut self, frame: Frame, why: Discard) {
        let frames = u64::try_from(frame.stands_for()).unwrap_or(1);
        *drop_cell(&mut self.counters.dropped, why) += frames;
        self.tally.dropped += if matches!(why, Discard::Pass | Discard::Flush) { 0 } else { frames };
        if let Some(pool) = &mut self.pool {
            pool.recycle(frame);
        }
    }

    fn note_clamped(&mut self) {
        self.counters.window_clamped += 1;
    }

    fn note_quarantined(&mut self) {
        self.counters.quarantined += 1;
    }

    fn ask(&mut self, cause: Cause) {
        if let Some(flow) = &cause.flow {
            let cells = verdict_cells(&mut self.counters.verdicts, flow.protocol());
            cells.mismatch += u64::from(cause.reason == Reason::Mismatch);
            cells.timeout += u64::from(cause.reason == Reason::Timeout);
        }
        self.shared.ask(self.epoch, cause);
    }
}

impl CoreSink<'_> {
    /// A reassembled datagram leaves as the fragments it came in, each on its own.
    #[cold]
    fn release_chain(&mut self, chain: Frame, why: Release) {
        for frame in chain.into_originals() {
            self.release(frame, why);
        }
    }

    /// Enters the tally into the counters and begins that of a protocol.
    #[inline(never)]
    fn begin_tally(&mut self, protocol: Option<u8>) {
        let Tally { protocol: of, released, dropped, held } = self.tally;
        if let Some(of) = of {
            let cells = verdict_cells(&mut self.counters.verdicts, of);
            cells.release += released;
            cells.drop += dropped;
            cells.hold += held;
        }
        self.tally = Tally { protocol, ..Tally::default() };
    }

    /// The protocol that a frame counts for, unless it is of a class: those are counted here.
    #[inline(always)]
    fn protocol_of(&mut self, side: Side, packet: &Packet, frames: u64) -> Option<u8> {
        let flow = packet.flow()?;
        let Some(class) = flow.class() else { return Some(flow.protocol()) };
        self.counters.class_frames[side].count(class, frames);
        None
    }
}

/// Whether one of them stands for several.
#[inline(always)]
fn is_chain(pair: &BySide<Frame>) -> bool {
    pair.primary.has_followers() || pair.secondary.has_followers()
}

impl Drop for CoreSink<'_> {
    fn drop(&mut self) {
        self.begin_tally(None);
    }
}
