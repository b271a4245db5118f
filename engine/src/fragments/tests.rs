//! Datagrams cut in every way, put together by the engine and by a naive list of bytes.

use etherparse::{IpFragOffset, Ipv6FragmentHeader, PacketBuilder};
use pmd_tap::PoolSettings;
use proptest::prelude::*;

use super::*;
use crate::wire::Extent;

const V4_HEADERS: usize = 34;
const V6_HEADERS: usize = 54;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ip {
    V4,
    V6,
}

impl Ip {
    fn headers(self) -> usize {
        if self == Self::V4 { V4_HEADERS } else { V6_HEADERS }
    }
}

/// A whole UDP datagram.
fn whole(ip: Ip, len: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let builder = match ip {
        Ip::V4 => builder.ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64),
        Ip::V6 => builder.ipv6([1; 16], [9; 16], 64),
    };
    let payload: Vec<u8> = (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    let mut frame = Vec::new();
    builder.udp(53, 5353).write(&mut frame, &payload).unwrap();
    frame
}

/// The bytes `from..to` of a datagram's IP payload, as a fragment.
fn piece(ip: Ip, whole: &[u8], from: usize, to: usize, more: bool, identification: u16) -> Vec<u8> {
    let (headers, payload) = whole.split_at(ip.headers());
    let mut frame = headers.to_vec();
    let set = |frame: &mut Vec<u8>, at: usize, word: usize| {
        frame[at..at + 2].copy_from_slice(&u16::try_from(word).unwrap().to_be_bytes());
    };
    match ip {
        Ip::V4 => {
            set(&mut frame, 16, 20 + to - from);
            set(&mut frame, 18, usize::from(identification));
            set(&mut frame, 20, (from / 8) | (usize::from(more) << 13));
        }
        Ip::V6 => {
            set(&mut frame, 18, 8 + to - from);
            let next = etherparse::IpNumber(std::mem::replace(&mut frame[20], 44));
            let offset = IpFragOffset::try_new(u16::try_from(from / 8).unwrap()).unwrap();
            let header = Ipv6FragmentHeader::new(next, offset, more, u32::from(identification));
            frame.extend(header.to_bytes());
        }
    }
    frame.extend(&payload[from..to]);
    frame
}

/// Cuts a datagram at these places, in eights.
fn cut(ip: Ip, whole: &[u8], places: &[usize], identification: u16) -> Vec<Vec<u8>> {
    let len = whole.len() - ip.headers();
    let mut places: Vec<usize> = places.iter().map(|place| place * 8).filter(|place| *place < len).collect();
    places.extend([0, len]);
    places.sort_unstable();
    places.dedup();
    places.windows(2).map(|ends| piece(ip, whole, ends[0], ends[1], ends[1] < len, identification)).collect()
}

struct Rig {
    reassembly: Reassembly,
    pool: FramePool,
    sent: u64,
}

impl Rig {
    fn new(max_fragments: usize) -> Self {
        let settings = FragmentSettings { max_fragments, compare_timeout: Duration::from_millis(400) };
        Self {
            reassembly: Reassembly::new(Side::Primary, settings, FlowHasher::fixed()),
            pool: FramePool::new(PoolSettings::for_frames(256, 8)).unwrap(),
            sent: 0,
        }
    }

    /// At so many milliseconds.
    fn send(&mut self, ms: u64, bytes: &[u8]) -> Option<(Frame, Packet)> {
        self.send_with(ms, bytes, Budget::Room)
    }

    fn send_with(&mut self, ms: u64, bytes: &[u8], budget: Budget) -> Option<(Frame, Packet)> {
        let mut frame = self.pool.frame_from(bytes).unwrap();
        frame.stamp(Nanos(ms * 1_000_000), self.sent);
        self.sent += 1;
        let Packet::Fragment(fragment) = Packet::parse(bytes) else { panic!("no fragment: {bytes:02x?}") };
        self.reassembly.receive(frame, &fragment, budget, &mut self.pool)
    }
}

fn ordinals(chain: &Frame) -> Vec<u64> {
    chain.originals().map(Frame::ordinal).collect()
}

fn malformed() -> Packet {
    Packet::Class(Class::Malformed)
}

#[test]
fn a_whole_datagram_is_read_like_one_that_was_never_cut() {
    for ip in [Ip::V4, Ip::V6] {
        for len in [1_500, 5_000, 20_000] {
            let (mut rig, whole) = (Rig::new(64), whole(ip, len));
            let pieces = cut(ip, &whole, &[50, 100], 7);
            assert!(rig.send(1, &pieces[2]).is_none() && rig.send(2, &pieces[0]).is_none());
            assert_eq!((rig.reassembly.held(), rig.reassembly.held_ordinals().count()), (2, 2));
            let (frame, packet) = rig.send(5, &pieces[1]).unwrap();
            assert_eq!(packet, Packet::parse(&whole));
            assert_eq!(frame.ethernet()[ip.headers()..], whole[ip.headers()..]);
            assert_eq!((frame.arrival(), frame.completed()), (Nanos(1_000_000), Nanos(5_000_000)));
            assert_eq!(ordinals(&frame), [0, 1, 2]);
            let left: Vec<Frame> = frame.into_originals().collect();
            assert!(left.iter().zip([2, 0, 1]).all(|(frame, at)| frame.ethernet() == pieces[at]));
            let counts = FragmentCounts { reassembled: 1, ..FragmentCounts::default() };
            assert_eq!(rig.reassembly.counts(), counts);
            assert_eq!(rig.reassembly.next_deadline(), None);
        }
    }
}

#[test]
fn extension_headers_in_front_of_the_fragment_header_stay() {
    let plain = whole(Ip::V6, 100);
    let mut pieces = cut(Ip::V6, &plain, &[3], 7);
    for piece in &mut pieces {
        piece.splice(54..54, [44, 0, 1, 4, 0, 0, 0, 0]);
        piece[20] = 60;
        piece[19] += 8;
    }
    let mut rig = Rig::new(8);
    assert!(rig.send(0, &pieces[0]).is_none());
    let (frame, packet) = rig.send(0, &pieces[1]).unwrap();
    assert_eq!(packet.flow(), Packet::parse(&plain).flow());
    assert_eq!((frame.ethernet()[20], frame.ethernet()[54]), (60, 17));
    assert_eq!(frame.ethernet()[62..], plain[54..]);
}

#[test]
fn fragments_that_do_not_fit_are_malformed_and_so_are_their_siblings() {
    for ip in [Ip::V4, Ip::V6] {
        let whole = whole(ip, 400);
        let of = |from, to, more| piece(ip, &whole, from, to, more, 7);
        let cases: [(&str, Vec<u8>, Vec<u8>); 7] = [
            ("overlap", of(0, 80, true), of(72, 160, true)),
            ("the same again", of(0, 80, true), of(0, 80, true)),
            ("beyond the end", of(80, 96, false), of(96, 160, true)),
            ("two ends", of(80, 96, false), of(160, 166, false)),
            ("the end before others", of(160, 240, true), of(80, 96, false)),
            ("not in eights", of(0, 80, true), of(80, 93, true)),
            ("empty", of(0, 80, true), of(80, 80, false)),
        ];
        for (what, one, other) in cases {
            let mut rig = Rig::new(8);
            assert!(rig.send(0, &one).is_none(), "{what}");
            let (chain, packet) = rig.send(1, &other).unwrap();
            assert_eq!((packet, ordinals(&chain)), (malformed(), vec![0, 1]), "{what}");
            assert!(!chain.is_assembled());
            let (late, packet) = rig.send(2, &of(240, 320, true)).unwrap();
            assert_eq!((packet, ordinals(&late)), (malformed(), vec![2]), "{what}");
            assert_eq!((rig.reassembly.held(), rig.reassembly.counts().malformed), (0, 1));
            assert!(rig.send(40_000, &one).is_none(), "forgotten in time: {what}");
        }
    }
}

#[test]
fn a_first_fragment_shows_its_transport_header() {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64);
    let options = [etherparse::TcpOptionElement::MaximumSegmentSize(1460)];
    builder.tcp(80, 4242, 1, 512).options(&options).unwrap().write(&mut frame, &[5; 100]).unwrap();
    for (first, fine) in [(8, false), (16, false), (24, true)] {
        let mut rig = Rig::new(8);
        assert_eq!(rig.send(0, &piece(Ip::V4, &frame, 0, first, true, 7)).is_none(), fine, "{first} bytes");
    }
    let mut hidden = piece(Ip::V6, &whole(Ip::V6, 100), 0, 8, true, 7);
    hidden[54] = 60; // Destination options, and nothing behind them.
    hidden[62..70].copy_from_slice(&[17, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(Rig::new(8).send(0, &hidden).map(|(_, packet)| packet), Some(malformed()));
}

#[test]
fn a_datagram_has_an_end() {
    for ip in [Ip::V4, Ip::V6] {
        let whole = whole(ip, 60_000);
        let mut last = piece(ip, &whole, 0, 800, false, 7);
        let (at, word) = if ip == Ip::V4 { (20, 8_189_u16) } else { (56, 8_189 << 3) };
        last[at..at + 2].copy_from_slice(&word.to_be_bytes());
        let (_, packet) = Rig::new(8).send(0, &last).unwrap();
        assert_eq!(packet, malformed(), "{ip:?}: it ends behind 65,535");
    }
}

#[test]
fn what_is_closed_is_flushed_and_siblings_are_late() {
    let whole = whole(Ip::V4, 300);
    let pieces = cut(Ip::V4, &whole, &[10, 20, 30], 7);
    let mut rig = Rig::new(8);
    assert!(rig.send(0, &pieces[0]).is_none() && rig.send(1, &pieces[2]).is_none());
    let cause = rig.reassembly.expire(Nanos(400_000_000)).unwrap();
    assert_eq!(cause.flow.unwrap().to_string(), "udp 10.0.0.1 > 10.0.0.9 fragments");
    let waits_for = WaitsFor::Fragments;
    assert_eq!(
        cause.detail,
        Detail::Timeout { side: Side::Primary, frame: 0, waits_for, scene: Scene::default() }
    );
    assert!(rig.reassembly.expire(Nanos(900_000_000)).is_none(), "once an epoch");
    let (chain, packet) = rig.reassembly.close(1, Nanos(405_000_000)).unwrap();
    assert_eq!((packet, chain.stands_for()), (Packet::Stray(Stray::Incomplete), 2));
    let late = Packet::Stray(Stray::Late { epoch: 1 });
    assert_eq!(rig.send(500, &pieces[1]).map(|(_, packet)| packet), Some(late));
    assert_eq!(rig.send(500, &pieces[3]).map(|(_, packet)| packet), Some(late));
    assert!(rig.send(501, &pieces[0]).is_none(), "all siblings came: this is a new datagram");
    assert!(rig.reassembly.close(2, Nanos(600_000_000)).is_some());
    assert!(rig.send(601, &pieces[0]).is_none(), "no sibling of what was flushed, as it overlaps");
}

#[test]
fn there_is_room_for_so_many() {
    let whole = whole(Ip::V4, 300);
    let mut rig = Rig::new(3);
    for identification in 0..3 {
        assert!(rig.send(0, &piece(Ip::V4, &whole, 0, 80, true, identification)).is_none());
        assert!(rig.reassembly.take_cause().is_none());
    }
    let over_budget = Packet::Stray(Stray::OverBudget);
    let (_, packet) = rig.send(1, &piece(Ip::V4, &whole, 0, 80, true, 9)).unwrap();
    assert_eq!(packet, over_budget);
    let cause = rig.reassembly.take_cause().unwrap();
    assert_eq!((cause.reason, cause.detail), (Reason::QueueFull, Detail::Bound { limit: "max_fragments" }));
    let (chain, packet) = rig.send(2, &piece(Ip::V4, &whole, 80, 160, true, 1)).unwrap();
    assert_eq!((packet, ordinals(&chain)), (over_budget, vec![1, 4]));
    assert!(rig.reassembly.take_cause().is_none(), "once an epoch");
    // What was refused makes room for what is new, and its siblings are refused as long as it is remembered.
    let (_, packet) = rig.send(3, &piece(Ip::V4, &whole, 160, 308, false, 1)).unwrap();
    assert_eq!((packet, rig.reassembly.held()), (over_budget, 2));
    assert!(rig.send(4, &piece(Ip::V4, &whole, 0, 80, true, 10)).is_none());
    assert_eq!(rig.reassembly.counts().refused, 4);
    assert_eq!(rig.reassembly.close(1, Nanos(5_000_000)).map(|(chain, _)| chain.stands_for()), Some(3));
    drop(chain);
}

#[test]
fn what_was_refused_is_no_place_for_a_sibling() {
    let whole = whole(Ip::V4, 300);
    let (first, second) = (piece(Ip::V4, &whole, 0, 80, true, 7), piece(Ip::V4, &whole, 80, 160, true, 7));
    for exhausted in [Budget::Exhausted, Budget::Room] {
        let mut rig = Rig::new(1);
        let refused = if exhausted == Budget::Exhausted {
            rig.send_with(0, &first, exhausted)
        } else {
            assert!(rig.send(0, &second).is_none());
            rig.send(0, &first)
        };
        assert_eq!(refused.map(|(_, packet)| packet), Some(Packet::Stray(Stray::OverBudget)));
        assert!(rig.reassembly.close(1, Nanos(1_000_000)).is_none(), "nothing waits");
        assert!(rig.send(2, &first).is_none(), "it came before, so this is a new datagram's");
    }
}

/// The bytes of one datagram, as they came.
#[derive(Default)]
struct Naive {
    bytes: Vec<Option<u8>>,
    end: Option<usize>,
}

impl Naive {
    /// False: it cannot be a part of this datagram.
    fn add(&mut self, fragment: &Fragment, bytes: &[u8]) -> bool {
        let from = usize::try_from(fragment.offset).unwrap();
        let (to, last) = (from + bytes.len(), fragment.place == crate::wire::Place::Last);
        let fresh = self.bytes.iter().skip(from).take(bytes.len()).all(Option::is_none);
        let within = if last {
            self.end.is_none() && self.bytes.len() <= to
        } else {
            self.end.is_none_or(|end| to <= end)
        };
        if bytes.is_empty() || !fresh || !within || (!last && !bytes.len().is_multiple_of(8)) {
            return false;
        }
        self.bytes.resize(self.bytes.len().max(to), None);
        for (place, byte) in self.bytes[from..to].iter_mut().zip(bytes) {
            *place = Some(*byte);
        }
        if last {
            self.end = Some(to);
        }
        true
    }

    fn whole(&self) -> Option<Vec<u8>> {
        self.end?;
        self.bytes.iter().copied().collect()
    }
}

proptest! {
    #[test]
    fn every_cut_and_order_gives_the_datagram(
        ip in prop::sample::select(vec![Ip::V4, Ip::V6]),
        len in 17_usize..3_000,
        places in prop::collection::vec(3_usize..370, 1..12),
        keys in prop::collection::vec(any::<u32>(), 16),
        again in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let whole = whole(ip, len);
        let mut pieces = cut(ip, &whole, &places, 7);
        prop_assume!(pieces.len() > 1);
        if let Some(again) = again {
            let copy = pieces[again.index(pieces.len())].clone();
            pieces.push(copy);
        }
        let mut keyed: Vec<_> = keys.into_iter().zip(pieces).collect();
        keyed.sort();
        let (mut rig, mut naive, mut refused) = (Rig::new(64), Naive::default(), false);
        for (_, bytes) in keyed {
            let Packet::Fragment(fragment) = Packet::parse(&bytes) else { panic!("no fragment") };
            let before = naive.whole().is_some();
            let fits = !before && naive.add(&fragment, fragment.payload.of(&bytes));
            let came = rig.send(0, &bytes);
            if before {
                prop_assert!(came.is_none(), "a new datagram begins");
            } else if refused || !fits {
                refused = true;
                prop_assert_eq!(came.map(|(_, packet)| packet), Some(malformed()));
            } else {
                prop_assert_eq!(came.is_some(), naive.whole().is_some());
                if let Some((frame, packet)) = came {
                    prop_assert_eq!(packet, Packet::parse(&whole));
                    prop_assert_eq!(frame.ethernet()[ip.headers()..].to_vec(), naive.whole().unwrap());
                }
            }
        }
    }

    /// Nothing a guest can send as fragments panics, loses a frame or outgrows the bound.
    #[test]
    fn rubbish_is_bounded(
        sent in prop::collection::vec((0_usize..64, 0_usize..40, any::<bool>(), 0_u16..6, 0_u64..50), 1..200),
        ip in prop::sample::select(vec![Ip::V4, Ip::V6]),
    ) {
        let (whole, mut rig, mut left, mut now) = (whole(ip, 600), Rig::new(12), 0, 0);
        for (round, (from, len, more, identification, later)) in sent.iter().enumerate() {
            now += later * 100;
            let from = from * 8;
            let to = (from + len).min(whole.len() - ip.headers());
            let bytes = piece(ip, &whole, from.min(to), to, *more, *identification);
            if let Packet::Fragment(_) = Packet::parse(&bytes) {
                let came = rig.send(now, &bytes);
                left += came.map_or(0, |(chain, _)| chain.stands_for());
            }
            if round % 50 == 49 {
                let epoch = u32::try_from(round).unwrap();
                left += rig.reassembly.close(epoch, Nanos(now * 1_000_000)).map_or(0, |(chain, _)| chain.stands_for());
            }
            prop_assert!(rig.reassembly.held() <= 12);
            prop_assert_eq!(rig.reassembly.held(), rig.reassembly.held_ordinals().count());
            prop_assert_eq!(u64::try_from(left + rig.reassembly.held()).unwrap(), rig.sent);
        }
        rig.pool.collect();
        prop_assert_eq!(rig.pool.frames_out(), rig.reassembly.held());
    }
}

#[test]
fn every_flipped_bit_and_truncation_stays_inside() {
    for ip in [Ip::V4, Ip::V6] {
        let first = piece(ip, &whole(ip, 300), 0, 160, true, 7);
        let look = |bytes: &[u8]| {
            let extent = match Packet::parse(bytes) {
                Packet::Fragment(fragment) => {
                    let _ = fragment.hides_its_header(bytes);
                    fragment.payload
                }
                Packet::Tcp(_, segment) => segment.payload,
                Packet::Datagram(_, extent) => extent,
                Packet::Class(_) | Packet::Stray(_) => Extent::default(),
            };
            assert_eq!(extent.of(bytes).len(), usize::try_from(extent.len).unwrap(), "{bytes:02x?}");
        };
        (0..first.len()).for_each(|len| look(&first[..len]));
        for bit in 0..first.len() * 8 {
            let mut flipped = first.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            look(&flipped);
            if let Packet::Fragment(_) = Packet::parse(&flipped) {
                let mut rig = Rig::new(8);
                rig.send(0, &flipped);
                rig.send(0, &piece(ip, &whole(ip, 300), 160, 308, false, 7));
            }
        }
    }
}
