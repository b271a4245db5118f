//! What becomes of a shard's decisions on its core: counted, and handed to the output or home. Decides nothing itself.

use pmd_tap::{Frame, FramePool, Nanos};

use super::shared::Shared;
use crate::metrics::ReleaseLatency;
use crate::shard::{Shard, Work};
use crate::side::Side;
use crate::stats::{Counters, drop_cell, latency_of, release_cell, verdict_cells};
use crate::tx::{OutItem, OutQueue};
use crate::verdict::{Cause, Discard, Reason, Release, Sink};

/// Where the shard's decisions go while this core works.
pub(super) struct CoreSink<'a> {
    pub(super) now: Nanos,
    pub(super) epoch: u32,
    pub(super) queue: &'a mut OutQueue,
    pub(super) counters: &'a mut Counters,
    pub(super) latency: &'a mut ReleaseLatency,
    pub(super) pool: Option<&'a mut FramePool>,
    pub(super) shared: &'a Shared,
}

impl Sink for CoreSink<'_> {
    #[inline(always)]
    fn release(&mut self, frame: Frame, why: Release) {
        if frame.has_followers() {
            return self.release_chain(frame, why);
        }
        *release_cell(&mut self.counters.released, why) += 1;
        if let Some(recorder) = latency_of(self.latency, why) {
            recorder.saturating_record(self.now.nanos_since(frame.arrival()));
        }
        self.queue.push(OutItem::Frame(frame));
    }

    #[inline(always)]
    fn discard(&mut self, frame: Frame, why: Discard) {
        let frames = u64::try_from(frame.stands_for()).unwrap_or(1);
        *drop_cell(&mut self.counters.dropped, why) += frames;
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
}

/// One frame through the shard, counted by protocol.
#[inline(always)]
pub(super) fn handle_one(shard: &mut Shard, side: Side, work: Work, now: Nanos, sink: &mut CoreSink<'_>) {
    let frames = u64::try_from(work.frame.stands_for()).unwrap_or(1);
    sink.counters.handled[side] += frames;
    let Some((protocol, class)) = work.packet.flow().map(|flow| (flow.protocol(), flow.class())) else {
        return shard.handle(side, work, now, sink);
    };
    if let Some(class) = class {
        sink.counters.class_frames[side].count(class, frames);
        return shard.handle(side, work, now, sink);
    }
    let [released, dropped] = [total_released(sink.counters), total_dropped(sink.counters)];
    shard.handle(side, work, now, sink);
    let released = total_released(sink.counters) - released;
    let dropped = total_dropped(sink.counters) - dropped;
    let cells = verdict_cells(&mut sink.counters.verdicts, protocol);
    cells.release += released;
    cells.drop += dropped;
    cells.hold += if side == Side::Primary && released == 0 { frames } else { 0 };
}

#[inline(always)]
fn total_released(counters: &Counters) -> u64 {
    counters.released.matched + counters.released.ack
}

#[inline(always)]
fn total_dropped(counters: &Counters) -> u64 {
    let dropped = &counters.dropped;
    dropped.matched + dropped.stale + dropped.duplicate + dropped.over_budget
}
