//! Frames that wait: a slab with two orders, arrival within the shard and arrival within the flow.
//!
//! The shard's order is what a flush goes by; the flow's order is what leaves next. Both are doubly linked through the
//! slab, so that taking any frame out is O(1).

use pmd_tap::{Frame, Nanos};

use crate::side::{BySide, Side};
use crate::wire::{Extent, SeqNumber, SeqRange};

const NONE: u32 = u32::MAX;

/// A frame's place in the slab while it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldId(pub u32);

/// A TCP segment in the primary's sequence space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// All its positions: SYN, payload, FIN.
    pub range: SeqRange,
    /// The positions that have bytes.
    pub payload: SeqRange,
    /// Where those bytes stand in the frame.
    pub extent: Extent,
    /// Acknowledgment number, if any.
    pub ack: Option<SeqNumber>,
    /// Position of its FIN.
    pub fin: Option<SeqNumber>,
    /// For a RST: its sequence number as it was sent.
    pub reset: Option<SeqNumber>,
    /// The window field.
    pub window: u16,
    /// Urgent pointer, if it has URG and that counts.
    pub urgent_pointer: Option<u16>,
}

impl Placed {
    /// Its bytes at `positions`; empty unless they are all payload.
    #[inline(always)]
    pub fn bytes_at<'a>(&self, ethernet: &'a [u8], positions: SeqRange) -> &'a [u8] {
        match u32::try_from(positions.start.past(self.payload.start)) {
            Ok(skip) => self.extent.part(ethernet, skip, positions.len()),
            Err(_) => &[],
        }
    }

    /// The position that it announces as urgent (RFC 6093): a segment's numbers begin where its range does.
    #[inline(always)]
    pub fn urgent(&self) -> Option<SeqNumber> {
        self.urgent_pointer.map(|pointer| self.range.start + u32::from(pointer))
    }

    /// Whether it has a SYN, whose window is not scaled (RFC 7323 section 2.2).
    #[inline(always)]
    pub fn is_syn(&self) -> bool {
        self.payload.start != self.range.start
    }

    /// Whether it carries nothing that needs a partner.
    #[inline(always)]
    pub fn is_pure_ack(&self) -> bool {
        self.range.is_empty() && self.reset.is_none()
    }
}

/// What a held frame is to the comparer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A segment whose place is known.
    Segment {
        /// Its place.
        placed: Placed,
        /// Which incarnation of the connection it belongs to.
        generation: u8,
        /// Secondary only: positions and events that the primary has not sent yet. [`u32::MAX`]: it never will,
        /// they differ.
        unmatched: u32,
    },
    /// A secondary's segment that came before anything of the primary told where it belongs.
    Unplaced {
        /// As it was sent.
        segment: crate::wire::Segment,
        /// Which incarnation of the connection it belongs to.
        generation: u8,
    },
    /// A datagram.
    Datagram {
        /// What is compared.
        content: Extent,
        /// Keyed digest of it, once somebody had to look for it out of order.
        digest: Option<u64>,
        /// Whether the other side has sent an equal one.
        matched: Matched,
    },
    /// Waits for the next checkpoint, uncompared.
    Opaque,
}

/// Whether a datagram has found its partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// It has.
    Yes,
    /// It has not.
    No,
}

/// A frame and why it is here.
#[derive(Debug)]
pub struct Held {
    /// The frame.
    pub frame: Frame,
    /// Index of its connection.
    pub connection: u32,
    /// Who sent it.
    pub side: Side,
    /// What is compared.
    pub content: Content,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    next: u32,
    previous: u32,
}

impl Links {
    const NONE: Self = Self { next: NONE, previous: NONE };
}

#[derive(Debug)]
struct Slot {
    held: Option<Held>,
    in_shard: Links,
    in_flow: Links,
}

/// Both ends of a list through the slab, and its length.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    head: u32,
    tail: u32,
    len: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }
}

impl Queue {
    /// The frame that came first.
    #[inline(always)]
    pub fn head(&self) -> Option<HeldId> {
        (self.head != NONE).then_some(HeldId(self.head))
    }

    /// The frame that came last.
    #[inline(always)]
    pub fn tail(&self) -> Option<HeldId> {
        (self.tail != NONE).then_some(HeldId(self.tail))
    }

    /// Frames in it.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }
}

/// Which of a slot's two lists is meant.
#[derive(Clone, Copy)]
enum Order {
    Shard,
    Flow,
}

/// All frames that one shard holds.
#[derive(Debug)]
pub struct HeldFrames {
    slots: Vec<Slot>,
    free: u32,
    by_arrival: BySide<Queue>,
    bytes: BySide<usize>,
    chains: BySide<Chains>,
}

/// What chains hold beyond what the queues count.
#[derive(Clone, Copy, Debug, Default)]
struct Chains {
    /// Chains held.
    count: usize,
    /// Frames that they stand for, less one each.
    extra: usize,
}

/// The bytes of the frames that a held one stands for.
#[inline(always)]
fn bytes_of(frame: &Frame) -> usize {
    if frame.has_followers() { frame.originals().map(Frame::len).sum() } else { frame.len() }
}

impl HeldFrames {
    /// Room for `capacity` frames. Callers never hold more: each held frame is out of a pool, and pools are bounded
    /// by the same number.
    pub fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::with_capacity(capacity),
            free: NONE,
            by_arrival: BySide::default(),
            bytes: BySide::default(),
            chains: BySide::default(),
        }
    }

    /// Frames held of one side, those in chains one by one.
    #[inline(always)]
    pub fn count(&self, side: Side) -> usize {
        usize::try_from(self.by_arrival[side].len).unwrap_or(0) + self.chains[side].extra
    }

    /// Bytes held of one side.
    pub fn bytes(&self, side: Side) -> usize {
        self.bytes[side]
    }

    /// The frame that one side sent first.
    pub fn oldest(&self, side: Side) -> Option<&Held> {
        self.get(self.by_arrival[side].head()?)
    }

    /// The frames that one side sent, in the order they came.
    pub fn iter(&self, side: Side) -> impl Iterator<Item = &Held> {
        let mut at = self.by_arrival[side].head;
        std::iter::from_fn(move || {
            let slot = self.slot(at)?;
            at = slot.in_shard.next;
            slot.held.as_ref()
        })
    }

    #[inline(always)]
    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(index).ok()?)
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<&Slot> {
        self.slots.get(usize::try_from(index).ok()?)
    }

    /// A held frame.
    #[inline(always)]
    pub fn get(&self, id: HeldId) -> Option<&Held> {
        self.slot(id.0)?.held.as_ref()
    }

    /// A held frame, to change what is known of it.
    #[inline(always)]
    pub fn content_mut(&mut self, id: HeldId) -> Option<&mut Content> {
        Some(&mut self.slot_mut(id.0)?.held.as_mut()?.content)
    }

    /// The frame of the same flow and side that came next.
    pub fn next_in_flow(&self, id: HeldId) -> Option<HeldId> {
        let next = self.slot(id.0)?.in_flow.next;
        (next != NONE).then_some(HeldId(next))
    }

    /// The frame of the same flow and side that came before.
    pub fn previous_in_flow(&self, id: HeldId) -> Option<HeldId> {
        let previous = self.slot(id.0)?.in_flow.previous;
        (previous != NONE).then_some(HeldId(previous))
    }

    /// When it arrived.
    #[inline(always)]
    pub fn arrival(&self, id: HeldId) -> Nanos {
        self.get(id).map_or(Nanos::NEVER, |held| held.frame.arrival())
    }

    /// When it was whole: its arrival, or that of the last fragment of a datagram.
    pub fn completed(&self, id: HeldId) -> Nanos {
        self.get(id).map_or(Nanos::NEVER, |held| held.frame.completed())
    }

    /// Its place in its input.
    pub fn ordinal(&self, id: HeldId) -> Option<u64> {
        self.get(id).map(|held| held.frame.ordinal())
    }

    /// Appends a frame to its flow's queue and to the shard's.
    #[inline(always)]
    pub fn push(&mut self, flow: &mut Queue, held: Held) -> HeldId {
        let side = held.side;
        self.bytes[side] += bytes_of(&held.frame);
        if held.frame.has_followers() {
            self.note_chain(side, &held.frame);
        }
        let slot = Slot { held: Some(held), in_shard: Links::NONE, in_flow: Links::NONE };
        let index = self.free;
        let index = if let Some(place) = self.slot_mut(index) {
            let next_free = place.in_shard.next;
            *place = slot;
            self.free = next_free;
            index
        } else {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        };
        let mut by_arrival = self.by_arrival[side];
        self.append(&mut by_arrival, index, Order::Shard);
        self.by_arrival[side] = by_arrival;
        self.append(flow, index, Order::Flow);
        HeldId(index)
    }

    /// Takes a frame out of both orders.
    #[inline(always)]
    pub fn take(&mut self, flow: &mut Queue, id: HeldId) -> Option<Held> {
        self.get(id)?;
        self.unlink(flow, id.0, Order::Flow);
        self.take_from_shard(id)
    }

    /// Takes out the frame that one side sent first, leaving its flow's queue alone: for a flush, which empties all
    /// flows.
    pub fn take_oldest(&mut self, side: Side) -> Option<Held> {
        self.take_from_shard(self.by_arrival[side].head()?)
    }

    #[cold]
    fn note_chain(&mut self, side: Side, frame: &Frame) {
        let chains = &mut self.chains[side];
        chains.count += 1;
        chains.extra += frame.stands_for() - 1;
    }

    /// Takes out all chains of one side, as [`take_oldest`](Self::take_oldest) does: what is in them came before they did,
    /// so a flush cannot take them as they stand.
    pub fn take_chains(&mut self, side: Side, mut taken: impl FnMut(Frame)) {
        let mut at = self.by_arrival[side].head;
        while self.chains[side].count > 0
            && let Some(slot) = self.slot(at)
        {
            let id = HeldId(at);
            at = slot.in_shard.next;
            if slot.held.as_ref().is_some_and(|held| held.frame.has_followers()) {
                self.take_from_shard(id).into_iter().for_each(|held| taken(held.frame));
            }
        }
    }

    #[inline(always)]
    fn take_from_shard(&mut self, id: HeldId) -> Option<Held> {
        let held = self.slot_mut(id.0)?.held.take()?;
        let mut by_arrival = self.by_arrival[held.side];
        self.unlink(&mut by_arrival, id.0, Order::Shard);
        self.by_arrival[held.side] = by_arrival;
        self.bytes[held.side] -= bytes_of(&held.frame);
        if held.frame.has_followers() {
            let chains = &mut self.chains[held.side];
            chains.count -= 1;
            chains.extra -= held.frame.stands_for() - 1;
        }
        let free = self.free;
        self.slot_mut(id.0)?.in_shard = Links { next: free, previous: NONE };
        self.free = id.0;
        Some(held)
    }

    #[inline(always)]
    fn links(&mut self, index: u32, order: Order) -> Option<&mut Links> {
        let slot = self.slot_mut(index)?;
        Some(match order {
            Order::Shard => &mut slot.in_shard,
            Order::Flow => &mut slot.in_flow,
        })
    }

    #[inline(always)]
    fn append(&mut self, queue: &mut Queue, index: u32, order: Order) {
        if let Some(links) = self.links(queue.tail, order) {
            links.next = index;
        } else {
            queue.head = index;
        }
        let previous = queue.tail;
        if let Some(links) = self.links(index, order) {
            *links = Links { next: NONE, previous };
        }
        queue.tail = index;
        queue.len += 1;
    }

    #[inline(always)]
    fn unlink(&mut self, queue: &mut Queue, index: u32, order: Order) {
        let Some(&mut Links { next, previous }) = self.links(index, order) else { return };
        match self.links(previous, order) {
            Some(links) => links.next = next,
            None => queue.head = next,
        }
        match self.links(next, order) {
            Some(links) => links.previous = previous,
            None => queue.tail = previous,
        }
        queue.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use pmd_tap::{FramePool, PoolSettings};

    use super::*;

    fn held(pool: &mut FramePool, side: Side, ordinal: u64) -> Held {
        let mut frame = pool.frame_from(&[0; 60]).unwrap();
        frame.stamp(Nanos(ordinal), ordinal);
        Held { frame, connection: 0, side, content: Content::Opaque }
    }

    #[test]
    fn both_orders_survive_removals_anywhere() {
        let mut pool = FramePool::new(PoolSettings::for_frames(16, 2)).unwrap();
        let mut frames = HeldFrames::new(16);
        let (mut one, mut other) = (Queue::default(), Queue::default());
        let ids: Vec<_> = (0..6)
            .map(|n| {
                let flow = if n % 2 == 0 { &mut one } else { &mut other };
                frames.push(flow, held(&mut pool, Side::Primary, n))
            })
            .collect();
        assert_eq!((one.len(), other.len(), frames.count(Side::Primary)), (3, 3, 6));
        assert_eq!(frames.take(&mut one, ids[2]).unwrap().frame.ordinal(), 2);
        assert!(frames.take(&mut one, ids[2]).is_none(), "once only");
        assert_eq!(frames.next_in_flow(ids[0]), Some(ids[4]));
        assert_eq!(frames.take(&mut other, ids[5]).unwrap().frame.ordinal(), 5);
        let again = frames.push(&mut other, held(&mut pool, Side::Primary, 6));
        assert_eq!(frames.next_in_flow(ids[3]), Some(again));
        assert_eq!(frames.bytes(Side::Primary), 5 * 60);
        let order: Vec<_> = std::iter::from_fn(|| frames.take_oldest(Side::Primary))
            .map(|held| held.frame.ordinal())
            .collect();
        assert_eq!(order, [0, 1, 3, 4, 6]);
        assert_eq!((frames.count(Side::Primary), frames.bytes(Side::Primary)), (0, 0));
    }
}
