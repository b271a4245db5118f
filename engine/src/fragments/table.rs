//! The datagrams of which fragments came: a slab, found by a keyed hash, in two orders. Bounded, nothing is allocated
//! after the start.
//!
//! *Waiting* ones go by their first fragment's arrival; *remembered* ones, whose fragments went on without being compared,
//! by when that was. A remembered one makes room for a new one; a waiting one never does.

use pmd_tap::{Frame, Nanos};

use super::cover::{Cover, Fit, WORDS};
use crate::flow::FlowKey;
use crate::wire::Fragment;

const NONE: u32 = u32::MAX;

/// A datagram's place in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Index(u32);

impl Index {
    fn place(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its fragments wait for the rest.
    Waiting,
    /// Its fragments do not fit together.
    Malformed,
    /// There was no room for them; they wait for the commit.
    Refused,
    /// They were flushed at the end of this epoch.
    Flushed { epoch: u32 },
}

#[derive(Debug)]
struct Entry {
    key: FlowKey,
    identification: u32,
    hash: u64,
    /// For people.
    flow: FlowKey,
    state: State,
    cover: Cover,
    newest: Option<Frame>,
    first_arrival: Nanos,
    first_ordinal: u64,
    /// Since when it is remembered.
    since: Nanos,
    next_in_bucket: u32,
    next: u32,
    previous: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

impl List {
    const EMPTY: Self = Self { head: NONE, tail: NONE };
}

/// All of them.
#[derive(Debug)]
pub(super) struct Table {
    capacity: usize,
    entries: Vec<Entry>,
    free: u32,
    /// [`WORDS`] for each entry.
    bits: Vec<u64>,
    buckets: Vec<u32>,
    waiting: List,
    remembered: List,
}

impl Table {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: Vec::with_capacity(capacity),
            free: NONE,
            bits: vec![0; capacity * WORDS],
            buckets: vec![NONE; (2 * capacity).next_power_of_two()],
            waiting: List::EMPTY,
            remembered: List::EMPTY,
        }
    }

    fn bucket(&self, hash: u64) -> usize {
        usize::try_from(hash).unwrap_or(0) & (self.buckets.len() - 1)
    }

    fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(Index(index).place())
    }

    pub(super) fn find(&self, fragment: &Fragment, hash: u64) -> Option<Index> {
        let key = fragment.key();
        let mut at = self.buckets[self.bucket(hash)];
        while let Some(entry) = self.entry(at) {
            if entry.hash == hash && entry.identification == fragment.identification && entry.key == key {
                return Some(Index(at));
            }
            at = entry.next_in_bucket;
        }
        None
    }

    /// A new datagram, waiting; `None` when all that there is room for wait.
    pub(super) fn begin(
        &mut self,
        fragment: &Fragment,
        hash: u64,
        first_arrival: Nanos,
        first_ordinal: u64,
    ) -> Option<Index> {
        if self.free == NONE && self.entries.len() == self.capacity {
            let oldest = self.remembered.head;
            if oldest == NONE {
                return None;
            }
            self.forget(Index(oldest));
        }
        let bucket = self.bucket(hash);
        let entry = Entry {
            key: fragment.key(),
            identification: fragment.identification,
            hash,
            flow: *fragment.flow(),
            state: State::Waiting,
            cover: Cover::default(),
            newest: None,
            first_arrival,
            first_ordinal,
            since: first_arrival,
            next_in_bucket: self.buckets[bucket],
            next: NONE,
            previous: NONE,
        };
        let index = Index(self.free);
        let index = if let Some(place) = self.entries.get_mut(index.place()) {
            self.free = place.next;
            *place = entry;
            index
        } else {
            self.entries.push(entry);
            Index(u32::try_from(self.entries.len() - 1).unwrap_or(NONE))
        };
        self.buckets[bucket] = index.0;
        self.link(index);
        Some(index)
    }

    /// Forgets a datagram of which nothing waits.
    pub(super) fn forget(&mut self, index: Index) {
        self.unlink(index);
        let entry = &mut self.entries[index.place()];
        debug_assert!(entry.newest.is_none(), "what waits is not forgotten");
        let start = index.place() * WORDS;
        entry.cover.clear(&mut self.bits[start..start + WORDS]);
        let (hash, next_in_bucket) = (entry.hash, entry.next_in_bucket);
        entry.next = self.free;
        self.free = index.0;
        let bucket = self.bucket(hash);
        if self.buckets[bucket] == index.0 {
            self.buckets[bucket] = next_in_bucket;
            return;
        }
        let mut at = self.buckets[bucket];
        while let Some(entry) = self.entries.get_mut(Index(at).place()) {
            if entry.next_in_bucket == index.0 {
                entry.next_in_bucket = next_in_bucket;
                return;
            }
            at = entry.next_in_bucket;
        }
    }

    pub(super) fn state(&self, index: Index) -> State {
        self.entries[index.place()].state
    }

    /// Since when it is remembered; `None` while it waits.
    pub(super) fn remembered_since(&self, index: Index) -> Option<Nanos> {
        let entry = &self.entries[index.place()];
        (entry.state != State::Waiting).then_some(entry.since)
    }

    pub(super) fn add(&mut self, index: Index, fragment: &Fragment) -> Fit {
        let start = index.place() * WORDS;
        self.entries[index.place()].cover.add(&mut self.bits[start..start + WORDS], fragment)
    }

    /// The datagram's length, if all of it came.
    pub(super) fn whole(&self, index: Index) -> Option<u32> {
        self.entries[index.place()].cover.whole()
    }

    /// Puts a fragment in front of those that wait.
    pub(super) fn push(&mut self, index: Index, mut frame: Frame) {
        let newest = &mut self.entries[index.place()].newest;
        if let Some(others) = newest.take() {
            frame.attach(others);
        }
        *newest = Some(frame);
    }

    /// Takes all fragments, the newest in front.
    pub(super) fn take(&mut self, index: Index) -> Option<Frame> {
        self.entries[index.place()].newest.take()
    }

    /// Remembers a datagram whose fragments went on.
    pub(super) fn remember(&mut self, index: Index, state: State, since: Nanos) {
        self.unlink(index);
        let entry = &mut self.entries[index.place()];
        (entry.state, entry.since) = (state, since);
        self.link(index);
    }

    /// A commit lets go what was refused, too.
    pub(super) fn refused_are_flushed(&mut self, epoch: u32, now: Nanos) {
        let mut at = self.remembered.head;
        while let Some(entry) = self.entries.get_mut(Index(at).place()) {
            if entry.state == State::Refused {
                // Its place in the order stays: it was remembered before what is flushed now.
                (entry.state, entry.since) = (State::Flushed { epoch }, now);
            }
            at = entry.next;
        }
    }

    /// When and as what the first fragment came.
    pub(super) fn began(&self, index: Index) -> (Nanos, u64) {
        let entry = &self.entries[index.place()];
        (entry.first_arrival, entry.first_ordinal)
    }

    pub(super) fn flow(&self, index: Index) -> &FlowKey {
        &self.entries[index.place()].flow
    }

    /// The datagram that has waited longest.
    pub(super) fn oldest(&self) -> Option<Index> {
        (self.waiting.head != NONE).then_some(Index(self.waiting.head))
    }

    /// The newest fragments of those that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Frame> {
        let mut at = self.waiting.head;
        std::iter::from_fn(move || {
            let entry = self.entry(at)?;
            at = entry.next;
            Some(entry.newest.as_ref())
        })
        .flatten()
    }

    fn list(&mut self, state: State) -> &mut List {
        if state == State::Waiting { &mut self.waiting } else { &mut self.remembered }
    }

    fn link(&mut self, index: Index) {
        let state = self.entries[index.place()].state;
        let list = self.list(state);
        let previous = std::mem::replace(&mut list.tail, index.0);
        if previous == NONE {
            list.head = index.0;
        }
        if let Some(before) = self.entries.get_mut(Index(previous).place()) {
            before.next = index.0;
        }
        let entry = &mut self.entries[index.place()];
        (entry.next, entry.previous) = (NONE, previous);
    }

    fn unlink(&mut self, index: Index) {
        let Entry { state, next, previous, .. } = self.entries[index.place()];
        let list = self.list(state);
        if previous == NONE {
            list.head = next;
        }
        if next == NONE {
            list.tail = previous;
        }
        if let Some(before) = self.entries.get_mut(Index(previous).place()) {
            before.next = next;
        }
        if let Some(behind) = self.entries.get_mut(Index(next).place()) {
            behind.previous = previous;
        }
    }
}
