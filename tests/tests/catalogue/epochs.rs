//! Checkpoints: cases 60 to 63, §7.1 to §7.3 and §7.12. What was sent before the commit leaves at it, what comes
//! after is compared from the PVM's positions on.

use colo_tests::case::{Case, Time, ack, flow_name, on_both, seg};

/// Thirty bytes of the PVM, ten contradicting ones of the SVM at 2 ms: a commit at 7 ms with queues not empty.
fn flushed_at_7ms(case: Case) -> Case {
    let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).p(1.ms(), seg(10..20)).p(1.ms(), seg(20..30));
    case.s(2.ms(), seg(0..10).with_byte(3, 0xFF)).s(3.ms(), seg(20..30))
}

#[test]
fn case_60_flush() {
    on_both(|case| {
        let outcome = flushed_at_7ms(case).p(10.ms(), seg(30..40)).s(11.ms(), seg(30..40)).run();
        outcome.mismatch(2.ms(), "payload").commits(&[7.ms()]);
        for frame in [1, 2, 3] {
            outcome.released(frame, 7.ms(), "flush");
        }
        // The equal bytes behind the contradiction may have counted as matched before.
        outcome.dropped(1, 7.ms(), "flush").dropped_as(2, "flush|matched");
        outcome.released(4, 11.ms(), "matched").dropped(3, 11.ms(), "matched");
    });
}

#[test]
fn case_60_the_new_epoch_is_compared() {
    on_both(|case| {
        let case = flushed_at_7ms(case).p(200.ms(), seg(30..40)).s(201.ms(), seg(30..40).with_byte(33, 0xFF));
        let outcome = case.run();
        outcome.requests(&[(2.ms(), "mismatch"), (201.ms(), "mismatch")]).detail_of(1, "offset", 33);
        outcome.released(4, 206.ms(), "flush");
    });
}

#[test]
fn fine_point_01_auto_finds_the_primary_space_after_a_commit() {
    on_both(|case| {
        let case = flushed_at_7ms(case.isns(1_000, 900_000_000)).p(10.ms(), seg(30..40));
        case.s(11.ms(), seg(30..40).in_primary_space()).run().released(4, 11.ms(), "matched");
    });
}

#[test]
fn fine_point_01_auto_finds_the_old_mapping_after_a_commit() {
    on_both(|case| {
        let case = flushed_at_7ms(case.isns(1_000, 900_000_000)).p(10.ms(), seg(30..40));
        case.s(11.ms(), seg(30..40)).run().released(4, 11.ms(), "matched");
    });
}

#[test]
fn fine_point_01_raw_keeps_the_old_mapping() {
    let case = Case::v4().set("secondary_sequence", "raw").isns(1_000, 900_000_000);
    let case = flushed_at_7ms(case).p(10.ms(), seg(30..40)).s(11.ms(), seg(30..40));
    case.run().released(4, 11.ms(), "matched");
}

#[test]
fn fine_point_01_translated_is_identity() {
    let case =
        Case::v4().set("secondary_sequence", "translated").isns(1_000, 900_000_000).secondary_translated();
    let case = flushed_at_7ms(case).p(10.ms(), seg(30..40)).s(11.ms(), seg(30..40));
    case.run().released(4, 11.ms(), "matched");
}

#[test]
fn fine_point_01_the_secondarys_ack_starts_at_the_primarys() {
    on_both(|case| {
        // The PVM had acknowledged 100 bytes, the SVM none: after the commit it is the PVM's copy.
        let case = flushed_at_7ms(case.clone()).p(4.ms(), ack(100)).p(10.ms(), ack(100));
        let outcome = case.run();
        outcome.released(4, 7.ms(), "flush").released(5, 10.ms(), "ack");
    });
}

#[test]
fn fine_point_01_an_older_higher_ack_does_not_count() {
    on_both(|case| {
        // 500 was acknowledged by an SVM that is no more; its successor has 100.
        let case = flushed_at_7ms(case).s(4.ms(), ack(500)).p(5.ms(), ack(100));
        let before = case.clone().p(10.ms(), ack(300)).s(12.ms(), ack(300)).run();
        before.released(5, 12.ms(), "ack");
        // The same number under way during the commit and seen only after it.
        let after = case.s(9.ms(), ack(500)).p(10.ms(), ack(300)).s(12.ms(), ack(300)).run();
        after.released(5, 12.ms(), "ack");
    });
}

#[test]
fn case_61_secondary_frame_of_an_old_epoch() {
    on_both(|case| {
        // Below the PVM's position it is stale, whatever it says; the new epoch goes on unharmed.
        let case = flushed_at_7ms(case).s(8.ms(), seg(0..10)).s(9.ms(), seg(10..20).with_byte(12, 0xFF));
        let outcome = case.p(10.ms(), seg(30..40)).s(11.ms(), seg(30..40)).run();
        outcome.mismatch(2.ms(), "payload");
        outcome.dropped(3, 8.ms(), "stale").dropped(4, 9.ms(), "stale").released(4, 11.ms(), "matched");
    });
}

#[test]
fn case_62_mismatch_storm() {
    on_both(|mut case| {
        for flow in 0..100 {
            case = case.handshake_of(flow, 0.ms());
        }
        for flow in 0..100 {
            let at = if flow < 50 { 2.ms() } else { 4.ms() };
            case = case.p(1.ms(), seg(0..10).flow(flow)).s(at, seg(0..10).with_byte(5, 0xFF).flow(flow));
        }
        let outcome = case.run();
        outcome.mismatch(2.ms(), "payload").commits(&[7.ms()]);
        for frame in 100..200 {
            outcome.released(frame, 7.ms(), "flush");
        }
    });
}

#[test]
fn case_63_mismatch_during_a_checkpoint() {
    on_both(|case| {
        let case = case.handshake_of(0, 0.ms()).handshake_of(1, 0.ms());
        let case = case.p(1.ms(), seg(0..10)).p(1.ms(), seg(0..10).flow(1));
        let case =
            case.s(2.ms(), seg(0..10).with_byte(1, 0xFF)).s(4.ms(), seg(0..10).flow(1).with_byte(2, 0xFF));
        let outcome = case.run();
        outcome.mismatch(2.ms(), "payload").detail("offset", 1).commits(&[7.ms()]);
        outcome.released(2, 7.ms(), "flush").released(3, 7.ms(), "flush");
    });
}

#[test]
fn fine_point_02_what_satisfies_the_rules_goes_on_leaving() {
    on_both(|case| {
        let case = case.commit_after(50.ms()).handshake_of(0, 0.ms()).handshake_of(1, 0.ms());
        let case =
            case.p(1.ms(), seg(0..10)).p(1.ms(), seg(10..20)).s(2.ms(), seg(10..20).with_byte(15, 0xFF));
        // The differing flow up to the contradiction, another flow altogether, then past the contradiction.
        let case = case.s(3.ms(), seg(0..10)).p(3.ms(), seg(0..10).flow(1)).s(4.ms(), seg(0..10).flow(1));
        let outcome = case.p(5.ms(), seg(20..30)).s(6.ms(), seg(20..30)).run();
        outcome.mismatch(2.ms(), "payload").detail("offset", 15);
        outcome.released(2, 3.ms(), "matched").released(4, 4.ms(), "matched");
        outcome.released(3, 52.ms(), "flush").released(5, 52.ms(), "flush");
    });
}

#[test]
fn fine_point_03_a_request_put_off_carries_its_first_cause() {
    on_both(|case| {
        let name = flow_name(case.ip(), "tcp", 1);
        let mut case = (0..3).fold(case, |case, flow| case.handshake_of(flow, 0.ms()));
        for (flow, at, byte) in [(0, 1, 4), (1, 20, 6), (2, 50, 8)] {
            case = case
                .p(at.ms(), seg(0..10).flow(flow))
                .s((at + 1).ms(), seg(0..10).flow(flow).with_byte(byte, 0xFF));
        }
        let outcome = case.run();
        // Committed at 7 ms; the next request not before 107 ms, for what happened at 21.
        outcome.requests(&[(2.ms(), "mismatch"), (107.ms(), "mismatch")]).commits(&[7.ms(), 112.ms()]);
        outcome.names_flow(1, &name).detail_of(1, "offset", 6);
        outcome.released(4, 112.ms(), "flush").released(5, 112.ms(), "flush");
    });
}

#[test]
fn fine_point_03_min_checkpoint_interval_is_a_setting() {
    let case = Case::v4().set("min_checkpoint_interval", "0").handshake_of(0, 0.ms()).handshake_of(1, 0.ms());
    let case = case.p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10).with_byte(1, 0xFF));
    let case = case.p(10.ms(), seg(0..10).flow(1)).s(11.ms(), seg(0..10).flow(1).with_byte(1, 0xFF));
    case.run().requests(&[(2.ms(), "mismatch"), (11.ms(), "mismatch")]).commits(&[7.ms(), 16.ms()]);
}

#[test]
fn fine_point_03_checkpoint_delay_counts_for_mismatches_only() {
    let case = Case::v4().set("checkpoint_delay", "30").handshake(0.ms()).p(1.ms(), seg(0..10));
    let differs = case.clone().s(2.ms(), seg(0..10).with_byte(1, 0xFF)).run();
    differs.mismatch(32.ms(), "payload").commits(&[37.ms()]);
    case.run().timeout(401.ms()).commits(&[406.ms()]);
}

#[test]
fn fine_point_12_timers_run_before_the_frames_of_their_instant() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(401.ms(), seg(0..10));
        // Asked for at 401 ms; the partner of the same instant comes after and still matches (§7.2).
        case.run().timeout(401.ms()).released(1, 401.ms(), "matched");
    });
}

#[test]
fn fine_point_12_a_frame_at_the_commit_is_of_the_new_epoch() {
    on_both(|case| {
        let primary = flushed_at_7ms(case.clone()).p(7.ms(), seg(30..40)).s(8.ms(), seg(30..40)).run();
        primary.mismatch(2.ms(), "payload").released(3, 7.ms(), "flush").released(4, 8.ms(), "matched");
        let secondary = flushed_at_7ms(case).s(7.ms(), seg(30..40)).p(8.ms(), seg(30..40)).run();
        secondary.mismatch(2.ms(), "payload").released(4, 8.ms(), "matched").dropped(3, 8.ms(), "matched");
    });
}

#[test]
fn fine_point_12_commit_comes_before_a_timeout_of_its_instant() {
    on_both(|case| {
        let case = case.commit_after(399.ms()).handshake_of(0, 0.ms()).handshake_of(1, 0.ms());
        let case =
            case.p(1.ms(), seg(0..10)).p(1.ms(), seg(0..10).flow(1)).s(2.ms(), seg(0..10).with_byte(1, 0xFF));
        let outcome = case.run();
        outcome.mismatch(2.ms(), "payload").commits(&[401.ms()]);
        outcome.released(2, 401.ms(), "flush").released(3, 401.ms(), "flush");
    });
}

#[test]
fn fine_point_12_a_flush_goes_in_arrival_order_over_all_flows() {
    // The invariants check the order by index; here are enough flows to land on both workers' shards.
    on_both(|case| {
        let mut case = (0..8).fold(case, |case, flow| case.handshake_of(flow, 0.ms()));
        for round in 0..4_i64 {
            for flow in [3, 1, 7, 0, 5, 2, 6, 4] {
                case = case.p((1 + round.cast_unsigned()).ms(), seg(round * 10..round * 10 + 10).flow(flow));
            }
        }
        let outcome = case.run();
        outcome.timeout(401.ms());
        for frame in 8..40 {
            outcome.released(frame, 406.ms(), "flush");
        }
    });
}
