//! One part of the data plane by itself: what a frame costs before it comes to a shard, in the table, on its way to another
//! core, and on its way out. What the shard as a whole costs is [`rig`](crate::rig)'s.

use std::os::fd::BorrowedFd;

use anyhow::{Result, ensure};
use colo_engine::compare::{CompareSettings, Connection, Context, Store};
use colo_engine::flow::{FlowHash, FlowHasher, FlowKey};
use colo_engine::ring::Ring;
use colo_engine::rx::RingItem;
use colo_engine::shard::{Budget, WorkBurst};
use colo_engine::table::Table;
use colo_engine::tx::{Feed, Haste, OutItem, OutQueue, Output};
use colo_engine::wire::Packet;
use pmd_tap::{BURST_FRAMES, Burst, Caps, Frame, FramePool, LinkEvent, Nanos, PoolSettings, Port, RxState};

use crate::frames::Protocol;

/// Frames of a pass.
pub const FRAMES: usize = 512;
/// Connections that are looked up.
const FLOWS: u32 = 10_000;
/// An odd step, so that the lookups of a pass do not follow the order in which connections were made.
const FLOW_STEP: u32 = 7_919;

/// A part under measurement: filled outside of what is measured.
pub trait Part {
    /// Prepares a pass of [`FRAMES`] frames.
    fn fill(&mut self);
    /// The pass; how many frames came through as they should.
    fn run(&mut self) -> usize;
}

/// The parts by their names.
pub const NAMES: [&str; 5] = ["wire-tcp", "wire-udp", "table", "ring", "out"];

/// The part of that name, if there is one.
///
/// # Errors
/// When there is no memory for its frames.
pub fn named(name: &str) -> Result<Option<Box<dyn Part>>> {
    Ok(Some(match name {
        "wire-tcp" => Box::new(Wire(Frames::new(Protocol::Tcp)?)),
        "wire-udp" => Box::new(Wire(Frames::new(Protocol::Udp)?)),
        "table" => Box::new(Lookup::new()?),
        "ring" => Box::new(Crossing::new()?),
        "out" => Box::new(Leaving::new()?),
        _ => return Ok(None),
    }))
}

/// Runs a pass; a function of its own for callgrind's sake.
///
/// # Errors
/// When frames did not come through.
#[inline(never)]
pub fn pass(part: &mut dyn Part) -> Result<()> {
    let sound = part.run();
    ensure!(sound == FRAMES, "{sound} of {FRAMES} frames came through");
    Ok(())
}

/// Frames of 64 bytes, each of another flow.
struct Frames {
    protocol: Protocol,
    pool: FramePool,
    hasher: FlowHasher,
    filled: Vec<Frame>,
}

impl Frames {
    fn new(protocol: Protocol) -> Result<Self> {
        let pool = FramePool::new(PoolSettings { small: FRAMES, mtu: 0, jumbo: 0, gso: 0 })?;
        Ok(Self { protocol, pool, hasher: FlowHasher::fixed(), filled: Vec::with_capacity(FRAMES) })
    }

    fn fill(&mut self) {
        for flow in 0..u32::try_from(FRAMES).unwrap_or(0) {
            let mut frame =
                self.pool.frame_from(&self.protocol.template(64)).expect("as many slots as frames");
            self.protocol.personalise(frame.bytes_mut(), flow, 1_000, flow);
            frame.stamp(Nanos::ZERO, u64::from(flow));
            self.filled.push(frame);
        }
    }
}

/// Parsed and hashed.
struct Wire(Frames);

impl Part for Wire {
    fn fill(&mut self) {
        self.0.fill();
    }

    fn run(&mut self) -> usize {
        let Frames { pool, hasher, filled, .. } = &mut self.0;
        let mut burst = WorkBurst::new();
        let mut sound = 0;
        while !filled.is_empty() {
            for frame in filled.drain(filled.len().saturating_sub(BURST_FRAMES)..) {
                burst.receive(frame, hasher, Budget::Room);
            }
            for work in burst.drain() {
                sound += usize::from(matches!(work.label.packet, Packet::Tcp(..) | Packet::Datagram(..)));
                pool.recycle(work.frame);
            }
        }
        sound
    }
}

/// Looked up in a table of many connections.
struct Lookup {
    table: Table,
    keys: Vec<(FlowKey, FlowHash)>,
    wanted: Vec<(FlowKey, FlowHash)>,
    next: u32,
}

impl Lookup {
    fn new() -> Result<Self> {
        let (hasher, settings) = (FlowHasher::fixed(), CompareSettings::default());
        let mut store = Store::new(8, 8, 8, hasher.clone());
        let mut table = Table::new(usize::try_from(FLOWS)?);
        let mut keys = Vec::new();
        let mut frame = Protocol::Tcp.template(64);
        for flow in 0..FLOWS {
            Protocol::Tcp.personalise(&mut frame, flow, 1_000, 0);
            let packet = Packet::parse(&frame);
            let Some(key) = packet.flow().copied() else { continue };
            let (hash, connection) = (hasher.hash(&key), Connection::new(key, &packet, 0, Nanos::ZERO));
            let mut cx = Context { settings: &settings, store: &mut store };
            let place = table.insert(connection, hash, &mut cx, Nanos::ZERO);
            ensure!(place.is_ok(), "the table has no room for connection {flow}");
            keys.push((key, hash));
        }
        Ok(Self { table, keys, wanted: Vec::with_capacity(FRAMES), next: 0 })
    }
}

impl Part for Lookup {
    fn fill(&mut self) {
        self.wanted.clear();
        for _ in 0..FRAMES {
            self.next = (self.next + FLOW_STEP) % FLOWS;
            self.wanted.extend(usize::try_from(self.next).ok().and_then(|at| self.keys.get(at)));
        }
    }

    fn run(&mut self) -> usize {
        let found = self.wanted.iter().filter(|(key, hash)| {
            self.table.find(key, *hash).and_then(|index| self.table.get(index)).is_some()
        });
        found.count()
    }
}

/// Through the ring to another core, in bursts.
struct Crossing {
    frames: Frames,
    ring: Ring<RingItem>,
    bursts: Vec<WorkBurst>,
}

impl Crossing {
    fn new() -> Result<Self> {
        let bursts = FRAMES / BURST_FRAMES;
        Ok(Self {
            frames: Frames::new(Protocol::Tcp)?,
            ring: Ring::new(bursts),
            bursts: Vec::with_capacity(bursts),
        })
    }
}

impl Part for Crossing {
    fn fill(&mut self) {
        for mut burst in self.bursts.drain(..) {
            burst.drain().for_each(|work| self.frames.pool.recycle(work.frame));
        }
        self.frames.fill();
        let Frames { filled, hasher, .. } = &mut self.frames;
        while !filled.is_empty() {
            let mut burst = WorkBurst::new();
            for frame in filled.drain(filled.len().saturating_sub(BURST_FRAMES)..) {
                burst.receive(frame, hasher, Budget::Room);
            }
            self.bursts.push(burst);
        }
    }

    fn run(&mut self) -> usize {
        let mut crossed = 0;
        for burst in self.bursts.drain(..) {
            crossed += if self.ring.push(RingItem::Frames(burst)).is_ok() { BURST_FRAMES } else { 0 };
        }
        while let Some(RingItem::Frames(burst)) = self.ring.pop() {
            self.bursts.push(burst);
        }
        crossed.min(self.bursts.len() * BURST_FRAMES)
    }
}

/// From a shard's queue to a port.
struct Leaving {
    frames: Frames,
    queue: OutQueue,
    output: Output,
}

impl Leaving {
    fn new() -> Result<Self> {
        Ok(Self {
            frames: Frames::new(Protocol::Tcp)?,
            queue: OutQueue::new(FRAMES),
            output: Output::new(Box::new(Drain), 1),
        })
    }
}

impl Part for Leaving {
    fn fill(&mut self) {
        self.frames.fill();
        self.frames.filled.drain(..).for_each(|frame| self.queue.push(OutItem::Frame(frame)));
    }

    fn run(&mut self) -> usize {
        let before = self.output.sent();
        let pool = &mut self.frames.pool;
        self.output.poll(pool, Nanos::ZERO, &mut self.queue, &[Feed::Own], Haste::Now);
        usize::try_from(self.output.sent() - before).unwrap_or(0)
    }
}

/// A port that takes everything and sends nothing.
struct Drain;

impl Port for Drain {
    fn rx_burst(&mut self, _: &mut FramePool, _: Nanos, _: &mut Burst) -> RxState {
        RxState::Empty
    }

    fn tx_burst(&mut self, pool: &mut FramePool, _: Nanos, burst: &mut Burst) {
        burst.drain(..).for_each(|frame| pool.recycle(frame));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_lets_all_frames_through() {
        for name in NAMES {
            let mut part = named(name).unwrap().unwrap();
            for _ in 0..3 {
                part.fill();
                pass(part.as_mut()).unwrap();
            }
        }
        assert!(named("nothing").unwrap().is_none());
    }
}
