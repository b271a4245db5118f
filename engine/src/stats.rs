//! What one core counts: plain cells, written by it alone and copied out for a scrape now and then.

use hdrhistogram::Histogram;

use crate::fragments::FragmentCounts;
use crate::metrics::{
    ClassFrames, Dropped, LostFrames, ReleaseLatency, Released, Verdicts, VerdictsByProtocol,
};
use crate::policy::MAX_RULES;
use crate::side::BySide;
use crate::verdict::{Discard, Release};
use crate::wire::Class;

/// Counters of one core.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Frames that the core's inputs received.
    pub received: BySide<u64>,
    /// Bytes of them.
    pub received_bytes: BySide<u64>,
    /// Frames that the core's shard was given.
    pub handled: BySide<u64>,
    /// Primary frames that left.
    pub released: Released,
    /// Secondary frames that were dropped.
    pub dropped: Dropped,
    /// Decisions by protocol.
    pub verdicts: VerdictsByProtocol,
    /// Primary frames that left with a lower window.
    pub window_clamped: u64,
    /// Times that a flow that keeps differing was put aside.
    pub quarantined: u64,
    /// Frames held now.
    pub held_frames: BySide<u64>,
    /// Bytes held now.
    pub held_bytes: BySide<u64>,
    /// Connections known now.
    pub connections: u64,
    /// Times that the books did not balance.
    pub violations: u64,
    /// Time spent on iterations that found work, nanoseconds.
    pub busy_ns: u64,
    /// Iterations that found work.
    pub busy_polls: u64,
    /// Iterations that found none.
    pub idle_polls: u64,
    /// Times that the core slept.
    pub sleeps: u64,
    /// Frames out of the pools of the core's inputs.
    pub frames_out: BySide<u64>,
    /// Fragments at the core's inputs.
    pub fragments: BySide<FragmentCounts>,
    /// Bursts in the rings to the core's shard.
    pub ring_bursts: BySide<u64>,
    /// Frames that the core's ports could not carry.
    pub lost: LostFrames,
    /// Times that a bound stopped the reading of an input.
    pub reading_stops: u64,
    /// Frames that the core's shard was given, outside the comparison of IP flows, by class.
    pub class_frames: BySide<ClassFrames>,
    /// Frames with a wrong checksum that the core's inputs received, if they are counted.
    pub bad_checksums: BySide<u64>,
    /// Differences that payload masks forgave.
    pub forgiven: ByRule,
}

impl ClassFrames {
    /// Counts so many frames.
    pub fn count(&mut self, class: Class, frames: u64) {
        *match class {
            Class::Arp => &mut self.arp,
            Class::NeighbourDiscovery => &mut self.nd,
            Class::MulticastListener => &mut self.mld,
            Class::Igmp => &mut self.igmp,
            Class::Lldp => &mut self.lldp,
            Class::Other => &mut self.other,
            Class::Malformed => &mut self.malformed,
        } += frames;
    }
}

/// A number for each rule, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByRule([u64; MAX_RULES]);

impl Default for ByRule {
    fn default() -> Self {
        Self([0; MAX_RULES])
    }
}

impl ByRule {
    /// Sets all.
    pub fn set(&mut self, numbers: impl Iterator<Item = u64>) {
        self.0.iter_mut().zip(numbers).for_each(|(place, number)| *place = number);
    }

    /// Adds all.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, number)| *sum += number);
    }

    /// The number of a rule.
    pub fn of(&self, place: usize) -> u64 {
        self.0.get(place).copied().unwrap_or(0)
    }
}

impl Counters {
    /// Whether everything that the shard was given is accounted for.
    pub fn balances(&self) -> bool {
        let released: u64 = self.released.by_label().map(|(_, count)| count).sum();
        let dropped: u64 = self.dropped.by_label().map(|(_, count)| count).sum();
        self.handled.primary == released + self.held_frames.primary
            && self.handled.secondary == dropped + self.held_frames.secondary
    }
}

/// The counter of a release.
#[inline(always)]
pub fn release_cell(released: &mut Released, why: Release) -> &mut u64 {
    match why {
        Release::Matched => &mut released.matched,
        Release::Ack => &mut released.ack,
        Release::Pass => &mut released.pass,
        Release::Flush => &mut released.flush,
    }
}

/// The counter of a drop.
#[inline(always)]
pub fn drop_cell(dropped: &mut Dropped, why: Discard) -> &mut u64 {
    match why {
        Discard::Matched => &mut dropped.matched,
        Discard::Pass => &mut dropped.pass,
        Discard::Flush => &mut dropped.flush,
        Discard::Stale => &mut dropped.stale,
        Discard::Duplicate => &mut dropped.duplicate,
        Discard::OverBudget => &mut dropped.over_budget,
    }
}

/// The counters of an IP protocol, by its number.
#[inline(always)]
pub fn verdict_cells(verdicts: &mut VerdictsByProtocol, protocol: u8) -> &mut Verdicts {
    match protocol {
        6 => &mut verdicts.tcp,
        17 | 136 => &mut verdicts.udp,
        1 | 58 => &mut verdicts.icmp,
        _ => &mut verdicts.other,
    }
}

/// The recorder of a release's latency; frames that are not compared have none.
#[inline(always)]
pub fn latency_of(latency: &mut ReleaseLatency, why: Release) -> Option<&mut Histogram<u64>> {
    match why {
        Release::Matched => Some(&mut latency.matched),
        Release::Ack => Some(&mut latency.ack),
        Release::Flush => Some(&mut latency.flush),
        Release::Pass => None,
    }
}
