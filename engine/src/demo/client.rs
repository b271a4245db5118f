//! The client of the demo: a fixed number of connections that ask, check and close, each replaced by a new one
//! when it has asked its share. Closed loop, or paced to a rate in total.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::address::{ConnectionKey, ETHERNET_HEADER, Event, Family, parse};
use super::due::DueQueue;
use super::flow::{Flow, Standing, Turn};
use super::pacer::Pacer;
use super::random::{Draws, mix};
use super::stack::{Micros, Packet, PacketBatch};
use super::totals::Totals;

/// Most requests on one connection; each asks 1 to this many.
const REQUESTS_MAX: usize = 16;

/// How long a closed connection answers a repeated FIN, µs (smoltcp's own TIME-WAIT).
const LINGER: Micros = 10_000_000;

/// Closed connections kept for that, at most; the oldest goes first.
const LINGERING_MAX: usize = 65_536;

/// Whether a connection may send its next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    NotAsked,
    Queued,
    Granted,
}

/// What the client is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Sending requests.
    Asking,
    /// Waiting for what is outstanding, closing the rest.
    Finishing,
}

struct Slot {
    family: Family,
    flow: Option<Flow>,
    left: usize,
    leave: Leave,
}

/// The client.
pub(super) struct Client {
    seed: u64,
    draws: Draws,
    phase: Phase,
    slots: Vec<Slot>,
    by_key: HashMap<ConnectionKey, usize>,
    due: DueQueue,
    pacer: Pacer,
    queued: VecDeque<usize>,
    lingering: Lingering,
    opened: u64,
    asked: u64,
    open: usize,
    totals: Arc<Totals>,
    batch: PacketBatch,
}

impl Client {
    /// A client that opens `flows` connections in its first run; every fourth speaks IPv6.
    pub(super) fn new(seed: u64, flows: usize, rate: Option<f64>, totals: Arc<Totals>) -> Self {
        let family = |slot: usize| if slot % 4 == 3 { Family::V6 } else { Family::V4 };
        let slot = |slot| Slot { family: family(slot), flow: None, left: 0, leave: Leave::NotAsked };
        let mut client = Self {
            seed,
            draws: Draws::new(mix(seed, 3)),
            phase: Phase::Asking,
            slots: (0..flows).map(slot).collect(),
            by_key: HashMap::new(),
            due: DueQueue::default(),
            pacer: Pacer::new(rate),
            queued: VecDeque::new(),
            lingering: Lingering::default(),
            opened: 0,
            asked: 0,
            open: 0,
            totals,
            batch: PacketBatch::default(),
        };
        (0..flows).for_each(|slot| client.open(slot, 0));
        client
    }

    /// When the client next wants to run.
    pub(super) fn next_due(&self) -> Micros {
        let paced = if self.queued.is_empty() { Micros::MAX } else { self.pacer.next() };
        self.due.next().min(paced)
    }

    /// Sends no more requests; connections close when their answer is there.
    pub(super) fn finish(&mut self, now: Micros) {
        self.phase = Phase::Finishing;
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if let Some(flow) = &mut slot.flow {
                flow.wake(now);
                self.due.schedule(number, flow.wake_at());
            }
        }
    }

    /// True when every connection is closed.
    pub(super) fn is_done(&self) -> bool {
        self.open == 0
    }

    /// Counts every connection that is still there as an error: something it waits for is lost.
    pub(super) fn give_up(&mut self) {
        for flow in self.slots.iter_mut().filter_map(|slot| slot.flow.as_mut()) {
            let missing = flow.describe();
            self.totals.error(|| format!("{missing} (lost)"));
        }
    }

    /// Takes an Ethernet frame from the engine; a repeated FIN of a closed connection is answered through `emit`.
    pub(super) fn receive(&mut self, frame: &[u8], now: Micros, emit: &mut dyn FnMut(&[u8])) {
        let packet = frame.get(ETHERNET_HEADER..).unwrap_or_default();
        let Some(header) = parse(packet) else { return };
        let key = ConnectionKey(header.destination);
        if let Some(&number) = self.by_key.get(&key) {
            if let Some(flow) = &mut self.slots[number].flow {
                flow.deliver(Packet::from(packet), now);
                self.due.schedule(number, flow.wake_at());
            }
        } else if header.event == Event::Finish
            && let Some(ack) = self.lingering.ack(&key)
        {
            emit(ack);
        }
    }

    /// Runs all connections that are due; their packets go to `emit`.
    pub(super) fn run(&mut self, now: Micros, emit: &mut dyn FnMut(&[u8])) {
        self.lingering.expire(now);
        while !self.queued.is_empty() && self.pacer.take(now) {
            if let Some(number) = self.queued.pop_front() {
                self.slots[number].leave = Leave::Granted;
                if let Some(flow) = &mut self.slots[number].flow {
                    flow.wake(now);
                    self.due.schedule(number, now);
                }
            }
        }
        while let Some(number) = self.due.pop(now) {
            self.step(number, now, emit);
        }
    }

    fn step(&mut self, number: usize, now: Micros, emit: &mut dyn FnMut(&[u8])) {
        let Some(mut flow) = self.slots[number].flow.take() else {
            return;
        };
        let mut standing = Standing::Open;
        if flow.wake_at() <= now {
            let mut batch = std::mem::take(&mut self.batch);
            batch.clear();
            let totals = Arc::clone(&self.totals);
            standing = flow.step(now, &totals, &mut batch, &mut || self.turn(number, now));
            batch.iter().for_each(&mut *emit);
            if standing == Standing::Done {
                self.lingering.insert(flow.key(), &batch, now);
            }
            self.batch = batch;
        }
        if standing == Standing::Open {
            // One tick later at the earliest: a run ends.
            self.due.schedule(number, flow.wake_at().max(now + 1));
            self.slots[number].flow = Some(flow);
        } else {
            self.close(number, flow.key(), now);
        }
    }

    fn turn(&mut self, number: usize, now: Micros) -> Turn {
        let slot = &mut self.slots[number];
        if slot.left == 0 || self.phase == Phase::Finishing {
            return Turn::Close;
        }
        match slot.leave {
            Leave::Queued => return Turn::Wait,
            Leave::NotAsked if !self.queued.is_empty() || !self.pacer.take(now) => {
                slot.leave = Leave::Queued;
                self.queued.push_back(number);
                return Turn::Wait;
            }
            Leave::NotAsked | Leave::Granted => {}
        }
        slot.left -= 1;
        slot.leave = Leave::NotAsked;
        self.asked += 1;
        Turn::Request(mix(self.seed, self.asked) >> 32)
    }

    fn open(&mut self, number: usize, now: Micros) {
        let left = 1 + self.draws.below(REQUESTS_MAX);
        let slot = &mut self.slots[number];
        let key = ConnectionKey::nth(self.opened, slot.family);
        slot.left = left;
        slot.flow = Some(Flow::connect(key, mix(self.seed, self.opened), now));
        self.by_key.insert(key, number);
        self.due.schedule(number, now);
        self.opened += 1;
        self.open += 1;
        self.totals.connections.add(1);
        self.count_open();
    }

    fn close(&mut self, number: usize, key: ConnectionKey, now: Micros) {
        self.by_key.remove(&key);
        self.open -= 1;
        match self.phase {
            Phase::Asking => self.open(number, now),
            Phase::Finishing => self.count_open(),
        }
    }

    fn count_open(&self) {
        self.totals.open_connections.set(u64::try_from(self.open).unwrap_or(u64::MAX));
    }
}

/// Connections in TIME-WAIT, reduced to the one packet they may still have to send.
#[derive(Debug, Default)]
struct Lingering {
    acks: HashMap<ConnectionKey, Box<[u8]>>,
    order: VecDeque<(Micros, ConnectionKey)>,
}

impl Lingering {
    fn insert(&mut self, key: ConnectionKey, last: &PacketBatch, now: Micros) {
        let Some(ack) = last.last() else { return };
        if self.order.len() == LINGERING_MAX
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.acks.remove(&oldest);
        }
        self.acks.insert(key, ack.into());
        self.order.push_back((now.saturating_add(LINGER), key));
    }

    fn ack(&self, key: &ConnectionKey) -> Option<&[u8]> {
        self.acks.get(key).map(AsRef::as_ref)
    }

    /// Drops what is too old.
    fn expire(&mut self, now: Micros) {
        while let Some(&(until, key)) = self.order.front()
            && until <= now
        {
            self.order.pop_front();
            self.acks.remove(&key);
        }
    }
}
