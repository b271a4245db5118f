//! Whatever both guests send, and however small the bounds: nothing panics, every frame is decided about once, flows
//! keep their order, and nothing leaves as matched that the secondary did not send.

use std::collections::BTreeMap;
use std::fmt;

use colo_engine::compare::SecondarySequence;
use colo_engine::side::{BySide, Side};
use colo_engine::virtual_time::VirtualSettings;
use colo_engine::wire::{Packet, Segment, SeqNumber};
use etherparse::PacketBuilder;
use proptest::prelude::*;

use crate::drive::{Frames, Log, Verdict, engine, settings};

/// Where sequence and acknowledgment numbers of the tame part of the traffic lie: around the wrap.
const BASE: u32 = u32::MAX - 20;

/// RFC 7323 section 2.2, and room for a segment.
const LARGEST_WINDOW: i32 = (1 << 30) + (1 << 16);

#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) side: Side,
    pub(crate) gap_us: u64,
    pub(crate) bytes: Vec<u8>,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, gap_us, bytes } = self;
        match Packet::parse(bytes) {
            Packet::Tcp(flow, segment) => write!(f, "{side} +{gap_us} us {flow} {segment:?}"),
            other => write!(f, "{side} +{gap_us} us {other:?}"),
        }
    }
}

fn number() -> impl Strategy<Value = u32> {
    let far = prop_oneof![Just(1_u32 << 20), Just(1_u32 << 30), Just((1_u32 << 31) - 8), Just(1_u32 << 31)];
    prop_oneof![
        12 => (0_u32..60).prop_map(|offset| BASE.wrapping_add(offset)),
        1 => any::<u32>(),
        1 => (far, 0_u32..40, 1_u32..4).prop_map(|(far, near, times)| {
            BASE.wrapping_add(near).wrapping_add(far.wrapping_mul(times))
        }),
    ]
}

/// A TCP segment whose bytes are mostly a function of their position.
fn segment() -> impl Strategy<Value = Vec<u8>> {
    let flags =
        prop_oneof![8 => Just(0x10_u8), 2 => Just(0x11), 2 => Just(0x12), 1 => Just(0x14), 1 => any::<u8>()];
    let noise = prop_oneof![15 => Just(0_u8), 1 => any::<u8>()];
    (0_u16..6, number(), number(), flags, 0_u32..24, noise).prop_map(|(port, seq, ack, flags, len, noise)| {
        let payload: Vec<u8> = (0..len).map(|at| byte_at(seq.wrapping_add(at)) ^ noise).collect();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64);
        let mut frame = Vec::new();
        builder.tcp(80 + port / 3, 4242, seq, 512).ack(ack).write(&mut frame, &payload).unwrap();
        frame[14 + 20 + 13] = flags;
        frame
    })
}

fn byte_at(position: u32) -> u8 {
    position.to_be_bytes()[3] % 7
}

fn datagram() -> impl Strategy<Value = Vec<u8>> {
    (0_u16..8, 0_u8..4, 0_usize..4).prop_map(|(port, byte, len)| {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [9; 16], 64).udp(port, 53);
        let mut frame = Vec::new();
        builder.write(&mut frame, &vec![byte; len]).unwrap();
        frame
    })
}

/// Bits flipped, cut off, or with a tail.
fn mutated(frame: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (frame, any::<prop::sample::Index>(), 0_u8..8, 0_usize..30).prop_map(|(mut frame, place, bit, how)| {
        let at = place.index(frame.len());
        match how {
            0..20 => {}
            20..26 => frame[at] ^= 1 << bit,
            26..28 => frame.truncate(at),
            _ => frame.resize(frame.len() + at, 0xaa),
        }
        frame
    })
}

pub(crate) fn made() -> impl Strategy<Value = Made> {
    let side = prop_oneof![Just(Side::Primary), Just(Side::Secondary)];
    let gap_us = prop_oneof![3 => Just(1_u64), 10 => 1_u64..2_000, 1 => 1_u64..300_000];
    let bytes = prop_oneof![
        12 => mutated(segment()),
        2 => mutated(datagram()),
        1 => prop::collection::vec(any::<u8>(), 0..120),
    ];
    (side, gap_us, bytes).prop_map(|(side, gap_us, bytes)| Made { side, gap_us, bytes })
}

/// Tiny bounds, or roomy ones in which a flow may grow strange.
fn bounds() -> impl Strategy<Value = VirtualSettings> {
    let sequence = prop_oneof![
        Just(SecondarySequence::Auto),
        Just(SecondarySequence::Raw),
        Just(SecondarySequence::Translated)
    ];
    (any::<bool>(), sequence, 1_usize..4, any::<bool>()).prop_map(|(tiny, sequence, shards, never)| {
        let mut settings = settings(100);
        settings.shards = shards;
        settings.shard.compare.secondary_sequence = sequence;
        if tiny {
            settings.shard.max_connections = 4;
            settings.shard.max_held_frames = 16;
            settings.shard.compare.max_queue_size = 4;
        }
        if never {
            settings.commit_after = None;
        }
        settings
    })
}

pub(crate) fn times(traffic: &[Made]) -> Vec<u64> {
    let gaps = traffic.iter().map(|made| made.gap_us * 1000);
    gaps.scan(0, |now, gap| {
        *now += gap;
        Some(*now)
    })
    .collect()
}

/// What was sent of a flow, by raw number.
#[derive(Default)]
struct Known {
    secondary_bytes: BTreeMap<u32, Vec<u8>>,
    secondary_acks: Vec<SeqNumber>,
    primary_acks: Vec<SeqNumber>,
    /// Acks of the primary that a commit made the secondary's.
    committed_acks: Vec<SeqNumber>,
    /// Positions that have left.
    released: Vec<u32>,
    /// Where lives of the primary began, and where commits found them: what lies before is judged by position.
    floors: Vec<SeqNumber>,
    primary_ends: Vec<SeqNumber>,
    /// The secondary sent bytes with a SYN, which nobody translates: they may belong anywhere.
    bytes_with_syn: bool,
}

fn tcp(bytes: &[u8]) -> Option<(String, Segment)> {
    match Packet::parse(bytes) {
        Packet::Tcp(flow, segment) => Some((flow.to_string(), segment)),
        _ => None,
    }
}

/// Walks arrivals and verdicts in order of time.
struct Witness<'a> {
    primary: Vec<&'a [u8]>,
    flows: BTreeMap<String, Known>,
    order: BTreeMap<String, usize>,
}

impl Witness<'_> {
    fn arrive(&mut self, made: &Made) {
        let Some((flow, segment)) = tcp(&made.bytes) else { return };
        let known = self.flows.entry(flow).or_default();
        match made.side {
            Side::Primary => {
                known.primary_acks.extend(segment.ack);
                if segment.flags.syn() || known.floors.is_empty() {
                    known.floors.push(segment.seq);
                }
                known.primary_ends.push(segment.seq + segment.positions());
            }
            Side::Secondary => {
                known.secondary_acks.extend(segment.ack);
                known.bytes_with_syn |= segment.flags.syn() && segment.payload.len > 0;
                for (at, byte) in (0_u32..).zip(segment.payload.of(&made.bytes)) {
                    known.secondary_bytes.entry((segment.seq + at).0).or_default().push(*byte);
                }
            }
        }
    }

    fn commit(&mut self) {
        for known in self.flows.values_mut() {
            let acks = known.primary_acks.clone();
            known.committed_acks.extend(acks);
            let ends = known.primary_ends.clone();
            known.floors.extend(ends);
        }
    }

    fn release(&mut self, frame: usize, why: &str, one_space: bool) {
        let bytes = self.primary[frame];
        if let Some(flow) = Packet::parse(bytes).flow() {
            let last = self.order.insert(flow.to_string(), frame);
            assert!(last.is_none_or(|last| last < frame), "frame {frame} overtook {last:?}");
        }
        let Some((flow, segment)) = tcp(bytes) else { return };
        let known = self.flows.get_mut(&flow).unwrap();
        if why != "flush"
            && let Some(ack) = segment.ack
        {
            let acks = known.secondary_acks.iter().chain(&known.committed_acks);
            assert!(acks.into_iter().any(|acked| !acked.is_before(ack)), "frame {frame} acks too much");
        }
        let start = segment.seq + u32::from(segment.flags.syn());
        let payload = if segment.flags.rst() { &[][..] } else { segment.payload.of(bytes) };
        for (at, byte) in (0_u32..).zip(payload) {
            let position = start + at;
            let is_old =
                known.floors.iter().any(|floor| (-LARGEST_WINDOW..0).contains(&position.past(*floor)));
            let is_new = !is_old && !known.released.contains(&position.0) && !known.bytes_with_syn;
            if why == "matched" && one_space && is_new {
                let sent = known.secondary_bytes.get(&position.0);
                assert!(
                    sent.is_some_and(|sent| sent.contains(byte)),
                    "frame {frame} leaves with a byte at {position} that the secondary did not send"
                );
            }
            known.released.push(position.0);
        }
    }
}

fn witness(traffic: &[Made], log: &Log, one_space: bool) {
    let primary =
        traffic.iter().filter(|made| made.side == Side::Primary).map(|made| &made.bytes[..]).collect();
    let mut witness = Witness { primary, flows: BTreeMap::new(), order: BTreeMap::new() };
    let mut arrivals = times(traffic).into_iter().zip(traffic).peekable();
    for (at_ns, verdict) in log {
        // Timers come before the frames of their instant.
        let commits = *verdict == Verdict::Commit;
        while let Some((_, made)) =
            arrivals.next_if(|(arrival, _)| arrival < at_ns || arrival == at_ns && !commits)
        {
            witness.arrive(made);
        }
        match verdict {
            Verdict::Commit => witness.commit(),
            Verdict::Release { frame, why } => witness.release(*frame, why, one_space),
            _ => {}
        }
    }
}

fn books_balance(traffic: &[Made], log: &Log) {
    let sent = |side| traffic.iter().filter(|made| made.side == side).count();
    let mut primary = vec![0; sent(Side::Primary)];
    let mut secondary = vec![0; sent(Side::Secondary)];
    for (_, verdict) in log {
        match verdict {
            Verdict::Release { frame, .. } | Verdict::Held { side: Side::Primary, frame } => {
                primary[*frame] += 1;
            }
            Verdict::Drop { frame, .. } | Verdict::Held { side: Side::Secondary, frame } => {
                secondary[*frame] += 1;
            }
            Verdict::Commit | Verdict::Request(_) | Verdict::Clamped { .. } => {}
        }
    }
    assert!(primary.iter().chain(&secondary).all(|times| *times == 1), "{primary:?} {secondary:?}");
}

fn run(settings: VirtualSettings, traffic: &[Made]) {
    let mut frames: BySide<Frames> = BySide::default();
    for (at_ns, made) in times(traffic).into_iter().zip(traffic) {
        frames[made.side].push_back((at_ns, made.bytes.clone()));
    }
    let log = engine(settings, frames);
    books_balance(traffic, &log);
    let one_space = settings.shard.compare.secondary_sequence == SecondarySequence::Translated;
    witness(traffic, &log, one_space);
}

proptest! {
    #[test]
    fn nothing_breaks_and_nothing_leaves_unseen(
        settings in bounds(), traffic in prop::collection::vec(made(), 0..120)
    ) {
        run(settings, &traffic);
    }
}
