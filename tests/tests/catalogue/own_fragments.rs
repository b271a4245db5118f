//! Cases 72 to 78, 85 and 87: fragments, extension headers, tags, jumbo frames, options.

use colo_tests::case::{
    Case, IpVersion, Ns, Outcome, Packet, Side, Time as _, content, cut, listener_report,
    neighbour_advertisement, on_both, piece, seg, tagged, udp, with_extensions, with_options,
};

const P: Side = Side::Primary;
const S: Side = Side::Secondary;

fn payload(len: i64) -> Vec<u8> {
    (0..len).map(|at| content(0, at)).collect()
}

/// A UDP datagram of both guests.
fn datagram(case: &mut Case, len: i64) -> Vec<u8> {
    case.frame(P, udp(&payload(len)))
}

/// One side sends frames, a millisecond between them.
fn send(case: Case, side: Side, from: Ns, frames: &[Vec<u8>], flow: u16) -> Case {
    let times = (0..).map(|number: u64| Ns(from.0 + number * 1_000_000));
    frames.iter().zip(times).fold(case, |case, (frame, at)| case.frame_at(side, at, frame, flow))
}

fn all_released(outcome: &Outcome, frames: std::ops::Range<usize>, at: Ns, why: &str) {
    for frame in frames {
        outcome.released(frame, at, why);
    }
}

#[test]
fn case_72_fragments_are_cut_differently() {
    on_both(|mut case| {
        let whole = datagram(&mut case, 3_000);
        let (two, three) = (cut(&whole, 7, &[1_480]), cut(&whole, 9, &[800, 1_600]));
        let outcome = send(send(case, P, 0.ms(), &two, 0), S, 5.ms(), &three, 0).run();
        outcome.quiet().released(0, 7.ms(), "matched").released(1, 7.ms(), "matched");
        (0..3).for_each(|frame| _ = outcome.dropped(frame, 7.ms(), "matched"));
    });
}

#[test]
fn case_72_fragments_come_in_any_order_and_leave_in_that_order() {
    on_both(|mut case| {
        let whole = datagram(&mut case, 3_000);
        let mut three = cut(&whole, 7, &[800, 1_600]);
        three.rotate_left(1);
        // The secondary does not cut at all.
        let outcome = send(case.frame_at(S, 0.ms(), &whole, 0), P, 1.ms(), &three, 0).run();
        all_released(outcome.quiet(), 0..3, 3.ms(), "matched");
        outcome.dropped(0, 3.ms(), "matched");
    });
}

#[test]
fn case_72_own_content_of_fragments_differs() {
    on_both(|mut case| {
        let (one, mut other) = (datagram(&mut case, 3_000), datagram(&mut case, 3_000));
        let last = other.len() - 1;
        other[last] ^= 0x80;
        let (one, other) = (cut(&one, 7, &[1_480]), cut(&other, 7, &[1_480]));
        let outcome = send(send(case, P, 0.ms(), &one, 0), S, 10.ms(), &other, 0).run();
        // The grace runs from the later completion.
        outcome.mismatch(31.ms(), "datagram").detail("offset", 2_999).detail("primary_frame", 0);
        all_released(&outcome, 0..2, 36.ms(), "flush");
    });
}

#[test]
fn case_72_a_tcp_segment_in_fragments_keeps_its_place() {
    on_both(|case| {
        let mut case = case.handshake(0.ms());
        let whole = case.frame(P, seg(0..3_000));
        let case = send(case, P, 1.ms(), &cut(&whole, 7, &[1_480]), 1).p(3.ms(), seg(3_000..3_100));
        // What follows may not overtake it.
        let outcome = case.s(4.ms(), seg(0..1_000)).s(6.ms(), seg(1_000..3_100)).run();
        outcome.quiet().released(1, 6.ms(), "matched").released(2, 6.ms(), "matched");
        outcome.released(3, 6.ms(), "matched");
    });
}

#[test]
fn case_72_a_datagram_takes_its_place_when_it_is_whole() {
    on_both(|mut case| {
        let (whole, other) = (datagram(&mut case, 2_000), case.frame(P, udp(b"between")));
        let pieces = cut(&whole, 7, &[1_000]);
        let case = case.frame_at(P, 0.ms(), &pieces[0], 1).frame_at(P, 1.ms(), &other, 2);
        let case = case.frame_at(P, 2.ms(), &pieces[1], 1).frame_at(S, 3.ms(), &other, 0);
        let outcome = case.frame_at(S, 4.ms(), &whole, 0).run();
        outcome.quiet().released(1, 3.ms(), "matched");
        outcome.released(0, 4.ms(), "matched").released(2, 4.ms(), "matched");
    });
}

#[test]
fn case_72_time_counts_from_the_oldest_fragment() {
    on_both(|mut case| {
        let pieces = cut(&datagram(&mut case, 2_000), 7, &[1_000]);
        let other = case.frame(P, udp(b"between"));
        let case = case.frame_at(P, 0.ms(), &pieces[0], 1).frame_at(P, 50.ms(), &other, 2);
        let outcome = case.frame_at(P, 100.ms(), &pieces[1], 1).run();
        outcome.timeout(400.ms()).detail("primary_frame", 0).detail("waits_for", "secondary");
        all_released(&outcome, 0..3, 405.ms(), "flush");
    });
}

#[test]
fn case_73_fragments_overlap() {
    on_both(|mut case| {
        let whole = datagram(&mut case, 2_000);
        let of = |from, to| piece(&whole, 7, from, to);
        let pieces = [of(0, 800), of(1_600, 2_008), of(792, 1_600), of(800, 1_600)];
        let outcome = send(send(case, P, 0.ms(), &pieces, 0), S, 10.ms(), &pieces, 0).run();
        all_released(outcome.quiet(), 0..3, 2.ms(), "pass");
        outcome.released(3, 3.ms(), "pass");
        (0..3).for_each(|frame| _ = outcome.dropped(frame, 12.ms(), "pass"));
        outcome.dropped(3, 13.ms(), "pass");
    });
}

#[test]
fn case_73_fragments_that_overlap_are_held_where_malformed_frames_are() {
    on_both(|mut case| {
        let whole = datagram(&mut case, 2_000);
        let of = |from, to| piece(&whole, 7, from, to);
        let (pieces, other) = ([of(0, 800), of(1_600, 2_008), of(792, 1_600), of(800, 1_600)], of(0, 80));
        let case = send(case.set("class.malformed", "hold"), P, 1.ms(), &pieces[..2], 0);
        // A frame of its own, and held before those, though it came later than the first of them.
        let case = send(case.frame_at(P, 2.ms(), &other[..60], 0), P, 3.ms(), &pieces[2..], 0);
        let outcome = send(case, S, 10.ms(), &pieces, 0).run();
        outcome.timeout(401.ms()).detail("primary_frame", 0).detail("waits_for", "checkpoint");
        all_released(&outcome, 0..5, 406.ms(), "flush");
        (0..3).for_each(|frame| _ = outcome.dropped(frame, 12.ms(), "pass"));
        outcome.dropped(3, 13.ms(), "pass");
    });
}

/// Makes a packet of a class; packets differ by the number.
type Class = fn(u8) -> Packet;

#[test]
fn case_80_a_class_in_fragments_goes_by_its_policy() {
    let classes: [(&str, Class); 2] = [("class.nd", neighbour_advertisement), ("class.mld", listener_report)];
    for (key, class) in classes {
        let mut case = Case::new(IpVersion::V6);
        let [one, other] = [1, 2].map(|number| case.frame(P, class(number)));
        let cut = |frame: &[u8]| cut(frame, 7, &[24]);
        let passes = send(case.clone(), P, 1.ms(), &cut(&one), 0).run();
        all_released(passes.quiet(), 0..2, 2.ms(), "pass");
        let case = case.set(key, "compare");
        let case =
            |secondary: &[u8]| send(case.clone(), P, 1.ms(), &cut(&one), 0).frame_at(S, 3.ms(), secondary, 0);
        all_released(case(&one).run().quiet(), 0..2, 3.ms(), "matched");
        let differs = case(&other).run();
        differs.mismatch(23.ms(), "datagram");
        all_released(&differs, 0..2, 28.ms(), "flush");
    }
}

#[test]
fn case_73_a_tiny_first_fragment() {
    on_both(|case| {
        let mut case = case.handshake(0.ms());
        let whole = case.frame(P, seg(0..100));
        let outcome = send(case, P, 1.ms(), &cut(&whole, 7, &[16]), 1).run();
        outcome.quiet().released(1, 1.ms(), "pass").released(2, 2.ms(), "pass");
    });
}

#[test]
fn case_74_a_fragment_is_missing() {
    on_both(|mut case| {
        let name = match case.ip() {
            IpVersion::V4 => "udp 10.0.0.1 > 10.0.0.9 fragments",
            IpVersion::V6 => "udp [fd00::1] > [fd00::9] fragments".trim_matches(' '),
        };
        let name = name.replace(['[', ']'], "");
        let pieces = cut(&datagram(&mut case, 3_000), 7, &[800, 1_600]);
        let case = case.frame_at(P, 1.ms(), &pieces[0], 0).frame_at(P, 2.ms(), &pieces[2], 0);
        let never = case.clone().never().run();
        never.timeout(401.ms()).held(&[0, 1]);
        // Its sibling comes after the flush.
        let outcome = case.frame_at(P, 500.ms(), &pieces[1], 0).run();
        outcome.timeout(401.ms()).names_flow(0, &name).detail("primary_frame", 0);
        outcome.detail("waits_for", "fragments").commits(&[406.ms()]);
        all_released(&outcome, 0..2, 406.ms(), "flush");
        outcome.released(2, 500.ms(), "pass");
    });
}

#[test]
fn case_74_a_fragment_of_the_secondary_is_missing() {
    on_both(|mut case| {
        let whole = datagram(&mut case, 3_000);
        let pieces = cut(&whole, 7, &[800, 1_600]);
        let case = case.frame_at(S, 1.ms(), &pieces[0], 0).frame_at(S, 500.ms(), &pieces[1], 0);
        let outcome = case.run();
        outcome.timeout(401.ms()).detail("secondary_frame", 0).detail("waits_for", "fragments");
        outcome.dropped(0, 406.ms(), "flush").dropped(1, 500.ms(), "stale");
    });
}

#[test]
fn case_74_fragments_beyond_the_bound_wait_for_a_checkpoint() {
    on_both(|mut case| {
        let whole = datagram(&mut case, 3_000);
        let firsts: Vec<Vec<u8>> = (0..5).map(|id| piece(&whole, id, 0, 800)).collect();
        let case = send(case.set("max_fragments", "3"), P, 0.ms(), &firsts, 0);
        let outcome = send(case, S, 0.ms(), &firsts, 0).run();
        outcome.requests(&[(3.ms(), "queue_full")]).detail("limit", "max_fragments");
        all_released(&outcome, 0..5, 8.ms(), "flush");
        outcome.dropped(0, 8.ms(), "flush").dropped(3, 3.ms(), "stale").dropped(4, 4.ms(), "stale");
    });
}

#[test]
fn case_75_the_fragments_identification_differs() {
    on_both(|mut case| {
        let whole = datagram(&mut case, 2_000);
        let case = send(case, P, 0.ms(), &cut(&whole, 7, &[1_000]), 0);
        let outcome = send(case, S, 5.ms(), &cut(&whole, 4_711, &[1_000]), 0).run();
        all_released(outcome.quiet(), 0..2, 6.ms(), "matched");
    });
}

#[test]
fn case_76_a_chain_of_extension_headers() {
    let options = [0, 0, 1, 4, 0, 0, 0, 0];
    let atomic = [0, 0, 0, 0, 1, 2, 3, 4];
    let mut case = Case::new(IpVersion::V6);
    let plain = case.frame(P, udp(b"deep"));
    let deep =
        with_extensions(&plain, &[(0, options), (60, options), (43, options), (44, atomic), (60, options)]);
    let outcome = case.clone().frame_at(P, 0.ms(), &deep, 0).frame_at(S, 1.ms(), &plain, 0).run();
    outcome.quiet().released(0, 1.ms(), "matched");
    let endless = with_extensions(&plain, &[(60, options); 9]);
    case = case.frame_at(P, 0.ms(), &endless, 0).frame_at(S, 1.ms(), &endless, 0);
    case.run().quiet().released(0, 0.ms(), "pass").dropped(0, 1.ms(), "pass");
}

#[test]
fn case_77_vlan_tags_same_and_different() {
    on_both(|mut case| {
        let plain = datagram(&mut case, 2_000);
        let of = |id, frame: &[u8]| tagged(frame, &[(0x8100, id)]);
        let pieces: Vec<Vec<u8>> = cut(&plain, 7, &[1_000]).iter().map(|piece| of(5, piece)).collect();
        let case = send(case, P, 0.ms(), &pieces, 0);
        let same = case.clone().frame_at(S, 5.ms(), &of(5, &plain), 0).run();
        all_released(same.quiet(), 0..2, 5.ms(), "matched");
        case.frame_at(S, 5.ms(), &of(6, &plain), 0).run().timeout(400.ms());
    });
}

#[test]
fn case_78_own_qinq() {
    on_both(|mut case| {
        let plain = case.frame(P, udp(b"inside"));
        let of = |inner| tagged(&plain, &[(0x88a8, 5), (0x8100, inner)]);
        let case = case.frame_at(P, 0.ms(), &of(6), 0);
        case.clone().frame_at(S, 1.ms(), &of(6), 0).run().quiet().released(0, 1.ms(), "matched");
        case.frame_at(S, 1.ms(), &of(7), 0).run().timeout(400.ms());
        let three = tagged(&plain, &[(0x88a8, 5), (0x8100, 6), (0x8100, 7)]);
        let case = Case::v4().frame_at(P, 0.ms(), &three, 0);
        case.run().quiet().released(0, 0.ms(), "pass");
    });
}

#[test]
fn case_85_own_jumbo_frames() {
    on_both(|mut case| {
        let (jumbo, longer) = (datagram(&mut case, 8_900), datagram(&mut case, 20_000));
        let case = case.frame_at(P, 0.ms(), &jumbo, 0).frame_at(S, 1.ms(), &jumbo, 0);
        let case = send(case, P, 2.ms(), &cut(&longer, 7, &[8_960, 17_920]), 0);
        let outcome = send(case, S, 6.ms(), &cut(&longer, 7, &[1_480, 8_960]), 0).run();
        outcome.quiet().released(0, 1.ms(), "matched");
        all_released(&outcome, 1..4, 8.ms(), "matched");
    });
}

#[test]
fn case_87_own_ip_options() {
    let mut case = Case::v4();
    let (plain, long) = (case.frame(P, udp(b"optional")), datagram(&mut case, 2_000));
    let case = case.frame_at(P, 0.ms(), &with_options(&plain), 0).frame_at(S, 1.ms(), &plain, 0);
    let pieces: Vec<Vec<u8>> = cut(&long, 7, &[1_000]).iter().map(|piece| with_options(piece)).collect();
    let outcome = send(case, P, 2.ms(), &pieces, 0).frame_at(S, 5.ms(), &long, 0).run();
    outcome.quiet().released(0, 1.ms(), "matched");
    all_released(&outcome, 1..3, 5.ms(), "matched");
}
