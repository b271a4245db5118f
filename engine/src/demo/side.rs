//! One guest: all its connections, and the rhythm in which they get to run. The primary runs at once with long
//! time slices; the secondary a little later, in short and irregular ones, and some of its answers differ.

use std::collections::{HashMap, HashSet};

use super::address::{ConnectionKey, Event, Header};
use super::app::Divergence;
use super::codec::FrameWriter;
use super::due::DueQueue;
use super::guest::{Birth, ConnectionGuest, Logging, Nagle, Personality};
use super::random::{Draws, mix};
use super::stack::{Micros, Packet, PacketBatch};

/// Packets a guest may have before it, over all connections. More are dropped for both guests alike, as a full
/// virtio ring drops them; TCP brings them again.
const UNREAD_MAX: usize = 65_536;

/// Bytes a primary's application writes in one time slice.
const PRIMARY_SLICE: usize = 32 * 1024;

/// Which guest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Role {
    /// The one whose frames leave.
    Primary,
    /// The one that shadows it; the probability, 0–1, with which its answers differ.
    Secondary {
        /// Per answer.
        diverge: f64,
    },
}

/// What a guest has done since the world last asked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    /// Frames sent.
    pub(super) frames: u64,
    /// Answers drawn to differ.
    pub(super) diverged: u64,
}

/// One guest.
pub(super) struct GuestSide {
    role: Role,
    seed: u64,
    draws: Draws,
    slots: Vec<Option<ConnectionGuest>>,
    free: Vec<usize>,
    by_key: HashMap<ConnectionKey, usize>,
    due: DueQueue,
    orphans: HashSet<ConnectionKey>,
    unread: usize,
    copies: u64,
    batch: PacketBatch,
}

impl GuestSide {
    /// A guest without connections, in the world of `seed`.
    pub(super) fn new(role: Role, seed: u64) -> Self {
        let own = match role {
            Role::Primary => 1,
            Role::Secondary { .. } => 2,
        };
        Self {
            role,
            seed,
            draws: Draws::new(mix(seed, own)),
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            due: DueQueue::default(),
            orphans: HashSet::new(),
            unread: 0,
            copies: 0,
            batch: PacketBatch::default(),
        }
    }

    /// When the next connection wants to run.
    pub(super) fn next_due(&self) -> Micros {
        self.due.next()
    }

    /// True while another packet may be delivered.
    pub(super) fn has_room(&self) -> bool {
        self.unread < UNREAD_MAX
    }

    /// Puts a client's packet before the guest. One that belongs to no connection and opens none is ignored, as by
    /// a firewall: connections die at slightly different times in the two guests, and a reset would say so.
    pub(super) fn deliver(&mut self, packet: &Packet, header: &Header, now: Micros) {
        let key = ConnectionKey(header.source);
        let slot = match (self.by_key.get(&key), header.event) {
            (Some(&slot), _) => slot,
            (None, Event::Open) => self.open(key, now),
            (None, _) => return,
        };
        let at = now + self.latency();
        if let Some(guest) = &mut self.slots[slot] {
            guest.deliver(packet.clone(), at);
            self.unread += 1;
            self.due.schedule(slot, guest.wake_at());
        }
    }

    /// Runs what is due, as far as the socket's backlog allows.
    pub(super) fn run(&mut self, now: Micros, out: &mut FrameWriter) -> Work {
        let mut work = Work::default();
        while !out.is_full()
            && let Some(slot) = self.due.pop(now)
        {
            let budget = self.slice();
            let Some(guest) = &mut self.slots[slot] else {
                continue;
            };
            if guest.wake_at() <= now {
                self.unread -= guest.unread();
                self.batch.clear();
                guest.step(now, budget, &mut self.batch);
                self.batch.iter().for_each(|packet| out.push(packet));
                work.frames += u64::try_from(self.batch.len()).unwrap_or(0);
                work.diverged += guest.take_diverged();
            }
            if guest.is_over() {
                let key = guest.key();
                self.forget(key);
            } else {
                // A step that leaves more to do goes to the end of the queue, one tick on: `run` ends.
                self.due.schedule(slot, guest.wake_at().max(now + 1));
            }
        }
        work
    }

    /// Becomes a copy of `primary`, connection by connection; returns how many.
    pub(super) fn become_copy_of(&mut self, primary: &Self) -> usize {
        self.slots.clear();
        self.free.clone_from(&primary.free);
        self.by_key.clone_from(&primary.by_key);
        self.due.clear();
        self.unread = primary.unread;
        self.copies += 1;
        for (slot, original) in primary.slots.iter().enumerate() {
            let mut copy = original.as_ref().and_then(ConnectionGuest::copy);
            if let Some(guest) = &mut copy {
                self.prepare(guest);
                self.due.schedule(slot, guest.wake_at());
            }
            self.slots.push(copy);
        }
        self.by_key.len()
    }

    /// Forgets connections that `primary` has not had at this call and the one before. A secondary that was left
    /// behind (by an engine that does not hold what it has not matched) would keep them for ever; nothing of them
    /// can matter to anyone any more. Call it some hundred milliseconds apart.
    pub(super) fn forget_orphans(&mut self, primary: &Self) {
        let orphans: HashSet<_> =
            self.by_key.keys().filter(|key| !primary.by_key.contains_key(key)).copied().collect();
        let before = std::mem::take(&mut self.orphans);
        before.intersection(&orphans).for_each(|key| self.forget(*key));
        self.orphans = orphans;
    }

    fn forget(&mut self, key: ConnectionKey) {
        let Some(slot) = self.by_key.remove(&key) else {
            return;
        };
        let guest = self.slots[slot].take();
        self.unread -= guest.map_or(0, |guest| guest.unread());
        self.free.push(slot);
    }

    fn open(&mut self, key: ConnectionKey, now: Micros) -> usize {
        let seed = key.seed(self.seed);
        // The same birth on both sides; the secondary is retuned afterwards.
        let nagle = if seed.is_multiple_of(4) { Nagle::On } else { Nagle::Off };
        let personality = Personality { ack_delay: Some(10_000), nagle };
        let birth = Birth { key, seed, at: now, personality };
        let guest = match self.role {
            Role::Primary => ConnectionGuest::new(birth, Logging::On),
            Role::Secondary { .. } => {
                let mut guest = ConnectionGuest::new(birth, Logging::Off);
                self.prepare(&mut guest);
                guest
            }
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(guest);
        self.by_key.insert(key, slot);
        slot
    }

    /// Makes a fresh connection or a copy the secondary's own: its tuning, and its own draws, which are new after
    /// every checkpoint so that the same answer is not drawn to differ for ever.
    fn prepare(&self, guest: &mut ConnectionGuest) {
        let Role::Secondary { diverge } = self.role else {
            return;
        };
        let seed = guest.key().seed(self.seed);
        let ack_delay = seed.is_multiple_of(2).then_some(20_000);
        guest.tune(Personality { ack_delay, nagle: Nagle::Off });
        let draws = Draws::new(mix(seed, self.copies));
        guest.set_divergence(Divergence { draws, probability: diverge });
    }

    /// How long a packet takes until the guest looks at it, µs.
    fn latency(&mut self) -> Micros {
        match self.role {
            Role::Primary => 0,
            Role::Secondary { .. } => match self.draws.bits() % 64 {
                0 => 1_500 + self.draws.bits() % 2_500,
                1..6 => 300 + self.draws.bits() % 700,
                _ => self.draws.bits() % 150,
            },
        }
    }

    /// Bytes the application may write in its next time slice.
    fn slice(&mut self) -> usize {
        match self.role {
            Role::Primary => PRIMARY_SLICE,
            Role::Secondary { .. } => 3_000 + self.draws.below(16_000),
        }
    }
}
