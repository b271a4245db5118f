//! What is to be done with a shard's flows: the rules in force, and the conduct that goes before them. Not how a frame is
//! judged.

use std::sync::Arc;

use super::{Room, Shard};
use crate::compare::{Connection, Context, Store};
use crate::flow::FlowKey;
use crate::modes::Conduct;
use crate::policy::{Action, RuleIndex, RuleSet, Ruling};
use crate::side::Side;
use crate::verdict::{Discard, Release, Sink};

impl Shard {
    /// Puts other rules in force: from here on no frame is judged by the former ones. What they mean for frames that are
    /// held already, [`follow_rules`](Self::follow_rules) carries out.
    pub fn replace_rules(&mut self, set: Arc<RuleSet>) {
        self.store.masks.replace(Arc::clone(&set));
        self.rules.set = set;
        self.rules.renumber();
    }

    /// What is done with frames.
    #[inline(always)]
    pub fn conduct(&self) -> Conduct {
        self.rules.conduct()
    }

    /// Has frames compared, held or let pass from here on, whatever the rules say; [`follow_rules`](Self::follow_rules)
    /// carries out what that means for frames that are held. To [`Conduct::Compare`] only between two epochs, when the
    /// secondary is the primary's copy.
    pub fn set_conduct(&mut self, conduct: Conduct, sink: &mut impl Sink) {
        if conduct == self.rules.conduct {
            return;
        }
        self.rules.conduct = conduct;
        self.rules.renumber();
        if conduct == Conduct::Pass {
            self.let_out_homeless(sink);
        }
    }

    /// Whether everything passes.
    pub(super) fn passes_all(&self) -> bool {
        self.rules.conduct == Conduct::Pass
    }

    /// What no connection has leaves in the order in which it came: fragments, and flows that found the table full.
    fn let_out_homeless(&mut self, sink: &mut impl Sink) {
        for queue in [&mut self.strays, &mut self.untracked] {
            while let Some(id) = queue.head() {
                let Some(held) = self.store.held.take(queue, id) else { break };
                match held.side {
                    Side::Primary => sink.release(held.frame, Release::Pass),
                    Side::Secondary => sink.discard(held.frame, Discard::Pass),
                }
            }
        }
        self.room = Room::Enough;
    }

    /// Whether held frames may still have to follow the rules.
    #[inline(always)]
    pub fn has_rules_to_follow(&self) -> bool {
        self.rules.walk.is_some()
    }

    /// Puts at most `most` connections under the rules in force; the others follow with their next frame, or here.
    #[cold]
    pub fn follow_rules(&mut self, most: usize, sink: &mut impl Sink) {
        let Some(first) = self.rules.walk else { return };
        let last = u32::try_from(most).ok().and_then(|most| first.checked_add(most)).unwrap_or(u32::MAX);
        for index in first..last {
            if usize::try_from(index).is_ok_and(|index| index >= self.settings.max_connections) {
                self.rules.walk = None;
                return;
            }
            let Some(connection) = self.table.get_mut(index) else { continue };
            connection.refresh(self.epoch);
            if connection.ruled_by() != self.rules.number {
                self.rules.put_over(connection, &mut self.store, sink);
            }
        }
        self.rules.walk = Some(last);
    }

    /// Differences that masks forgave, by the rule's place.
    pub fn forgiven(&self) -> impl Iterator<Item = u64> {
        self.store.masks.forgiven()
    }
}

/// The rules in force.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) set: Arc<RuleSet>,
    /// What goes before them.
    conduct: Conduct,
    /// Counts the sets that were in force, so that a connection knows whether it was judged by this one.
    pub(super) number: u32,
    /// Connections up to here are under this set.
    walk: Option<u32>,
}

impl Rules {
    pub(super) fn new(set: RuleSet) -> Self {
        Self { set: Arc::new(set), conduct: Conduct::Compare, number: 1, walk: None }
    }

    /// What goes before the rules.
    #[inline(always)]
    pub(super) fn conduct(&self) -> Conduct {
        self.conduct
    }

    /// What is to be done with a flow.
    pub(super) fn ruling(&self, flow: &FlowKey) -> Ruling {
        if self.conduct == Conduct::Pass {
            return Ruling { action: Action::Pass, rule: RuleIndex::NONE };
        }
        let ruling = self.set.ruling(flow);
        match (self.conduct, ruling.action) {
            // What the operator lets pass passes on.
            (Conduct::Hold, Action::Compare) => Ruling { action: Action::Hold, ..ruling },
            _ => ruling,
        }
    }

    fn renumber(&mut self) {
        // 0 is nobody's.
        self.number = self.number.wrapping_add(1).max(1);
        self.walk = Some(0);
    }

    #[cold]
    pub(super) fn put_over(&self, connection: &mut Connection, store: &mut Store, sink: &mut impl Sink) {
        let ruling = self.ruling(connection.key());
        store.masks.turn_to(ruling.rule);
        let mut cx = Context { settings: self.set.settings(ruling.rule), store };
        connection.put_under(ruling, self.number, &mut cx, sink);
    }
}
