//! One life of a TCP connection: both streams in the primary's sequence space.
//!
//! Everything that must not leak from a connection to the next one on the same ports lives here: positions, acks,
//! the mapping of the secondary's numbers.

use super::acks_ahead::AcksAhead;
use super::former::Memory;
use super::masking::StreamOrigin;
use super::stream::{Reach, Stream};
use super::window::edge_of;
use super::{CompareSettings, SecondarySequence, Store};
use crate::held::Placed;
use crate::side::{BySide, Side};
use crate::spans::Spans;
use crate::wire::{Segment, SeqNumber, SeqRange, SeqShift};

/// How far apart numbers of one sequence space are at most, when two spaces have to be told apart: positions. Larger
/// than any burst that can be missing between two sightings, far smaller than the distance of random ISNs.
pub(super) const SEQUENCE_WINDOW: u32 = 1 << 20;

/// Largest window of TCP (RFC 7323 section 2.2): a primary segment further off has no place in the stream.
pub(super) const LARGEST_WINDOW: u32 = 1 << 30;

/// How to translate the secondary's sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    /// Nothing to go by yet, but what it was in the life before.
    Unknown { before: Option<SeqShift> },
    /// Both SYNs were seen; the next segment tells whether a rewriter translates.
    AfterSyn { raw: SeqShift },
    /// A checkpoint was committed: the next segment tells whether the secondary goes on in the primary's space.
    AfterCommit { old: SeqShift },
    /// Known.
    Fixed(SeqShift),
}

/// What becomes of a placed secondary segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It lies where it may.
    Plausible,
    /// Below the position of the last commit, or nowhere near the stream.
    Stale,
    /// The secondary sent all of it before.
    Duplicate,
}

/// One life of a connection. What an ordinary segment asks stands in front, in one cache line.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Incarnation {
    pub(super) mapping: Mapping,
    committed_ack: Option<SeqNumber>,
    /// The secondary's position at the last commit, and its ack then.
    pub(super) committed: Option<SeqNumber>,
    /// Stream offset of `mark`, and how the offset of positions near it is found when the stream is longer than 2^32.
    mark: SeqNumber,
    pub(super) generation: u8,
    mark_offset: i64,
    /// Acks of the secondary above `committed_ack` that the primary has not sent yet.
    acks_ahead: AcksAhead,
    /// First position of the secondary as it was sent, SYN aside, while its place is unknown, and what it acknowledged.
    pub(super) secondary_first: Option<(SeqNumber, Option<SeqNumber>)>,
    /// Position of stream offset 0.
    origin: SeqNumber,
    /// The primary's lowest position, while something below it can still come: until a commit, or until it is far away.
    start: Option<SeqNumber>,
    /// The lowest position that the sides disagree about.
    contradiction: Option<SeqNumber>,
    /// What each side's SYN acknowledges: the client's number, the same for both sides of one life.
    pub(super) opening_ack: BySide<Option<SeqNumber>>,
    pub(crate) streams: BySide<Stream>,
}

impl Incarnation {
    pub(super) fn new(generation: u8) -> Self {
        Self {
            generation,
            streams: BySide::default(),
            mapping: Mapping::Unknown { before: None },
            secondary_first: None,
            origin: SeqNumber::default(),
            start: None,
            mark: SeqNumber::default(),
            mark_offset: 0,
            contradiction: None,
            committed: None,
            committed_ack: None,
            opening_ack: BySide::default(),
            acks_ahead: AcksAhead::default(),
        }
    }

    /// The same, with how the secondary counted before, should it go on with that.
    pub(super) fn after(generation: u8, before: Option<SeqShift>) -> Self {
        Self { mapping: Mapping::Unknown { before }, ..Self::new(generation) }
    }

    /// Whether nothing that has a position is held of it.
    pub(super) fn holds_nothing(&self) -> bool {
        Side::BOTH.iter().all(|&side| self.streams[side].holds_nothing())
    }

    /// Gives back what its streams take up.
    pub(super) fn free(&mut self, memory: &mut Memory<'_>) {
        for side in Side::BOTH {
            self.streams[side].free(memory);
        }
    }

    /// Whether the primary has sent anything in it.
    pub(super) fn has_primary(&self) -> bool {
        self.streams.primary.reach.is_some()
    }

    /// Whether the primary has sent a SYN and nothing behind it. An ACK that completes the handshake does not show; a
    /// connection without data is worth no more.
    pub(super) fn is_embryonic(&self) -> bool {
        let primary = &self.streams.primary;
        match (primary.syn, primary.reach) {
            (Some(syn), Some(reach)) => reach.top == syn + 1,
            _ => false,
        }
    }

    /// Takes note of the primary's first segment in this life.
    pub(super) fn open_primary(&mut self, segment: &Segment) {
        self.streams.primary.start_at(segment.seq);
        if segment.flags.syn() {
            self.streams.primary.syn = Some(segment.seq);
            self.opening_ack.primary = segment.ack;
        }
        self.origin = segment.seq + u32::from(segment.flags.syn());
        self.mark = self.origin;
        self.start = Some(segment.seq);
    }

    /// Takes note of a secondary's segment that cannot be placed yet.
    pub(super) fn note_unplaced(&mut self, segment: &Segment) {
        let stream = &mut self.streams.secondary;
        if segment.flags.syn() {
            stream.syn = Some(segment.seq);
            self.opening_ack.secondary = segment.ack;
        } else {
            self.secondary_first.get_or_insert((segment.seq, segment.ack));
        }
        if let Some(ack) = segment.ack {
            let stream = &mut self.streams.secondary;
            let edge = edge_of(&place(segment, segment.seq), ack, stream.scale);
            stream.note_ack(ack, edge);
        }
    }

    /// Whether a SYN of the secondary was seen, be it before anything of the primary.
    pub(super) fn has_secondary_syn(&self) -> bool {
        self.streams.secondary.syn.is_some()
    }

    /// Finds out how the secondary's space relates to the primary's, once both have shown a position. False: it
    /// cannot be known yet.
    pub(super) fn join(&mut self, settings: &CompareSettings, store: &mut Store, segment: &Segment) -> bool {
        if self.streams.secondary.reach.is_some() {
            return true;
        }
        if !self.has_primary() {
            return false;
        }
        if segment.flags.syn() {
            self.streams.secondary.syn.get_or_insert(segment.seq);
        }
        let first = self
            .secondary_first
            .filter(|(_, ack)| !self.is_strange(*ack))
            .map_or(segment.seq, |(seq, _)| seq);
        match (self.streams.primary.syn, self.streams.secondary.syn) {
            (Some(primary), Some(secondary)) => {
                self.mapping = Mapping::AfterSyn { raw: SeqShift::between(secondary, primary) };
                self.streams.secondary.start_at(primary);
                true
            }
            (Some(primary), None) => {
                let translated = match settings.secondary_sequence {
                    SecondarySequence::Translated => true,
                    SecondarySequence::Raw => false,
                    SecondarySequence::Auto => first.distance(primary) <= SEQUENCE_WINDOW,
                };
                if translated {
                    self.mapping = Mapping::Fixed(SeqShift::IDENTITY);
                    self.streams.secondary.start_at(primary);
                }
                translated
            }
            (None, syn) => {
                // A rewriter leaves the SYN's number alone: it tells nothing of where the stream is.
                let syn = syn.filter(|_| settings.secondary_sequence != SecondarySequence::Translated);
                if syn.is_none() && segment.flags.syn() && self.secondary_first.is_none() {
                    return false;
                }
                let first = syn.map_or(first, |syn| syn + 1);
                let is_near = |shift: &SeqShift| shift.apply(first).distance(self.origin) <= SEQUENCE_WINDOW;
                let before = match self.mapping {
                    Mapping::Unknown { before } => before.filter(is_near),
                    _ => None,
                };
                let raw = before.unwrap_or_else(|| SeqShift::between(first, self.origin));
                let shift = match settings.secondary_sequence {
                    SecondarySequence::Translated => SeqShift::IDENTITY,
                    SecondarySequence::Auto if is_near(&SeqShift::IDENTITY) => SeqShift::IDENTITY,
                    SecondarySequence::Raw | SecondarySequence::Auto => raw,
                };
                self.mapping = Mapping::Fixed(shift);
                let first = shift.apply(first) - u32::from(syn.is_some());
                // A wild number says nothing about where the stream began.
                let is_near = first.distance(self.origin) <= SEQUENCE_WINDOW;
                let lowest = self.start.unwrap_or(self.origin);
                let start = if is_near { first.min(lowest) } else { lowest };
                self.streams.secondary.start_at(start);
                self.start = self.start.map(|_| start);
                !start.is_before(lowest)
                    || self.streams.primary.lower_start(&mut store.islands, lowest, start)
            }
        }
    }

    /// A primary segment in its own space.
    #[inline(always)]
    pub(super) fn place_primary(&self, segment: &Segment) -> Placed {
        if segment.flags.rst() {
            return place(segment, self.reset_position(Side::Primary, segment.seq, SeqShift::IDENTITY));
        }
        place(segment, segment.seq)
    }

    /// A secondary segment in the primary's space. To be called after [`join`](Self::join) said yes.
    #[inline(always)]
    pub(super) fn place_secondary(&mut self, settings: &CompareSettings, segment: &Segment) -> Placed {
        if segment.flags.rst() {
            return place(
                segment,
                self.reset_position(Side::Secondary, segment.seq, self.shift_or_identity()),
            );
        }
        if let Mapping::Fixed(shift) = self.mapping
            && !segment.flags.syn()
        {
            return place(segment, shift.apply(segment.seq));
        }
        place(segment, self.decide_place(settings, segment))
    }

    /// Where a reset lies. One that answers a segment has its number from the peer's ack, or 0, whatever space the side
    /// counts in; one that lies nowhere near the stream ends it where it stands.
    #[cold]
    fn reset_position(&self, side: Side, seq: SeqNumber, shift: SeqShift) -> SeqNumber {
        let Some(reach) = self.streams[side].reach else { return seq };
        let candidates = [shift.apply(seq), seq];
        let near = candidates.into_iter().min_by_key(|position| position.distance(reach.top));
        near.filter(|position| position.distance(reach.top) <= SEQUENCE_WINDOW).unwrap_or(reach.top)
    }

    #[cold]
    fn decide_place(&mut self, settings: &CompareSettings, segment: &Segment) -> SeqNumber {
        let seq = segment.seq;
        if segment.flags.syn()
            && let Some(primary) = self.streams.primary.syn
        {
            // A rewriter leaves the SYN alone: it lies where the primary's lies, whatever the mapping.
            self.learn_from_syn(seq, primary);
            return primary;
        }
        let (shift, decides) = match (self.mapping, settings.secondary_sequence) {
            (Mapping::Fixed(shift), _) => (shift, false),
            (Mapping::Unknown { .. }, _) => (SeqShift::IDENTITY, false),
            (
                Mapping::AfterSyn { raw: shift } | Mapping::AfterCommit { old: shift },
                SecondarySequence::Raw,
            ) => (shift, true),
            (Mapping::AfterSyn { .. } | Mapping::AfterCommit { .. }, SecondarySequence::Translated) => {
                (SeqShift::IDENTITY, true)
            }
            (
                Mapping::AfterSyn { raw: shift } | Mapping::AfterCommit { old: shift },
                SecondarySequence::Auto,
            ) => {
                let reach = self.streams.secondary.reach.map_or(self.origin, |reach| reach.next);
                let [same, other] = [SeqShift::IDENTITY, shift].map(|shift| shift.apply(seq).distance(reach));
                (if other < same { shift } else { SeqShift::IDENTITY }, true)
            }
        };
        let position = shift.apply(seq);
        // A latecomer of the old epoch must not decide for the new one, nor one of another life.
        let stale = self.is_below_commit(SeqRange::new(position, segment.positions()));
        let is_near = self.streams.secondary.reach.is_some_and(|reach| reach.is_near(position));
        if decides && is_near && !stale {
            self.mapping = Mapping::Fixed(shift);
        }
        position
    }

    /// Another SYN of the secondary in this life: one that was on its way at the commit, or that of a copy.
    fn learn_from_syn(&mut self, secondary: SeqNumber, primary: SeqNumber) {
        let shift = SeqShift::between(secondary, primary);
        match &mut self.mapping {
            Mapping::AfterSyn { raw: known } | Mapping::AfterCommit { old: known }
                if secondary != primary =>
            {
                *known = shift;
            }
            _ => {}
        }
    }

    /// How the secondary's numbers are translated, if that is settled.
    #[inline(always)]
    pub(super) fn settled_shift(&self) -> Option<SeqShift> {
        match self.mapping {
            Mapping::Fixed(shift) => Some(shift),
            _ => None,
        }
    }

    /// Whether no acknowledgment of the secondary waits for the primary's.
    #[inline(always)]
    pub(super) fn expects_no_ack(&self) -> bool {
        self.acks_ahead.is_empty()
    }

    /// How the secondary counts when a checkpoint has made it the primary's copy: what the primary has begun and the
    /// secondary has not goes on in the primary's numbers. `None`: nothing is known of either.
    pub(super) fn shift(&self) -> Option<SeqShift> {
        match self.mapping {
            Mapping::Unknown { before } if !self.has_primary() => before,
            Mapping::Unknown { .. } => Some(SeqShift::IDENTITY),
            Mapping::AfterSyn { raw: shift }
            | Mapping::AfterCommit { old: shift }
            | Mapping::Fixed(shift) => Some(shift),
        }
    }

    pub(super) fn shift_or_identity(&self) -> SeqShift {
        self.shift().unwrap_or(SeqShift::IDENTITY)
    }

    /// A primary segment below where the stream was picked up, before the secondary showed anything: the stream starts
    /// there, so that its bytes wait for the secondary's like all others. False: no room.
    #[must_use]
    pub(super) fn reach_down(&mut self, islands: &mut Spans, placed: &Placed) -> bool {
        let [primary, secondary] = [&self.streams.primary, &self.streams.secondary];
        let (Some(start), None, None) = (self.start, secondary.reach, primary.syn) else { return true };
        let below = placed.range.start;
        if placed.range.is_empty() || !below.is_before(start) || start.distance(below) > SEQUENCE_WINDOW {
            return true;
        }
        self.start = Some(below);
        self.streams.primary.lower_start(islands, start, below)
    }

    /// Whether a primary segment lies where bytes can be compared: near the position that everything is known up to, so
    /// that all positions of the stream's spans compare with each other.
    #[inline(always)]
    pub(super) fn is_trackable(&self, placed: &Placed) -> bool {
        // Below the start nothing was sent in this life, so nothing there was compared.
        let below = self.start.is_some_and(|start| placed.range.start.is_before(start));
        let near = |reach: Reach| placed.range.start.distance(reach.next) <= LARGEST_WINDOW;
        placed.range.is_empty() || (!below && self.streams.primary.reach.is_some_and(near))
    }

    /// Where a placed secondary segment stands to what was seen before.
    #[inline(always)]
    pub(super) fn standing(&self, store: &Store, placed: &Placed) -> Standing {
        let (Some(primary), Some(secondary)) = (self.streams.primary.reach, self.streams.secondary.reach)
        else {
            return Standing::Plausible;
        };
        let range = placed.range;
        if range.start == secondary.next && !range.is_empty() {
            return Standing::Plausible;
        }
        let top = primary.top.max(secondary.top);
        if range.start.past(top) > SEQUENCE_WINDOW.cast_signed()
            || secondary.next.past(range.end) > SEQUENCE_WINDOW.cast_signed()
            // Spans further apart could not be told apart on the circle.
            || range.start.past(secondary.next) > LARGEST_WINDOW.cast_signed()
        {
            return Standing::Stale;
        }
        if self.is_below_commit(range) {
            return Standing::Stale;
        }
        let repeats = !range.is_empty() && self.streams.secondary.gap(&store.islands, range).is_none();
        if repeats { Standing::Duplicate } else { Standing::Plausible }
    }

    /// Whether all of it lies below the primary's position at the last commit.
    #[inline(always)]
    pub(super) fn is_below_commit(&self, range: SeqRange) -> bool {
        self.committed.is_some_and(|committed| {
            range.end.is_before(committed) || (range.end == committed && !range.is_empty())
        })
    }

    /// Takes note of the primary's acknowledgment and window, and of those of the secondary that it makes count.
    #[inline(always)]
    pub(super) fn note_primary_ack(&mut self, placed: &Placed) {
        if let Some(ack) = placed.ack {
            self.primary_acks(ack, edge_of(placed, ack, self.streams.primary.scale));
        }
    }

    /// The same, the right edge being known.
    #[inline(always)]
    pub(super) fn primary_acks(&mut self, ack: SeqNumber, edge: SeqNumber) {
        if self.streams.primary.ack.is_none() {
            self.forget_strange_ack(ack);
        }
        self.streams.primary.note_ack(ack, edge);
        if !self.acks_ahead.is_empty() {
            self.count_acks_ahead();
        }
    }

    #[cold]
    fn count_acks_ahead(&mut self) {
        let Some(highest) = self.streams.primary.ack else { return };
        let secondary = &mut self.streams.secondary;
        self.acks_ahead.take(
            |ahead| !highest.is_before(ahead),
            |ack, window| secondary.note_ack(ack, ack + (u32::from(window) << secondary.scale)),
        );
    }

    /// Takes note of the secondary's acknowledgment and window.
    #[inline(always)]
    pub(super) fn note_secondary_ack(&mut self, placed: &Placed) {
        if let Some(ack) = placed.ack {
            self.secondary_acks(ack, edge_of(placed, ack, self.streams.secondary.scale));
        }
    }

    /// The same, the right edge being known.
    #[inline(always)]
    pub(super) fn secondary_acks(&mut self, ack: SeqNumber, edge: SeqNumber) {
        if self.is_ack_ahead(ack) {
            // A SYN's window is not scaled: what is kept must not become more.
            let window = u32::try_from(edge.past(ack)).unwrap_or(0);
            let window = u16::try_from(window >> self.streams.secondary.scale).unwrap_or(u16::MAX);
            self.acks_ahead.insert(ack, window);
            return;
        }
        self.streams.secondary.note_ack(ack, edge);
    }

    /// Whether an acknowledgment of the secondary counts only when the primary has sent it, too.
    #[inline(always)]
    pub(super) fn is_ack_ahead(&self, ack: SeqNumber) -> bool {
        self.committed_ack.is_some_and(|committed| committed.is_before(ack))
            && self.streams.primary.ack.is_none_or(|primary| primary.is_before(ack))
    }

    /// Takes note of a contradiction; nothing at or past it leaves.
    pub(super) fn contradict(&mut self, at: SeqNumber) {
        self.contradiction = Some(self.contradiction.map_or(at, |lowest| lowest.min(at)));
    }

    /// The lowest position that the sides disagree about.
    #[inline(always)]
    pub(crate) fn contradicted_at(&self) -> Option<SeqNumber> {
        self.contradiction
    }

    /// What the offset of a position is counted from, for positions near those that are compared.
    #[inline(always)]
    pub(super) fn stream_origin(&self) -> StreamOrigin {
        StreamOrigin { mark: self.mark, offset: self.mark_offset }
    }

    /// Stream offset of a position: 0 is the byte after the SYN, or the primary's first position.
    pub(super) fn offset_of(&self, position: SeqNumber) -> i64 {
        self.mark_offset + i64::from(position.past(self.mark))
    }

    /// Lets what positions are compared with follow the primary, so that offsets and the commit's position stay right
    /// beyond 2^31.
    #[inline(always)]
    pub(super) fn move_mark(&mut self) {
        if let Some(reach) = self.streams.primary.reach
            && reach.next.past(self.mark) > 1 << 29
        {
            // What lies before the old mark is old enough to be stale, whenever the commit was.
            let mark = self.mark;
            self.committed = self.committed.map(|committed| committed.max(mark));
            self.mark_offset = self.offset_of(reach.next);
            self.mark = reach.next;
            self.start = None;
        }
    }

    /// A checkpoint was committed: the secondary is the primary's copy.
    pub(super) fn commit(&mut self) {
        let Some(reach) = self.streams.primary.reach else {
            *self = Self::after(self.generation, self.shift());
            return;
        };
        let old = self.shift_or_identity();
        // The primary goes on behind the last position it sent. A single number far beyond a gap is not that position:
        // settling there would let everything in the gap pass as compared.
        let settled = if reach.top.distance(reach.next) <= SEQUENCE_WINDOW { reach.top } else { reach.next };
        let primary = self.streams.primary.settled_at(settled);
        let mut secondary = primary;
        secondary.syn = self.streams.secondary.syn.or(primary.syn);
        self.streams = BySide { primary, secondary };
        self.mapping = Mapping::AfterCommit { old };
        self.secondary_first = None;
        self.contradiction = None;
        self.committed = Some(settled);
        self.start = None;
        self.committed_ack = primary.ack;
        self.acks_ahead.clear();
    }
}

#[inline(always)]
fn place(segment: &Segment, position: SeqNumber) -> Placed {
    let positions = segment.positions();
    let range = SeqRange::new(position, positions);
    let rst = segment.flags.rst();
    let payload_len = if rst { 0 } else { segment.payload.len };
    let payload = SeqRange::new(position + u32::from(segment.flags.syn() && !rst), payload_len);
    Placed {
        range,
        payload,
        extent: segment.payload,
        ack: segment.ack,
        fin: (segment.flags.fin() && !rst).then_some(payload.end),
        reset: rst.then_some(segment.seq),
        window: segment.window,
        urgent_pointer: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a commit left behind must not make new segments stale when the numbers have come half way round.
    #[test]
    fn two_gibibytes_after_a_commit_nothing_new_is_below_it() {
        let mut incarnation = Incarnation::new(0);
        let mut next = SeqNumber(u32::MAX - 100);
        incarnation.streams.primary.start_at(next);
        incarnation.commit();
        for _ in 0..64 {
            next = next + (1 << 27);
            incarnation.streams.primary.start_at(next);
            incarnation.move_mark();
            assert!(!incarnation.is_below_commit(SeqRange::new(next, 10)), "{next}");
        }
    }
}
