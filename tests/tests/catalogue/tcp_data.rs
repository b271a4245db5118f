//! Rule 1, bytes: cases 1 to 13. Boundaries never matter, content at a position does.

use colo_tests::case::{Case, Time, ack, flow_name, on_both, seg};

#[test]
fn case_01_identical() {
    on_both(|case| {
        let outcome = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10)).run();
        outcome.quiet().released(0, 0.ms(), "matched").dropped(0, 0.ms(), "matched");
        outcome.released(1, 2.ms(), "matched").dropped(1, 2.ms(), "matched");
    });
}

#[test]
fn case_01_identical_secondary_first() {
    on_both(|case| {
        let outcome = case.handshake(0.ms()).s(1.ms(), seg(0..10)).p(2.ms(), seg(0..10)).run();
        outcome.quiet().released(1, 2.ms(), "matched").dropped(1, 2.ms(), "matched");
    });
}

#[test]
fn case_02_split_on_primary() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..3)).p(2.ms(), seg(3..10)).s(3.ms(), seg(0..10));
        let outcome = case.run();
        outcome.quiet().released(1, 3.ms(), "matched").released(2, 3.ms(), "matched").dropped(
            1,
            3.ms(),
            "matched",
        );
    });
}

#[test]
fn case_03_split_on_secondary() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(2.ms(), seg(0..3)).s(3.ms(), seg(3..10));
        // When the first S frame goes is left open: its bytes match at 2 ms, the P frame they are of leaves at 3.
        case.run().quiet().released(1, 3.ms(), "matched").dropped_as(1, "matched").dropped(
            2,
            3.ms(),
            "matched",
        );
    });
}

#[test]
fn case_04_interleaved_splits() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..5)).p(2.ms(), seg(5..10)).p(3.ms(), seg(10..15));
        let outcome = case.s(4.ms(), seg(0..7)).s(5.ms(), seg(7..15)).run();
        outcome.quiet().released(1, 4.ms(), "matched");
        outcome.released(2, 5.ms(), "matched").released(3, 5.ms(), "matched");
    });
}

#[test]
fn case_05_byte_differs() {
    on_both(|case| {
        let name = flow_name(case.ip(), "tcp", 0);
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10).with_byte(7, 0xFF));
        let outcome = case.run();
        outcome.mismatch(2.ms(), "payload").detail("offset", 7).names_flow(0, &name);
        outcome.detail("primary_frame", 1).detail("secondary_frame", 1).commits(&[7.ms()]);
        outcome.released(1, 7.ms(), "flush").dropped(1, 7.ms(), "flush");
    });
}

#[test]
fn case_05_byte_differs_found_when_primary_comes_second() {
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), seg(0..10).with_byte(0, 0xFF)).p(2.ms(), seg(0..10));
        let outcome = case.run();
        outcome.mismatch(2.ms(), "payload").detail("offset", 0);
        outcome.released(1, 7.ms(), "flush");
    });
}

#[test]
fn case_05_what_lies_before_the_byte_leaves() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..5)).p(1.ms(), seg(5..10)).p(1.ms(), seg(10..15));
        let outcome = case.s(2.ms(), seg(0..15).with_byte(7, 0xFF)).run();
        outcome.mismatch(2.ms(), "payload").detail("offset", 7).detail("primary_frame", 2);
        outcome.released(1, 2.ms(), "matched");
        outcome.released(2, 7.ms(), "flush").released(3, 7.ms(), "flush");
    });
}

#[test]
fn case_05_byte_differs_beyond_a_gap() {
    on_both(|case| {
        // Rule 1: "a mismatch at once, wherever it lies", so the gap [10,20) of the SVM does not put it off.
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).p(1.ms(), seg(10..20)).p(1.ms(), seg(20..30));
        let outcome = case.s(2.ms(), seg(20..30).with_byte(25, 0xFF)).run();
        outcome.mismatch(2.ms(), "payload").detail("offset", 25);
        outcome.detail("primary_frame", 3).detail("secondary_frame", 1);
    });
}

#[test]
fn case_05_never_committed_never_leaves() {
    let case = Case::v4().never().handshake(0.ms());
    let case = case.p(1.ms(), seg(0..5)).p(1.ms(), seg(5..10)).p(1.ms(), seg(10..15));
    let outcome = case.s(2.ms(), seg(0..15).with_byte(7, 0xFF)).run();
    outcome.mismatch(2.ms(), "payload").released(1, 2.ms(), "matched").held(&[2, 3]).commits(&[]);
}

#[test]
fn case_06_secondary_retransmits() {
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), seg(0..10)).p(2.ms(), seg(0..10)).s(3.ms(), seg(0..10));
        let outcome = case.run();
        outcome.quiet().released(1, 2.ms(), "matched").dropped(1, 2.ms(), "matched");
        outcome.dropped(2, 3.ms(), "duplicate");
    });
}

#[test]
fn case_06_secondary_retransmits_before_primary_sends() {
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), seg(0..10)).s(2.ms(), seg(0..10)).p(3.ms(), seg(0..10));
        // Whether the copy goes at once or with the first is not the point: it goes, and nothing is asked for.
        case.run().quiet().released(1, 3.ms(), "matched").dropped_as(2, "duplicate|matched");
    });
}

#[test]
fn case_07_primary_retransmits_covered_data() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10)).p(3.ms(), seg(0..10));
        case.run().quiet().released(1, 2.ms(), "matched").released(2, 3.ms(), "matched");
    });
}

#[test]
fn case_07_retransmission_still_obeys_the_ack_rule() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10));
        let outcome = case.p(3.ms(), seg(0..10).ack(100)).s(9.ms(), ack(100)).run();
        outcome.quiet().released(2, 9.ms(), "matched");
    });
}

#[test]
fn case_08_primary_retransmits_merged() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10));
        let outcome = case.p(3.ms(), seg(0..20)).s(4.ms(), seg(10..20)).run();
        outcome.quiet().released(1, 2.ms(), "matched").released(2, 4.ms(), "matched");
    });
}

#[test]
fn case_09_overlap_same_bytes() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..20)).s(2.ms(), seg(0..10)).s(3.ms(), seg(5..20));
        case.run().quiet().released(1, 3.ms(), "matched");
    });
}

#[test]
fn case_10_secondary_contradicts_itself() {
    on_both(|case| {
        // The PVM is silent, so the first bytes are still held when the second ones contradict them.
        let case = case.handshake(0.ms()).s(1.ms(), seg(0..10)).s(2.ms(), seg(5..20).with_byte(7, 0xFF));
        let outcome = case.run();
        outcome.mismatch(2.ms(), "self-inconsistent").detail("offset", 7).detail("secondary_frame", 2);
        outcome.dropped(1, 7.ms(), "flush").dropped(2, 7.ms(), "flush");
    });
}

#[test]
fn case_10_primary_contradicts_itself() {
    // §7.6 says "a side", so the PVM can do it too.
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).p(2.ms(), seg(5..20).with_byte(7, 0xFF));
        let outcome = case.run();
        outcome.mismatch(2.ms(), "self-inconsistent").detail("offset", 7).detail("primary_frame", 2);
        outcome.released(1, 7.ms(), "flush").released(2, 7.ms(), "flush");
    });
}

#[test]
fn case_11_primary_out_of_order() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(10..20)).p(2.ms(), seg(0..10));
        let outcome = case.s(3.ms(), seg(0..10)).s(4.ms(), seg(10..20)).run();
        // [0,10) is matched at 3 ms but came second: output order is input order.
        outcome.quiet().released(1, 4.ms(), "matched").released(2, 4.ms(), "matched");
    });
}

#[test]
fn case_11_the_primarys_own_gap_does_not_matter() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(10..20)).s(2.ms(), seg(0..20)).p(3.ms(), seg(0..10));
        case.run().quiet().released(1, 2.ms(), "matched").released(2, 3.ms(), "matched");
    });
}

#[test]
fn case_12_secondary_out_of_order() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..20)).s(2.ms(), seg(10..20)).s(3.ms(), seg(0..10));
        case.run().quiet().released(1, 3.ms(), "matched");
    });
}

#[test]
fn case_13_gap_never_fills() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).p(2.ms(), seg(10..20)).s(3.ms(), seg(10..20));
        let outcome = case.run();
        outcome.timeout(401.ms()).commits(&[406.ms()]);
        // Equal bytes behind a gap: whether the S frame counts as matched before the gap fills is left open.
        outcome.released(1, 406.ms(), "flush").released(2, 406.ms(), "flush");
    });
}
