//! Everything that is not TCP: datagram by datagram within the flow.
//!
//! The secondary may reorder: a datagram matches any held one that is equal, the oldest first. The primary's leave in
//! the order they came. In the ordinary case the oldest held one is the partner; only when it is not are the held ones
//! found by a keyed digest of their content.

use pmd_tap::Nanos;

use super::masking::{Difference, difference_of, digest_of};
use super::{Arrival, Context, Flow, Tracking};
use crate::held::{Content, HeldId, Matched};
use crate::side::{BySide, Side};
use crate::verdict::{Detail, Discard, MismatchKind, Release, Sink};
use crate::wire::Extent;

/// How many held datagrams are looked at for an equal one where an expression masks payload.
const NEAR: usize = 32;

/// What a datagram flow remembers beyond its queues.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug, Default)]
pub(crate) struct DatagramState {
    digested: BySide<Digested>,
    mismatch: Mismatch,
}

/// Whether the datagrams of one side can be found by digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Digested {
    /// Nobody had to look yet.
    #[default]
    No,
    /// All of them.
    Yes,
}

/// Whether a mismatch was reported in this epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mismatch {
    #[default]
    None,
    Reported,
}

impl DatagramState {
    /// A datagram of either side.
    pub(super) fn handle(
        &mut self,
        flow: &mut Flow,
        cx: &mut Context<'_>,
        arrival: Arrival,
        content: Extent,
        sink: &mut impl Sink,
    ) {
        let side = arrival.side;
        let partner = self.find_partner(flow, cx, &arrival, content);
        if let Some(partner) = partner {
            cx.store.note_twins(side, &arrival.frame, partner);
        }
        match (partner, side) {
            (Some(partner), Side::Primary) => {
                self.discard_partner(flow, cx, partner, sink);
                if flow.queues.primary.is_empty() {
                    sink.release(arrival.frame, Release::Matched);
                } else {
                    flow.hold(
                        cx,
                        arrival,
                        Content::Datagram { content, digest: None, matched: Matched::Yes },
                    );
                }
            }
            (Some(partner), Side::Secondary) => {
                Self::forget_digest(cx, partner);
                if let Some(Content::Datagram { matched, .. }) = cx.store.held.content_mut(partner) {
                    *matched = Matched::Yes;
                }
                sink.discard(arrival.frame, Discard::Matched);
                drain(flow, cx, sink);
                if flow.queues.primary.is_empty() {
                    self.digested.primary = Digested::No;
                }
            }
            (None, _) => {
                let id =
                    flow.hold(cx, arrival, Content::Datagram { content, digest: None, matched: Matched::No });
                if self.digested[side] == Digested::Yes {
                    add_digest(flow, cx, id);
                }
            }
        }
    }

    /// The oldest datagram of the other side that is equal and has no partner yet.
    fn find_partner(
        &mut self,
        flow: &Flow,
        cx: &mut Context<'_>,
        arrival: &Arrival,
        content: Extent,
    ) -> Option<HeldId> {
        let other = arrival.side.other();
        let head = flow.queues[other].head()?;
        let bytes = content.of(arrival.frame.ethernet());
        if is_equal(flow, cx, head, bytes) {
            return Some(head);
        }
        if flow.queues[other].len() == 1 {
            return None;
        }
        if cx.store.masks.has_expressions() {
            return find_near(flow, cx, other, bytes);
        }
        self.digest_all(flow, cx, other);
        let digest = digest_of(flow, cx, arrival.connection, bytes);
        let found = cx.store.digests.first(other, digest)?;
        is_equal(flow, cx, found, bytes).then_some(found)
    }

    /// Gives all unmatched held datagrams of a side a digest: once, then each as it comes.
    fn digest_all(&mut self, flow: &Flow, cx: &mut Context<'_>, side: Side) {
        if self.digested[side] == Digested::Yes {
            return;
        }
        self.digested[side] = Digested::Yes;
        let mut at = flow.queues[side].head();
        while let Some(id) = at {
            at = cx.store.held.next_in_flow(id);
            add_digest(flow, cx, id);
        }
    }

    fn discard_partner(
        &mut self,
        flow: &mut Flow,
        cx: &mut Context<'_>,
        partner: HeldId,
        sink: &mut impl Sink,
    ) {
        Self::forget_digest(cx, partner);
        if let Some(held) = cx.store.held.take(&mut flow.queues.secondary, partner) {
            sink.discard(held.frame, Discard::Matched);
        }
        if flow.queues.secondary.is_empty() {
            self.digested.secondary = Digested::No;
        }
    }

    /// The partner of a datagram is always the oldest of its equals, so it is the first under its digest.
    fn forget_digest(cx: &mut Context<'_>, partner: HeldId) {
        let Some(held) = cx.store.held.get(partner) else { return };
        let side = held.side;
        if let Content::Datagram { digest: Some(digest), .. } = held.content {
            cx.store.digests.remove_first(side, digest);
        }
    }

    /// When the two oldest have differed long enough: `reorder_grace` after the later of them came.
    #[inline(always)]
    pub(super) fn grace_ends_at(&self, flow: &Flow, cx: &Context<'_>) -> Nanos {
        let [Some(primary), Some(secondary)] = Side::BOTH.map(|side| flow.queues[side].head()) else {
            return Nanos::NEVER;
        };
        if self.mismatch == Mismatch::Reported || flow.tracking == Tracking::Lost {
            return Nanos::NEVER;
        }
        let later = cx.store.held.completed(primary).max(cx.store.held.completed(secondary));
        later + cx.settings.reorder_grace
    }

    /// The mismatch of the two oldest. Later ones are not reported until the commit.
    pub(super) fn mismatch(&mut self, flow: &Flow, cx: &Context<'_>, now: Nanos) -> Detail {
        self.mismatch = Mismatch::Reported;
        let [primary, secondary] =
            Side::BOTH.map(|side| flow.queues[side].head().and_then(|id| cx.store.held.get(id)));
        let [one, other] = [primary, secondary].map(|held| match held {
            Some(held) => match held.content {
                Content::Datagram { content, .. } => content.of(held.frame.ethernet()),
                _ => &[],
            },
            None => &[],
        });
        let equal = match difference_of(flow, cx, one, other) {
            Difference::At(offset) => offset,
            // They are reported although they are equal: a mask that came later forgives what differs.
            Difference::None => 0,
        };
        Detail::Mismatch {
            kind: MismatchKind::Datagram,
            offset: i64::try_from(equal).unwrap_or(0),
            primary: primary.map(|held| held.frame.ordinal()),
            secondary: secondary.map(|held| held.frame.ordinal()),
            scene: flow.scene(cx.store, None, now),
        }
    }
}

#[inline(always)]
fn is_equal(flow: &Flow, cx: &Context<'_>, id: HeldId, bytes: &[u8]) -> bool {
    cx.store.held.get(id).is_some_and(|held| match held.content {
        Content::Datagram { content, matched: Matched::No, .. } => {
            difference_of(flow, cx, content.of(held.frame.ethernet()), bytes) == Difference::None
        }
        _ => false,
    })
}

/// Where an expression masks, there is no digest to find an equal datagram by: one after the other, and not far.
#[cold]
fn find_near(flow: &Flow, cx: &Context<'_>, other: Side, bytes: &[u8]) -> Option<HeldId> {
    let mut at = flow.queues[other].head();
    for _ in 0..NEAR {
        let id = at?;
        if is_equal(flow, cx, id, bytes) {
            return Some(id);
        }
        at = cx.store.held.next_in_flow(id);
    }
    None
}

fn add_digest(flow: &Flow, cx: &mut Context<'_>, id: HeldId) {
    let Some(held) = cx.store.held.get(id) else { return };
    let Content::Datagram { content, digest: None, matched: Matched::No } = held.content else { return };
    let side = held.side;
    let digest = digest_of(flow, cx, held.connection, content.of(held.frame.ethernet()));
    if let Some(Content::Datagram { digest: place, .. }) = cx.store.held.content_mut(id) {
        *place = Some(digest);
    }
    cx.store.digests.insert(id, side, digest);
}

/// Lets go the matched ones that nothing older is in front of.
fn drain(flow: &mut Flow, cx: &mut Context<'_>, sink: &mut impl Sink) {
    while let Some(id) = flow.queues.primary.head() {
        let matched = cx
            .store
            .held
            .get(id)
            .is_some_and(|held| matches!(held.content, Content::Datagram { matched: Matched::Yes, .. }));
        if !matched {
            return;
        }
        if let Some(held) = cx.store.held.take(&mut flow.queues.primary, id) {
            sink.release(held.frame, Release::Matched);
        }
    }
}
