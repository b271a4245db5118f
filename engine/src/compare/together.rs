//! Halves of a pair that come together: the primary's and the secondary's frame are both at hand before either is held.
//!
//! On a connection that holds nothing and goes on as it should, both are entered at once, and nothing need be held, found
//! again and taken out. The outcome is what it would be if the primary's came first and the secondary's right behind it:
//! whatever is not so plain is for the caller to hand in one by one.

use pmd_tap::{Frame, Nanos};

use super::incarnation::Incarnation;
use super::same::is_same;
use super::{CompareSettings, Connection, Protocol};
use crate::release::ack_obstacle;
use crate::side::{BySide, Side};
use crate::verdict::Release;
use crate::wire::{Extent, Segment};

/// One half of a pair.
#[derive(Clone, Copy)]
pub(crate) struct Half<'a, T> {
    pub(crate) frame: &'a Frame,
    /// What it is, or where its content stands.
    pub(crate) part: &'a T,
}

impl Connection {
    /// Enters two ordinary segments if they are equal and the primary's may leave at once, and says as what; otherwise nothing
    /// has changed but that what the primary's acknowledges may be known already. To be asked only while the connection is
    /// in step.
    #[inline(always)]
    pub(crate) fn segments_meet(
        &mut self,
        settings: &CompareSettings,
        pair: BySide<Half<'_, Segment>>,
        now: Nanos,
    ) -> Option<Release> {
        debug_assert!(self.keeps_step(), "a stamp outlived its reason");
        #[cfg(test)]
        if super::short_way::is_closed() {
            return None;
        }
        if !self.is_idle() {
            return None;
        }
        let Self { flow, protocol: Protocol::Tcp(tcp), .. } = self else { return None };
        let life = &mut tcp.current;
        let (one, other) = (pair.primary, pair.secondary);
        let range = life.ordinary_range(Side::Primary, one.part)?;
        if life.ordinary_range(Side::Secondary, other.part) != Some(range) {
            return None;
        }
        let bytes = one.part.payload.of(one.frame.ethernet());
        let other_bytes = other.part.payload.of(other.frame.ethernet());
        if !is_same(bytes, other_bytes) {
            return None;
        }
        let why = if range.is_empty() { Release::Ack } else { Release::Matched };
        if why == Release::Ack && life.is_below_commit(range) {
            return None;
        }
        if !life.acks_meet(settings, one.part, other.part) {
            return None;
        }
        life.streams.primary.advance(range.end);
        life.streams.secondary.advance(range.end);
        life.move_mark();
        flow.last_seen = now;
        Some(why)
    }

    /// Enters two datagrams if they are equal and the primary's may leave at once, and says as what. To be asked only of a
    /// connection that is up to the shard's epoch and rules.
    #[inline(always)]
    pub(crate) fn datagrams_meet(&mut self, pair: BySide<Half<'_, Extent>>, now: Nanos) -> Option<Release> {
        if !self.is_idle() || self.flow.has_left_comparison() {
            return None;
        }
        let bytes = pair.primary.part.of(pair.primary.frame.ethernet());
        let other_bytes = pair.secondary.part.of(pair.secondary.frame.ethernet());
        let is_datagrams = matches!(self.protocol, Protocol::Datagram(_));
        if !is_datagrams || !is_same(bytes, other_bytes) {
            return None;
        }
        self.flow.last_seen = now;
        Some(Release::Matched)
    }
}

impl Incarnation {
    /// Takes note of what two segments acknowledge, if that keeps the primary's from leaving no longer: whether so.
    #[inline(always)]
    fn acks_meet(&mut self, settings: &CompareSettings, primary: &Segment, secondary: &Segment) -> bool {
        self.note_ordinary_ack(Side::Primary, primary);
        if secondary.ack.is_some_and(|ack| self.is_ack_ahead(ack)) {
            return false;
        }
        let stream = &self.streams.secondary;
        let (ack, edge) = (stream.ack, stream.edge);
        self.note_ordinary_ack(Side::Secondary, secondary);
        let may_leave = ack_obstacle(self, settings, primary.ack).is_none()
            && self.keeps_window(settings, primary.ack, primary.window);
        if !may_leave {
            let stream = &mut self.streams.secondary;
            (stream.ack, stream.edge) = (ack, edge);
        }
        may_leave
    }
}
