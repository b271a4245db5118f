//! How a life ends, and what goes on beyond an end.

use super::*;
use crate::compare::contradiction::Ending;
use crate::compare::stream::Reset;
use crate::verdict::MismatchKind;

#[test]
fn it_has_ended_when_both_sides_say_so() {
    let fin = segment(FIN | ACK, 101, 5_000, 10);
    let reset = segment(RST | ACK, 101, 5_000, 0);
    for (last, ending) in [(&fin, Ending::Finished), (&reset, Ending::Reset)] {
        let mut told = Told::opened(100, 100);
        assert_eq!(told.life.ending(), None);
        told.primary(last);
        assert_eq!(told.life.ending(), None, "the secondary has not");
        told.secondary(last);
        assert_eq!(told.life.ending(), Some(ending));
        let mut told = Told::opened(100, 100);
        told.secondary(last);
        assert_eq!(told.life.ending(), None, "the primary has not");
    }
    let mut told = Told::opened(100, 100);
    told.primary(&fin);
    told.secondary(&segment(FIN | ACK, 101, 5_000, 9));
    assert_eq!(told.life.ending(), None, "they end at different places");
    told.primary(&reset);
    assert_eq!(told.life.ending(), None, "one reset, the other finished");
}

#[test]
fn resets_are_the_same_by_position_or_by_number() {
    let reset = |position, raw| Reset { position: SeqNumber(position), raw: SeqNumber(raw) };
    for (other, same) in [((1, 2), true), ((1, 9), true), ((9, 2), true), ((9, 9), false), ((2, 1), false)] {
        assert_eq!(reset(1, 2).matches(reset(other.0, other.1)), same, "{other:?}");
    }
}

fn contradiction(told: &Told, side: Side, segment: &Segment) -> Option<(MismatchKind, u32)> {
    let placed = told.life.place_primary(segment);
    let found = told.life.contradiction_of(&told.store, side, &placed, &[0; 128]);
    found.map(|found| (found.kind, found.at.0))
}

#[test]
fn a_reset_contradicts_what_went_on_beyond_it_and_beyond_its_own_side() {
    let reset = |seq| segment(RST | ACK, seq, 5_000, 0);
    for side in Side::BOTH {
        let send = |told: &mut Told, side: Side, segment: &Segment| match side {
            Side::Primary => told.primary(segment),
            Side::Secondary => told.secondary(segment).unwrap(),
        };
        // The other side has sent up to 121, this one up to 111.
        let mut told = Told::opened(100, 100);
        send(&mut told, side.other(), &segment(ACK, 101, 5_000, 20));
        send(&mut told, side, &segment(ACK, 101, 5_000, 10));
        assert_eq!(contradiction(&told, side, &reset(111)), Some((MismatchKind::Rst, 111)), "{side:?}");
        assert_eq!(contradiction(&told, side, &reset(120)), Some((MismatchKind::Rst, 120)), "{side:?}");
        assert_eq!(contradiction(&told, side, &reset(121)), None, "at the end of what was sent");
        assert_eq!(contradiction(&told, side.other(), &reset(111)), None, "its own side has sent more");
        // It came first, and the other side goes on.
        let mut told = Told::opened(100, 100);
        send(&mut told, side, &segment(ACK, 101, 5_000, 10));
        send(&mut told, side, &reset(111));
        send(&mut told, side.other(), &segment(ACK, 101, 5_000, 10));
        let further = segment(ACK, 111, 5_000, 10);
        assert_eq!(contradiction(&told, side.other(), &further), Some((MismatchKind::Rst, 111)), "{side:?}");
        assert_eq!(
            contradiction(&told, side.other(), &segment(ACK, 111, 5_000, 0)),
            None,
            "an ACK has no data"
        );
        assert_eq!(contradiction(&told, side.other(), &segment(ACK, 101, 5_000, 10)), None, "not beyond it");
        // Both have sent the same: what follows is for neither side.
        send(&mut told, side.other(), &reset(111));
        assert_eq!(contradiction(&told, side.other(), &further), None, "{side:?}");
        assert_eq!(contradiction(&told, side, &reset(111)), None, "{side:?}");
        // Answered, though by another position: its number is the same.
        let mut told = Told::opened(100, 7_000_000);
        told.secondary(&segment(ACK, 7_000_001, 5_000, 10));
        told.primary(&reset(101));
        assert_eq!(contradiction(&told, Side::Secondary, &reset(101)), None);
    }
}

#[test]
fn a_fin_contradicts_what_goes_on_beyond_it() {
    let fin = segment(FIN | ACK, 101, 5_000, 10);
    for side in Side::BOTH {
        let mut told = Told::opened(100, 100);
        match side {
            Side::Primary => told.primary(&fin),
            Side::Secondary => told.secondary(&fin).unwrap(),
        };
        let other = side.other();
        assert_eq!(contradiction(&told, other, &fin), None);
        assert_eq!(
            contradiction(&told, other, &segment(ACK, 101, 5_000, 11)),
            Some((MismatchKind::Fin, 111))
        );
        assert_eq!(contradiction(&told, other, &segment(ACK, 101, 5_000, 10)), None, "up to it");
        let earlier = segment(FIN | ACK, 101, 5_000, 5);
        assert_eq!(contradiction(&told, other, &earlier), Some((MismatchKind::Fin, 106)));
        let more = segment(ACK, 111, 5_000, 5);
        assert_eq!(contradiction(&told, side, &more), Some((MismatchKind::SelfInconsistent, 111)));
        assert_eq!(contradiction(&told, side, &earlier), Some((MismatchKind::SelfInconsistent, 106)));
        assert_eq!(contradiction(&told, side, &fin), None, "sent again");
        assert_eq!(
            contradiction(&told, side, &segment(RST | ACK, 112, 5_000, 0)),
            None,
            "a reset goes on with nothing"
        );
    }
}
