//! The connections of one shard: a bounded hash table with open addressing, a quarter full at most.
//!
//! What is forgotten, and when: a connection that holds nothing and was silent for its lifetime. The table looks for
//! such entries as a clock's hand does (Corbató 1968), a few at a time, now and then and when it needs room.

use std::time::Duration;

use pmd_tap::Nanos;

use crate::compare::{Connection, Context, Store, Worth};
use crate::flow::{FlowHash, FlowKey};

const NONE: u32 = u32::MAX;
/// Connections looked at for each one that finds the table full.
const SWEEP: usize = 64;
/// Connections looked at with each tick.
const IDLE_SWEEP: usize = 16;
/// A connection that was silent this long goes first when a commit has to make room.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tag: u32,
    connection: u32,
}

const EMPTY: Bucket = Bucket { tag: 0, connection: NONE };

/// The table.
#[derive(Debug)]
pub struct Table {
    buckets: Vec<Bucket>,
    entries: Vec<Option<Connection>>,
    /// What the connections were found by.
    tags: Vec<u32>,
    free: Vec<u32>,
    capacity: usize,
    hand: usize,
}

/// The table has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull;

impl Table {
    /// Room for `capacity` connections.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            buckets: vec![EMPTY; (capacity * 4).next_power_of_two()],
            entries: Vec::with_capacity(capacity),
            tags: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            capacity,
            hand: 0,
        }
    }

    /// Connections in it.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline(always)]
    fn home(&self, tag: u32) -> usize {
        usize::try_from(tag).unwrap_or(0) & (self.buckets.len() - 1)
    }

    /// A connection by its index.
    #[inline(always)]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Connection> {
        self.entries.get_mut(usize::try_from(index).ok()?)?.as_mut()
    }

    /// The same, to be read.
    #[inline(always)]
    pub fn get(&self, index: u32) -> Option<&Connection> {
        self.entries.get(usize::try_from(index).ok()?)?.as_ref()
    }

    /// Asks for the memory of a lookup ahead of it.
    #[inline(always)]
    pub fn prefetch(&self, hash: FlowHash) {
        pmd_tap::prefetch(&self.buckets[self.home(hash.bucket_bits())]);
    }

    /// Asks for some cache lines of the connection that a lookup will probably find, when what [`prefetch`](Self::prefetch)
    /// asked for has come.
    #[inline(always)]
    pub fn prefetch_connection<const LINES: usize>(&self, hash: FlowHash, lines: [usize; LINES]) {
        let tag = hash.bucket_bits();
        let bucket = self.buckets[self.home(tag)];
        if bucket.tag == tag
            && let Some(entry) = usize::try_from(bucket.connection).ok().and_then(|at| self.entries.get(at))
        {
            pmd_tap::prefetch_lines(entry, lines);
        }
    }

    /// The index of a flow's connection.
    #[inline(always)]
    pub fn find(&self, key: &FlowKey, hash: FlowHash) -> Option<u32> {
        let tag = hash.bucket_bits();
        let mut at = self.home(tag);
        loop {
            let bucket = self.buckets[at];
            if bucket.connection == NONE {
                return None;
            }
            if bucket.tag == tag && self.get(bucket.connection).is_some_and(|found| found.key() == key) {
                return Some(bucket.connection);
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
    }

    /// Adds a connection that is not there yet; looks for one to forget if there is no room.
    pub fn insert(
        &mut self,
        connection: Connection,
        hash: FlowHash,
        cx: &mut Context<'_>,
        now: Nanos,
    ) -> Result<u32, TableFull> {
        if self.len() == self.capacity {
            let settings = cx.settings;
            let is_over = |connection: &Connection| connection.is_dispensable(settings, now);
            self.sweep(SWEEP, connection.epoch(), cx.store, is_over);
        }
        let tag = hash.bucket_bits();
        let index = if let Some(index) = self.free.pop() {
            let at = usize::try_from(index).map_err(|_| TableFull)?;
            (self.entries[at], self.tags[at]) = (Some(connection), tag);
            index
        } else {
            if self.entries.len() == self.capacity {
                return Err(TableFull);
            }
            self.entries.push(Some(connection));
            self.tags.push(tag);
            u32::try_from(self.entries.len() - 1).map_err(|_| TableFull)?
        };
        let mut at = self.home(tag);
        while self.buckets[at].connection != NONE {
            at = (at + 1) & (self.buckets.len() - 1);
        }
        self.buckets[at] = Bucket { tag, connection: index };
        Ok(index)
    }

    /// Forgets those of the next few connections whose lifetime is over, whether there is need of room or not: so the table
    /// holds no more than is remembered.
    pub fn forget_expired(&mut self, epoch: u32, cx: &mut Context<'_>, now: Nanos) {
        let settings = cx.settings;
        self.sweep(IDLE_SWEEP, epoch, cx.store, |connection| connection.is_expired(settings, now));
    }

    /// Forgets what is over among the next few connections. Those that were silent since a commit learn of it here: what
    /// they held is gone.
    fn sweep(&mut self, most: usize, epoch: u32, store: &mut Store, is_over: impl Fn(&Connection) -> bool) {
        for _ in 0..most.min(self.entries.len()) {
            let index = self.hand;
            self.hand = (self.hand + 1) % self.entries.len();
            let is_over = self.entries[index].as_mut().is_some_and(|connection| {
                connection.refresh(epoch);
                let is_over = is_over(connection);
                if is_over {
                    connection.free(store);
                }
                is_over
            });
            if is_over {
                self.remove(index);
            }
        }
    }

    /// After a commit: forgets an eighth of the connections: closed ones first, then those that never got beyond a SYN,
    /// then quiet ones. None of them holds anything, and both sides of each stand at the same place, so they are picked
    /// up again mid-stream.
    pub fn make_room(&mut self, now: Nanos) {
        let target = self.capacity - (self.capacity / 8).max(1);
        let turns = [
            (Some(Worth::Closed), Duration::ZERO),
            (Some(Worth::Embryonic), Duration::ZERO),
            (None, QUIET),
            (None, Duration::ZERO),
        ];
        for (worth, quiet) in turns {
            for index in 0..self.entries.len() {
                if self.len() <= target {
                    return;
                }
                let forget = self.entries[index].as_ref().is_some_and(|connection| {
                    connection.is_idle()
                        && worth.is_none_or(|worth| connection.worth() == worth)
                        && now.since(connection.last_seen()) >= quiet
                });
                if forget {
                    self.remove(index);
                }
            }
        }
    }

    fn remove(&mut self, index: usize) {
        let (Some(_), Ok(number)) = (self.entries[index].take(), u32::try_from(index)) else { return };
        self.free.push(number);
        let mask = self.buckets.len() - 1;
        let mut hole = self.home(self.tags[index]);
        while self.buckets[hole].connection != number {
            hole = (hole + 1) & mask;
        }
        // Backward shift (Knuth, volume 3, 6.4, algorithm R): no tombstones, so lookups stay short.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let bucket = self.buckets[at];
            if bucket.connection == NONE {
                break;
            }
            let home = self.home(bucket.tag);
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.buckets[hole] = bucket;
                hole = at;
            }
        }
        self.buckets[hole] = EMPTY;
    }

    /// All connections, with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Connection)> {
        self.entries
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| Some((u32::try_from(index).ok()?, entry.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::compare::CompareSettings;
    use crate::flow::{Addresses, FlowHasher, Selector, VlanTags};
    use crate::wire::{Extent, Packet};

    fn key(port: u16) -> FlowKey {
        let addresses = Addresses::V4 { source: 1, destination: 2 };
        FlowKey::new(addresses, VlanTags::default(), 17, Selector::Ports { source: port, destination: 9 })
    }

    fn connection(port: u16, now: Nanos) -> Connection {
        let key = key(port);
        Connection::new(key, &Packet::Datagram(key, Extent::default()), 0, now)
    }

    fn filled(hasher: &FlowHasher, ports: impl Iterator<Item = u16>, capacity: usize) -> Table {
        let settings = CompareSettings::default();
        let mut store = Store::new(8, 8, 8, FlowHasher::fixed());
        let mut cx = Context { settings: &settings, store: &mut store };
        let mut table = Table::new(capacity);
        for port in ports {
            let hash = hasher.hash(&key(port));
            assert!(table.insert(connection(port, Nanos::ZERO), hash, &mut cx, Nanos::ZERO).is_ok());
        }
        table
    }

    /// Buckets that the longest lookup of a connection, or of none, reads.
    fn longest_lookup(table: &Table) -> usize {
        let runs = table.buckets.split(|bucket| bucket.connection == NONE);
        runs.map(|run| run.len() + 1).max().unwrap()
    }

    /// Case 89: 65,536 connections fill the table to a quarter.
    #[test]
    fn lookups_in_a_full_table_are_short() {
        let table = filled(&FlowHasher::random(), 0..=u16::MAX, 65_536);
        assert_eq!(table.len(), 65_536);
        assert!(longest_lookup(&table) <= 40, "{} buckets", longest_lookup(&table));
    }

    /// Case 90: flows chosen so that they collide under one key are like any others under another, and each start draws
    /// its own.
    #[test]
    fn a_collision_flood_needs_the_key() {
        let known = FlowHasher::seeded(1);
        let collides = |port: &u16| known.hash(&key(*port)).bucket_bits() % 4_096 < 32;
        let chosen: Vec<u16> = (0..=u16::MAX).filter(collides).take(400).collect();
        assert_eq!(chosen.len(), 400);
        let flooded = filled(&known, chosen.iter().copied(), 1_024);
        assert!(longest_lookup(&flooded) > 400, "the flood works where the key is known");
        let one = FlowHasher::random();
        let table = filled(&one, chosen.iter().copied(), 1_024);
        assert!(longest_lookup(&table) <= 20, "{} buckets", longest_lookup(&table));
        let other = FlowHasher::random();
        let moved = chosen.iter().filter(|port| one.hash(&key(**port)) != other.hash(&key(**port))).count();
        assert_eq!(moved, chosen.len(), "two starts place flows differently");
    }

    proptest! {
        /// Against a HashMap; time runs so that everything older than its lifetime may go.
        #[test]
        fn the_table_agrees_with_a_map(ops in prop::collection::vec((0_u16..40, 0_u64..30), 1..400)) {
            let (hasher, settings) = (FlowHasher::fixed(), CompareSettings::default());
            let mut store = Store::new(8, 8, 8, FlowHasher::fixed());
            let mut table = Table::new(16);
            let mut model: HashMap<u16, Nanos> = HashMap::new();
            let mut now = Nanos::ZERO;
            for (port, seconds) in ops {
                now = now + Duration::from_secs(seconds);
                let (key, hash) = (key(port), hasher.hash(&key(port)));
                if let Some(index) = table.find(&key, hash) {
                    prop_assert_eq!(table.get_mut(index).unwrap().last_seen(), model[&port]);
                    continue;
                }
                if table.insert(connection(port, now), hash, &mut Context { settings: &settings, store: &mut store }, now).is_ok() {
                    model.insert(port, now);
                } else {
                        prop_assert!(model.values().all(|seen| now.since(*seen) <= Duration::from_mins(3)));
                        table.make_room(now);
                        prop_assert_eq!(table.len(), 14);
                }
                model.retain(|port, _| table.find(&self::key(*port), hasher.hash(&self::key(*port))).is_some());
                prop_assert_eq!(model.len(), table.len());
            }
        }
    }
}
