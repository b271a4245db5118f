//! What a core lets others see: copied out now and then, so that counting costs a plain addition.

use std::sync::PoisonError;
use std::time::Duration;

use arrayvec::ArrayVec;
use pmd_tap::Nanos;

use super::core::Core;
use super::rings::Rings;
use crate::metrics::ReleaseLatency;
use crate::shard::{Survey, WAITING_FLOWS, Waiting};
use crate::stats::Counters;

/// How often a core copies its counters out, and its latencies.
const PUBLISH: Duration = Duration::from_millis(20);
const PUBLISH_LATENCY: Duration = Duration::from_millis(250);

/// What a scrape sees of a core.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) counters: Counters,
    pub(super) latency: ReleaseLatency,
    /// Flows that waited longest when the core looked last.
    pub(super) waiting: ArrayVec<Waiting, WAITING_FLOWS>,
}

/// When a core copies out what it counted.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    counters_due: Nanos,
    latency_due: Nanos,
    survey: Survey,
}

impl Publisher {
    pub(super) fn publish_due(&mut self, core: &mut Core, now: Nanos, rings: &Rings) {
        if now < self.counters_due {
            return;
        }
        self.counters_due = now + PUBLISH;
        core.refresh_counters(rings);
        self.look(core);
        // A scrape that is copying just now keeps what it has; the next turn brings the rest.
        let Ok(mut published) = core.published.try_lock() else { return };
        published.counters.clone_from(&core.counters);
        published.waiting.clone_from(self.survey.waiting());
        if now >= self.latency_due {
            self.latency_due = now + PUBLISH_LATENCY;
            add_latency(&mut published.latency, &mut core.latency);
        }
    }

    /// Looks for the flows that wait longest.
    fn look(&mut self, core: &mut Core) {
        if let Some(seat) = &mut core.seat {
            seat.shard.survey(&mut self.survey);
        }
    }
}

impl Core {
    /// Before a sleep: nothing may stay behind for as long as nothing happens.
    pub(super) fn publish_all(&mut self, rings: &Rings) {
        self.refresh_counters(rings);
        if let Ok(mut published) = self.published.try_lock() {
            published.counters.clone_from(&self.counters);
            add_latency(&mut published.latency, &mut self.latency);
        }
    }

    /// At the end, when waiting for a scrape costs nothing.
    pub(super) fn publish_last(&mut self, rings: &Rings) {
        self.refresh_counters(rings);
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.counters.clone_from(&self.counters);
        add_latency(&mut published.latency, &mut self.latency);
    }
}

/// Moves what was recorded into the published recorders.
fn add_latency(published: &mut ReleaseLatency, local: &mut ReleaseLatency) {
    for (to, from) in [
        (&mut published.matched, &mut local.matched),
        (&mut published.ack, &mut local.ack),
        (&mut published.flush, &mut local.flush),
    ] {
        if !from.is_empty() {
            // Both have the same bounds, so this cannot fail.
            let _ = to.add(&*from);
            from.reset();
        }
    }
}
