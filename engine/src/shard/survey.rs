//! Which flows of a shard have waited longest: a look at a few held frames now and then, never at all of them at once.
//!
//! It decides nothing and knows no clock: ages are for whoever reads the list. A round goes once through the memory of
//! held frames; its list holds the flows with the oldest primary frames.

use arrayvec::ArrayVec;
use pmd_tap::Nanos;

use super::Shard;
use crate::flow::FlowKey;
use crate::side::Side;

/// Flows of a list.
pub const WAITING_FLOWS: usize = 16;
/// Places of held frames looked at in one step: some microseconds.
const STEP: usize = 256;

/// A flow of which primary frames are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The flow.
    pub flow: FlowKey,
    /// Held frames of it, as far as they were counted.
    pub frames: u32,
    /// When the oldest of them came.
    pub since: Nanos,
    connection: u32,
}

/// The lists of one shard.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    at: usize,
    round: ArrayVec<Waiting, WAITING_FLOWS>,
    last: ArrayVec<Waiting, WAITING_FLOWS>,
}

impl Survey {
    /// The flows that the last round found, in no order.
    pub fn waiting(&self) -> &ArrayVec<Waiting, WAITING_FLOWS> {
        &self.last
    }

    /// A held frame.
    fn note(&mut self, connection: u32, since: Nanos, flow: impl FnOnce() -> Option<FlowKey>) {
        if let Some(known) = self.round.iter_mut().find(|known| known.connection == connection) {
            known.frames += 1;
            known.since = known.since.min(since);
            return;
        }
        if self.round.is_full() {
            let youngest = self.round.iter().enumerate().max_by_key(|(_, known)| known.since);
            match youngest.map(|(place, known)| (place, known.since)) {
                Some((place, known)) if since < known => {
                    self.round.swap_remove(place);
                }
                _ => return,
            }
        }
        if let Some(flow) = flow() {
            self.round.push(Waiting { flow, frames: 1, since, connection });
        }
    }

    fn end_round(&mut self) {
        self.at = 0;
        self.last.clone_from(&self.round);
        self.round.clear();
    }
}

impl Shard {
    /// One step of a round.
    pub fn survey(&mut self, survey: &mut Survey) {
        let (held, table) = (&self.store.held, &self.table);
        if held.count(Side::Primary) == 0 {
            survey.round.clear();
            return survey.end_round();
        }
        for held in held.some(survey.at, STEP).filter(|held| held.side == Side::Primary) {
            let index = held.connection;
            survey.note(index, held.frame.arrival(), || table.get(index).map(|found| *found.key()));
        }
        survey.at += STEP;
        if survey.at >= held.places() {
            survey.end_round();
        }
    }
}
