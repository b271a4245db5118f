//! Which segments a life takes for its own.

use super::*;

#[test]
fn a_primarys_syn_opens_a_life_of_which_nothing_was_seen() {
    let life = Incarnation::new(0);
    for side in Side::BOTH {
        assert!(life.accepts_syn(side, &segment(SYN | ACK, 9, 5_000, 0)));
        assert!(life.accepts_syn(side, &segment(SYN, 9, None, 0)));
    }
}

#[test]
fn a_syn_that_comes_again_belongs_where_it_came_first() {
    let told = Told::opened(100, 7_000_000);
    for (side, seq) in [(Side::Primary, 100), (Side::Secondary, 7_000_000)] {
        assert!(told.life.accepts_syn(side, &segment(SYN | ACK, seq, 5_000, 0)));
        // Whatever it acknowledges.
        assert!(told.life.accepts_syn(side, &segment(SYN | ACK, seq, 6_000, 0)));
        assert!(!told.life.accepts_syn(side, &segment(SYN | ACK, seq + 1, 5_000, 0)), "{side:?}");
    }
}

#[test]
fn syns_that_answer_different_syns_of_the_client_open_different_lives() {
    let mut first_primary = Told::new();
    first_primary.primary(&segment(SYN | ACK, 100, 5_000, 0));
    let mut first_secondary = Told::new();
    first_secondary.secondary(&segment(SYN | ACK, 100, 5_000, 0));
    for (told, side) in [(first_primary, Side::Secondary), (first_secondary, Side::Primary)] {
        assert!(told.life.accepts_syn(side, &segment(SYN | ACK, 70, 5_000, 0)), "{side:?}");
        assert!(!told.life.accepts_syn(side, &segment(SYN | ACK, 70, 5_001, 0)), "{side:?}");
        assert!(told.life.accepts_syn(side, &segment(SYN, 70, None, 0)), "{side:?} opens actively");
    }
}

#[test]
fn a_syn_does_not_open_what_is_under_way() {
    let mut middle = Told::new();
    middle.primary(&segment(ACK, 100, 5_000, 10));
    // Its ack is another client's.
    let stranger = segment(SYN | ACK, 99, 5_000 + FAR, 0);
    for side in Side::BOTH {
        assert!(!middle.life.accepts_syn(side, &stranger), "{side:?}");
    }
    let mut waits = Told::new();
    waits.secondary(&segment(ACK, 100, 5_000, 10));
    assert!(!waits.life.accepts_syn(Side::Secondary, &segment(SYN | ACK, 9, 5_000, 0)));
    assert!(waits.life.accepts_syn(Side::Primary, &segment(SYN | ACK, 9, 5_000, 0)));
}

/// The primary was picked up in the middle; the SYN is the beginning of just that.
#[test]
fn a_late_opening_answers_the_same_client() {
    let mut told = Told::new();
    told.primary(&segment(ACK, 100, 5_000, 10));
    for (ack, belongs) in [
        (5_000, true),
        (5_000_u32.wrapping_sub(SEQUENCE_WINDOW), true),
        (5_000 + SEQUENCE_WINDOW, true),
        (5_000 + FAR, false),
    ] {
        let syn = segment(SYN | ACK, 99, ack, 0);
        assert_eq!(told.life.is_late_opening(&syn), belongs, "{ack}");
        assert_eq!(told.life.accepts_syn(Side::Secondary, &syn), belongs, "{ack}");
        assert!(!told.life.accepts_syn(Side::Primary, &syn));
    }
    assert!(!told.life.is_late_opening(&segment(ACK, 99, 5_000, 0)), "no SYN");
    assert!(!Told::opened(1, 2).life.is_late_opening(&segment(SYN | ACK, 99, 5_000, 0)), "opened by a SYN");
    assert!(
        !Incarnation::new(0).is_late_opening(&segment(SYN | ACK, 99, 5_000, 0)),
        "nothing of the primary"
    );
}

/// The copy has the primary's numbers; its own SYN may still be on its way.
#[test]
fn after_a_checkpoint_the_secondarys_syn_is_the_primarys_or_answers_the_same_client() {
    let mut told = Told::opened(100, 7_000_000);
    told.life.commit();
    for (seq, ack, belongs) in [(100, 1, true), (9, 5_000, true), (9, 5_001, false), (7_000_000, 1, true)] {
        let syn = segment(SYN | ACK, seq, ack, 0);
        assert_eq!(told.life.accepts_syn(Side::Secondary, &syn), belongs, "{seq}, {ack}");
        assert_eq!(told.life.accepts_syn(Side::Primary, &syn), seq == 100);
    }
}

#[test]
fn a_secondary_answers_the_clients_syn_again() {
    let told = Told::opened(100, 200);
    for (side, ack, again) in [
        (Side::Secondary, Some(5_000), true),
        (Side::Secondary, Some(5_001), false),
        (Side::Secondary, None, false),
        (Side::Primary, Some(5_000), false),
    ] {
        assert_eq!(
            told.life.answers_again(side, &segment(SYN | ACK, 300, ack, 0)),
            again,
            "{side:?} {ack:?}"
        );
    }
    let mut alone = Told::new();
    alone.secondary(&segment(SYN | ACK, 200, 5_000, 0));
    assert!(alone.life.answers_again(Side::Secondary, &segment(SYN | ACK, 300, 5_000, 0)));
    assert!(!Incarnation::new(0).answers_again(Side::Secondary, &segment(SYN, 300, None, 0)));
}

#[test]
fn a_primary_segment_is_as_far_as_its_number_or_as_its_client() {
    let told = Told::opened(100, 200);
    assert_eq!(told.life.primary_distance(&segment(ACK, 151, None, 0)), 50);
    let mut alone = Told::new();
    assert_eq!(alone.life.primary_distance(&segment(ACK, 151, 5_000, 0)), u32::MAX);
    alone.secondary(&segment(SYN | ACK, 200, 5_000, 0));
    for (ack, distance) in
        [(Some(5_000 + SEQUENCE_WINDOW), SEQUENCE_WINDOW), (Some(5_000 + FAR), u32::MAX), (None, u32::MAX)]
    {
        assert_eq!(alone.life.primary_distance(&segment(ACK, 151, ack, 0)), distance, "{ack:?}");
    }
}

#[test]
fn a_secondary_segment_is_as_far_as_in_the_nearest_space_that_it_may_count_in() {
    let distance = |told: &Told, seq: u32| told.life.secondary_distance(&segment(ACK, seq, 5_000, 0));
    let mut told = Told::opened(100, 7_000_000);
    // Both spaces are possible; the stream has come to 101.
    assert_eq!([distance(&told, 103), distance(&told, 7_000_004)], [2, 3]);
    // The first segment decides for its own.
    assert!(told.secondary(&segment(ACK, 7_000_001, 5_000, 10)).is_some());
    assert_eq!(distance(&told, 7_000_011), 0);
    assert!(distance(&told, 103) > SEQUENCE_WINDOW);
    told.life.commit();
    told.primary(&segment(ACK, 101, 5_000, 10));
    assert_eq!([distance(&told, 101), distance(&told, 7_000_001)], [0, 0], "after a commit both again");
}

#[test]
fn a_secondary_without_a_place_is_near_what_it_sent_first_or_near_the_primarys_client() {
    let distance = |told: &Told, seq: u32, ack: u32| told.life.secondary_distance(&segment(ACK, seq, ack, 0));
    let mut first = Told::new();
    first.secondary(&segment(ACK, 700, 5_000, 10));
    assert_eq!(distance(&first, 705, 9), 5);
    let mut syn = Told::new();
    syn.secondary(&segment(SYN | ACK, 700, 5_000, 0));
    assert_eq!(distance(&syn, 9, 9), SEQUENCE_WINDOW);
    let mut primary = Told::new();
    primary.primary(&segment(ACK, 100, 5_000, 10));
    assert_eq!(distance(&primary, 9, 5_000), SEQUENCE_WINDOW);
    assert_eq!(distance(&primary, 9, 5_000 + FAR), u32::MAX);
    assert_eq!(distance(&Told::new(), 9, 5_000), u32::MAX);
}

/// What lies far from the stream is of this life if it goes on with the same client, by one burst at most.
#[test]
fn a_primary_segment_far_off_is_elsewhere() {
    let mut told = Told::opened(100, 200);
    told.primary(&segment(ACK, 101, 5_000, 10));
    let far = 111 + FAR;
    let farther = 112 + (1 << 30);
    let cases = [
        ("near", segment(ACK, 111 + SEQUENCE_WINDOW, 5_000, 10), false),
        ("near, another client", segment(ACK, 111 + SEQUENCE_WINDOW, 5_000 + FAR, 10), false),
        ("near, no data", segment(ACK, 111, 5_000, 0), false),
        ("far, the same client", segment(ACK, far, 5_000, 10), false),
        ("far, another client", segment(ACK, far, 5_000 + FAR, 10), true),
        ("far, no data", segment(ACK, far, 5_000, 0), true),
        ("as far as a window reaches", segment(ACK, farther - 1, 5_000, 10), false),
        ("farther than any window", segment(ACK, farther, 5_000, 10), true),
        ("a reset nearby", segment(RST | ACK, 111 + SEQUENCE_WINDOW, 5_000 + FAR, 0), false),
        ("a reset far off, the same client", segment(RST | ACK, far, 5_000, 0), false),
        ("a reset far off, another client", segment(RST | ACK, far, 5_000 + FAR, 0), true),
        ("a reset that answers a SYN", segment(RST | ACK, 0, 5_000 + FAR, 0), false),
    ];
    for (what, segment, elsewhere) in cases {
        let placed = told.life.place_primary(&segment);
        assert_eq!(told.life.is_elsewhere(&placed), elsewhere, "{what}");
    }
    let placed = Told::new().life.place_primary(&segment(ACK, far, 5_000 + FAR, 0));
    assert!(!Incarnation::new(0).is_elsewhere(&placed), "nothing is elsewhere yet");
}

#[test]
fn acks_of_what_is_near_count_and_those_of_a_reset_if_they_are_the_clients() {
    let told = Told::opened(100, 200);
    let cases = [
        (Side::Primary, segment(ACK, 101, 5_000 + FAR, 0), true),
        (Side::Primary, segment(ACK, 102 + SEQUENCE_WINDOW, 5_000, 10), false),
        (Side::Secondary, segment(ACK, 102 + SEQUENCE_WINDOW, 5_000, 10), true),
        (Side::Primary, segment(RST | ACK, 101, 5_000, 0), true),
        (Side::Primary, segment(RST | ACK, 101, 5_000 + FAR, 0), false),
        (Side::Secondary, segment(RST | ACK, 101, 5_000 + FAR, 0), false),
    ];
    for (number, (side, segment, counts)) in cases.into_iter().enumerate() {
        let placed = told.life.place_primary(&segment);
        assert_eq!(told.life.ack_counts(side, &placed), counts, "case {number}");
    }
}

#[test]
fn an_ack_is_strange_beyond_a_window_from_the_primarys() {
    let told = Told::opened(100, 200);
    for (ack, strange) in [(5_000 + SEQUENCE_WINDOW, false), (5_000 + FAR, true), (5_000, false)] {
        assert_eq!(told.life.is_strange(Some(SeqNumber(ack))), strange, "{ack}");
    }
    assert!(!told.life.is_strange(None));
}

/// A strange ack is a stranger's until the secondary's place is known.
#[test]
fn who_answers_another_client_is_a_stranger() {
    let mut told = Told::new();
    told.primary(&segment(SYN | ACK, 100, 5_000, 0));
    told.primary(&segment(ACK, 101, 5_000 + 2 * FAR, 10));
    let strange = 5_000 + 4 * FAR;
    assert!(told.life.is_stranger(&segment(ACK, 101, strange, 10)));
    assert!(told.life.is_stranger(&segment(SYN | ACK, 101, strange, 0)));
    assert!(!told.life.is_stranger(&segment(ACK, 101, 5_000 + 2 * FAR, 10)), "the client of this life");
    assert!(
        !told.life.is_stranger(&segment(SYN | ACK, 9, 5_000, 0)),
        "answers what the primary's SYN answers"
    );
    assert!(told.life.is_stranger(&segment(ACK, 9, 5_000, 10)), "but only a SYN does");
    told.secondary(&segment(SYN | ACK, 100, 5_000, 0));
    assert!(!told.life.is_stranger(&segment(ACK, 101, strange, 10)), "its position judges it");
    for (flags, seq, is_stranger) in [
        (RST | ACK, 101 + FAR, true),
        (RST | ACK, 101 + SEQUENCE_WINDOW, false),
        (RST | ACK, 0, false),
        (ACK, 101 + FAR, false),
    ] {
        assert_eq!(told.life.is_stranger(&segment(flags, seq, strange, 0)), is_stranger, "{flags} {seq}");
    }
}

#[test]
fn what_was_acknowledged_of_another_client_is_forgotten() {
    for (ack, kept) in [(5_000 + SEQUENCE_WINDOW, true), (5_000 + FAR, false)] {
        let mut told = Told::new();
        told.secondary(&segment(ACK, 9, ack, 10));
        assert_eq!(told.life.streams.secondary.ack, Some(SeqNumber(ack)));
        told.primary(&segment(ACK, 9, 5_000, 10));
        assert_eq!(told.life.streams.secondary.ack.is_some(), kept, "{ack}");
    }
}
