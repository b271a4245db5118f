//! Rule 1 at its edges: cases 19, 24, 25, 50, 52 and 56. Bytes that are covered but not acknowledged, probes, the
//! wrap of the numbers, a side far ahead.

use colo_tests::case::{Time, ack, on_both, seg};

#[test]
fn case_19_same_bytes_primary_ack_ahead() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10).ack(100)).s(2.ms(), seg(0..10));
        case.clone().s(3.ms(), ack(100)).run().quiet().released(1, 3.ms(), "matched");
        case.run().timeout(401.ms()).released(1, 406.ms(), "flush");
    });
}

#[test]
fn case_24_zero_window_probe() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(1.ms(), seg(0..10)).p(10.ms(), seg(10..11));
        case.clone().s(20.ms(), seg(10..11)).run().quiet().released(2, 20.ms(), "matched");
        case.run().timeout(410.ms()).released(2, 415.ms(), "flush");
    });
}

#[test]
fn case_25_keep_alive() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10));
        let case =
            case.p(20.ms(), seg(9..9)).p(30.ms(), seg(9..10)).s(31.ms(), seg(9..10)).s(32.ms(), seg(9..9));
        let outcome = case.run();
        outcome.quiet().released(2, 20.ms(), "ack").released(3, 30.ms(), "matched");
        outcome.dropped(2, 31.ms(), "duplicate|stale|matched");
    });
}

#[test]
fn case_25_keep_alive_with_a_rubbish_byte() {
    // A stack may send any byte: the position has left already and is judged by position (§7.6).
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10));
        case.p(20.ms(), seg(9..10).with_byte(9, 0x80)).run().quiet().released(2, 20.ms(), "matched");
    });
}

#[test]
fn case_25_keep_alive_on_a_fresh_connection() {
    // seq−1 is the SYN's own position then, below every byte of the stream.
    on_both(|case| {
        let case = case.handshake(0.ms()).p(20.ms(), seg(-1..-1)).p(30.ms(), seg(-1..0).with_byte(-1, 0));
        case.run().quiet().released(1, 20.ms(), "ack").released(2, 30.ms(), "matched");
    });
}

#[test]
fn case_50_sequence_wraps_inside_a_segment() {
    on_both(|case| {
        let case = case.isns(0xFFFF_FFF8, 0xFFFF_FFF8).handshake(0.ms()).p(1.ms(), seg(0..20));
        case.clone().s(2.ms(), seg(0..5)).s(3.ms(), seg(5..20)).run().quiet().released(1, 3.ms(), "matched");
        let outcome = case.s(2.ms(), seg(0..20).with_byte(15, 0xFF)).run();
        outcome.mismatch(2.ms(), "payload").detail("offset", 15);
    });
}

#[test]
fn case_50_only_the_secondary_wraps() {
    on_both(|case| {
        let case =
            case.isns(900_000_000, 0xFFFF_FFF8).handshake(0.ms()).p(1.ms(), seg(0..20)).s(2.ms(), seg(0..20));
        case.run().quiet().released(1, 2.ms(), "matched");
    });
}

#[test]
fn case_52_position_exactly_zero() {
    on_both(|case| {
        // The first byte at 0; the SYN at 0; a frame boundary at 0.
        for isn in [0xFFFF_FFFF, 0, 0xFFFF_FFF5] {
            let case =
                case.clone().isns(isn, isn).handshake(0.ms()).p(1.ms(), seg(0..10)).p(2.ms(), seg(10..20));
            let outcome = case.s(3.ms(), seg(0..10)).s(4.ms(), seg(10..20)).run();
            outcome.quiet().released(1, 3.ms(), "matched").released(2, 4.ms(), "matched");
        }
    });
}

#[test]
fn case_52_a_frame_held_at_zero_stays_held() {
    on_both(|case| {
        let case = case.isns(0xFFFF_FFFF, 0xFFFF_FFFF).handshake(0.ms()).p(1.ms(), seg(0..10));
        case.run().timeout(401.ms()).released(1, 406.ms(), "flush");
    });
}

#[test]
fn case_56_secondary_100_kb_ahead() {
    on_both(|case| {
        let mut case = case.handshake(0.ms());
        for i in 0..70_i64 {
            case = case.s((1 + i.cast_unsigned()).ms(), seg(i * 1448..(i + 1) * 1448));
        }
        for i in 0..70_i64 {
            case = case.p((100 + i.cast_unsigned()).ms(), seg(i * 1448..(i + 1) * 1448));
        }
        let outcome = case.run();
        outcome.quiet();
        for i in 0..70_u64 {
            outcome.released(usize::try_from(i + 1).unwrap(), (100 + i).ms(), "matched");
        }
    });
}
