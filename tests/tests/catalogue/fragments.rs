//! Fragments: cases 72 to 75. Each side's are put together and compared as the datagram they make; what leaves is the
//! PVM's own fragments. Offsets count in the IP payload: a UDP datagram of 64 bytes has 72 there.

use colo_tests::case::{Case, IpVersion, Packet, Time, ack, flow_name, on_both, seg, udp};

const TEXT: &[u8; 64] = b"sixty-four bytes, so that there is something to cut into pieces.";

fn datagram() -> Packet {
    udp(TEXT)
}

#[test]
fn case_72_fragments_differ() {
    on_both(|case| {
        let case = case.p_each(1.ms(), datagram().cut(1, &[40])).s_each(3.ms(), datagram().cut(1, &[24, 48]));
        let outcome = case.run();
        outcome.quiet().released(0, 5.ms(), "matched").released(1, 5.ms(), "matched");
        for frame in 0..3 {
            outcome.dropped(frame, 5.ms(), "matched");
        }
    });
}

#[test]
fn case_72_fragments_differ_secondary_first() {
    on_both(|case| {
        let case = case.s_each(1.ms(), datagram().cut(1, &[24, 48])).p_each(4.ms(), datagram().cut(2, &[40]));
        let outcome = case.run();
        outcome.quiet().released(0, 5.ms(), "matched").released(1, 5.ms(), "matched");
    });
}

#[test]
fn case_72_fragments_against_a_whole_datagram() {
    on_both(|case| {
        let primary = case.clone().p_each(1.ms(), datagram().cut(1, &[24, 48])).s(4.ms(), datagram()).run();
        for frame in 0..3 {
            primary.quiet().released(frame, 4.ms(), "matched");
        }
        let secondary = case.p(1.ms(), datagram()).s_each(2.ms(), datagram().cut(1, &[24, 48])).run();
        secondary.quiet().released(0, 4.ms(), "matched").dropped(2, 4.ms(), "matched");
    });
}

#[test]
fn case_72_fragments_out_of_order() {
    // They leave in the order in which they came, whatever that is.
    on_both(|case| {
        let reversed = |cuts: &[usize]| datagram().cut(1, cuts).into_iter().rev();
        let case = case.p_each(1.ms(), reversed(&[40])).s_each(3.ms(), reversed(&[24, 48]));
        let outcome = case.run();
        outcome.quiet().released(0, 5.ms(), "matched").released(1, 5.ms(), "matched");
    });
}

#[test]
fn case_72_fragments_of_two_datagrams_mixed() {
    on_both(|case| {
        let other = || udp(&[b'x'; 64]);
        let (first, second) = (datagram().cut(1, &[40]), other().cut(2, &[40]));
        let mixed = [first[0].clone(), second[0].clone(), second[1].clone(), first[1].clone()];
        // The second datagram is complete first, so it comes first; the SVM's are whole and in that order too.
        let case = case.p_each(1.ms(), mixed).s(5.ms(), other()).s(6.ms(), datagram());
        let outcome = case.run();
        outcome.quiet().released(1, 5.ms(), "matched").released(2, 5.ms(), "matched");
        outcome.released(0, 6.ms(), "matched").released(3, 6.ms(), "matched");
    });
}

#[test]
fn case_72_the_identification_used_again() {
    on_both(|case| {
        let case =
            case.p_each(1.ms(), datagram().cut(1, &[40])).p_each(3.ms(), udp(&[b'x'; 64]).cut(1, &[24]));
        let outcome = case.s(5.ms(), datagram()).s(6.ms(), udp(&[b'x'; 64])).run();
        outcome.quiet().released(0, 5.ms(), "matched").released(1, 5.ms(), "matched");
        outcome.released(2, 6.ms(), "matched").released(3, 6.ms(), "matched");
    });
}

#[test]
fn case_72_content_of_fragments_differs() {
    on_both(|case| {
        let name = flow_name(case.ip(), "udp", 0);
        let case = case.p_each(1.ms(), datagram().cut(1, &[40]));
        let outcome = case.s_each(3.ms(), datagram().with_byte(50, 0xFF).cut(1, &[24, 48])).run();
        // Both are complete at 5 ms; the offset counts in the UDP payload.
        outcome.mismatch(25.ms(), "datagram").detail("offset", 50).names_flow(0, &name);
        outcome.released(0, 30.ms(), "flush").released(1, 30.ms(), "flush");
    });
}

#[test]
fn case_72_fragments_keep_the_order_of_their_flow() {
    // The ports are in the first fragment only; the datagram belongs to its flow all the same.
    on_both(|case| {
        let case = case.p(1.ms(), udp(b"first")).p_each(2.ms(), datagram().cut(1, &[40]));
        let outcome = case.s(4.ms(), datagram()).s(9.ms(), udp(b"first")).run();
        outcome.quiet().released(0, 9.ms(), "matched");
        outcome.released(1, 9.ms(), "matched").released(2, 9.ms(), "matched");
    });
}

#[test]
fn case_72_fragments_of_a_tcp_segment() {
    on_both(|case| {
        // 64 bytes behind a TCP header of 20: whole, in pieces, and cut into other segments.
        let case = case.handshake(0.ms()).p_each(1.ms(), seg(0..64).cut(1, &[40]));
        let outcome = case.s(3.ms(), seg(0..30)).s_each(4.ms(), seg(30..64).cut(5, &[24])).run();
        outcome.quiet().released(1, 5.ms(), "matched").released(2, 5.ms(), "matched");
    });
}

#[test]
fn case_72_fragments_take_their_place_when_complete() {
    on_both(|case| {
        let pieces = seg(0..64).cut(1, &[40]);
        let case = case.handshake(0.ms()).s(1.ms(), ack(9)).p(2.ms(), pieces[0].clone());
        // Between the pieces an ACK goes its own way.
        let outcome = case.p(3.ms(), ack(9).at(64)).p(4.ms(), pieces[1].clone()).s(5.ms(), seg(0..64)).run();
        outcome.quiet().released(2, 3.ms(), "ack");
        outcome.released(1, 5.ms(), "matched").released(3, 5.ms(), "matched");
    });
}

#[test]
fn case_73_fragment_overlap() {
    on_both(|case| {
        let case = case.p(1.ms(), datagram().piece(1, 0..40)).p(2.ms(), datagram().piece(1, 32..72));
        let case = case.s(3.ms(), datagram().piece(1, 0..40)).s(4.ms(), datagram().piece(1, 32..72));
        let outcome = case.run();
        outcome.quiet().released(0, 2.ms(), "pass").released(1, 2.ms(), "pass");
        outcome.dropped(0, 4.ms(), "pass").dropped(1, 4.ms(), "pass");
    });
}

#[test]
fn case_73_fragment_overlap_the_other_way_round() {
    on_both(|case| {
        let case = case.p(1.ms(), datagram().piece(1, 32..72)).p(2.ms(), datagram().piece(1, 0..40));
        let outcome = case.run();
        outcome.quiet().released(0, 2.ms(), "pass").released(1, 2.ms(), "pass");
    });
}

#[test]
fn case_73_fragment_inside_another() {
    on_both(|case| {
        let case = case.p(1.ms(), datagram().piece(1, 0..48)).p(2.ms(), datagram().piece(1, 8..24));
        let outcome = case.run();
        outcome.quiet().released(0, 2.ms(), "pass").released(1, 2.ms(), "pass");
    });
}

#[test]
fn case_73_oversized() {
    // 65,528 and 24 bytes make more than IP can carry.
    on_both(|case| {
        let case =
            case.p(1.ms(), datagram().piece(1, 0..40)).p(2.ms(), datagram().piece_at(1, 48..72, 65_528));
        let outcome = case.s(3.ms(), datagram().piece_at(1, 48..72, 65_528)).run();
        outcome.quiet().released(0, 2.ms(), "pass").released(1, 2.ms(), "pass").dropped(0, 3.ms(), "pass");
    });
}

#[test]
fn case_73_two_ends_that_disagree() {
    // A last fragment that ends at 56, and one behind that end. Reading: as bad as an overlap.
    on_both(|case| {
        let shorter = || udp(&TEXT[..48]);
        let case = case.p(1.ms(), shorter().piece(1, 40..56)).p(2.ms(), datagram().piece(1, 56..72));
        let outcome = case.run();
        outcome.quiet().released(0, 2.ms(), "pass").released(1, 2.ms(), "pass");
    });
}

#[test]
fn case_73_overlaps_harm_nobody_else() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10));
        let case = case.p(2.ms(), datagram().piece(1, 0..40)).p(3.ms(), datagram().piece(1, 32..72));
        let case = case.p_each(4.ms(), datagram().cut(2, &[40])).s(6.ms(), datagram()).s(7.ms(), seg(0..10));
        let outcome = case.run();
        outcome.quiet().released(2, 3.ms(), "pass").released(3, 3.ms(), "pass");
        outcome.released(4, 6.ms(), "matched").released(5, 6.ms(), "matched").released(1, 7.ms(), "matched");
    });
}

#[test]
fn case_73_a_late_piece_of_an_overlap() {
    // Reading: its datagram is done with, so it passes as one does whose siblings were flushed.
    on_both(|case| {
        let case = case.p(1.ms(), datagram().piece(1, 0..24)).p(2.ms(), datagram().piece(1, 16..48));
        let outcome = case.p(3.ms(), datagram().piece(1, 48..72)).run();
        outcome.quiet().released(0, 2.ms(), "pass").released(1, 2.ms(), "pass").released(2, 3.ms(), "pass");
    });
}

#[test]
fn case_74_fragment_missing() {
    on_both(|case| {
        let case = case.p(1.ms(), datagram().piece(1, 0..40)).s_each(2.ms(), datagram().cut(1, &[40]));
        let outcome = case.run();
        outcome.timeout(401.ms()).commits(&[406.ms()]).released(0, 406.ms(), "flush");
        outcome.dropped(0, 406.ms(), "flush").dropped(1, 406.ms(), "flush");
    });
}

#[test]
fn case_74_fragment_of_the_secondary_missing() {
    on_both(|case| {
        let name = flow_name(case.ip(), "udp", 0);
        let case = case.p_each(1.ms(), datagram().cut(1, &[40])).s(2.ms(), datagram().piece(1, 40..72));
        let outcome = case.run();
        // Reading: the datagram was there at 2 ms, but its oldest held frame came at 1.
        outcome.timeout(401.ms()).names_flow(0, &name);
        outcome.released(0, 406.ms(), "flush").released(1, 406.ms(), "flush").dropped(0, 406.ms(), "flush");
    });
}

#[test]
fn case_74_fragment_of_the_secondary_alone() {
    on_both(|case| {
        let outcome = case.s(1.ms(), datagram().piece(1, 0..40)).run();
        outcome.timeout(401.ms()).dropped(0, 406.ms(), "flush");
    });
}

#[test]
fn case_74_the_missing_fragment_comes_in_time() {
    on_both(|case| {
        let pieces = datagram().cut(1, &[40]);
        let case = case.p(1.ms(), pieces[0].clone()).s(2.ms(), datagram()).p(400.ms(), pieces[1].clone());
        let outcome = case.run();
        outcome.quiet().released(0, 400.ms(), "matched").released(1, 400.ms(), "matched");
    });
}

#[test]
fn case_74_a_fragment_whose_siblings_were_flushed_passes() {
    on_both(|case| {
        let pieces = datagram().cut(1, &[40]);
        let case = case.p(1.ms(), pieces[0].clone()).p(450.ms(), pieces[1].clone());
        let outcome = case.p_each(460.ms(), datagram().cut(2, &[40])).s(462.ms(), datagram()).run();
        outcome.timeout(401.ms()).released(0, 406.ms(), "flush").released(1, 450.ms(), "pass");
        // The next datagram is compared again.
        outcome.released(2, 462.ms(), "matched").released(3, 462.ms(), "matched");
    });
}

#[test]
fn case_74_fragments_that_are_never_completed_are_bounded() {
    // 300 first fragments, far more than there is room for: all of them leave in the end, in order, and other flows
    // go on being compared.
    on_both(|case| {
        let mut case = case.set("max_fragments", "64").handshake(0.ms());
        for id in 1..=300 {
            case = case.p(1.ms(), datagram().piece(id, 0..40)).s(1.ms(), datagram().piece(id, 0..40));
        }
        let outcome = case.p(2.ms(), seg(0..10)).s(3.ms(), seg(0..10)).p(900.ms(), ack(0)).run();
        outcome.held(&[]).released(301, 3.ms(), "matched").released(302, 900.ms(), "ack");
    });
}

#[test]
fn case_75_ipv6_fragment_id_differs() {
    on_both(|case| {
        let case =
            case.p_each(1.ms(), datagram().cut(7, &[40])).s_each(3.ms(), datagram().cut(60_000, &[40]));
        let outcome = case.run();
        outcome.quiet().released(0, 4.ms(), "matched").released(1, 4.ms(), "matched");
    });
}

#[test]
fn case_75_ipv6_atomic_fragment() {
    // A fragment header on a datagram that is whole (RFC 6946), against none.
    let case = Case::new(IpVersion::V6);
    let whole = || datagram().piece(7, 0..72);
    let primary = case.clone().p(1.ms(), whole()).s(2.ms(), datagram()).run();
    primary.quiet().released(0, 2.ms(), "matched");
    let secondary = case.p(1.ms(), datagram()).s(2.ms(), whole()).run();
    secondary.quiet().released(0, 2.ms(), "matched");
}
