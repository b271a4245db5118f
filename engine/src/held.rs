//! Frames that wait: a slab with the order of arrival within each flow, doubly linked through it, so that taking any
//! frame out is O(1).
//!
//! The order of arrival within the shard is what a flush goes by. Nobody else asks for it, so it is not kept but found
//! when a flush begins: frames carry their places in their input.

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

    /// Whether it is payload at these positions and nothing else.
    #[inline(always)]
    pub fn is_plain(&self, positions: SeqRange) -> bool {
        let eventful = self.fin.is_some() || self.reset.is_some() || self.urgent_pointer.is_some();
        self.range == positions && self.payload == positions && !eventful
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

#[derive(Debug)]
struct Slot {
    held: Option<Held>,
    /// Neighbours in the flow's order; of a free slot the next free one.
    next: u32,
    previous: u32,
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

/// All frames that one shard holds.
#[derive(Debug)]
pub struct HeldFrames {
    slots: Vec<Slot>,
    free: u32,
    counts: BySide<u32>,
    bytes: BySide<usize>,
    chains: BySide<Chains>,
    /// What a flush still has to take out, by place in the input, the oldest last; empty between flushes.
    leaving: BySide<Vec<Leaving>>,
}

/// A held frame that a flush is going to take out.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    ordinal: u64,
    index: u32,
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
            counts: BySide::default(),
            bytes: BySide::default(),
            chains: BySide::default(),
            leaving: BySide {
                primary: Vec::with_capacity(capacity),
                secondary: Vec::with_capacity(capacity),
            },
        }
    }

    /// Frames held of one side, those in chains one by one.
    #[inline(always)]
    pub fn count(&self, side: Side) -> usize {
        usize::try_from(self.counts[side]).unwrap_or(0) + self.chains[side].extra
    }

    /// Bytes held of one side.
    pub fn bytes(&self, side: Side) -> usize {
        self.bytes[side]
    }

    /// The frames that one side sent, in no order.
    pub fn iter(&self, side: Side) -> impl Iterator<Item = &Held> {
        self.slots.iter().filter_map(|slot| slot.held.as_ref()).filter(move |held| held.side == side)
    }

    /// The frames in some places from `from` on, in no order.
    pub fn some(&self, from: usize, places: usize) -> impl Iterator<Item = &Held> {
        self.slots.iter().skip(from).take(places).filter_map(|slot| slot.held.as_ref())
    }

    /// Places that were ever in use.
    pub fn places(&self) -> usize {
        self.slots.len()
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
        let next = self.slot(id.0)?.next;
        (next != NONE).then_some(HeldId(next))
    }

    /// The frame of the same flow and side that came before.
    pub fn previous_in_flow(&self, id: HeldId) -> Option<HeldId> {
        let previous = self.slot(id.0)?.previous;
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

    /// Appends a frame to its flow's queue.
    #[inline(always)]
    pub fn push(&mut self, flow: &mut Queue, held: Held) -> HeldId {
        let side = held.side;
        self.counts[side] += 1;
        self.bytes[side] += bytes_of(&held.frame);
        if held.frame.has_followers() {
            self.note_chain(side, &held.frame);
        }
        let previous = flow.tail;
        let slot = Slot { held: Some(held), next: NONE, previous };
        let index = self.free;
        let index = if let Some(place) = self.slot_mut(index) {
            let next_free = place.next;
            *place = slot;
            self.free = next_free;
            index
        } else {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        };
        match self.slot_mut(previous) {
            Some(last) => last.next = index,
            None => flow.head = index,
        }
        flow.tail = index;
        flow.len += 1;
        HeldId(index)
    }

    /// Takes a frame out.
    #[inline(always)]
    pub fn take(&mut self, flow: &mut Queue, id: HeldId) -> Option<Held> {
        let free = self.free;
        let slot = self.slot_mut(id.0)?;
        let held = slot.held.take()?;
        let (next, previous) = (slot.next, slot.previous);
        slot.next = free;
        self.free = id.0;
        match self.slot_mut(previous) {
            Some(before) => before.next = next,
            None => flow.head = next,
        }
        match self.slot_mut(next) {
            Some(behind) => behind.previous = previous,
            None => flow.tail = previous,
        }
        flow.len -= 1;
        self.discount(&held);
        Some(held)
    }

    /// Takes out the frame that one side sent first, leaving its flow's queue alone: for a flush, which empties all
    /// flows, and during which nothing is added.
    pub fn take_oldest(&mut self, side: Side) -> Option<Held> {
        self.oldest_place(side)?;
        let Leaving { index, .. } = self.leaving[side].pop()?;
        self.take_alone(index)
    }

    /// The place in the input of what [`take_oldest`](Self::take_oldest) would take out.
    pub fn oldest_place(&mut self, side: Side) -> Option<u64> {
        if self.leaving[side].is_empty() && self.counts[side] > 0 {
            self.line_up(side);
        }
        while let Some(Leaving { ordinal, index }) = self.leaving[side].last().copied() {
            let is_there = |held: &Held| held.side == side && held.frame.ordinal() == ordinal;
            if self.get(HeldId(index)).is_some_and(is_there) {
                return Some(ordinal);
            }
            self.leaving[side].pop();
        }
        None
    }

    /// Finds the order in which one side's frames came.
    #[cold]
    fn line_up(&mut self, side: Side) {
        let Self { slots, leaving, counts, .. } = self;
        let line = &mut leaving[side];
        let of_side = slots.iter().zip(0_u32..).filter_map(|(slot, index)| {
            let held = slot.held.as_ref().filter(|held| held.side == side)?;
            Some(Leaving { ordinal: held.frame.ordinal(), index })
        });
        // Free slots are reused at once, so what is held stands mostly in front.
        line.extend(of_side.take(usize::try_from(counts[side]).unwrap_or(usize::MAX)));
        line.sort_unstable_by_key(|leaving| std::cmp::Reverse(leaving.ordinal));
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
        for index in 0..u32::try_from(self.slots.len()).unwrap_or(NONE) {
            if self.chains[side].count == 0 {
                return;
            }
            let is_chain = |held: &Held| held.side == side && held.frame.has_followers();
            if self.get(HeldId(index)).is_some_and(is_chain) {
                self.take_alone(index).into_iter().for_each(|held| taken(held.frame));
            }
        }
    }

    fn take_alone(&mut self, index: u32) -> Option<Held> {
        let free = self.free;
        let slot = self.slot_mut(index)?;
        let held = slot.held.take()?;
        slot.next = free;
        self.free = index;
        self.discount(&held);
        Some(held)
    }

    #[inline(always)]
    fn discount(&mut self, held: &Held) {
        self.counts[held.side] -= 1;
        self.bytes[held.side] -= bytes_of(&held.frame);
        if held.frame.has_followers() {
            let chains = &mut self.chains[held.side];
            chains.count -= 1;
            chains.extra -= held.frame.stands_for() - 1;
        }
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
    fn a_flow_keeps_its_order_and_a_flush_finds_the_shards() {
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
