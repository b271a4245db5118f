//! Three segments a side in every order of arrival, for a small alphabet of what the segments are.

use colo_engine::side::{BySide, Side};

use crate::agreement::check;
use crate::drive::MS;
use crate::generate::Case;
use crate::traffic::{Flow, Ip, Numbering, Segment, Sent, What};

/// Offsets where the six bytes may be cut; the ISN is such that numbers wrap inside.
const CUTS: [[usize; 2]; 4] = [[2, 4], [1, 5], [3, 4], [3, 3]];
const BYTES: &[u8] = b"abcdef";

fn flow() -> Flow {
    let isns = BySide { primary: u32::MAX - 3, secondary: 77_000_000 };
    Flow { ip: Ip::V4, port: 80, isns, client_isn: u32::MAX, numbering: Numbering::Raw }
}

/// Each way to send the six bytes in three segments: cut, with the last two merged into a retransmission, with the
/// end of the stream in the last, with one byte changed, out of order.
fn alphabet() -> Vec<[Segment; 3]> {
    let piece = |from: usize, to: usize| Segment::data(i64::try_from(from).unwrap(), &BYTES[from..to]);
    let mut all = Vec::new();
    for [one, other] in CUTS {
        let plain = [piece(0, one), piece(one, other), piece(other, 6)];
        let [first, second, third] = plain.clone();
        all.push([first.clone(), second.clone(), piece(one, 6)]);
        all.push([first.clone(), third.clone(), piece(0, 6)]);
        all.push([second.clone(), first.clone(), third.clone()]);
        all.push([first.clone(), second.clone(), Segment { fin: true, ack: Some(9), ..third.clone() }]);
        let mut changed = plain.clone();
        changed[1].payload = changed[1].payload.iter().map(|byte| byte ^ 1).collect();
        all.push(changed);
        all.push([first.clone(), Segment { payload: vec![b'x'], ..first }, piece(one, 6)]);
        all.push(plain);
    }
    all
}

/// All orders of three and three, as the places of the primary's.
fn orders() -> impl Iterator<Item = u8> {
    (0_u8..64).filter(|places| places.count_ones() == 3)
}

fn case(primary: &[Segment; 3], secondary: &[Segment; 3], order: u8) -> Case {
    let mut case = Case { flows: vec![flow()], sent: BySide::default(), min_interval_ms: 100 };
    let mut next = BySide { primary: primary.iter(), secondary: secondary.iter() };
    let mut send = |side: Side, at_ns, segment: &Segment| {
        case.sent[side].push(Sent { at_ns, flow: 0, what: What::Segment(segment.clone()) });
    };
    send(Side::Primary, 0, &Segment::syn_ack());
    send(Side::Secondary, 0, &Segment::syn_ack());
    for place in 0_u32..6 {
        let side = if order & (1 << place) == 0 { Side::Secondary } else { Side::Primary };
        send(side, u64::from(place + 1) * MS, next[side].next().unwrap());
    }
    case
}

#[test]
fn three_segments_a_side_in_every_order() {
    let alphabet = alphabet();
    let mut count = 0;
    for primary in &alphabet {
        for secondary in &alphabet {
            for order in orders() {
                let case = case(primary, secondary, order);
                let [log, expected] = check(&case);
                assert_eq!(log, expected, "{case:?}");
                count += 1;
            }
        }
    }
    assert_eq!(count, 28 * 28 * 20);
}
