//! Ranges of stream positions, sorted, in fixed memory: many lists in one slab.
//!
//! A list is a skip list (Pugh 1990), so that finding a position among 1,024 spans costs little more than among one;
//! the usual list has none or one. Heights are drawn from a private generator, so a guest cannot choose them. Spans of
//! a list never overlap. The order is serial (RFC 1982): spans of one list must lie within 2^31 positions of each
//! other, which their owner sees to; beyond that a search may miss, nothing worse.

use crate::wire::{SeqNumber, SeqRange};

const LEVELS: usize = 6;
const NONE: u32 = u32::MAX;

/// Something that a span belongs to: a held frame, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(pub u32);

impl Owner {
    /// The span only says that the positions were seen.
    pub const NOBODY: Self = Self(NONE);
}

/// A stretch of stream positions and whom they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The positions.
    pub range: SeqRange,
    /// Whose they are.
    pub owner: Owner,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    span: Span,
    next: [u32; LEVELS],
}

/// A sorted list of spans. Its memory is in the [`Spans`] it is used with, always the same one.
///
/// The usual list has one span at most: that one stands in the list itself, until a second comes.
#[derive(Clone, Copy, Debug)]
pub struct SpanList {
    head: [u32; LEVELS],
    /// The only span, if `len` is 1 and `head` leads nowhere.
    only: Span,
    len: u32,
}

impl Default for SpanList {
    fn default() -> Self {
        let only = Span { range: SeqRange::default(), owner: Owner::NOBODY };
        Self { head: [NONE; LEVELS], only, len: 0 }
    }
}

impl SpanList {
    /// Spans in it.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it has none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether its only span stands in itself.
    #[inline(always)]
    fn is_single(&self) -> bool {
        self.len == 1 && self.head[0] == NONE
    }
}

/// The slab that the spans of all lists of one shard live in.
#[derive(Debug)]
pub struct Spans {
    nodes: Vec<Node>,
    capacity: usize,
    free: u32,
    random: u64,
}

impl Spans {
    /// Room for `capacity` spans.
    pub fn new(capacity: usize) -> Self {
        Self { nodes: Vec::with_capacity(capacity), capacity, free: NONE, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Forgets all spans of all lists at once. The lists must be cleared too, by [`SpanList::default`].
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.free = NONE;
    }

    #[inline(always)]
    fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(index).ok()?)
    }

    /// The first span that ends after `position`.
    #[inline(always)]
    pub fn first_ending_after(&self, list: &SpanList, position: SeqNumber) -> Option<Span> {
        if list.is_empty() {
            return None;
        }
        if list.is_single() {
            return position.is_before(list.only.range.end).then_some(list.only);
        }
        self.first_in_slab(list, position)
    }

    fn first_in_slab(&self, list: &SpanList, position: SeqNumber) -> Option<Span> {
        // Mostly it is the first one of the list: streams are worked off from their start.
        let first = self.node(list.head[0])?;
        if position.is_before(first.span.range.end) {
            return Some(first.span);
        }
        let before = self.predecessors(list, position);
        self.node(self.follow(list, before[0], 0)).map(|node| node.span)
    }

    /// The index behind `at` (`NONE`: the list's head) on `level`.
    #[inline(always)]
    fn follow(&self, list: &SpanList, at: u32, level: usize) -> u32 {
        self.node(at).map_or(list.head[level], |node| node.next[level])
    }

    /// For each level the last node whose span ends at or before `position`; `NONE` for the head.
    #[inline]
    fn predecessors(&self, list: &SpanList, position: SeqNumber) -> [u32; LEVELS] {
        let mut before = [NONE; LEVELS];
        let mut at = NONE;
        for level in (0..LEVELS).rev() {
            loop {
                let next = self.follow(list, at, level);
                match self.node(next) {
                    Some(node) if !position.is_before(node.span.range.end) => at = next,
                    _ => break,
                }
            }
            before[level] = at;
        }
        before
    }

    /// Adds a span that overlaps none of the list. False: no room.
    #[must_use]
    #[inline(always)]
    pub fn insert(&mut self, list: &mut SpanList, span: Span) -> bool {
        if list.is_empty() {
            list.only = span;
            list.len = 1;
            return true;
        }
        self.insert_second(list, span)
    }

    fn insert_second(&mut self, list: &mut SpanList, span: Span) -> bool {
        if list.is_single() {
            list.len = 0;
            if !self.insert_in_slab(list, list.only) {
                list.len = 1;
                return false;
            }
        }
        self.insert_in_slab(list, span)
    }

    fn insert_in_slab(&mut self, list: &mut SpanList, span: Span) -> bool {
        let before = self.predecessors(list, span.range.start);
        let height = self.draw_height();
        let mut next = [NONE; LEVELS];
        for level in 0..height {
            next[level] = self.follow(list, before[level], level);
        }
        let Some(index) = self.allocate(Node { span, next }) else {
            return false;
        };
        for (level, &at) in before.iter().enumerate().take(height) {
            self.link(list, at, level, index);
        }
        list.len += 1;
        true
    }

    /// Removes the span that starts at `start`, if there is one.
    #[inline(always)]
    pub fn remove(&mut self, list: &mut SpanList, start: SeqNumber) -> Option<Span> {
        if list.is_single() {
            let found = list.only.range.start == start;
            list.len -= u32::from(found);
            return found.then_some(list.only);
        }
        self.remove_from_slab(list, start)
    }

    fn remove_from_slab(&mut self, list: &mut SpanList, start: SeqNumber) -> Option<Span> {
        let is_first = self.node(list.head[0])?.span.range.start == start;
        let before = if is_first { [NONE; LEVELS] } else { self.predecessors(list, start) };
        let index = self.follow(list, before[0], 0);
        let node = *self.node(index)?;
        if node.span.range.start != start {
            return None;
        }
        for (level, &at) in before.iter().enumerate() {
            if self.follow(list, at, level) == index {
                self.link(list, at, level, node.next[level]);
            }
        }
        list.len -= 1;
        self.release(index);
        Some(node.span)
    }

    fn link(&mut self, list: &mut SpanList, at: u32, level: usize, next: u32) {
        match usize::try_from(at).ok().and_then(|at| self.nodes.get_mut(at)) {
            Some(node) => node.next[level] = next,
            None => list.head[level] = next,
        }
    }

    fn allocate(&mut self, node: Node) -> Option<u32> {
        if let Some(&free) = self.node(self.free) {
            let index = self.free;
            self.free = free.next[0];
            self.nodes[usize::try_from(index).ok()?] = node;
            return Some(index);
        }
        if self.nodes.len() == self.capacity {
            return None;
        }
        let index = u32::try_from(self.nodes.len()).ok()?;
        self.nodes.push(node);
        Some(index)
    }

    fn release(&mut self, index: u32) {
        let free = self.free;
        if let Some(node) = usize::try_from(index).ok().and_then(|index| self.nodes.get_mut(index)) {
            node.next[0] = free;
            self.free = index;
        }
    }

    /// 1 to `LEVELS`, each level a quarter as likely as the one below (xorshift64, Marsaglia 2003).
    fn draw_height(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let quarters = usize::try_from(self.random.trailing_ones() / 2).unwrap_or(0);
        (1 + quarters).min(LEVELS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u32, len: u32) -> SeqRange {
        SeqRange::new(SeqNumber(start), len)
    }

    /// Everything in a list, found by walking positions.
    fn contents(spans: &Spans, list: &SpanList, from: SeqNumber) -> Vec<Span> {
        let mut found = Vec::new();
        let mut at = from;
        while let Some(span) = spans.first_ending_after(list, at) {
            at = span.range.end;
            found.push(span);
        }
        found
    }

    #[test]
    fn a_full_slab_refuses_and_a_removal_makes_room() {
        let (mut spans, mut list) = (Spans::new(1), SpanList::default());
        assert!(spans.insert(&mut list, Span { range: range(0, 5), owner: Owner(1) }));
        assert!(!spans.insert(&mut list, Span { range: range(9, 5), owner: Owner(2) }));
        assert_eq!(spans.remove(&mut list, SeqNumber(1)), None);
        assert!(spans.remove(&mut list, SeqNumber(0)).is_some());
        assert!(spans.insert(&mut list, Span { range: range(9, 5), owner: Owner(2) }));
    }

    proptest! {
        /// Against a sorted vector, around the wrap of the sequence space.
        #[test]
        fn lists_agree_with_a_sorted_vector(ops in prop::collection::vec((any::<bool>(), 0_u32..200), 1..300)) {
            let origin = SeqNumber(u32::MAX - 500);
            let (mut spans, mut list) = (Spans::new(256), SpanList::default());
            let mut other = SpanList::default();
            let apart = Span { range: range(7, 1), owner: Owner::NOBODY };
            prop_assert!(spans.insert(&mut other, apart));
            let mut model = std::collections::BTreeMap::new();
            for (insert, slot) in ops {
                let start = origin + slot * 5;
                if insert && !model.contains_key(&slot) {
                    let span = Span { range: SeqRange::new(start, 1 + slot % 5), owner: Owner(slot) };
                    prop_assert!(spans.insert(&mut list, span));
                    model.insert(slot, span);
                } else {
                    prop_assert_eq!(spans.remove(&mut list, start), model.remove(&slot));
                }
                prop_assert_eq!(usize::try_from(list.len()).unwrap(), model.len());
            }
            let expected: Vec<_> = model.values().copied().collect();
            prop_assert_eq!(contents(&spans, &list, origin), expected);
            prop_assert_eq!(other.len(), 1);
        }
    }
}
