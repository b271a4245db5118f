//! What the control thread remembers of single flows: which differed most and how they last did, which waited longest.
//!
//! The data plane does nothing for it: causes come by anyway, and what waits is looked at a few times a second. Room is
//! bounded; where it is short, the flow with the least to tell is forgotten.

use std::time::Duration;

use pmd_tap::Nanos;

use super::Control;
use crate::flow::FlowKey;
use crate::shard::Waiting;
use crate::verdict::{Cause, Reason};

/// Flows remembered of each kind.
const REMEMBERED: usize = 64;
/// From one look at what waits to the next.
const LOOK: Duration = Duration::from_millis(50);
/// Longest time that one look stands for: after a pause nobody knows what was in between.
const LONGEST_LOOK: Duration = Duration::from_millis(250);

/// A flow that differed or timed out.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct Differing {
    pub(in crate::runtime) flow: FlowKey,
    pub(in crate::runtime) mismatches: u64,
    pub(in crate::runtime) timeouts: u64,
    /// The last time.
    pub(in crate::runtime) last: Cause,
}

/// A flow whose frames were held when somebody looked.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct Held {
    pub(in crate::runtime) flow: FlowKey,
    /// Time in which it had frames that waited, as far as looking tells.
    pub(in crate::runtime) time: Duration,
    /// Longest time that a frame was seen waiting.
    pub(in crate::runtime) longest: Duration,
    /// Its frames at the last look.
    pub(in crate::runtime) frames: u32,
    last: Nanos,
}

/// What is remembered.
#[derive(Clone, Debug)]
pub(in crate::runtime) struct FlowBook {
    pub(in crate::runtime) differing: Vec<Differing>,
    pub(in crate::runtime) held: Vec<Held>,
    looked: Nanos,
}

impl Default for FlowBook {
    fn default() -> Self {
        Self {
            differing: Vec::with_capacity(REMEMBERED),
            held: Vec::with_capacity(REMEMBERED),
            looked: Nanos::ZERO,
        }
    }
}

impl FlowBook {
    /// A flow differed, or waited too long.
    pub(super) fn note_cause(&mut self, cause: &Cause) {
        let (Some(flow), Reason::Mismatch | Reason::Timeout) = (cause.flow, cause.reason) else { return };
        let known = self.differing.iter().position(|known| known.flow == flow);
        let place = known.unwrap_or_else(|| {
            let new = Differing { flow, mismatches: 0, timeouts: 0, last: *cause };
            put(&mut self.differing, new, |known| (known.mismatches + known.timeouts, known.last.at))
        });
        let Some(known) = self.differing.get_mut(place) else { return };
        known.last = *cause;
        *if cause.reason == Reason::Mismatch { &mut known.mismatches } else { &mut known.timeouts } += 1;
    }

    /// Begins a look if one is due; returns for how long it stands.
    fn begin_look(&mut self, now: Nanos) -> Option<Duration> {
        let since = now.since(self.looked);
        if since < LOOK {
            return None;
        }
        self.looked = now;
        self.held.iter_mut().for_each(|known| known.frames = 0);
        Some(since.min(LONGEST_LOOK))
    }

    /// A flow has frames that wait.
    fn note_waiting(&mut self, waiting: &Waiting, stands_for: Duration, now: Nanos) {
        let known = self.held.iter().position(|known| known.flow == waiting.flow);
        let place = known.unwrap_or_else(|| {
            let (time, longest) = (Duration::ZERO, Duration::ZERO);
            let new = Held { flow: waiting.flow, time, longest, frames: 0, last: now };
            put(&mut self.held, new, |known| (known.time, known.last))
        });
        let Some(known) = self.held.get_mut(place) else { return };
        known.time += stands_for;
        known.longest = known.longest.max(now.since(waiting.since));
        known.frames = waiting.frames;
        known.last = now;
    }
}

/// Puts an entry where there is room, or in place of the one with the least worth; returns where.
fn put<T, W: Ord>(entries: &mut Vec<T>, new: T, worth: impl Fn(&T) -> W) -> usize {
    if entries.len() < REMEMBERED {
        entries.push(new);
        return entries.len() - 1;
    }
    let least =
        entries.iter().enumerate().min_by_key(|(_, entry)| worth(entry)).map_or(0, |(place, _)| place);
    entries[least] = new;
    least
}

impl Control {
    /// Looks at what waits in the shards.
    pub(super) fn look_at_flows(&mut self, now: Nanos) {
        let Some(stands_for) = self.counters().flows.begin_look(now) else { return };
        self.silence.each_waiting(|waiting| {
            self.counters().flows.note_waiting(waiting, stands_for, now);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Addresses, Selector, VlanTags};
    use crate::verdict::Detail;

    fn flow(port: u16) -> FlowKey {
        let addresses = Addresses::V4 { source: 1, destination: 2 };
        FlowKey::new(addresses, VlanTags::default(), 17, Selector::Ports { source: port, destination: 9 })
    }

    fn cause(port: u16, reason: Reason, at: u64) -> Cause {
        Cause { reason, at: Nanos(at), flow: Some(flow(port)), detail: Detail::None }
    }

    #[test]
    fn who_differs_often_is_not_forgotten_for_many_who_differ_once() {
        let mut book = FlowBook::default();
        for at in 0..3 {
            book.note_cause(&cause(1, Reason::Mismatch, at));
        }
        book.note_cause(&cause(1, Reason::Timeout, 3));
        for port in 2..500 {
            book.note_cause(&cause(port, Reason::Mismatch, u64::from(port) + 10));
        }
        book.note_cause(&cause(7, Reason::QueueFull, 9_999));
        assert_eq!(book.differing.len(), REMEMBERED);
        let often = book.differing.iter().find(|known| known.flow == flow(1)).expect("remembered");
        assert_eq!((often.mismatches, often.timeouts, often.last.reason), (3, 1, Reason::Timeout));
        assert!(book.differing.iter().any(|known| known.flow == flow(499)), "the latest has a place");
        assert!(book.differing.iter().all(|known| known.last.reason != Reason::QueueFull));
        assert_eq!(book.differing.capacity(), REMEMBERED);
    }
}
