//! The release rule: may this primary segment leave?
//!
//! It may when the secondary could take over right after it without any client noticing. That it leaves in order, after
//! what its connection still holds, is the caller's part.

use crate::compare::{AckPolicy, CompareSettings, Incarnation};
use crate::held::Placed;
use crate::side::Side;
use crate::verdict::WaitsFor;

/// What keeps a primary segment from leaving; `None`: nothing.
///
/// 1. Bytes and 2. events: the secondary's stream is contiguous up to the segment's end, and nothing before that end
///    is contradicted. Bytes are compared when the second of the two sides sends them, so "sent by both" is "equal"
///    unless a contradiction was noted.
/// 2. A RST has the secondary's at the same position.
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
    match (placed.ack, settings.ack_policy) {
        (None, _) | (_, AckPolicy::Any) => None,
        (Some(ack), AckPolicy::Both) => match secondary.ack {
            Some(acknowledged) if !acknowledged.is_before(ack) => None,
            _ => Some(WaitsFor::SecondaryAck),
        },
    }
}
