//! Held datagrams by content: which of them is equal to this one, oldest first.
//!
//! A hash table with chains through fixed memory, indexed like the held frames. Datagrams with the same digest form a
//! group in the order they were added; the chain of a bucket links only the groups' first members, so a flood of equal
//! datagrams makes no chain long.

use crate::held::HeldId;
use crate::side::Side;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    digest: u64,
    side: Side,
    /// Next first member in the bucket. Only a first member has it.
    next_group: u32,
    /// Last member of the group. Only a first member has it.
    last: u32,
    /// Next member of the group.
    next: u32,
}

/// The table.
#[derive(Debug)]
pub struct Digests {
    buckets: Vec<u32>,
    entries: Vec<Option<Entry>>,
    count: usize,
}

impl Digests {
    /// For frames whose [`HeldId`]s are below `capacity`.
    pub fn new(capacity: usize) -> Self {
        let buckets = capacity.max(2).next_power_of_two();
        Self { buckets: vec![NONE; buckets], entries: vec![None; capacity], count: 0 }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        // Most flushes find nothing here: only a flow that was reordered has digests.
        if self.count != 0 {
            self.buckets.fill(NONE);
            self.entries.fill(None);
            self.count = 0;
        }
    }

    fn bucket(&self, digest: u64) -> usize {
        usize::try_from(digest).unwrap_or(0) & (self.buckets.len() - 1)
    }

    fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(index).ok()?)?.as_ref()
    }

    fn entry_mut(&mut self, index: u32) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(index).ok()?)?.as_mut()
    }

    /// The datagram of `side` with this digest that was added first.
    pub fn first(&self, side: Side, digest: u64) -> Option<HeldId> {
        let mut at = self.buckets[self.bucket(digest)];
        while let Some(entry) = self.entry(at) {
            if entry.digest == digest && entry.side == side {
                return Some(HeldId(at));
            }
            at = entry.next_group;
        }
        None
    }

    /// Adds a datagram.
    pub fn insert(&mut self, id: HeldId, side: Side, digest: u64) {
        let mut entry = Entry { digest, side, next_group: NONE, last: id.0, next: NONE };
        if let Some(HeldId(first)) = self.first(side, digest) {
            let last = self.entry(first).map_or(NONE, |first| first.last);
            if let Some(last) = self.entry_mut(last) {
                last.next = id.0;
            }
            if let Some(first) = self.entry_mut(first) {
                first.last = id.0;
            }
        } else {
            let bucket = self.bucket(digest);
            entry.next_group = self.buckets[bucket];
            self.buckets[bucket] = id.0;
        }
        if let Some(place) = usize::try_from(id.0).ok().and_then(|index| self.entries.get_mut(index)) {
            *place = Some(entry);
            self.count += 1;
        }
    }

    /// Takes out the datagram that was added first with this digest. Others of its group are not taken out: equal
    /// datagrams match in the order they came.
    pub fn remove_first(&mut self, side: Side, digest: u64) -> Option<HeldId> {
        let bucket = self.bucket(digest);
        let mut before = NONE;
        let mut at = self.buckets[bucket];
        loop {
            let entry = *self.entry(at)?;
            if entry.digest == digest && entry.side == side {
                let successor = self.promote(entry);
                match self.entry_mut(before) {
                    Some(before) => before.next_group = successor,
                    None => self.buckets[bucket] = successor,
                }
                self.entries[usize::try_from(at).ok()?] = None;
                self.count -= 1;
                return Some(HeldId(at));
            }
            before = at;
            at = entry.next_group;
        }
    }

    /// Makes the second member of a group its first; what the chain goes on with after the first.
    fn promote(&mut self, first: Entry) -> u32 {
        match self.entry_mut(first.next) {
            Some(second) => {
                second.last = first.last;
                second.next_group = first.next_group;
                first.next
            }
            None => first.next_group,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_datagrams_match_in_order_and_others_stay() {
        let mut digests = Digests::new(8);
        // 1 and 9 share a bucket of eight.
        for (id, digest) in [(0, 1), (1, 9), (2, 1), (3, 1), (4, 9)] {
            digests.insert(HeldId(id), Side::Primary, digest);
        }
        digests.insert(HeldId(5), Side::Secondary, 1);
        assert_eq!(digests.remove_first(Side::Primary, 1), Some(HeldId(0)));
        assert_eq!(digests.remove_first(Side::Primary, 9), Some(HeldId(1)));
        assert_eq!(digests.first(Side::Primary, 1), Some(HeldId(2)));
        assert_eq!(digests.first(Side::Primary, 9), Some(HeldId(4)));
        assert_eq!(digests.remove_first(Side::Secondary, 1), Some(HeldId(5)));
        assert_eq!(digests.remove_first(Side::Primary, 1), Some(HeldId(2)));
        assert_eq!(digests.remove_first(Side::Primary, 1), Some(HeldId(3)));
        assert_eq!(digests.remove_first(Side::Primary, 1), None);
        digests.clear();
        assert_eq!(digests.first(Side::Primary, 9), None);
    }
}
