//! One direction of a faulty port: frames go in, and come out as the faults leave them. Knows no port.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;

use super::{Fault, FaultCounts, FaultSettings};
use crate::{BURST_FRAMES, Burst, Frame, FramePool, Nanos};

/// Frames that wait behind others at a time.
const MOST_BEHIND: usize = 32;
/// How many frames one of them lets pass, at most.
const FARTHEST: u64 = 8;
/// How long it waits for them: silence must not keep it.
const LONGEST_BEHIND: Duration = Duration::from_millis(2);
/// Bits that are flipped in a frame, at most.
const MOST_BITS: u64 = 4;

/// A frame that lets others pass.
#[derive(Debug)]
struct Behind {
    frame: Frame,
    passing: u64,
    until: Nanos,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Lane {
    settings: FaultSettings,
    counts: Arc<FaultCounts>,
    /// In order of coming out, each with the time from which it may.
    waiting: VecDeque<(Nanos, Frame)>,
    behind: ArrayVec<Behind, MOST_BEHIND>,
    /// Frames that went in, and came out.
    seen: u64,
    given: u64,
    last_due: Nanos,
    stalled_until: Nanos,
}

impl Lane {
    pub(super) fn new(settings: FaultSettings, counts: Arc<FaultCounts>) -> Self {
        // A burst of which every frame comes twice, and all that wait behind others, beyond the room that is asked for.
        let room = settings.depth + 2 * BURST_FRAMES + MOST_BEHIND;
        Self {
            settings,
            counts,
            waiting: VecDeque::with_capacity(room),
            behind: ArrayVec::new(),
            seen: 0,
            given: 0,
            last_due: Nanos::ZERO,
            stalled_until: Nanos::ZERO,
        }
    }

    pub(super) fn is_stalled(&self, now: Nanos) -> bool {
        now < self.stalled_until
    }

    /// Whether a burst may go in.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() <= self.settings.depth
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.behind.is_empty()
    }

    /// The draw of a kind for the frame at hand.
    fn draw(&self, kind: u64) -> u64 {
        mix(self.settings.seed ^ kind.wrapping_mul(0x9e37_79b9_7f4a_7c15), self.seen)
    }

    fn strikes(&self, fault: Fault) -> bool {
        let kind = u64::try_from(fault.index()).unwrap_or(0);
        let strikes = self.settings.rate(fault).strikes(self.draw(kind));
        if strikes {
            self.counts.add(fault);
        }
        strikes
    }

    /// A frame goes in.
    pub(super) fn put(&mut self, mut frame: Frame, pool: &mut FramePool, now: Nanos) {
        self.seen += 1;
        if self.strikes(Fault::Stall) {
            self.stalled_until = now + self.settings.stall_time;
        }
        if self.strikes(Fault::Drop) {
            pool.recycle(frame);
            return self.let_pass(now);
        }
        if self.strikes(Fault::Corrupt) {
            self.corrupt(&mut frame);
        }
        if self.strikes(Fault::Truncate) {
            let header = frame.virtio_header().len();
            // Shorter than it was, so it fits.
            let _ = frame.set_len(header + below(self.draw(20), frame.len().saturating_sub(header)));
        }
        let due = self.due(now);
        let twin = if self.settings.rate(Fault::Duplicate).strikes(self.draw(1)) {
            pool.frame_from(frame.bytes()).map(|mut twin| {
                twin.set_virtio_header(frame.virtio_header());
                twin
            })
        } else {
            None
        };
        if self.behind.len() < MOST_BEHIND && self.strikes(Fault::Reorder) {
            let passing = 1 + self.draw(21) % FARTHEST;
            self.behind.push(Behind { frame, passing, until: due + LONGEST_BEHIND });
        } else {
            self.waiting.push_back((due, frame));
            self.let_pass(now);
        }
        if let Some(twin) = twin {
            self.counts.add(Fault::Duplicate);
            self.waiting.push_back((due, twin));
        }
    }

    /// Flips bits behind the virtio header: that one is the port's own word.
    fn corrupt(&self, frame: &mut Frame) {
        let header = frame.virtio_header().len();
        let bytes = frame.bytes_mut().get_mut(header..).unwrap_or_default();
        if bytes.is_empty() {
            return;
        }
        for bit in 0..=self.draw(22) % MOST_BITS {
            let draw = self.draw(23 + bit);
            let at = below(draw >> 3, bytes.len());
            bytes[at] ^= 1 << (draw & 7);
        }
    }

    /// When the frame may come out: order is kept, so not before the one ahead of it.
    fn due(&mut self, now: Nanos) -> Nanos {
        let most = u64::try_from(self.settings.delay.as_nanos()).unwrap_or(u64::MAX);
        if most > 0 {
            let delay = self.draw(24) % most.saturating_add(1);
            if delay > 0 {
                self.counts.add(Fault::Delay);
            }
            self.last_due = self.last_due.max(now + Duration::from_nanos(delay));
        }
        self.last_due.max(now)
    }

    /// A frame has passed those that wait behind.
    fn let_pass(&mut self, now: Nanos) {
        let due = self.last_due.max(now);
        let mut at = 0;
        while at < self.behind.len() {
            self.behind[at].passing = self.behind[at].passing.saturating_sub(1);
            if self.behind[at].passing == 0 {
                let late = self.behind.remove(at);
                self.waiting.push_back((due, late.frame));
            } else {
                at += 1;
            }
        }
    }

    /// What may come out now, until the burst is full.
    pub(super) fn give(&mut self, now: Nanos, burst: &mut Burst) {
        while let Some(at) = self.behind.iter().position(|late| late.until <= now) {
            let late = self.behind.remove(at);
            self.waiting.push_back((now, late.frame));
        }
        while !burst.is_full() {
            if self.waiting.front().is_none_or(|(due, _)| *due > now) {
                return;
            }
            if let Some((_, frame)) = self.waiting.pop_front() {
                burst.push(frame);
            }
        }
    }

    /// The same, each frame stamped anew: as far as the world behind this port knows it came just now.
    pub(super) fn receive(&mut self, now: Nanos, burst: &mut Burst) {
        let before = burst.len();
        self.give(now, burst);
        for frame in &mut burst[before..] {
            frame.stamp(now, self.given);
            self.given += 1;
        }
    }

    /// Takes back what could not be sent.
    pub(super) fn take_back(&mut self, burst: &mut Burst) {
        for frame in burst.drain(..).rev() {
            self.waiting.push_front((Nanos::ZERO, frame));
        }
    }
}

/// Mixes two words into one (the finaliser of `SplitMix64`).
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn below(draw: u64, bound: usize) -> usize {
    let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
    usize::try_from(draw % bound).unwrap_or(0)
}
