//! Frames of both sides at hand at the same time: where the halves of a pair stand at the front of both bursts, they meet
//! and go, and nothing is held. Any other frame takes its way alone, of the side that is behind first.

use pmd_tap::{Frame, Nanos};

use super::work::Entry;
use super::{Budget, Label, Shard, WorkBurst};
use crate::compare::{Half, Stamp};
use crate::side::{BySide, Side};
use crate::verdict::{Release, Sink};
use crate::wire::Packet;

/// Connections from which on their memory is asked for ahead. Little is done for a pair that meets, so even the way from the
/// second cache is long.
const PREFETCHED: usize = 64;
/// How many frames apart twins may stand in their bursts for the side that is behind to catch up within them.
const NEAR: u64 = 32;
/// How often in a row the frames in front may turn out not to be twins before both bursts go their ways.
const STRIKES: u8 = 4;

/// How long both sides' bursts have had nothing in common: then it is asked less and less often whether they have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Discord {
    /// How often in a row they had not, as far as counted.
    in_vain: u8,
    /// Bursts that are not asked.
    skipped: u8,
}

impl Discord {
    /// Up to 2 to this many bursts are not asked.
    const MOST: u8 = 6;

    #[inline(always)]
    fn is_skipped(&mut self) -> bool {
        let is_skipped = self.skipped > 0;
        self.skipped = self.skipped.saturating_sub(1);
        is_skipped
    }

    fn found(&mut self) {
        self.in_vain = (self.in_vain + 1).min(Self::MOST);
        self.skipped = (1 << self.in_vain) - 1;
    }
}

impl Shard {
    /// The frames of a burst of each side, until one of them has no more; what is left of the other is for the caller to
    /// hand in, or to keep until more comes. How many pairs have met.
    pub fn handle_bursts(
        &mut self,
        bursts: &mut BySide<WorkBurst>,
        now: Nanos,
        sink: &mut impl Sink,
    ) -> usize {
        let BySide { primary, secondary } = bursts;
        if self.discord.is_skipped() {
            self.handle_burst(Side::Primary, primary, now, sink);
            self.handle_burst(Side::Secondary, secondary, now, sink);
            return 0;
        }
        let (mut met, mut strikes) = (0, 0);
        // Where halves meet they have one connection.
        let ahead = self.look_ahead(PREFETCHED, primary);
        while let (Some((one, _)), Some((other, _))) = (primary.first(), secondary.first()) {
            let lead = self.lead(one, other);
            if lead == 0 {
                let pairs = self.meet_all(primary, secondary, ahead, now, sink);
                met += pairs;
                if pairs > 0 {
                    strikes = 0;
                    continue;
                }
            }
            strikes += 1;
            if strikes > STRIKES {
                self.discord.found();
                self.handle_burst(Side::Primary, primary, now, sink);
                self.handle_burst(Side::Secondary, secondary, now, sink);
                break;
            }
            let frames = lead.unsigned_abs().max(1);
            if frames > NEAR {
                self.discord.found();
            }
            match self.who_is_behind(lead, primary, secondary) {
                Side::Primary => self.handle_some(Side::Primary, primary, frames, now, sink),
                Side::Secondary if self.are_calm(secondary, frames) => {
                    self.handle_some(Side::Secondary, secondary, frames, now, sink);
                }
                // Who opens a connection comes first, if both are there: the other side is understood by that.
                Side::Secondary => self.handle_burst(Side::Primary, primary, now, sink),
            }
        }
        primary.tidy();
        secondary.tidy();
        if met > 0 {
            self.discord = Discord::default();
        }
        met
    }

    /// Which side goes on until its frames are level with the other's. Level already and no twins: the side whose frame has no
    /// other half, so that twins stand one place further apart behind it; otherwise the primary.
    fn who_is_behind(&mut self, lead: i64, primary: &WorkBurst, secondary: &WorkBurst) -> Side {
        if lead != 0 {
            return if lead > 0 { Side::Secondary } else { Side::Primary };
        }
        if primary.first().is_some_and(is_loner) {
            self.store.apart = self.store.apart.wrapping_add(1);
        } else if secondary.first().is_some_and(is_loner) {
            self.store.apart = self.store.apart.wrapping_sub(1);
            return Side::Secondary;
        }
        Side::Primary
    }

    /// Whether so many frames in front of the secondary's burst are of connections that are in step, or of none: nothing that
    /// the primary has sent besides tells how to understand them.
    fn are_calm(&self, secondary: &mut WorkBurst, frames: u64) -> bool {
        let stamp = Stamp::new(self.epoch, self.rules.number);
        let is_calm = |label: &Label| match &label.packet {
            Packet::Tcp(flow, _) => {
                let found = self.table.find(flow, label.hash).and_then(|index| self.table.get(index));
                found.is_some_and(|connection| connection.is_in_step(stamp))
            }
            _ => true,
        };
        let frames = usize::try_from(frames).unwrap_or(usize::MAX);
        secondary.rest().iter().take(frames).all(|entry| is_calm(&entry.label))
    }

    /// So many frames in front of a burst, alone.
    fn handle_some(
        &mut self,
        side: Side,
        burst: &mut WorkBurst,
        frames: u64,
        now: Nanos,
        sink: &mut impl Sink,
    ) {
        if frames > NEAR {
            return self.handle_burst(side, burst, now, sink);
        }
        (0..frames).for_each(|_| self.handle_first(side, burst, now, sink));
    }

    /// The pairs in front of both bursts, until two frames are none.
    #[inline(never)]
    fn meet_all(
        &mut self,
        primary: &mut WorkBurst,
        secondary: &mut WorkBurst,
        ahead: usize,
        now: Nanos,
        sink: &mut impl Sink,
    ) -> usize {
        #[cfg(test)]
        if apart::is_wanted() {
            return self.meet_apart(primary, secondary, now, sink);
        }
        let (ones, others) = (primary.rest(), secondary.rest());
        let mut met = 0;
        while let (Some(one), Some(other)) = (ones.get(met), others.get(met)) {
            if let Some(entry) = ones.get(met + ahead) {
                self.prefetch_connection(&entry.label);
            }
            let Some(why) = self.meet(one, other, now) else { break };
            let (one, other) = (&mut ones[met], &mut others[met]);
            let (Some(primary), Some(secondary)) = (one.frame.take(), other.frame.take()) else { break };
            if met == 0 {
                self.store.apart = primary.ordinal().wrapping_sub(secondary.ordinal());
            }
            met += 1;
            let packets = BySide { primary: &one.label.packet, secondary: &other.label.packet };
            sink.release_pair(BySide { primary, secondary }, packets, why);
        }
        primary.advance(met);
        secondary.advance(met);
        met
    }

    /// Those frames in front of a burst that wait for nothing of the other side.
    pub fn handle_loners(&mut self, side: Side, burst: &mut WorkBurst, now: Nanos, sink: &mut impl Sink) {
        while burst.first().is_some_and(is_loner) {
            self.handle_first(side, burst, now, sink);
        }
        burst.tidy();
    }

    /// The first frame of a burst, alone.
    #[inline(never)]
    fn handle_first(&mut self, side: Side, burst: &mut WorkBurst, now: Nanos, sink: &mut impl Sink) {
        let Some((frame, label)) = burst.take() else { return };
        sink.begin(side, &frame, &label.packet);
        self.handle_of(side, frame, label, now, sink);
        sink.end(side);
    }

    /// If these are the halves of a pair and the primary's may leave at once: as what. Then it is entered that both came.
    #[inline(always)]
    fn meet(&mut self, one: &Entry, other: &Entry, now: Nanos) -> Option<Release> {
        let (frame, other_frame) = (one.frame.as_ref()?, other.frame.as_ref()?);
        let (one, other) = (&one.label, &other.label);
        if one.hash != other.hash || other.budget == Budget::Exhausted {
            return None;
        }
        match (&one.packet, &other.packet) {
            (Packet::Tcp(flow, segment), Packet::Tcp(other_flow, other_segment)) if flow == other_flow => {
                let primary = Half { frame, part: segment };
                let secondary = Half { frame: other_frame, part: other_segment };
                self.table
                    .find(flow, one.hash)
                    .and_then(|index| self.table.get_mut(index))
                    .filter(|found| found.is_in_step(Stamp::new(self.epoch, self.rules.number)))
                    .filter(|found| !found.is_expired(&self.settings.compare, now))
                    .and_then(|found| {
                        let settings = self.rules.set.settings(found.rule());
                        found.segments_meet(settings, BySide { primary, secondary }, now)
                    })
            }
            (Packet::Datagram(flow, content), Packet::Datagram(other_flow, other_content))
                if flow == other_flow =>
            {
                let primary = Half { frame, part: content };
                let secondary = Half { frame: other_frame, part: other_content };
                self.table
                    .find(flow, one.hash)
                    .and_then(|index| self.table.get_mut(index))
                    .filter(|found| found.is_up_to(self.epoch, self.rules.number))
                    .filter(|found| !found.is_expired(&self.settings.compare, now))
                    .and_then(|found| found.datagrams_meet(BySide { primary, secondary }, now))
            }
            _ => None,
        }
    }

    /// By how many frames the primary's came later in its input than the secondary's in its, twins being as far apart as
    /// the latest were.
    fn lead(&self, one: &Frame, other: &Frame) -> i64 {
        one.ordinal().wrapping_sub(other.ordinal()).wrapping_sub(self.store.apart).cast_signed()
    }
}

/// Whether a frame waits for nothing that the other side sends.
fn is_loner((_, label): (&Frame, &Label)) -> bool {
    match &label.packet {
        Packet::Tcp(_, segment) => segment.is_pure_ack(),
        Packet::Datagram(..) => false,
        Packet::Class(_) | Packet::Fragment(_) | Packet::Stray(_) => true,
    }
}

/// For tests: what would meet comes one after the other instead, on this thread.
#[cfg(test)]
pub(super) mod apart {
    use std::cell::Cell;

    use pmd_tap::Nanos;

    use crate::shard::{Shard, WorkBurst};
    use crate::side::Side;
    use crate::verdict::Sink;

    thread_local! {
        static WANTED: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn is_wanted() -> bool {
        WANTED.get()
    }

    /// Runs `test` without a meeting.
    pub(in crate::shard) fn always<T>(test: impl FnOnce() -> T) -> T {
        WANTED.set(true);
        let outcome = test();
        WANTED.set(false);
        outcome
    }

    impl Shard {
        pub(super) fn meet_apart(
            &mut self,
            primary: &mut WorkBurst,
            secondary: &mut WorkBurst,
            now: Nanos,
            sink: &mut impl Sink,
        ) -> usize {
            let mut met = 0;
            while self.would_meet(primary, secondary, now) {
                self.handle_first(Side::Primary, primary, now, sink);
                self.handle_first(Side::Secondary, secondary, now, sink);
                met += 1;
            }
            met
        }

        fn would_meet(&mut self, primary: &mut WorkBurst, secondary: &mut WorkBurst, now: Nanos) -> bool {
            let ([one, ..], [other, ..]) = (primary.rest(), secondary.rest()) else { return false };
            let found = one.label.packet.flow().and_then(|flow| self.table.find(flow, one.label.hash));
            let Some(index) = found else { return false };
            let before = self.table.get(index).cloned();
            let would = self.meet(one, other, now).is_some();
            if let (Some(connection), Some(before)) = (self.table.get_mut(index), before) {
                *connection = before;
            }
            would
        }
    }
}
