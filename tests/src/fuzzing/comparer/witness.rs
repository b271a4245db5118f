//! Watches a shard: what came, what was decided, and whether it may be so. The rules are weaker than the comparer's,
//! but they hold whatever both guests send: a frame is decided about once, flows keep their order, nothing leaves as
//! matched that the secondary did not send, no window is larger than the secondary's, and nothing waits in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use colo_engine::side::{BySide, Side};
use colo_engine::verdict::{Cause, Detail, Discard, Reason, Release, Sink};
use colo_engine::wire::{Packet, Segment, SeqNumber};
use pmd_tap::{Frame, FramePool, Nanos};

use super::clamp;

/// RFC 7323 section 2.2, and room for a segment.
const LARGEST_WINDOW: i32 = (1 << 30) + (1 << 16);

/// What can be said with these settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How long a frame may wait before somebody is asked.
    pub(super) timeout: Duration,
    /// Both guests number their streams alike, so that bytes can be judged by raw number.
    pub(super) same_numbers: bool,
    /// No byte is acknowledged that the secondary has not acknowledged.
    pub(super) both_acks: bool,
}

/// A frame that came.
#[derive(Debug)]
struct Arrived {
    at: Nanos,
    bytes: Vec<u8>,
    packet: Packet,
    decided: bool,
}

/// What was sent of a flow.
#[derive(Debug, Default)]
struct Known {
    /// The last frame that left.
    last: Option<u64>,
    secondary_bytes: BTreeMap<u32, BTreeSet<u8>>,
    secondary_acks: Vec<SeqNumber>,
    primary_acks: Vec<SeqNumber>,
    /// Right edges of windows, as far as nobody may scale them.
    secondary_edges: Vec<SeqNumber>,
    primary_edges: Vec<SeqNumber>,
    scaled: bool,
    /// Positions that have left, and places below which the engine judges by position alone.
    released: BTreeSet<u32>,
    floors: Vec<SeqNumber>,
    primary_ends: Vec<SeqNumber>,
    /// The secondary sent bytes with a SYN, which nobody translates: they may belong anywhere.
    bytes_with_syn: bool,
    /// Datagrams of the secondary that no primary's has used up in this epoch.
    datagrams: BTreeMap<Vec<u8>, u64>,
    /// Whose frame has timed out in this epoch.
    timed_out: Option<(Side, usize)>,
}

/// The sink of a shard under test.
#[derive(Debug)]
pub(super) struct Witness {
    rules: Rules,
    came: BySide<Vec<Arrived>>,
    flows: BTreeMap<String, Known>,
    /// Frames that were let go and are not in the pool yet.
    done: Vec<Frame>,
    /// Causes of this epoch.
    asked: usize,
    flushing: bool,
    /// The frame that leaves next has a lower window than it came with.
    clamped: bool,
}

impl Witness {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            came: BySide::default(),
            flows: BTreeMap::new(),
            done: Vec::new(),
            asked: 0,
            flushing: false,
            clamped: false,
        }
    }

    /// A frame comes; its place in its input.
    pub(super) fn arrives(&mut self, side: Side, at: Nanos, bytes: &[u8]) -> u64 {
        let packet = Packet::parse(bytes);
        if let Some(flow) = packet.flow() {
            let known = self.flows.entry(flow.to_string()).or_default();
            match (side, &packet) {
                (Side::Primary, Packet::Tcp(_, segment)) => known.primary_sends(segment, bytes),
                (Side::Secondary, Packet::Tcp(_, segment)) => known.secondary_sends(segment, bytes),
                (Side::Secondary, Packet::Datagram(_, extent)) => {
                    *known.datagrams.entry(extent.of(bytes).to_vec()).or_default() += 1;
                }
                _ => {}
            }
        }
        let came = &mut self.came[side];
        came.push(Arrived { at, bytes: bytes.to_vec(), packet, decided: false });
        u64::try_from(came.len() - 1).expect("few frames")
    }

    /// Frames and bytes that came and were not decided about.
    pub(super) fn undecided(&self, side: Side) -> (usize, usize) {
        let waiting = || self.came[side].iter().filter(|arrived| !arrived.decided);
        (waiting().count(), waiting().map(|arrived| arrived.bytes.len()).sum())
    }

    pub(super) fn give_back(&mut self, pool: &mut FramePool) {
        self.done.drain(..).for_each(|frame| pool.recycle(frame));
    }

    /// A checkpoint was committed: what both have acknowledged and sent is the primary's now.
    pub(super) fn commits(&mut self) {
        self.flushing = true;
        for known in self.flows.values_mut() {
            known.secondary_acks.extend_from_slice(&known.primary_acks);
            known.secondary_edges.extend_from_slice(&known.primary_edges);
            known.floors.extend_from_slice(&known.primary_ends);
        }
    }

    /// The flush is over, and a new epoch begins.
    pub(super) fn has_flushed(&mut self) {
        self.flushing = false;
        self.asked = 0;
        for known in self.flows.values_mut() {
            known.datagrams.clear();
            known.timed_out = None;
        }
    }

    /// After the timers: whoever has waited too long has asked for a checkpoint, or somebody has for him.
    pub(super) fn nothing_waits_in_silence(&self, now: Nanos) {
        let oldest = self.came.primary.iter().find(|arrived| !arrived.decided);
        if let Some(oldest) = oldest
            && now.since(oldest.at) >= self.rules.timeout
        {
            assert!(self.asked > 0, "since {} a frame waits in silence: {:?}", oldest.at.0, oldest.packet);
        }
    }

    fn decide(&mut self, side: Side, frame: &Frame) -> usize {
        let number = usize::try_from(frame.ordinal()).expect("an index");
        let arrived = &mut self.came[side][number];
        assert!(!arrived.decided, "{side} frame {number} was decided about twice");
        assert_eq!(frame.arrival(), arrived.at);
        if std::mem::take(&mut self.clamped) {
            assert_eq!(side, Side::Primary);
            arrived.packet = clamp::judge(&arrived.packet, &arrived.bytes, frame.ethernet());
        } else {
            assert_eq!(frame.ethernet(), arrived.bytes, "{side} frame {number} was changed");
        }
        arrived.decided = true;
        number
    }

    fn judge(&mut self, number: usize, why: Release) {
        let Arrived { bytes, packet, .. } = &self.came.primary[number];
        assert_eq!(why == Release::Flush, self.flushing, "frame {number} leaves for {why:?}");
        let Some(flow) = packet.flow() else {
            return assert_eq!(why, Release::Pass, "frame {number} is not compared");
        };
        let known = self.flows.get_mut(&flow.to_string()).expect("a flow that came");
        let ordinal = u64::try_from(number).expect("few frames");
        let last = known.last.replace(ordinal);
        assert!(last.is_none_or(|last| last < ordinal), "frame {number} leaves after {last:?} of {flow}");
        match packet {
            Packet::Tcp(_, segment) => known.judge_segment(segment, bytes, why, self.rules),
            Packet::Datagram(_, extent) if why == Release::Matched => {
                let left = known.datagrams.get_mut(extent.of(bytes)).filter(|left| **left > 0);
                *left.unwrap_or_else(|| panic!("datagram {number} leaves without a partner")) -= 1;
            }
            _ => {}
        }
    }
}

impl Sink for Witness {
    fn release(&mut self, frame: Frame, why: Release) {
        assert!(
            !self.clamped || matches!(why, Release::Matched | Release::Ack),
            "{why:?} with a lower window"
        );
        let number = self.decide(Side::Primary, &frame);
        self.judge(number, why);
        self.done.push(frame);
    }

    fn discard(&mut self, frame: Frame, why: Discard) {
        let number = self.decide(Side::Secondary, &frame);
        let is_compared = self.came.secondary[number].packet.flow().is_some();
        assert_eq!(why == Discard::Pass, !is_compared, "secondary frame {number}: {why:?}");
        assert_eq!(why == Discard::Flush, self.flushing, "secondary frame {number}: {why:?}");
        self.done.push(frame);
    }

    fn note_clamped(&mut self) {
        assert!(!std::mem::replace(&mut self.clamped, true), "said twice of one frame");
    }

    fn ask(&mut self, cause: Cause) {
        assert!(!self.flushing, "a flush asks for a checkpoint");
        self.asked += 1;
        if let Detail::Timeout { side, frame, .. } = cause.detail {
            assert_eq!(cause.reason, Reason::Timeout);
            let number = usize::try_from(frame).expect("an index");
            let arrived = &self.came[side][number];
            assert!(!arrived.decided, "{side} frame {frame} is not held, so it cannot time out");
            assert!(cause.at.since(arrived.at) >= self.rules.timeout, "{side} frame {frame} times out early");
            let flow = cause.flow.expect("a timeout is about a flow").to_string();
            let known = self.flows.get_mut(&flow).expect("a flow that came");
            let first = known.timed_out.replace((side, number));
            // Once nothing of it is held it may be forgotten, and what comes then is another connection.
            let forgotten = first.is_none_or(|(side, number)| self.came[side][number].decided);
            assert!(forgotten, "{flow} times out twice in an epoch");
        }
    }
}

impl Known {
    fn primary_sends(&mut self, segment: &Segment, bytes: &[u8]) {
        self.primary_acks.extend(segment.ack);
        self.primary_edges.extend(edge_of(segment));
        self.scaled |= may_scale(segment, bytes);
        if segment.flags.syn() || self.floors.is_empty() {
            self.floors.push(segment.seq);
        }
        self.primary_ends.push(segment.seq + segment.positions());
    }

    fn secondary_sends(&mut self, segment: &Segment, bytes: &[u8]) {
        self.secondary_acks.extend(segment.ack);
        self.secondary_edges.extend(edge_of(segment));
        self.scaled |= may_scale(segment, bytes);
        self.bytes_with_syn |= segment.flags.syn() && segment.payload.len > 0;
        for (at, byte) in (0_u32..).zip(segment.payload.of(bytes)) {
            self.secondary_bytes.entry((segment.seq + at).0).or_default().insert(*byte);
        }
    }

    fn judge_segment(&mut self, segment: &Segment, bytes: &[u8], why: Release, rules: Rules) {
        if let (true, Some(ack)) = (rules.both_acks && why != Release::Flush, segment.ack) {
            assert!(
                self.secondary_acks.iter().any(|acked| !acked.is_before(ack)),
                "{segment:?} acks too much"
            );
        }
        let judged = rules.both_acks && why != Release::Flush && !self.scaled && !segment.flags.rst();
        if let (true, Some(edge)) = (judged, edge_of(segment)) {
            assert!(
                self.secondary_edges.iter().any(|offered| !offered.is_before(edge)),
                "{segment:?} offers too much"
            );
        }
        let start = segment.seq + u32::from(segment.flags.syn());
        let payload = if segment.flags.rst() { &[][..] } else { segment.payload.of(bytes) };
        for (at, byte) in (0_u32..).zip(payload) {
            let position = start + at;
            let is_old =
                self.floors.iter().any(|floor| (-LARGEST_WINDOW..0).contains(&position.past(*floor)));
            let is_new = !is_old && !self.bytes_with_syn && !self.released.contains(&position.0);
            if why == Release::Matched && rules.same_numbers && is_new {
                let sent = self.secondary_bytes.get(&position.0);
                assert!(
                    sent.is_some_and(|sent| sent.contains(byte)),
                    "{segment:?}: byte {at} is the primary's alone"
                );
            }
        }
        // A SYN and a FIN take a position as a byte does, and are judged by it afterwards as bytes are.
        for step in 0..segment.positions() {
            self.released.insert((segment.seq + step).0);
        }
    }
}

/// Right edge of a window that is not scaled; a reset has none.
fn edge_of(segment: &Segment) -> Option<SeqNumber> {
    segment.ack.map(|ack| if segment.flags.rst() { ack } else { ack + u32::from(segment.window) })
}

/// Whether it is a SYN that may have options: one of them may be the window scale. Where the header starts is not known
/// here, but where it ends is, and that a data offset stands in it.
fn may_scale(segment: &Segment, bytes: &[u8]) -> bool {
    let end = usize::try_from(segment.payload.offset).expect("an index");
    let has_length = |words: usize| {
        let offset = end.checked_sub(words * 4).and_then(|start| bytes.get(start + 12));
        offset.is_some_and(|offset| usize::from(offset >> 4) == words)
    };
    segment.flags.syn() && (6..=15).any(has_length)
}
