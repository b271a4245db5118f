//! A primary's reset meets those of the secondary that wait for it. Whether resets contradict what goes on is
//! [`contradiction`](super::contradiction)'s matter.

use arrayvec::ArrayVec;

use super::session::Session;
use crate::held::{Content, HeldId, Placed};
use crate::side::Side;
use crate::verdict::{Discard, Sink};

/// Frames of the secondary, the latest first, among which a primary's reset looks for its partners: who has reset says
/// nothing else afterwards. Those further back wait for the timeout.
const RESETS_AMONG: usize = 64;

impl<K: Sink> Session<'_, '_, K> {
    /// A primary reset answers those of the secondary that wait for it.
    pub(super) fn match_secondary_reset(&mut self, placed: &Placed) {
        // Looking for them is worth it only if the secondary has sent one.
        if !self.incarnation.reset_answered(Side::Primary, placed) {
            return;
        }
        let mut found = ArrayVec::<HeldId, RESETS_AMONG>::new();
        let mut at = self.flow.queues.secondary.tail();
        for _ in 0..RESETS_AMONG {
            let Some(id) = at else { break };
            at = self.cx.store.held.previous_in_flow(id);
            let answered = match self.cx.store.held.get(id).map(|held| &held.content) {
                Some(Content::Segment { placed: waiting, generation, .. }) => {
                    *generation == self.incarnation.generation
                        && waiting.reset.is_some()
                        && self.incarnation.reset_answered(Side::Secondary, waiting)
                }
                _ => false,
            };
            if answered {
                found.push(id);
            }
        }
        for id in found.into_iter().rev() {
            self.discard_held(id, Discard::Matched);
        }
    }
}
