//! Held segments *in line*: while a connection is [in step](super::in_step), what is held of a side goes on where the one
//! before stopped, in the order of the side's queue. So the queue itself says which positions are held where, and nobody
//! need write it down in spans.
//!
//! A line begins when nothing of a stream is held. It ends when all of it has left, or when something out of the ordinary
//! comes: then it is written down after all, once for each frame at most.

use super::stream::Stream;
use super::{Connection, Flow, Protocol, Store};
use crate::held::{Content, HeldFrames, HeldId};
use crate::side::Side;
use crate::spans::{Owner, Span};
use crate::verdict::Sink;
use crate::wire::SeqRange;

/// The held data of one stream, as far as it stands in line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    len: u32,
    /// Where it begins: what the queue has before that came earlier and is held without positions of its own.
    first: Option<HeldId>,
    /// The first that the other side has not sent yet.
    next: Option<HeldId>,
}

impl Line {
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first that the other side has not sent.
    #[inline(always)]
    pub(super) fn awaited(&self) -> Option<HeldId> {
        self.next
    }

    /// Data was held that goes on where the last in line stopped.
    #[inline(always)]
    fn join(&mut self, id: HeldId) {
        if self.len == 0 {
            self.first = Some(id);
        }
        self.len += 1;
        if self.next.is_none() {
            self.next = Some(id);
        }
    }

    /// The other side has sent the next one.
    #[inline(always)]
    fn pass(&mut self, held: &HeldFrames) {
        self.next = self.next.and_then(|id| held.next_in_flow(id));
        while let Some(id) = self.next
            && is_without_data(held, id)
        {
            self.next = held.next_in_flow(id);
        }
    }

    /// A frame leaves the queue; the other side has sent its positions, if it has any.
    #[inline(always)]
    fn leave(&mut self, held: &HeldFrames, range: SeqRange, id: HeldId) {
        if self.first != Some(id) {
            return;
        }
        self.first = held.next_in_flow(id);
        self.len -= u32::from(!range.is_empty());
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

/// Whether a held frame takes no position: an acknowledgment between data.
#[inline(always)]
fn is_without_data(held: &HeldFrames, id: HeldId) -> bool {
    held.get(id).is_some_and(
        |held| matches!(&held.content, Content::Segment { placed, .. } if placed.range.is_empty()),
    )
}

impl Stream {
    /// Data is held that goes on where the stream stopped. False: no room.
    #[must_use]
    #[inline(always)]
    pub(super) fn hold_next(&mut self, store: &mut Store, range: SeqRange, id: HeldId) -> bool {
        if self.held.is_empty() {
            self.line.join(id);
            return true;
        }
        store.spans.insert(&mut self.held, Span { range, owner: Owner(id.0) })
    }

    /// The held frame that begins at a position, if it is known at once.
    #[inline(always)]
    pub(super) fn held_at(&self, store: &Store, range: SeqRange) -> Option<HeldId> {
        if !self.line.is_empty() {
            return self.line.next;
        }
        let span = store.spans.first_ending_after(&self.held, range.start)?;
        (span.range == range).then_some(HeldId(span.owner.0))
    }

    /// The other side has sent what is held at `range`.
    #[inline(always)]
    pub(super) fn meet(&mut self, store: &Store) {
        if !self.line.is_empty() {
            self.line.pass(&store.held);
        }
    }

    /// The held frame `id` leaves; the other side has sent its positions.
    #[inline(always)]
    pub(super) fn let_go(&mut self, store: &mut Store, range: SeqRange, id: HeldId) {
        if self.line.is_empty() {
            self.unhold(&mut store.spans, range, id);
        } else {
            self.line.leave(&store.held, range, id);
        }
    }
}

impl Connection {
    /// Something out of the ordinary comes: what stands in line is written down.
    #[inline(always)]
    pub(crate) fn break_lines(&mut self, store: &mut Store, sink: &mut impl Sink) {
        let Protocol::Tcp(tcp) = &mut self.protocol else { return };
        for side in Side::BOTH {
            let stream = &mut tcp.current.streams[side];
            if !stream.line.is_empty() {
                stream.break_line(&mut self.flow, store, sink);
            }
        }
    }
}

impl Stream {
    fn break_line(&mut self, flow: &mut Flow, store: &mut Store, sink: &mut impl Sink) {
        let mut at = std::mem::take(&mut self.line).first;
        while let Some(id) = at {
            at = store.held.next_in_flow(id);
            let content = store.held.get(id).map(|held| held.content);
            let Some(Content::Segment { placed, .. }) = content else { continue };
            let span = Span { range: placed.range, owner: Owner(id.0) };
            if !placed.range.is_empty() && !store.spans.insert(&mut self.held, span) {
                return flow.lose(sink);
            }
        }
    }
}

#[cfg(test)]
impl Connection {
    /// Whether each line is just what its queue says: from the first on, so many frames with data, and the first of them
    /// that the other side has not sent.
    pub(crate) fn assert_lines(&self, store: &Store) {
        let Protocol::Tcp(tcp) = &self.protocol else { return };
        for side in Side::BOTH {
            let (stream, other) = (&tcp.current.streams[side], &tcp.current.streams[side.other()]);
            let mut expected = Line::default();
            let mut at = stream.line.first;
            while let Some(id) = at {
                at = store.held.next_in_flow(id);
                let held = store.held.get(id).expect("what stands in line is held");
                assert_eq!(held.side, side);
                let Content::Segment { placed, .. } = &held.content else { panic!("no segment is in line") };
                if placed.range.is_empty() {
                    continue;
                }
                expected.first = stream.line.first;
                expected.len += 1;
                let is_sent = other.reach.is_some_and(|reach| !reach.next.is_before(placed.range.end));
                expected.next = expected.next.or((!is_sent).then_some(id));
            }
            assert_eq!(stream.line, expected, "{side:?}");
        }
    }
}
