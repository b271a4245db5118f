//! The window rule: no right edge leaves that the secondary has not offered.
//!
//! A right edge is an acknowledgment number and the window behind it, scaled (RFC 7323 section 2.3). This says where
//! edges lie and how far a window reaches beyond them; whether a frame waits for that is the release rule's part.

use super::incarnation::Incarnation;
use super::{AckPolicy, CompareSettings, Field};
use crate::held::Placed;
use crate::wire::SeqNumber;

/// How much lower a window must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clamp {
    /// The window field that fits.
    pub(crate) window: u16,
}

/// The right edge of a segment's window. A SYN's is not scaled (RFC 7323 section 2.2), a reset has none.
#[inline(always)]
pub(super) fn edge_of(placed: &Placed, ack: SeqNumber, scale: u8) -> SeqNumber {
    if placed.reset.is_some() {
        return ack;
    }
    let scale = if placed.is_syn() { 0 } else { scale };
    plain_edge(ack, placed.window, scale)
}

/// The right edge of a window that is neither a SYN's nor a reset's.
#[inline(always)]
pub(super) fn plain_edge(ack: SeqNumber, window: u16, scale: u8) -> SeqNumber {
    ack + (u32::from(window) << scale)
}

impl Incarnation {
    /// Whether the window of a primary segment without SYN or RST may stay, as far as can be said at once: a yes is
    /// [`clamp`](Self::clamp)'s, a no is for it to judge.
    #[inline(always)]
    pub(super) fn keeps_window(
        &self,
        settings: &CompareSettings,
        ack: Option<SeqNumber>,
        window: u16,
    ) -> bool {
        let Some(ack) = ack else { return true };
        let secondary = &self.streams.secondary;
        let beyond = secondary.edge.is_before(plain_edge(ack, window, self.streams.primary.scale));
        !beyond || secondary.ack.is_none() || settings.ignored.has(Field::Window)
    }

    /// What a primary segment's window must be lowered to; `None`: it may stay.
    #[inline(always)]
    pub(crate) fn clamp(&self, settings: &CompareSettings, placed: &Placed) -> Option<Clamp> {
        let ack = placed.ack?;
        let secondary = &self.streams.secondary;
        let limit = secondary.edge;
        let beyond = limit.is_before(edge_of(placed, ack, self.streams.primary.scale));
        if !beyond || secondary.ack.is_none() || placed.reset.is_some() || settings.ignored.has(Field::Window)
        {
            return None;
        }
        self.clamp_beyond(settings, placed, ack)
    }

    #[cold]
    fn clamp_beyond(&self, settings: &CompareSettings, placed: &Placed, ack: SeqNumber) -> Option<Clamp> {
        let secondary = &self.streams.secondary;
        // An ack that may run ahead takes the secondary's window with it: otherwise what the policy lets pass would wait
        // for the window that comes with the secondary's ack.
        let ahead = match (settings.ack_policy, secondary.ack) {
            (AckPolicy::Any, Some(acked)) => u32::try_from(ack.past(acked)).unwrap_or(0),
            _ => 0,
        };
        let limit = secondary.edge + ahead;
        let scale = if placed.is_syn() { 0 } else { self.streams.primary.scale };
        let beyond = limit.is_before(edge_of(placed, ack, scale));
        beyond.then(|| Clamp::to(limit, ack, scale))
    }
}

impl Clamp {
    fn to(limit: SeqNumber, ack: SeqNumber, scale: u8) -> Self {
        // Lower than the window that was there, so it fits.
        let room = u32::try_from(limit.past(ack)).unwrap_or(0) >> scale;
        Self { window: u16::try_from(room).unwrap_or(u16::MAX) }
    }
}
