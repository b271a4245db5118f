//! Whose numbers the SVM speaks: cases 27, 28 and 59 with §7.7. The two guests' numbers may differ by any amount;
//! what counts is the position in the stream.

use colo_tests::case::{Case, Time, ack, fin, on_both, seg};

/// A short connection whose every frame has to be matched through the mapping.
fn short_connection(case: Case) {
    let case = case.handshake(0.ms()).p(1.ms(), seg(0..10).ack(5)).s(2.ms(), seg(0..4).ack(5));
    let case =
        case.s(3.ms(), seg(4..10)).s(4.ms(), ack(50)).p(5.ms(), ack(50)).p(6.ms(), fin()).s(7.ms(), fin());
    let outcome = case.run();
    outcome.quiet().released(0, 0.ms(), "matched").released(1, 3.ms(), "matched");
    outcome.released(2, 5.ms(), "ack").released(3, 7.ms(), "matched");
}

/// The SVM's second segment comes first, so the very first number after the SYN is not ISN + 1.
fn out_of_order_start(case: Case) {
    let case = case.handshake(0.ms()).p(1.ms(), seg(0..20)).s(2.ms(), seg(10..20)).s(3.ms(), seg(0..10));
    case.run().quiet().released(1, 3.ms(), "matched");
}

fn difference_is_found(case: Case) {
    let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10).with_byte(6, 0xFF));
    case.run().mismatch(2.ms(), "payload").detail("offset", 6);
}

#[test]
fn case_27_isn_differs_secondary_raw() {
    on_both(|case| {
        let case = case.isns(1_000, 900_000_000);
        short_connection(case.clone());
        out_of_order_start(case.clone());
        difference_is_found(case.clone());
        short_connection(case.set("secondary_sequence", "raw"));
    });
}

#[test]
fn case_27_lower_isn_across_the_wrap() {
    on_both(|case| short_connection(case.isns(0xFFFF_FFFC, 0x3FFF_FFFF)));
}

#[test]
fn case_27_isns_close_together() {
    // Reading: both spaces are near, but only one of them puts the SVM's segment where its stream goes on.
    on_both(|case| {
        short_connection(case.clone().isns(5, 0xFFFF_FFF8));
        short_connection(case.isns(1_000, 1_013).secondary_translated());
    });
}

#[test]
fn case_28_isn_differs_secondary_translated() {
    on_both(|case| {
        let case = case.isns(1_000, 900_000_000).secondary_translated();
        short_connection(case.clone());
        out_of_order_start(case.clone());
        difference_is_found(case.clone());
        short_connection(case.set("secondary_sequence", "translated"));
    });
}

#[test]
fn case_28_first_segment_is_a_pure_ack() {
    on_both(|case| {
        let case = case.isns(1_000, 900_000_000).secondary_translated().handshake(0.ms()).s(1.ms(), ack(9));
        let outcome = case.p(2.ms(), seg(0..10).ack(9)).s(3.ms(), seg(0..10)).run();
        outcome.quiet().released(1, 3.ms(), "matched");
    });
}

#[test]
fn case_59_mid_stream_pickup() {
    on_both(|case| {
        let case = case.p(0.ms(), seg(5000..5010)).s(1.ms(), seg(5000..5010)).s(2.ms(), seg(5010..5020));
        let outcome = case.p(3.ms(), seg(5010..5020)).run();
        outcome.quiet().released(0, 1.ms(), "matched").released(1, 3.ms(), "matched");
    });
}

#[test]
fn case_59_offset_counts_from_the_first_position() {
    on_both(|case| {
        let case = case.p(0.ms(), seg(5000..5010)).s(1.ms(), seg(5000..5010).with_byte(5003, 0xFF));
        case.run().mismatch(1.ms(), "payload").detail("offset", 3).released(0, 6.ms(), "flush");
    });
}

#[test]
fn case_59_far_apart_is_another_space() {
    // First positions more than 2^20 apart: each side's first segment gives its own position.
    on_both(|case| {
        let case = case.isns(1_000, 3_000_000_000).p(0.ms(), seg(0..10)).s(1.ms(), seg(0..10));
        let outcome = case.p(2.ms(), seg(10..20)).s(3.ms(), seg(10..20)).run();
        outcome.quiet().released(0, 1.ms(), "matched").released(1, 3.ms(), "matched");
    });
}

#[test]
fn fine_point_07_secondary_begins_earlier() {
    on_both(|case| {
        let case = case.p(0.ms(), seg(100..110)).s(1.ms(), seg(90..100));
        // What becomes of the SVM's [90,100), which the PVM had sent before the start, is left open.
        case.clone().s(2.ms(), seg(100..110)).run().released(0, 2.ms(), "matched");
        let outcome = case.s(2.ms(), seg(100..110).with_byte(105, 0xFF)).run();
        // The origin is the PVM's first position all the same.
        outcome.mismatch(2.ms(), "payload").detail("offset", 5);
    });
}

#[test]
fn fine_point_07_primary_begins_earlier() {
    // Comparison starts at the lower first position: [90,100) was never seen from the SVM, so it waits.
    on_both(|case| {
        let case = case.p(0.ms(), seg(90..100)).s(1.ms(), seg(100..110)).p(2.ms(), seg(100..110));
        let outcome = case.run();
        outcome.timeout(400.ms()).released(0, 405.ms(), "flush").released(1, 405.ms(), "flush");
    });
}
