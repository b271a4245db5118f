//! What one side has sent of a TCP stream, by position in the primary's sequence space.

use super::Store;
use super::former::Memory;
use super::incarnation::SEQUENCE_WINDOW;
use super::line::Line;
use super::masking::StreamOrigin;
use crate::held::{HeldId, Placed};
use crate::spans::{Owner, Span, SpanList, Spans};
use crate::wire::{SeqNumber, SeqRange, SynOptions};

use super::urgent::Urgents;

/// How far a side has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Every position before it was sent.
    pub(crate) next: SeqNumber,
    /// One past the last position sent.
    pub(crate) top: SeqNumber,
}

impl Reach {
    /// Whether a position lies where segments of this stream may come.
    pub(super) fn is_near(self, position: SeqNumber) -> bool {
        position.distance(self.next) <= SEQUENCE_WINDOW || position.distance(self.top) <= SEQUENCE_WINDOW
    }
}

/// A reset: where it lies, and its sequence number as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reset {
    pub(crate) position: SeqNumber,
    pub(crate) raw: SeqNumber,
}

impl Reset {
    /// By stream position, or by sequence number: a reset that answers a segment carries the peer's ack, or 0
    /// (RFC 9293 section 3.10.7.1).
    pub(crate) fn matches(self, other: Self) -> bool {
        self.position == other.position || self.raw == other.raw
    }
}

/// One side's half of an incarnation. What an ordinary segment asks stands in front, in one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Stream {
    /// `None` until the side has sent anything whose place is known.
    pub(crate) reach: Option<Reach>,
    /// Highest acknowledgment number that counts.
    pub(crate) ack: Option<SeqNumber>,
    /// Highest right edge of a window that counts: ack and scaled window. Means nothing without an `ack`.
    pub(crate) edge: SeqNumber,
    /// How its windows are scaled.
    pub(super) scale: u8,
    /// Held frames in step.
    pub(super) line: Line,
    /// The positions whose frames are held, unless they stand in line.
    pub(super) held: SpanList,
    /// Positions sent beyond `reach.next`, with gaps in front.
    islands: SpanList,
    /// What its first SYN offered, once that counts.
    pub(super) options: Option<SynOptions>,
    /// Urgent positions that not both sides have passed.
    pub(super) urgents: Urgents,
    /// Sequence number of the SYN as it was sent.
    pub(crate) syn: Option<SeqNumber>,
    /// Position of the FIN.
    pub(crate) fin: Option<SeqNumber>,
    /// The latest resets.
    pub(crate) resets: [Option<Reset>; 2],
}

/// A byte that differs from what is known of its position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    pub(crate) at: SeqNumber,
    /// The held frame it differs from.
    pub(crate) with: Option<HeldId>,
}

impl Difference {
    /// The one that lies earlier in the stream.
    #[inline(always)]
    pub(crate) fn earlier(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(if other.at.is_before(one.at) { other } else { one }),
            (one, other) => one.or(other),
        }
    }
}

impl Stream {
    /// Takes note of an acknowledgment and the right edge of its window.
    #[inline(always)]
    pub(super) fn note_ack(&mut self, ack: SeqNumber, edge: SeqNumber) {
        (self.ack, self.edge) = match self.ack {
            Some(highest) => (Some(highest.max(ack)), self.edge.max(edge)),
            None => (Some(ack), edge),
        };
    }

    /// Sets where the stream starts.
    pub(crate) fn start_at(&mut self, position: SeqNumber) {
        self.reach = Some(Reach { next: position, top: position });
    }

    /// Whether it has no gap, nothing urgent, and nothing that ends it.
    #[inline(always)]
    pub(super) fn is_whole(&self) -> bool {
        self.islands.is_empty() && self.fin.is_none() && self.resets[0].is_none() && self.urgents.is_empty()
    }

    /// Everything before `end` was sent, nothing beyond it.
    #[inline(always)]
    pub(super) fn advance(&mut self, end: SeqNumber) {
        self.reach = Some(Reach { next: end, top: end });
    }

    /// This stream when nothing of it is held and nothing before `position` is missing.
    pub(crate) fn settled_at(&self, position: SeqNumber) -> Self {
        let reach = Some(Reach { next: position, top: position });
        Self {
            reach,
            islands: SpanList::default(),
            held: SpanList::default(),
            line: Line::default(),
            urgents: Urgents::default(),
            ..*self
        }
    }

    /// Whether none of its frames is held.
    pub(super) fn holds_nothing(&self) -> bool {
        self.held.is_empty() && self.line.is_empty()
    }

    /// Gives back what its stretches and gaps take up.
    pub(super) fn free(&mut self, memory: &mut Memory<'_>) {
        self.line = Line::default();
        memory.spans.free(&mut self.held);
        memory.islands.free(&mut self.islands);
    }

    /// Lowers the start: what was sent so far becomes an island behind a gap. False: no room.
    #[must_use]
    pub(crate) fn lower_start(&mut self, islands: &mut Spans, origin: SeqNumber, start: SeqNumber) -> bool {
        let Some(reach) = self.reach.as_mut() else { return true };
        let sent = SeqRange { start: origin, end: reach.next };
        reach.next = start;
        sent.is_empty() || islands.insert(&mut self.islands, Span { range: sent, owner: Owner::NOBODY })
    }

    /// The first stretch of `range` that was not sent yet.
    #[inline(always)]
    pub(crate) fn gap(&self, islands: &Spans, range: SeqRange) -> Option<SeqRange> {
        let Some(reach) = self.reach else {
            return (!range.is_empty()).then_some(range);
        };
        let mut start = range.start.max(reach.next);
        if self.islands.is_empty() {
            return start.is_before(range.end).then_some(SeqRange { start, end: range.end });
        }
        while start.is_before(range.end) {
            match islands.first_ending_after(&self.islands, start) {
                Some(island) if !start.is_before(island.range.start) => start = island.range.end,
                Some(island) => return Some(SeqRange { start, end: range.end.min(island.range.start) }),
                None => return Some(SeqRange { start, end: range.end }),
            }
        }
        None
    }

    /// Whether every position before `end` was sent or lies in `range`. `end` must be beyond what was sent without a gap.
    pub(super) fn is_filled_by(&self, islands: &Spans, range: SeqRange, end: SeqNumber) -> bool {
        let Some(reach) = self.reach else { return false };
        let mut rest = SeqRange { start: reach.next, end };
        while let Some(gap) = self.gap(islands, rest) {
            if gap.start.is_before(range.start) || range.end.is_before(gap.end) {
                return false;
            }
            rest.start = gap.end;
        }
        true
    }

    /// Whether a position was sent.
    pub(crate) fn has_sent(&self, islands: &Spans, position: SeqNumber) -> bool {
        self.reach.is_some() && self.gap(islands, SeqRange::new(position, 1)).is_none()
    }

    /// Notes that `range` was sent. False: too many gaps, nothing noted.
    #[must_use]
    #[inline(always)]
    pub(crate) fn cover(&mut self, islands: &mut Spans, range: SeqRange) -> bool {
        let Some(reach) = self.reach.as_mut() else { return true };
        // Where an ACK or a reset stands, something was sent before it: a FIN, for all we know.
        if range.is_empty() {
            return true;
        }
        reach.top = reach.top.max(range.end);
        if reach.next.is_before(range.start) {
            return islands.join(&mut self.islands, range);
        }
        if reach.next.is_before(range.end) {
            reach.next = range.end;
            if !self.islands.is_empty() {
                self.absorb_islands(islands);
            }
        }
        true
    }

    fn absorb_islands(&mut self, islands: &mut Spans) {
        let Some(reach) = self.reach.as_mut() else { return };
        while let Some(island) = islands.first(&self.islands) {
            if reach.next.is_before(island.range.start) {
                return;
            }
            reach.next = reach.next.max(island.range.end);
            islands.remove(&mut self.islands, island.range.start);
        }
    }

    /// Notes that the stretches of `range` that were not sent yet are in the frame `id`. False: no room. To be called
    /// before [`cover`](Self::cover).
    #[must_use]
    #[inline(always)]
    pub(crate) fn hold(&mut self, islands: &Spans, spans: &mut Spans, range: SeqRange, id: HeldId) -> bool {
        let mut rest = range;
        while let Some(gap) = self.gap(islands, rest) {
            if !spans.insert(&mut self.held, Span { range: gap, owner: Owner(id.0) }) {
                return false;
            }
            rest.start = gap.end;
        }
        true
    }

    /// Forgets the stretches of `range` that are in the frame `id`.
    #[inline(always)]
    pub(crate) fn unhold(&mut self, spans: &mut Spans, range: SeqRange, id: HeldId) {
        let mut at = range.start;
        while at.is_before(range.end) {
            let Some(span) = spans.first_ending_after(&self.held, at) else { return };
            if !span.range.start.is_before(range.end) {
                return;
            }
            if span.owner == Owner(id.0) {
                spans.remove(&mut self.held, span.range.start);
            }
            at = span.range.end;
        }
    }

    /// The next stretch at or after `range.start` that is both in `range` and in a held frame.
    #[inline(always)]
    pub(crate) fn held_in(&self, spans: &Spans, range: SeqRange) -> Option<(SeqRange, HeldId)> {
        debug_assert!(self.line.is_empty(), "a line is broken before anybody asks");
        if range.is_empty() {
            return None;
        }
        let span = spans.first_ending_after(&self.held, range.start)?;
        let common = span.range.intersection(range);
        (!common.is_empty()).then_some((common, HeldId(span.owner.0)))
    }

    /// The held frame that has `position`.
    pub(crate) fn holder_of(&self, spans: &Spans, position: SeqNumber) -> Option<HeldId> {
        self.held_in(spans, SeqRange::new(position, 1)).map(|(_, id)| id)
    }

    /// The first byte of a segment that differs from this side's held bytes, and counts.
    #[inline(always)]
    pub(crate) fn first_difference(
        &self,
        store: &Store,
        origin: StreamOrigin,
        placed: &Placed,
        ethernet: &[u8],
    ) -> Option<Difference> {
        if self.held.is_empty() {
            return None;
        }
        let mut rest = placed.payload;
        while let Some((common, id)) = self.held_in(&store.spans, rest) {
            if let Some(at) = difference_in(store, id, origin, placed, ethernet, common) {
                return Some(Difference { at, with: Some(id) });
            }
            rest.start = common.end;
        }
        None
    }
}

/// The first of `positions` whose byte in `placed` differs from that in the held frame `id`, and counts.
#[inline(always)]
pub(crate) fn difference_in(
    store: &Store,
    id: HeldId,
    origin: StreamOrigin,
    placed: &Placed,
    ethernet: &[u8],
    positions: SeqRange,
) -> Option<SeqNumber> {
    let held = store.held.get(id)?;
    let crate::held::Content::Segment { placed: other, .. } = &held.content else { return None };
    // SYN and FIN have positions but no bytes.
    let common = positions.intersection(other.payload).intersection(placed.payload);
    if common.is_empty() {
        return None;
    }
    let mine = placed.bytes_at(ethernet, common);
    let theirs = other.bytes_at(held.frame.ethernet(), common);
    if mine == theirs {
        return None;
    }
    if let Some(mask) = store.masks.mask() {
        let whole = [(placed, ethernet), (other, held.frame.ethernet())];
        return store.masks.difference_in_stream(mask, origin, whole, common);
    }
    let equal = mine.iter().zip(theirs).take_while(|(mine, theirs)| mine == theirs).count();
    Some(common.start + u32::try_from(equal).unwrap_or(0))
}
