//! A connection under a rule: passed, held or compared, and what becomes of held frames when that changes.

use super::{Action, Arrival, Connection, Context, Protocol, Tracking};
use crate::held::{Content, HeldId};
use crate::policy::{RuleIndex, Ruling};
use crate::side::Side;
use crate::verdict::{Discard, Release, Sink};

use super::datagram::DatagramState;

/// How a connection under a rule is treated when nothing of it is held.
pub(super) fn resting(action: Action) -> Tracking {
    match action {
        Action::Compare => Tracking::Compared,
        Action::Pass => Tracking::Passed,
        Action::Hold => Tracking::Aside,
    }
}

/// A frame that is not compared.
#[cold]
pub(super) fn pass(arrival: Arrival, sink: &mut impl Sink) {
    match arrival.side {
        Side::Primary => sink.release(arrival.frame, Release::Pass),
        Side::Secondary => sink.discard(arrival.frame, Discard::Pass),
    }
}

impl Connection {
    /// The rule it is under.
    #[inline(always)]
    pub(crate) fn rule(&self) -> RuleIndex {
        self.ruling.rule
    }

    /// The set of rules that it is under; 0: none yet.
    #[inline(always)]
    pub(crate) fn ruled_by(&self) -> u32 {
        self.ruled_by
    }

    /// Puts it under a set's ruling. Held frames follow at once: those of a flow that passes now leave, in order; those
    /// of a flow that is held now wait for the commit, and so do those that were held before.
    #[cold]
    pub(crate) fn put_under(&mut self, ruling: Ruling, set: u32, cx: &mut Context<'_>, sink: &mut impl Sink) {
        let before = self.ruling.action;
        self.ruling = ruling;
        self.ruled_by = set;
        if ruling.action == before {
            return;
        }
        self.forget_comparison(cx, sink);
        self.flow.tracking = resting(ruling.action);
        match ruling.action {
            Action::Pass => self.let_out(cx, sink),
            // What a rule has held stays until the commit, and nothing overtakes it.
            Action::Compare if !self.flow.queues.primary.is_empty() => self.flow.tracking = Tracking::Aside,
            Action::Hold | Action::Compare => {}
        }
    }

    /// Drops what the secondary has sent, and takes the primary's held frames for what nobody compares.
    fn forget_comparison(&mut self, cx: &mut Context<'_>, sink: &mut impl Sink) {
        for side in Side::BOTH {
            let mut at = self.flow.queues[side].head();
            while let Some(id) = at {
                at = cx.store.held.next_in_flow(id);
                forget_digest(cx, id, side);
                if let Some(content) = cx.store.held.content_mut(id) {
                    *content = Content::Opaque;
                }
                if side == Side::Secondary
                    && let Some(held) = cx.store.held.take(&mut self.flow.queues.secondary, id)
                {
                    sink.discard(held.frame, Discard::Pass);
                }
            }
        }
        match &mut self.protocol {
            Protocol::Tcp(tcp) => tcp.forget(cx.store),
            Protocol::Datagram(datagrams) => *datagrams = DatagramState::default(),
        }
    }

    fn let_out(&mut self, cx: &mut Context<'_>, sink: &mut impl Sink) {
        while let Some(id) = self.flow.queues.primary.head() {
            let Some(held) = cx.store.held.take(&mut self.flow.queues.primary, id) else { return };
            sink.release(held.frame, Release::Pass);
        }
    }
}

/// All of a flow's are taken out, so it does not matter which of those with one digest goes first.
fn forget_digest(cx: &mut Context<'_>, id: HeldId, side: Side) {
    let held = cx.store.held.get(id).map(|held| held.content);
    if let Some(Content::Datagram { digest: Some(digest), .. }) = held {
        cx.store.digests.remove_first(side, digest);
    }
}
