//! Where a life puts what comes.

use super::*;
use crate::compare::incarnation::{Mapping, Standing};
use crate::compare::stream::Reach;
use crate::wire::{SeqRange, SeqShift};

fn start(placed: Option<Placed>) -> Option<u32> {
    placed.map(|placed| placed.range.start.0)
}

#[test]
fn near_is_within_a_window_of_either_end() {
    let reach = Reach { next: SeqNumber(10_000_000), top: SeqNumber(20_000_000) };
    for (position, near) in [
        (10_000_000 - SEQUENCE_WINDOW, true),
        (10_000_000 - FAR, false),
        (10_000_000 + SEQUENCE_WINDOW, true),
        (10_000_000 + FAR, false),
        (20_000_000 - SEQUENCE_WINDOW, true),
        (20_000_000 + SEQUENCE_WINDOW, true),
        (20_000_000 + FAR, false),
    ] {
        assert_eq!(reach.is_near(SeqNumber(position)), near, "{position}");
    }
}

#[test]
fn both_syns_lie_at_one_position_and_the_next_segment_tells_who_translates() {
    for (seq, position) in [(7_000_001, 101), (101, 101), (7_000_041, 141), (141, 141)] {
        let mut told = Told::opened(100, 7_000_000);
        assert_eq!(start(told.secondary(&segment(ACK, seq, 5_000, 10))), Some(position), "{seq}");
        // It has decided.
        assert_eq!(start(told.secondary(&segment(ACK, seq + 10, 5_000, 10))), Some(position + 10), "{seq}");
    }
}

#[test]
fn a_wild_first_number_decides_nothing() {
    let mut told = Told::opened(100, 7_000_000);
    told.secondary(&segment(ACK, 7_000_101 + FAR, 5_000, 10));
    assert!(matches!(told.life.mapping, Mapping::AfterSyn { .. }));
    assert_eq!(start(told.secondary(&segment(ACK, 101, 5_000, 10))), Some(101));
}

#[test]
fn without_the_secondarys_syn_its_number_must_be_near_the_primarys() {
    for (sequence, seq, position) in [
        (SecondarySequence::Auto, 101, Some(101)),
        (SecondarySequence::Auto, 100 + SEQUENCE_WINDOW, Some(100 + SEQUENCE_WINDOW)),
        (SecondarySequence::Auto, 100 + FAR, None),
        (SecondarySequence::Translated, 100 + FAR, Some(100 + FAR)),
        (SecondarySequence::Raw, 101, None),
    ] {
        let mut told = Told::counting(sequence);
        told.primary(&segment(SYN | ACK, 100, 5_000, 0));
        assert_eq!(start(told.secondary(&segment(ACK, seq, 5_000, 10))), position, "{sequence:?} {seq}");
    }
}

/// Nobody saw a SYN: the first bytes of both are taken for the same, unless the numbers are.
#[test]
fn a_life_picked_up_in_the_middle_finds_its_shift() {
    for (sequence, seq, position) in [
        (SecondarySequence::Auto, 7_000_000, 1_000),
        (SecondarySequence::Auto, 1_010, 1_010),
        (SecondarySequence::Auto, 990, 990),
        (SecondarySequence::Auto, 1_000 + SEQUENCE_WINDOW, 1_000 + SEQUENCE_WINDOW),
        (SecondarySequence::Auto, 1_000 + FAR, 1_000),
        (SecondarySequence::Raw, 1_010, 1_000),
        (SecondarySequence::Translated, 7_000_000, 7_000_000),
    ] {
        let mut told = Told::counting(sequence);
        told.primary(&segment(ACK, 1_000, 5_000, 50));
        assert_eq!(
            start(told.secondary(&segment(ACK, seq, 5_000, 10))),
            Some(position),
            "{sequence:?} {seq}"
        );
    }
}

/// The secondary counted so in the life before, and no client says otherwise.
#[test]
fn a_life_picked_up_again_goes_on_as_the_secondary_counted() {
    let before = SeqShift::between(SeqNumber(7_000_000), SeqNumber(1_000));
    for (seq, position) in
        [(7_000_030, 1_030), (7_000_000 + SEQUENCE_WINDOW, 1_000 + SEQUENCE_WINDOW), (7_000_000 + FAR, 1_000)]
    {
        let mut told = Told { life: Incarnation::after(0, Some(before)), ..Told::new() };
        told.primary(&segment(ACK, 1_000, 5_000, 50));
        assert_eq!(start(told.secondary(&segment(ACK, seq, 5_000, 10))), Some(position), "{seq}");
    }
}

#[test]
fn what_the_secondary_sent_first_counts_unless_it_answers_another_client() {
    for (ack, position) in [(5_000, 1_020), (5_000 + FAR, 1_000)] {
        let mut told = Told::new();
        assert_eq!(told.secondary(&segment(ACK, 7_000_000, ack, 10)), None);
        told.primary(&segment(ACK, 1_000, 5_000, 50));
        assert_eq!(start(told.secondary(&segment(ACK, 7_000_020, 5_000, 10))), Some(position), "{ack}");
    }
}

#[test]
fn the_stream_begins_at_the_lowest_that_either_side_showed() {
    let mut told = Told::new();
    told.primary(&segment(ACK, 1_000, 5_000, 50));
    let lower = told.primary(&segment(ACK, 960, 5_000, 10));
    assert!(told.life.is_trackable(&lower));
    assert_eq!(told.life.streams.primary.reach.map(|reach| reach.next), Some(SeqNumber(970)));
    // Beyond a window nothing is of this stream.
    let far = told.life.place_primary(&segment(ACK, 960_u32.wrapping_sub(FAR), 5_000, 10));
    assert!(told.life.reach_down(&mut told.store.islands, &far) && !told.life.is_trackable(&far));
    let near = told.life.place_primary(&segment(ACK, 960_u32.wrapping_sub(SEQUENCE_WINDOW), 5_000, 10));
    assert!(told.life.reach_down(&mut told.store.islands, &near) && told.life.is_trackable(&near));
    // The secondary's number below it lowers it, too.
    let mut told = Told::new();
    told.primary(&segment(ACK, 1_000, 5_000, 50));
    told.secondary(&segment(ACK, 980, 5_000, 10));
    assert_eq!(told.life.streams.primary.reach.map(|reach| reach.next), Some(SeqNumber(980)));
    assert_eq!(told.life.streams.secondary.reach.map(|reach| reach.next), Some(SeqNumber(990)));
    let below = told.life.place_primary(&segment(ACK, 970, 5_000, 5));
    assert!(!told.life.is_trackable(&below), "what began is begun");
}

#[test]
fn a_reset_lies_near_its_stream_or_where_it_stands() {
    let mut told = Told::opened(100, 7_000_000);
    told.primary(&segment(ACK, 101, 5_000, 10));
    told.secondary(&segment(ACK, 7_000_001, 5_000, 20));
    let primary = |seq| told.life.place_primary(&segment(RST | ACK, seq, 5_000, 0)).range.start.0;
    assert_eq!(
        [primary(105), primary(111 + SEQUENCE_WINDOW), primary(111 + FAR)],
        [105, 111 + SEQUENCE_WINDOW, 111]
    );
    let mut secondary = |seq| start(told.secondary(&segment(RST | ACK, seq, 5_000, 0)));
    assert_eq!(secondary(7_000_011), Some(111), "in its own space");
    assert_eq!(secondary(111), Some(111), "in the primary's: it answers a segment");
    assert_eq!(secondary(900_000_000), Some(121));
    assert_eq!(Incarnation::new(0).place_primary(&segment(RST, 7, None, 0)).range.start, SeqNumber(7));
}

/// A copy of the primary chooses its SYN's number again, and that tells how it counts.
#[test]
fn another_syn_of_the_secondary_tells_how_it_counts() {
    let mut told = Told::opened(100, 7_000_000);
    assert_eq!(start(told.secondary(&segment(SYN | ACK, 9_000_000, 5_000, 0))), Some(100));
    assert_eq!(start(told.secondary(&segment(ACK, 9_000_001, 5_000, 10))), Some(101));
    // One with the primary's number says nothing of a rewriter.
    let mut told = Told::opened(100, 7_000_000);
    assert_eq!(start(told.secondary(&segment(SYN | ACK, 100, 5_000, 0))), Some(100));
    assert_eq!(start(told.secondary(&segment(ACK, 7_000_001, 5_000, 10))), Some(101));
}

#[test]
fn after_a_commit_the_secondary_goes_on_where_the_primary_is() {
    let mut told = Told::opened(100, 7_000_000);
    told.primary(&segment(ACK, 101, 5_000, 50));
    told.life.commit();
    assert_eq!(told.life.streams.secondary.reach.map(|reach| reach.next), Some(SeqNumber(151)));
    for (start, len, below) in
        [(101, 50, true), (101, 51, false), (151, 0, false), (150, 0, true), (151, 10, false)]
    {
        let range = SeqRange::new(SeqNumber(start), len);
        assert_eq!(told.life.is_below_commit(range), below, "{start}, {len}");
    }
    // In its old space, or in the primary's; a latecomer decides nothing.
    told.secondary(&segment(ACK, 7_000_001, 5_000, 10));
    assert!(matches!(told.life.mapping, Mapping::AfterCommit { .. }));
    assert_eq!(start(told.secondary(&segment(ACK, 151, 5_000, 10))), Some(151));
    assert!(matches!(told.life.mapping, Mapping::Fixed(SeqShift::IDENTITY)));
}

/// A number far beyond a gap is not where the primary goes on.
#[test]
fn a_commit_settles_beyond_a_gap_only_if_it_is_one_burst_wide() {
    for (top, settled) in [(101 + SEQUENCE_WINDOW, 101 + SEQUENCE_WINDOW), (101 + FAR, 101)] {
        let mut told = Told::opened(100, 100);
        told.primary(&segment(ACK, top - 10, 5_000, 10));
        told.life.commit();
        assert_eq!(
            told.life.streams.primary.reach.map(|reach| reach.next),
            Some(SeqNumber(settled)),
            "{top}"
        );
    }
}

#[test]
fn a_secondary_segment_is_new_known_or_too_far_away() {
    let mut told = Told::opened(100, 100);
    told.primary(&segment(ACK, 101, 5_000, 10));
    told.secondary(&segment(ACK, 101, 5_000, 50));
    told.secondary(&segment(ACK, 161, 5_000, 10));
    let standing = |seq: u32, len| {
        let placed = told.life.place_primary(&segment(ACK, seq, 5_000, len));
        told.life.standing(&told.store, &placed)
    };
    // It has sent up to 151, and from 161 to 171.
    for (seq, len, expected) in [
        (151, 10, Standing::Plausible),
        (141, 10, Standing::Duplicate),
        (161, 10, Standing::Duplicate),
        (141, 11, Standing::Plausible),
        (141, 0, Standing::Plausible),
        (171 + SEQUENCE_WINDOW, 10, Standing::Plausible),
        (171 + FAR, 10, Standing::Stale),
        (141_u32.wrapping_sub(SEQUENCE_WINDOW), 10, Standing::Duplicate),
        (141_u32.wrapping_sub(FAR), 10, Standing::Stale),
    ] {
        assert_eq!(standing(seq, len), expected, "{seq}, {len}");
    }
}

/// Positions are counted from a mark that follows the primary every half GiB.
#[test]
fn offsets_go_on_when_the_mark_moves() {
    let mut told = Told::opened(100, 100);
    let step = 1 << 29;
    for (number, (next, marked)) in [(101 + step, 101), (102 + step, 102 + step)].into_iter().enumerate() {
        let end = SeqNumber(next);
        told.life.streams.primary.advance(end);
        told.life.move_mark();
        assert_eq!(told.life.stream_origin().mark, SeqNumber(marked), "step {number}");
        assert_eq!(told.life.offset_of(end), i64::from(next - 101));
    }
}

#[test]
fn it_is_embryonic_until_something_follows_the_primarys_syn() {
    let mut told = Told::new();
    assert!(!told.life.is_embryonic());
    told.secondary(&segment(SYN | ACK, 100, 5_000, 0));
    assert!(!told.life.is_embryonic() && told.life.has_secondary_syn());
    told.primary(&segment(SYN | ACK, 100, 5_000, 0));
    assert!(told.life.is_embryonic());
    told.primary(&segment(ACK, 101, 5_000, 0));
    assert!(told.life.is_embryonic(), "an ACK does not show");
    told.primary(&segment(ACK, 101, 5_000, 1));
    assert!(!told.life.is_embryonic());
    let mut middle = Told::new();
    middle.primary(&segment(ACK, 100, 5_000, 0));
    assert!(!middle.life.is_embryonic() && !middle.life.has_secondary_syn());
}

/// The secondary's SYN came first, and the primary is picked up behind its own.
#[test]
fn a_syn_of_the_secondary_alone_tells_where_its_stream_begins() {
    let mut told = Told::new();
    assert_eq!(told.secondary(&segment(SYN | ACK, 7_000_000, 5_000, 0)), None);
    told.primary(&segment(ACK, 1_000, 5_000, 50));
    assert_eq!(start(told.secondary(&segment(ACK, 7_000_001, 5_000, 10))), Some(1_000));
    let next = |side| told.life.streams[side].reach.map(|reach: Reach| reach.next);
    // What is missing of both is the SYN.
    assert_eq!([next(Side::Primary), next(Side::Secondary)], [Some(SeqNumber(999)); 2]);
}

/// A rewriter leaves the SYN alone: it lies where the primary's lies, whatever was settled since.
#[test]
fn a_syn_that_comes_again_lies_where_the_primarys_lies() {
    let mut told = Told::opened(100, 7_000_000);
    told.secondary(&segment(ACK, 101, 5_000, 10));
    assert!(matches!(told.life.mapping, Mapping::Fixed(SeqShift::IDENTITY)));
    assert_eq!(start(told.secondary(&segment(SYN | ACK, 7_000_000, 5_000, 0))), Some(100));
}

#[test]
fn as_near_in_both_spaces_is_in_the_primarys() {
    let mut told = Told::opened(100, 300);
    assert_eq!(start(told.secondary(&segment(ACK, 201, 5_000, 10))), Some(201));
}

/// A copy of the primary goes on in the primary's numbers, unless only the life before told how it counts.
#[test]
fn how_the_secondary_counts_is_remembered_while_nothing_else_is_known() {
    let before = SeqShift::between(SeqNumber(7_000_000), SeqNumber(1_000));
    assert_eq!(Incarnation::new(0).shift(), None);
    let mut told = Told { life: Incarnation::after(0, Some(before)), ..Told::new() };
    assert_eq!(told.life.shift(), Some(before));
    told.primary(&segment(ACK, 1_000, 5_000, 10));
    assert_eq!(told.life.shift(), Some(SeqShift::IDENTITY));
    assert_eq!(Told::opened(100, 300).life.shift(), Some(SeqShift::between(SeqNumber(300), SeqNumber(100))));
}

/// Spans further apart could not be told apart on the circle of numbers.
#[test]
fn no_secondary_segment_is_further_ahead_than_any_window() {
    let mut told = Told::opened(100, 100);
    told.life.streams.primary.advance(SeqNumber(101 + (1 << 30) + 10_000));
    for (ahead, expected) in
        [(1 << 30, Standing::Plausible), ((1 << 30) + 1, Standing::Stale), ((1 << 30) + 2, Standing::Stale)]
    {
        let placed = told.life.place_primary(&segment(ACK, 101 + ahead, 5_000, 10));
        assert_eq!(told.life.standing(&told.store, &placed), expected, "{ahead} ahead");
    }
}

#[test]
fn the_payload_of_a_syn_begins_behind_it() {
    let placed = Incarnation::new(0).place_primary(&segment(SYN | FIN, 100, None, 5));
    assert_eq!(
        (placed.range, placed.payload),
        (SeqRange::new(SeqNumber(100), 7), SeqRange::new(SeqNumber(101), 5))
    );
    assert_eq!((placed.fin, placed.is_syn()), (Some(SeqNumber(106)), true));
}

/// After a commit the secondary's window counts when the primary has acknowledged as much, with its scale.
#[test]
fn a_window_ahead_of_the_primarys_ack_is_kept_whole() {
    let mut told = Told::opened(100, 100);
    told.life.commit();
    told.life.streams.secondary.scale = 7;
    let edge = SeqNumber(6_000 + (1_000 << 7));
    told.life.secondary_acks(SeqNumber(6_000), edge);
    assert_eq!(told.life.streams.secondary.ack, Some(SeqNumber(5_000)), "the primary has not");
    assert!(!told.life.expects_no_ack());
    told.life.primary_acks(SeqNumber(6_000), SeqNumber(7_000));
    let secondary = &told.life.streams.secondary;
    assert_eq!((secondary.ack, secondary.edge), (Some(SeqNumber(6_000)), edge));
    assert!(told.life.expects_no_ack());
}
