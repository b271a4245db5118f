//! Urgent positions, seen from outside: both guests announce the same ones.

use super::*;
use crate::verdict::MismatchKind;

const URG: u8 = 32;
/// No position is disputed.
const NOTHING: [i64; 0] = [];

impl Rig {
    fn urgent(&mut self, side: Side, seq: u32, len: usize, pointer: u16) {
        let sent = Sent { flow: 1, seq, ack: 1, flags: ACK | URG, payload: vec![7; len] };
        let mut frame = sent.frame();
        frame[52..54].copy_from_slice(&pointer.to_be_bytes());
        self.send_frame(side, &frame);
    }

    /// The positions that the guests differ about: stream offsets.
    fn disputed(&mut self) -> Vec<i64> {
        let offset = |decision| match decision {
            Decision::Ask(cause) => match cause.detail {
                Detail::Mismatch { kind: MismatchKind::Urgent, offset, .. } => Some(offset),
                _ => None,
            },
            _ => None,
        };
        self.decided().into_iter().filter_map(offset).collect()
    }

    fn opened() -> Self {
        let mut rig = Self::new(8, 64, 64);
        for side in Side::BOTH {
            rig.syn(side, 1, 999);
        }
        rig.decided();
        rig
    }
}

#[test]
fn what_both_announce_leaves_and_is_settled() {
    for (first, second) in [(Side::Primary, Side::Secondary), (Side::Secondary, Side::Primary)] {
        let mut rig = Rig::opened();
        rig.urgent(first, 1_000, 10, 5);
        assert!(!rig.is_in_step());
        rig.urgent(second, 1_000, 10, 5);
        assert_eq!(rig.decided().len(), 2);
        assert!(rig.is_in_step(), "nothing is open any more");
    }
}

#[test]
fn what_one_side_passes_in_silence_is_disputed() {
    for (first, second) in [(Side::Primary, Side::Secondary), (Side::Secondary, Side::Primary)] {
        let mut rig = Rig::opened();
        rig.urgent(first, 1_000, 10, 5);
        rig.data(second, 1, 1_000, 4);
        assert_eq!(rig.disputed(), NOTHING, "not there yet");
        rig.data(second, 1, 1_004, 1);
        assert_eq!(rig.disputed(), [5], "{first:?} announced it");
        let mut rig = Rig::opened();
        rig.data(first, 1, 1_000, 10);
        rig.urgent(second, 1_000, 10, 5);
        assert_eq!(rig.disputed(), [5], "{first:?} was silent");
    }
}

/// Four positions are kept of a side. What there is no room for is disputed, unless it is known, or long judged.
#[test]
fn there_is_room_for_four_open_positions() {
    for side in Side::BOTH {
        let mut rig = Rig::opened();
        for guest in Side::BOTH {
            rig.urgent(guest, 1_000, 10, 5);
        }
        for number in 0..4 {
            rig.urgent(side, 1_010 + number * 10, 10, 5);
            assert_eq!(rig.disputed(), NOTHING, "{number}");
        }
        rig.urgent(side, 1_040, 10, 5);
        assert_eq!(rig.disputed(), NOTHING, "said again");
        rig.urgent(side, 1_000, 10, 5);
        assert_eq!(rig.disputed(), NOTHING, "judged");
        rig.urgent(side, 1_050, 10, 5);
        assert_eq!(rig.disputed(), [55], "the fifth");
    }
}

#[test]
fn a_retransmission_may_announce_or_not() {
    for side in Side::BOTH {
        let mut rig = Rig::opened();
        for guest in Side::BOTH {
            rig.urgent(guest, 1_000, 10, 5);
        }
        rig.data(side, 1, 1_000, 10);
        rig.urgent(side, 1_000, 10, 5);
        rig.urgent(side, 1_000, 10, 7);
        assert_eq!(rig.disputed(), NOTHING);
        assert!(rig.is_in_step());
    }
}
