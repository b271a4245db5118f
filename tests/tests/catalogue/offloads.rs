//! What cards do and leave undone: checksums (81), super-frames against wire segments (83, 84), jumbo frames (85).

use colo_tests::case::{Case, Flag, Time, WINDOW, on_both, seg, udp};

/// Payload of an Ethernet segment with timestamps.
const MSS: i64 = 1_448;
/// The longest run of them that one IP packet can carry.
const RUN: i64 = 45;

#[test]
fn case_81_bad_checksum_on_the_wire() {
    on_both(|case| {
        // It leaves as it is, whoever's it is; the content still counts.
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10).bad_checksum()).s(2.ms(), seg(0..10));
        let case = case.p(3.ms(), seg(10..20)).s(4.ms(), seg(10..20).bad_checksum());
        let outcome = case.p(5.ms(), udp(b"one").bad_checksum()).s(6.ms(), udp(b"one")).run();
        outcome.quiet().released(1, 2.ms(), "matched").released(2, 4.ms(), "matched");
        outcome.released(3, 6.ms(), "matched");
    });
}

#[test]
fn case_81_bad_checksum_does_not_excuse_the_content() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10).bad_checksum());
        let outcome = case.s(2.ms(), seg(0..10).with_byte(2, 0xFF).bad_checksum()).run();
        outcome.mismatch(2.ms(), "payload").detail("offset", 2).released(1, 7.ms(), "flush");
    });
}

#[test]
fn case_81_bad_checksum_is_counted() {
    on_both(|case| {
        let case = case.set("verify_checksums", "count").handshake(0.ms());
        let case = case.p(1.ms(), seg(0..10).bad_checksum()).s(2.ms(), seg(0..10));
        let case = case.p(3.ms(), udp(b"one").bad_checksum()).s(4.ms(), udp(b"one"));
        let outcome = case.p(5.ms(), seg(10..20)).s(6.ms(), seg(10..20)).run();
        outcome.quiet().released(1, 2.ms(), "matched").released(2, 4.ms(), "matched").counts("checksum", 2);
        outcome.released(3, 6.ms(), "matched");
    });
}

#[test]
fn case_81_bad_ip_checksum() {
    let case = Case::v4().p(1.ms(), udp(b"one").bad_ip_checksum()).s(2.ms(), udp(b"one"));
    case.run().quiet().released(0, 2.ms(), "matched");
    let case = Case::v4().p(1.ms(), udp(b"one")).s(2.ms(), udp(b"one").bad_ip_checksum());
    case.run().quiet().released(0, 2.ms(), "matched");
}

#[test]
fn case_81_a_missing_udp_checksum_is_not_bad() {
    let case = Case::v4().set("verify_checksums", "count").p(1.ms(), udp(b"one").udp_checksum_zero());
    let outcome = case.s(2.ms(), udp(b"one")).run();
    outcome.quiet().released(0, 2.ms(), "matched").counts("checksum", 0);
}

#[test]
fn case_81_bad_checksum_of_a_clamped_frame_stays_as_bad() {
    // The checksum is updated, not computed anew: what was wrong arrives wrong.
    on_both(|case| {
        let case = case.clamped(&[1]).handshake(0.ms()).p(1.ms(), seg(0..10).window(65_000).bad_checksum());
        let outcome = case.s(2.ms(), seg(0..10)).run();
        outcome.quiet().released(1, 2.ms(), "matched").window(1, WINDOW);
    });
}

#[test]
fn case_83_super_frame_of_the_primary() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..RUN * MSS));
        let segments = (0..RUN).map(|n| seg(n * MSS..(n + 1) * MSS));
        let outcome = case.s_each(2.ms(), segments).run();
        outcome.quiet().released(1, 46.ms(), "matched");
        for frame in 1..=45 {
            outcome.dropped(frame, (1 + u64::try_from(frame).unwrap()).ms(), "matched");
        }
    });
}

#[test]
fn case_83_super_frame_of_the_secondary() {
    on_both(|case| {
        let segments =
            |at: u64, case: Case| case.p_each(at.ms(), (0..RUN).map(|n| seg(n * MSS..(n + 1) * MSS)));
        let case = case.handshake(0.ms());
        // Before it: all leave when it is there. After it: each at once.
        let before = segments(1, case.clone()).s(60.ms(), seg(0..RUN * MSS)).run();
        let after = segments(2, case.s(1.ms(), seg(0..RUN * MSS))).run();
        for frame in 1..=45 {
            before.quiet().released(frame, 60.ms(), "matched");
            after.quiet().released(frame, (1 + u64::try_from(frame).unwrap()).ms(), "matched");
        }
    });
}

#[test]
fn case_83_super_frames_cut_differently() {
    on_both(|case| {
        let end = 2 * RUN * MSS;
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..RUN * MSS)).p(2.ms(), seg(RUN * MSS..end));
        let case = case.s(3.ms(), seg(0..20_000)).s(4.ms(), seg(20_000..80_000)).s(5.ms(), seg(80_000..end));
        case.run().quiet().released(1, 4.ms(), "matched").released(2, 5.ms(), "matched");
    });
}

#[test]
fn case_83_the_last_byte_of_a_super_frame_differs() {
    on_both(|case| {
        let last = RUN * MSS - 1;
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..RUN * MSS));
        let segments = (0..RUN).map(|n| seg(n * MSS..(n + 1) * MSS));
        let mut segments: Vec<_> = segments.collect();
        segments[44] = seg(44 * MSS..RUN * MSS).with_byte(last, 0xFF);
        let outcome = case.s_each(2.ms(), segments).run();
        outcome.mismatch(46.ms(), "payload").detail("offset", last).detail("secondary_frame", 45);
        outcome.released(1, 51.ms(), "flush");
    });
}

#[test]
fn case_84_super_frame_with_fin_and_psh() {
    on_both(|case| {
        let case = case.handshake(0.ms());
        let whole = || seg(0..10 * MSS).flag(Flag::Psh).fin();
        let segments = || {
            (0..10).map(|n| {
                let segment = seg(n * MSS..(n + 1) * MSS);
                if n == 9 { segment.flag(Flag::Psh).fin() } else { segment }
            })
        };
        let primary = case.clone().p(1.ms(), whole()).s_each(2.ms(), segments()).run();
        primary.quiet().released(1, 11.ms(), "matched");
        let secondary = case.p_each(1.ms(), segments()).s(20.ms(), whole()).run();
        for frame in 1..=10 {
            secondary.quiet().released(frame, 20.ms(), "matched");
        }
    });
}

#[test]
fn case_84_fin_lies_behind_the_last_byte() {
    on_both(|case| {
        let end = 10 * MSS;
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..end).flag(Flag::Psh).fin());
        // The SVM has all the bytes and no FIN yet; then a byte where the PVM's FIN is.
        let case = case.s(2.ms(), seg(0..end));
        let late = case.clone().s(3.ms(), seg(end..end).fin()).run();
        late.quiet().released(1, 3.ms(), "matched");
        let beyond = case.s(3.ms(), seg(end..end + 1)).run();
        beyond.mismatch(3.ms(), "fin").detail("offset", end).released(1, 8.ms(), "flush");
    });
}

#[test]
fn case_85_jumbo_frames() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..8_900)).s(2.ms(), seg(0..8_900));
        let case =
            case.p(3.ms(), seg(8_900..17_800)).s(4.ms(), seg(8_900..10_000)).s(5.ms(), seg(10_000..17_800));
        let case = case.p(6.ms(), udp(&[7; 8_900])).s(7.ms(), udp(&[7; 8_900]));
        let outcome = case.run();
        outcome.quiet().released(1, 2.ms(), "matched").released(2, 5.ms(), "matched");
        outcome.released(3, 7.ms(), "matched");
    });
}

#[test]
fn case_85_the_last_byte_of_a_jumbo_frame_differs() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..8_900));
        let outcome = case.clone().s(2.ms(), seg(0..8_900).with_byte(8_899, 0xFF)).run();
        outcome.mismatch(2.ms(), "payload").detail("offset", 8_899).released(1, 7.ms(), "flush");
        let datagram = |last: u8| udp(&[7; 8_900]).with_byte(8_899, last);
        let outcome = case.s(2.ms(), seg(0..8_900)).p(3.ms(), datagram(1)).s(4.ms(), datagram(2)).run();
        outcome.mismatch(24.ms(), "datagram").detail("offset", 8_899);
    });
}
