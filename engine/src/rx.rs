//! The receive side of a core: port → burst → parse → hash → shard.
//!
//! Frames of the core's own shard are handed over at once; those of other shards gather in a burst each and go through
//! that shard's ring.

use std::os::fd::BorrowedFd;

use pmd_tap::{Burst, Frame, FramePool, Nanos, Port, RxState};

use crate::flow::{FlowHash, FlowHasher, ShardId};
use crate::fragments::{FragmentCounts, FragmentSettings, Reassembly};
use crate::ring::Ring;
use crate::shard::{Budget, Place, Work, WorkBurst};
use crate::side::Side;
use crate::verdict::Cause;
use crate::wire::Packet;
use crate::wire::has_bad_checksum;

/// What goes through the ring of a shard and side.
#[derive(Debug)]
// A mark is rare, and a box for the burst would be an allocation a burst.
#[expect(clippy::large_enum_variant)]
pub enum RingItem {
    /// Frames.
    Frames(WorkBurst),
    /// The end of an epoch: what comes behind it belongs to the next.
    Mark(u32),
}

/// Where the frames of one shard go.
#[derive(Debug)]
pub enum Lane<'a> {
    /// The shard is this core's own.
    Own,
    /// The shard is another core's.
    Ring(&'a Ring<RingItem>),
}

/// How full a side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is room.
    Low,
    /// Half of what may be held is held: a checkpoint is wanted.
    High,
    /// There is no room.
    Full,
}

/// One input port and what its core needs to hand its frames on.
pub struct Input {
    side: Side,
    port: Box<dyn Port>,
    pool: FramePool,
    hasher: FlowHasher,
    fragments: Reassembly,
    max_frames: usize,
    burst: Burst,
    /// Frames gathered for each shard.
    gathered: Vec<WorkBurst>,
    /// Frames and bytes received.
    received: u64,
    received_bytes: u64,
    /// The last epoch whose end was marked for each shard.
    marked: Vec<u32>,
    /// The last epoch at whose end the incomplete datagrams were handed on.
    closed: u32,
    /// Bursts received since the boundary was due.
    drained: usize,
    pressure: Pressure,
    /// Polls in a row that ended for want of a slot.
    starved: usize,
    /// Polls since the port was down for good.
    over: usize,
    checksums: VerifyChecksums,
    /// Frames with a wrong one.
    bad_checksums: u64,
}

/// Whether checksums are looked at. Nothing is decided by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyChecksums {
    /// No.
    #[default]
    Off,
    /// Wrong ones are counted. That reads every byte.
    Count,
}

impl VerifyChecksums {
    /// Whether a frame counts as one with a wrong checksum. One whose checksum is still to be filled in
    /// (`VIRTIO_NET_HDR_F_NEEDS_CSUM`, virtio 1.2 section 5.1.6) does not.
    #[inline(always)]
    pub fn finds_fault(self, frame: &Frame) -> bool {
        self == Self::Count && is_faulty(frame)
    }
}

#[cold]
fn is_faulty(frame: &Frame) -> bool {
    let needs_checksum =
        !frame.virtio_header().is_empty() && frame.bytes().first().is_some_and(|flags| flags & 1 != 0);
    !needs_checksum && has_bad_checksum(frame.ethernet())
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input")
            .field("side", &self.side)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// Where frames gather, by the shard that their flow belongs to.
struct Sorter<'a, 'b, A> {
    lanes: &'a [Lane<'b>],
    /// For this core's shard.
    own: &'a mut WorkBurst,
    gathered: &'a mut [WorkBurst],
    /// Told the hashes of the own shard's frames as soon as they are known.
    ahead: A,
}

impl<A: Fn(FlowHash)> Place for Sorter<'_, '_, A> {
    #[inline(always)]
    fn place(&mut self, hash: FlowHash) -> &mut WorkBurst {
        // Emptied before every poll, so there is room for a burst.
        if let [Lane::Own] = self.lanes {
            (self.ahead)(hash);
            return self.own;
        }
        let ShardId(shard) = hash.shard(self.lanes.len());
        match self.lanes[shard] {
            Lane::Own => {
                (self.ahead)(hash);
                self.own
            }
            Lane::Ring(_) => &mut self.gathered[shard],
        }
    }
}

impl Input {
    /// An input of `side` whose frames are spread over `shards`; at most `max_frames` of it are in the engine.
    pub fn new(
        side: Side,
        port: Box<dyn Port>,
        pool: FramePool,
        hasher: FlowHasher,
        max_frames: usize,
        shards: usize,
        fragments: FragmentSettings,
    ) -> Self {
        Self {
            side,
            port,
            pool,
            fragments: Reassembly::new(side, fragments, hasher.clone()),
            hasher,
            max_frames,
            burst: Burst::new(),
            gathered: (0..shards).map(|_| WorkBurst::new()).collect(),
            received: 0,
            received_bytes: 0,
            marked: vec![0; shards],
            closed: 0,
            drained: 0,
            pressure: Pressure::Low,
            starved: 0,
            over: 0,
            checksums: VerifyChecksums::Off,
            bad_checksums: 0,
        }
    }

    /// Says whether checksums are looked at.
    #[must_use]
    pub fn verifying(self, checksums: VerifyChecksums) -> Self {
        Self { checksums, ..self }
    }

    /// Frames with a wrong checksum, if they are counted.
    pub fn bad_checksums(&self) -> u64 {
        self.bad_checksums
    }

    /// Frames dropped in front of the port, as far as the port knows.
    pub fn lost(&self) -> u64 {
        self.port.losses().received
    }

    /// Whose frames come in here.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The port.
    pub fn port(&mut self) -> &mut dyn Port {
        self.port.as_mut()
    }

    /// The pool that the input's frames come from.
    pub fn pool(&mut self) -> &mut FramePool {
        &mut self.pool
    }

    /// Frames of the pool that are out, as far as is known.
    pub fn frames_out(&self) -> usize {
        self.pool.frames_out()
    }

    /// Frames and bytes received.
    pub fn received(&self) -> (u64, u64) {
        (self.received, self.received_bytes)
    }

    /// What to wait on for more.
    pub fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.port.readiness()
    }

    /// How long its core may sleep, if the port says so.
    pub fn longest_nap(&self) -> Option<std::time::Duration> {
        self.port.longest_nap()
    }

    /// Whether frames wait for room in a ring.
    pub fn has_gathered(&self) -> bool {
        self.gathered.iter().any(|burst| !burst.is_empty())
    }

    /// Whether some shard was not told yet that `epoch` ended.
    #[inline(always)]
    pub fn must_mark(&self, epoch: u32) -> bool {
        self.marked.iter().any(|marked| *marked != epoch)
    }

    /// Whether some shard was told already that `epoch` ended, so that nothing more of it may be received.
    pub fn has_marked(&self, epoch: u32) -> bool {
        self.marked.contains(&epoch)
    }

    /// The last epoch whose end some shard was told: what is received now belongs to the next.
    pub fn last_marked(&self) -> u32 {
        // Epochs count up by one, so they differ by one at most.
        let first = self.marked.first().copied().unwrap_or(0);
        self.marked.iter().copied().find(|marked| *marked == first.wrapping_add(1)).unwrap_or(first)
    }

    /// Counts a burst of the old epoch; whether there were so many that this must be the end.
    pub fn count_drained(&mut self, most: usize) -> bool {
        self.drained += 1;
        self.drained > most
    }

    /// Whether the last poll was the first that found no slot for a frame.
    pub fn begins_to_starve(&self) -> bool {
        self.starved == 1
    }

    /// Whether the last poll was the first that found the port down for good.
    pub fn is_over_now(&self) -> bool {
        self.over == 1
    }

    /// How full the side was when last looked at.
    pub fn last_pressure(&self) -> Pressure {
        self.pressure
    }

    /// How full the side is, by the frames that are out of its pool.
    pub fn pressure(&mut self) -> Pressure {
        let high_water = (self.max_frames / 2).max(1);
        if self.pool.frames_out() >= high_water {
            // Frames that came home through the return queue still count; look before saying so.
            self.pool.collect();
        }
        let out = self.pool.frames_out();
        self.pressure = match out {
            out if out >= self.max_frames => Pressure::Full,
            out if out >= high_water => Pressure::High,
            _ => Pressure::Low,
        };
        self.pressure
    }

    /// Receives a burst, parses it, and sorts it by shard; `own` gets the frames of this core's shard, and `ahead` their
    /// hashes as soon as they are known.
    pub fn poll(
        &mut self,
        now: Nanos,
        lanes: &[Lane<'_>],
        own: &mut WorkBurst,
        ahead: impl Fn(FlowHash),
    ) -> RxState {
        let budget = match (self.pressure, self.side) {
            (Pressure::Full, Side::Secondary) => Budget::Exhausted,
            _ => Budget::Room,
        };
        let state = self.port.rx_burst(&mut self.pool, now, &mut self.burst);
        self.starved = if state == RxState::PoolEmpty { self.starved.saturating_add(1) } else { 0 };
        if state == RxState::Down && self.port.is_over() {
            self.over = self.over.saturating_add(1);
        }
        let mut sorter = Sorter { lanes, own, gathered: &mut self.gathered, ahead };
        for frame in self.burst.drain(..) {
            let ethernet = frame.ethernet();
            self.received += 1;
            self.received_bytes += u64::try_from(ethernet.len()).unwrap_or(0);
            self.bad_checksums += u64::from(self.checksums.finds_fault(&frame));
            if let Err(frame) = WorkBurst::receive_usual(frame, &self.hasher, budget, &mut sorter) {
                let work = Work::receive(frame, &self.hasher, budget);
                let work = match work.label.packet {
                    Packet::Fragment(_) => {
                        work.reassembled(&self.hasher, &mut self.fragments, &mut self.pool)
                    }
                    _ => Some(work),
                };
                if let Some(work) = work {
                    sorter.place(work.label.hash).push(work);
                }
            }
        }
        state
    }

    /// What fragments gave cause for.
    #[inline(always)]
    pub fn take_cause(&mut self) -> Option<Cause> {
        self.fragments.take_cause()
    }

    /// The fragment that has waited long enough for the rest of its datagram.
    #[inline(always)]
    pub fn expire(&mut self, now: Nanos) -> Option<Cause> {
        self.fragments.expire(now)
    }

    /// What the reassembly counts.
    pub fn fragments(&self) -> FragmentCounts {
        self.fragments.counts()
    }

    /// Whether the incomplete datagrams of `epoch` were handed on, so that nothing more of it may be received.
    pub fn has_closed(&self, epoch: u32) -> bool {
        self.closed == epoch
    }

    /// Hands on the incomplete datagrams of the epoch that ends, to be flushed with what the shard holds; to be called
    /// when nothing is gathered. `own` gets them if the shard is this core's own.
    pub fn close(&mut self, epoch: u32, now: Nanos, lanes: &[Lane<'_>], own: &mut WorkBurst) {
        self.closed = epoch;
        let Some((frame, packet)) = self.fragments.close(epoch, now) else { return };
        let work = Work::unhashed(frame, packet);
        Sorter { lanes, own, gathered: &mut self.gathered, ahead: |_| {} }.place(work.label.hash).push(work);
    }

    /// Hands gathered frames to their rings. False: some ring has no room, try again before the next poll.
    pub fn hand_over(&mut self, lanes: &[Lane<'_>], mut pushed: impl FnMut(ShardId)) -> bool {
        let mut complete = true;
        for (shard, (lane, gathered)) in lanes.iter().zip(&mut self.gathered).enumerate() {
            let Lane::Ring(ring) = lane else { continue };
            if gathered.is_empty() {
                continue;
            }
            if ring.is_full() {
                complete = false;
                continue;
            }
            let burst = std::mem::take(gathered);
            if let Err(RingItem::Frames(burst)) = ring.push(RingItem::Frames(burst)) {
                *gathered = burst;
                complete = false;
                continue;
            }
            pushed(ShardId(shard));
        }
        complete
    }

    /// Marks the end of an epoch for every shard; to be called when nothing is gathered. The core's own shard is told
    /// by `own`. False: some ring has no room, call again.
    pub fn mark(
        &mut self,
        epoch: u32,
        lanes: &[Lane<'_>],
        mut own: impl FnMut(),
        mut pushed: impl FnMut(ShardId),
    ) -> bool {
        let mut complete = true;
        for (shard, (lane, marked)) in lanes.iter().zip(&mut self.marked).enumerate() {
            if *marked == epoch {
                continue;
            }
            match lane {
                Lane::Own => own(),
                Lane::Ring(ring) => {
                    if ring.push(RingItem::Mark(epoch)).is_err() {
                        complete = false;
                        continue;
                    }
                    pushed(ShardId(shard));
                }
            }
            *marked = epoch;
        }
        if complete {
            self.drained = 0;
        }
        complete
    }
}

#[cfg(test)]
mod tests;
