//! Up to four segments a side in every order of arrival, for a small alphabet of what the segments are.

use colo_engine::side::{BySide, Side};

use crate::agreement::check;
use crate::drive::MS;
use crate::generate::Case;
use crate::traffic::{Flow, Ip, Numbering, Segment, Sent, What};

const BYTES: &[u8] = b"abcdef";

/// What one side sends.
type Word = Vec<Segment>;

/// Numbers wrap inside the six bytes.
fn flow() -> Flow {
    let isns = BySide { primary: u32::MAX - 3, secondary: 77_000_000 };
    Flow { ip: Ip::V4, port: 80, isns, client_isn: u32::MAX, numbering: Numbering::Raw }
}

fn piece(from: usize, to: usize) -> Segment {
    Segment::data(i64::try_from(from).unwrap(), &BYTES[from..to])
}

fn changed(segment: &Segment) -> Segment {
    Segment { payload: segment.payload.iter().map(|byte| byte ^ 1).collect(), ..segment.clone() }
}

/// With the end of the stream, and an acknowledgment.
fn last(segment: Segment) -> Segment {
    Segment { fin: true, ack: Some(9), ..segment }
}

/// In one or two segments: whole, cut, doubled, turned round, ended, with a byte changed, with an end missing.
fn short_words() -> Vec<Word> {
    let mut all = vec![
        vec![piece(0, 6)],
        vec![last(piece(0, 6))],
        vec![changed(&piece(0, 6))],
        vec![piece(0, 4)],
        vec![piece(0, 6), piece(0, 6)],
        vec![piece(0, 6), changed(&piece(2, 4))],
    ];
    for cut in [1, 3, 4] {
        all.push(vec![piece(0, cut), piece(cut, 6)]);
        all.push(vec![piece(cut, 6), piece(0, cut)]);
        all.push(vec![piece(0, cut), last(piece(cut, 6))]);
    }
    all
}

/// In three: cut, with the last two merged into a retransmission, with the end of the stream in the last, with one byte
/// changed, out of order.
fn words_of_three() -> Vec<Word> {
    let mut all = Vec::new();
    for [one, other] in [[2, 4], [1, 5], [3, 4], [3, 3]] {
        let [first, second, third] = [piece(0, one), piece(one, other), piece(other, 6)];
        all.push(vec![first.clone(), second.clone(), piece(one, 6)]);
        all.push(vec![first.clone(), third.clone(), piece(0, 6)]);
        all.push(vec![second.clone(), first.clone(), third.clone()]);
        all.push(vec![first.clone(), second.clone(), last(third.clone())]);
        all.push(vec![first.clone(), changed(&second), third.clone()]);
        all.push(vec![first.clone(), Segment { payload: vec![b'x'], ..first.clone() }, piece(one, 6)]);
        all.push(vec![first, second, third]);
    }
    all
}

/// In four: cut, every second first, turned round, overlapping, repeated, ended, with one byte changed, with a FIN of
/// its own that comes early.
fn words_of_four() -> Vec<Word> {
    let mut all = Vec::new();
    for [one, two, three] in [[1, 3, 5], [2, 3, 4]] {
        let [a, b, c, d] = [piece(0, one), piece(one, two), piece(two, three), piece(three, 6)];
        let end = last(Segment::data(6, b""));
        all.push(vec![a.clone(), b.clone(), c.clone(), d.clone()]);
        all.push(vec![b.clone(), d.clone(), a.clone(), c.clone()]);
        all.push(vec![d.clone(), c.clone(), b.clone(), a.clone()]);
        all.push(vec![a.clone(), piece(0, two), piece(one, three), piece(two, 6)]);
        all.push(vec![a.clone(), b.clone(), b.clone(), piece(two, 6)]);
        all.push(vec![a.clone(), b.clone(), c.clone(), last(d.clone())]);
        all.push(vec![a.clone(), b.clone(), changed(&c), d.clone()]);
        all.push(vec![piece(0, two), end, c, d]);
    }
    all
}

/// All orders of `primary` and `secondary` segments, as the places of the primary's.
fn orders(primary: usize, secondary: usize) -> impl Iterator<Item = u16> {
    let ones = u32::try_from(primary).unwrap();
    (0_u16..1 << (primary + secondary)).filter(move |places| places.count_ones() == ones)
}

fn case(primary: &Word, secondary: &Word, order: u16) -> Case {
    let mut case = Case { flows: vec![flow()], sent: BySide::default(), min_interval_ms: 100 };
    let mut next = BySide { primary: primary.iter(), secondary: secondary.iter() };
    let mut send = |side: Side, at_ns, segment: &Segment| {
        case.sent[side].push(Sent { at_ns, flow: 0, what: What::Segment(segment.clone()) });
    };
    send(Side::Primary, 0, &Segment::syn_ack());
    send(Side::Secondary, 0, &Segment::syn_ack());
    for place in 0..primary.len() + secondary.len() {
        let side = if order & (1 << place) == 0 { Side::Secondary } else { Side::Primary };
        let at_ns = u64::try_from(place + 1).unwrap() * MS;
        send(side, at_ns, next[side].next().unwrap());
    }
    case
}

/// Every order of every pair of words; returns how many that were.
fn in_every_order(primaries: &[Word], secondaries: &[Word]) -> usize {
    let mut count = 0;
    for primary in primaries {
        for secondary in secondaries {
            for order in orders(primary.len(), secondary.len()) {
                let case = case(primary, secondary, order);
                let [log, expected] = check(&case);
                assert_eq!(log, expected, "{case:?}");
                count += 1;
            }
        }
    }
    count
}

#[test]
fn three_segments_a_side_in_every_order() {
    assert_eq!(in_every_order(&words_of_three(), &words_of_three()), 28 * 28 * 20);
}

#[test]
fn four_segments_a_side_in_every_order() {
    assert_eq!(in_every_order(&words_of_four(), &words_of_four()), 16 * 16 * 70);
}

#[test]
fn up_to_four_segments_against_fewer_in_every_order() {
    let (short, three, four) = (short_words(), words_of_three(), words_of_four());
    for [longer, shorter] in [[&short, &short], [&three, &short], [&four, &short], [&four, &three]] {
        assert!(in_every_order(longer, shorter) > 0 && in_every_order(shorter, longer) > 0);
    }
}
