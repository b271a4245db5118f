//! The release rule: may this primary segment leave, and with which window?
//!
//! It may when the secondary could take over right after it without any client noticing. That it leaves in order, after
//! what its connection still holds, is the caller's part.

use pmd_tap::{Frame, Nanos};

use crate::compare::{AckPolicy, Clamp, CompareSettings, Incarnation};
use crate::held::Placed;
use crate::side::Side;
use crate::verdict::{Release, Sink, WaitsFor};
use crate::wire::{Rewritten, SeqNumber, set_tcp_window};

/// What the rule says of a primary segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It waits.
    No(WaitsFor),
    /// It leaves as it is.
    Unchanged,
    /// It leaves with a lower window.
    Clamped(Clamp),
}

impl Leave {
    /// Judges a segment that came at `arrival`.
    ///
    /// Rules 1 to 3 are [`obstacle`]'s. Rule 4: its right edge is not beyond the highest that the secondary has offered.
    /// A pure ACK may carry a window update, which is not lost but waits for the secondary's, for a short grace; any other
    /// segment leaves with the window that the secondary offers, because one without news follows soon.
    #[inline(always)]
    pub(crate) fn of(
        incarnation: &Incarnation,
        settings: &CompareSettings,
        placed: &Placed,
        arrival: impl FnOnce() -> Nanos,
        now: Nanos,
    ) -> Self {
        if let Some(waits_for) = obstacle(incarnation, settings, placed) {
            return Self::No(waits_for);
        }
        match incarnation.clamp(settings, placed) {
            None => Self::Unchanged,
            Some(_) if placed.is_pure_ack() && now < arrival() + settings.window_grace => {
                Self::No(WaitsFor::SecondaryWindow)
            }
            Some(clamp) => Self::Clamped(clamp),
        }
    }

    /// Lets a frame go that may leave.
    #[inline(always)]
    pub(crate) fn release(self, mut frame: Frame, why: Release, sink: &mut impl Sink) {
        if let Self::Clamped(clamp) = self
            && set_tcp_window(&mut frame, clamp.window) == Rewritten::Yes
        {
            sink.note_clamped();
        }
        sink.release(frame, why);
    }
}

/// What keeps a primary segment from leaving, whatever its window; `None`: nothing.
///
/// 1. Bytes and 2. events: the secondary's stream is contiguous up to the segment's end, and nothing before that end
///    is contradicted. Bytes are compared when the second of the two sides sends them, so "sent by both" is "equal"
///    unless a contradiction was noted.
/// 2. A RST has the secondary's at the same position, an urgent position was announced by the secondary, too.
/// 3. It acknowledges no client byte that the secondary has not acknowledged.
#[inline(always)]
pub(crate) fn obstacle(
    incarnation: &Incarnation,
    settings: &CompareSettings,
    placed: &Placed,
) -> Option<WaitsFor> {
    if let Some(contradiction) = incarnation.contradicted_at()
        && contradiction.is_before(placed.range.end)
    {
        return Some(WaitsFor::Checkpoint);
    }
    let secondary = &incarnation.streams.secondary;
    if !placed.range.is_empty() && secondary.reach.is_none_or(|reach| reach.next.is_before(placed.range.end))
    {
        return Some(WaitsFor::Secondary);
    }
    if placed.reset.is_some() && !incarnation.reset_answered(Side::Primary, placed) {
        return Some(WaitsFor::SecondaryReset);
    }
    if placed.urgent_pointer.is_some()
        && let Some(waits_for) = incarnation.urgent_obstacle(placed)
    {
        return Some(waits_for);
    }
    ack_obstacle(incarnation, settings, placed.ack)
}

/// Rule 3 alone.
#[inline(always)]
pub(crate) fn ack_obstacle(
    incarnation: &Incarnation,
    settings: &CompareSettings,
    ack: Option<SeqNumber>,
) -> Option<WaitsFor> {
    match (ack, settings.ack_policy) {
        (None, _) | (_, AckPolicy::Any) => None,
        (Some(ack), AckPolicy::Both) => match incarnation.streams.secondary.ack {
            Some(acknowledged) if !acknowledged.is_before(ack) => None,
            _ => Some(WaitsFor::SecondaryAck),
        },
    }
}
