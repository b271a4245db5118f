//! Ranges of stream positions, sorted, in fixed memory: many lists in one slab.
//!
//! A list is a skip list (Pugh 1990), so that finding a position among 1,024 spans costs little more than among one;
//! the usual list has none or one. Heights are drawn from a keyed generator, so a guest cannot choose them. Links carry
//! the start of the span they lead to, so that a search reads only what it steps on, and the slab remembers where the
//! last searches ended (Pugh's *finger*): one frame asks for the same place several times, the next frame often for the
//! place behind it. Spans of a list never overlap. The order is serial (RFC 1982): spans of one list must lie within
//! 2^31 positions of each other, which their owner sees to; beyond that a search may miss, nothing worse.

use std::cell::Cell;
use std::fmt;

use crate::wire::{SeqNumber, SeqRange};

const LEVELS: usize = 6;
const NONE: u32 = u32::MAX;
/// Lists whose last search is remembered: both sides of one connection, and one more.
const FINGERS: usize = 4;

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

/// The way to a node, and where its span starts.
#[derive(Clone, Copy, Debug)]
struct Link {
    to: u32,
    start: SeqNumber,
}

impl Link {
    const NOWHERE: Self = Self { to: NONE, start: SeqNumber(0) };
}

/// A span, or the head of a list, which has no span.
#[derive(Clone, Copy, Debug)]
struct Node {
    span: Span,
    links: [Link; LEVELS],
}

impl Node {
    /// Of a list's head: the levels in use.
    #[inline(always)]
    fn height(&self) -> usize {
        usize::try_from(self.span.owner.0).unwrap_or(0).min(LEVELS)
    }
}

/// For each level the last node before some position; the list's head if there is none.
type Path = [u32; LEVELS];

/// Where the last search in a list ended.
#[derive(Clone, Copy, Debug)]
struct Finger {
    list: u32,
    path: Path,
}

impl Finger {
    const NOWHERE: Self = Self { list: NONE, path: [NONE; LEVELS] };
}

/// A sorted list of spans. Its memory is in the [`Spans`] it is used with, always the same one.
///
/// The usual list has one span at most: that one stands in the list itself, until a second comes.
/// The number stands in front: it is all that a connection in step asks, and lies in the same cache line as what it asks besides.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SpanList {
    len: u32,
    /// The node that leads to the others.
    head: u32,
    /// The only span, if `len` is 1 and there is no head.
    only: Span,
}

impl Default for SpanList {
    fn default() -> Self {
        let only = Span { range: SeqRange::default(), owner: Owner::NOBODY };
        Self { only, head: NONE, len: 0 }
    }
}

impl fmt::Debug for SpanList {
    /// Not where its spans are: that says nothing without the slab.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanList").field("len", &self.len).finish_non_exhaustive()
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
        self.len == 1 && self.head == NONE
    }
}

/// The slab that the spans of all lists of one shard live in.
#[derive(Debug)]
pub struct Spans {
    nodes: Vec<Node>,
    capacity: usize,
    /// Most spans of one list.
    share: u32,
    free: u32,
    used: usize,
    random: u64,
    fingers: [Cell<Finger>; FINGERS],
}

impl Spans {
    /// Room for `capacity` spans and heads of lists, of which one list may have `share`. The seed is a secret: who
    /// knows it can tell heights beforehand.
    pub fn new(capacity: usize, share: u32, seed: u64) -> Self {
        Self {
            nodes: Vec::with_capacity(capacity),
            capacity,
            share,
            free: NONE,
            used: 0,
            random: seed | 1,
            fingers: [const { Cell::new(Finger::NOWHERE) }; FINGERS],
        }
    }

    /// Nodes in use: spans of lists that have had more than one, and their heads.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Forgets all spans of all lists at once. The lists must be cleared too, by [`SpanList::default`].
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.free = NONE;
        self.used = 0;
        self.fingers = [const { Cell::new(Finger::NOWHERE) }; FINGERS];
    }

    #[inline(always)]
    fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(index).ok()?)
    }

    #[inline(always)]
    fn node_mut(&mut self, index: u32) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(index).ok()?)
    }

    #[inline(always)]
    fn link(&self, at: u32, level: usize) -> Link {
        self.node(at).map_or(Link::NOWHERE, |node| node.links[level])
    }

    #[inline(always)]
    fn set_link(&mut self, at: u32, level: usize, link: Link) {
        if let Some(node) = self.node_mut(at) {
            node.links[level] = link;
        }
    }

    #[inline(always)]
    fn finger(&self, head: u32) -> &Cell<Finger> {
        &self.fingers[usize::try_from(head).unwrap_or(0) % FINGERS]
    }

    #[inline(always)]
    fn remember(&self, list: u32, path: Path) {
        self.finger(list).set(Finger { list, path });
    }

    /// The first span.
    #[inline(always)]
    pub fn first(&self, list: &SpanList) -> Option<Span> {
        if list.head == NONE {
            return (list.len == 1).then_some(list.only);
        }
        self.node(self.link(list.head, 0).to).map(|node| node.span)
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
        let first = self.link(list.head, 0);
        if !first.start.is_before(position) {
            return self.node(first.to).map(|node| node.span);
        }
        let path = self.search(list, position);
        let before = self.node(path[0])?;
        if path[0] != list.head && position.is_before(before.span.range.end) {
            return Some(before.span);
        }
        self.node(before.links[0].to).map(|node| node.span)
    }

    /// For each level the last node whose span starts before `position`.
    #[inline]
    fn search(&self, list: &SpanList, position: SeqNumber) -> Path {
        let head = list.head;
        let finger = self.finger(head).get();
        if finger.list == head
            && let Some(node) = self.node(finger.path[0])
            && (finger.path[0] == head || node.span.range.start.is_before(position))
        {
            let is_behind = |link: Link| link.to == NONE || !link.start.is_before(position);
            let next = node.links[0];
            if is_behind(next) {
                return finger.path;
            }
            if self.node(next.to).is_some_and(|next| is_behind(next.links[0])) {
                return self.step_forward(finger, next.to);
            }
        }
        let mut path = [head; LEVELS];
        let Some(mut node) = self.node(head) else { return path };
        let mut at = head;
        // What the level above stopped at is not asked again; nowhere at first.
        let mut stop = NONE;
        for level in (0..node.height()).rev() {
            loop {
                let link = node.links[level];
                if link.to == stop || !link.start.is_before(position) {
                    stop = link.to;
                    break;
                }
                let Some(next) = self.node(link.to) else { break };
                (at, node) = (link.to, next);
            }
            path[level] = at;
        }
        self.remember(head, path);
        path
    }

    /// The finger moves on by one node.
    #[inline(always)]
    fn step_forward(&self, mut finger: Finger, next: u32) -> Path {
        for (level, at) in finger.path.iter_mut().enumerate() {
            if self.link(*at, level).to != next {
                break;
            }
            *at = next;
        }
        self.finger(finger.list).set(finger);
        finger.path
    }

    /// Adds a span that overlaps none of the list. False: no room.
    #[must_use]
    #[inline(always)]
    pub fn insert(&mut self, list: &mut SpanList, span: Span) -> bool {
        if list.is_empty() && list.head == NONE {
            list.only = span;
            list.len = 1;
            return true;
        }
        self.insert_second(list, span)
    }

    fn insert_second(&mut self, list: &mut SpanList, span: Span) -> bool {
        if list.len >= self.share {
            return false;
        }
        if list.head != NONE {
            return self.insert_in_slab(list, span);
        }
        let no_span = Span { range: SeqRange::default(), owner: Owner(0) };
        let Some(head) = self.allocate(Node { span: no_span, links: [Link::NOWHERE; LEVELS] }) else {
            return false;
        };
        let only = list.only;
        *list = SpanList { head, len: 0, ..*list };
        if self.insert_in_slab(list, only) && self.insert_in_slab(list, span) {
            return true;
        }
        self.free(list);
        *list = SpanList { only, head: NONE, len: 1 };
        false
    }

    fn insert_in_slab(&mut self, list: &mut SpanList, span: Span) -> bool {
        let path = self.search(list, span.range.start);
        self.insert_at(list, path, span)
    }

    fn insert_at(&mut self, list: &mut SpanList, mut path: Path, span: Span) -> bool {
        let Some(index) = self.allocate(Node { span, links: [Link::NOWHERE; LEVELS] }) else {
            return false;
        };
        let height = self.draw_height();
        for (level, at) in path.iter_mut().enumerate().take(height) {
            let link = self.link(*at, level);
            self.set_link(index, level, link);
            self.set_link(*at, level, Link { to: index, start: span.range.start });
            *at = index;
        }
        if let Some(head) = self.node_mut(list.head)
            && head.height() < height
        {
            head.span.owner = Owner(u32::try_from(height).unwrap_or(0));
        }
        self.remember(list.head, path);
        list.len += 1;
        true
    }

    /// Adds positions that belong to nobody: joined with the spans that they overlap or touch, which belong to nobody
    /// either. False: no room.
    #[must_use]
    pub fn join(&mut self, list: &mut SpanList, range: SeqRange) -> bool {
        let span = Span { range, owner: Owner::NOBODY };
        if list.head == NONE {
            let only = list.only.range;
            if list.is_empty() || range.end.is_before(only.start) || only.end.is_before(range.start) {
                return self.insert(list, span);
            }
            list.only.range = SeqRange { start: only.start.min(range.start), end: only.end.max(range.end) };
            return true;
        }
        let mut path = self.search(list, range.start);
        let Some(before) = self.node_mut(path[0]) else { return false };
        let next = before.links[0];
        if path[0] != list.head && !before.span.range.end.is_before(range.start) {
            before.span.range.end = before.span.range.end.max(range.end);
        } else if next.to != NONE && !range.end.is_before(next.start) {
            self.lower(&mut path, next.to, range);
        } else {
            return list.len < self.share && self.insert_at(list, path, span);
        }
        self.swallow(list, &path);
        self.remember(list.head, path);
        true
    }

    /// Lets the node behind `path` begin where `range` begins, and moves the path to it.
    fn lower(&mut self, path: &mut Path, index: u32, range: SeqRange) {
        if let Some(node) = self.node_mut(index) {
            node.span.range = SeqRange { start: range.start, end: node.span.range.end.max(range.end) };
        }
        for (level, at) in path.iter_mut().enumerate() {
            if self.link(*at, level).to != index {
                break;
            }
            self.set_link(*at, level, Link { to: index, start: range.start });
            *at = index;
        }
    }

    /// Joins the span that `path` leads to with those behind it that it has come to overlap or touch.
    fn swallow(&mut self, list: &mut SpanList, path: &Path) {
        while let Some(node) = self.node(path[0]).copied() {
            let next = node.links[0];
            if next.to == NONE || node.span.range.end.is_before(next.start) {
                return;
            }
            let Some(gone) = self.unlink(list, path, next.to) else { return };
            if let Some(node) = self.node_mut(path[0]) {
                node.span.range.end = node.span.range.end.max(gone.range.end);
            }
        }
    }

    /// Removes the span that starts at `start`, if there is one.
    #[inline(always)]
    pub fn remove(&mut self, list: &mut SpanList, start: SeqNumber) -> Option<Span> {
        if list.is_single() {
            let found = list.only.range.start == start;
            list.len -= u32::from(found);
            return found.then_some(list.only);
        }
        if list.is_empty() { None } else { self.remove_from_slab(list, start) }
    }

    fn remove_from_slab(&mut self, list: &mut SpanList, start: SeqNumber) -> Option<Span> {
        let first = self.link(list.head, 0);
        let gone = if first.start == start {
            self.step_back(list.head, first.to);
            self.unlink(list, &[list.head; LEVELS], first.to)
        } else {
            let path = self.search(list, start);
            let next = self.link(path[0], 0);
            if next.to == NONE || next.start != start {
                return None;
            }
            self.remember(list.head, path);
            self.unlink(list, &path, next.to)
        };
        if list.is_empty() {
            self.free(list);
        }
        gone
    }

    /// The list's first node goes: a finger that stands on it stands on the head then. One that stands elsewhere stays:
    /// streams are worked off at one end and grow at the other.
    #[inline(always)]
    fn step_back(&self, head: u32, first: u32) {
        let mut finger = self.finger(head).get();
        if finger.list == head {
            for at in &mut finger.path {
                if *at == first {
                    *at = head;
                }
            }
            self.finger(head).set(finger);
        }
    }

    /// Takes out the node behind `path`.
    fn unlink(&mut self, list: &mut SpanList, path: &Path, index: u32) -> Option<Span> {
        let node = *self.node(index)?;
        for (level, &at) in path.iter().enumerate() {
            if self.link(at, level).to != index {
                break;
            }
            self.set_link(at, level, node.links[level]);
        }
        list.len -= 1;
        self.release(index, index, 1);
        Some(node.span)
    }

    /// Empties a list and takes its memory back, whatever its length, at the cost of one search.
    pub fn free(&mut self, list: &mut SpanList) {
        let SpanList { head, len, .. } = std::mem::take(list);
        let Some(mut node) = self.node(head) else { return };
        let mut last = head;
        for level in (0..node.height()).rev() {
            while let Some(next) = self.node(node.links[level].to) {
                (last, node) = (node.links[level].to, next);
            }
        }
        if self.finger(head).get().list == head {
            self.finger(head).set(Finger::NOWHERE);
        }
        self.release(head, last, usize::try_from(len).unwrap_or(0) + 1);
    }

    fn allocate(&mut self, node: Node) -> Option<u32> {
        let index = self.free;
        if let Some(free) = self.node_mut(index) {
            let next = free.links[0].to;
            *free = node;
            self.free = next;
            self.used += 1;
            return Some(index);
        }
        if self.nodes.len() == self.capacity {
            return None;
        }
        let index = u32::try_from(self.nodes.len()).ok()?;
        self.nodes.push(node);
        self.used += 1;
        Some(index)
    }

    /// Gives back a chain of nodes.
    fn release(&mut self, first: u32, last: u32, count: usize) {
        let free = Link { to: self.free, start: SeqNumber(0) };
        self.set_link(last, 0, free);
        self.free = first;
        self.used -= count;
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
mod tests;
