//! Port reuse: cases 47 to 49, and what of that comes late by a commit (case 61). A SYN with another ISN starts a new incarnation, whatever the order of the numbers,
//! and nothing of the old one (positions, `max_ack`) may rule the new one.

use colo_tests::case::{Case, Isns, Time, ack, fin, on_both, rst, seg, syn_ack};

const OLD: u32 = 2_000_000_000;
const HIGHER: Isns = Isns { primary: 3_000_000_000, secondary: 3_000_500_000, client: 90_000_000 };
const LOWER: Isns = Isns { primary: 1_000_000_000, secondary: 1_000_500_000, client: 5_000 };

/// Ten bytes each way and acks of 1,000 client bytes, closed by both.
fn old_connection(case: Case, new: Isns) -> Case {
    let case = case.isns(OLD, OLD).new_incarnation(new).handshake(0.ms());
    let case = case.p(1.ms(), seg(0..10)).s(1.ms(), seg(0..10)).s(2.ms(), ack(1000)).p(2.ms(), ack(1000));
    case.p(3.ms(), fin()).s(3.ms(), fin())
}

fn reused_port(new: Isns) {
    on_both(|case| {
        let case = old_connection(case, new).p(10.ms(), syn_ack().of(1)).s(11.ms(), syn_ack().of(1));
        let case = case.p(12.ms(), seg(0..10).of(1));
        let same = case.clone().s(13.ms(), seg(0..10).of(1)).run();
        same.quiet().released(4, 11.ms(), "matched").released(5, 13.ms(), "matched");
        let other = case.s(13.ms(), seg(0..10).of(1).with_byte(4, 0xFF)).run();
        other.mismatch(13.ms(), "payload").detail("offset", 4).released(5, 18.ms(), "flush");
    });
}

/// The old `max_ack` neither lets the new connection's ack pass nor keeps it back.
fn acks_start_anew(new: Isns) {
    on_both(|case| {
        let case = old_connection(case, new).p(10.ms(), syn_ack().of(1)).s(10.ms(), syn_ack().of(1));
        let outcome =
            case.p(12.ms(), ack(50).of(1)).s(14.ms(), ack(50).of(1)).p(15.ms(), ack(50).of(1)).run();
        outcome.quiet().released(5, 14.ms(), "ack").released(6, 15.ms(), "ack");
    });
}

#[test]
fn case_47_port_reuse_higher_isn() {
    reused_port(HIGHER);
}

#[test]
fn case_47_acks_start_anew() {
    acks_start_anew(HIGHER);
}

#[test]
fn case_48_port_reuse_lower_isn() {
    reused_port(LOWER);
}

#[test]
fn case_48_acks_start_anew() {
    acks_start_anew(LOWER);
}

#[test]
fn case_47_port_reuse_without_a_close() {
    // A guest that lost its memory: no FIN, no RST, just a new SYN.
    on_both(|case| {
        let case = case.isns(OLD, OLD).new_incarnation(HIGHER).new_incarnation(LOWER).handshake(0.ms());
        let case = case.p(1.ms(), seg(0..10)).s(1.ms(), seg(0..10));
        let case = case.p(10.ms(), syn_ack().of(1)).s(11.ms(), syn_ack().of(1));
        let case = case.p(12.ms(), seg(0..5).of(1)).s(13.ms(), seg(0..5).of(1));
        let case = case.p(20.ms(), syn_ack().of(2)).s(21.ms(), syn_ack().of(2));
        let outcome = case.p(22.ms(), seg(0..5).of(2)).s(23.ms(), seg(0..5).of(2)).run();
        outcome.quiet().released(3, 13.ms(), "matched").released(5, 23.ms(), "matched");
    });
}

#[test]
fn case_47_secondary_is_late() {
    // The PVM is in the new incarnation while the SVM still closes the old one: order holds, nothing differs.
    on_both(|case| {
        let case = case.isns(OLD, OLD).new_incarnation(LOWER).handshake(0.ms()).p(1.ms(), seg(0..10).fin());
        let case = case.p(5.ms(), syn_ack().of(1)).s(8.ms(), seg(0..10).fin()).s(9.ms(), syn_ack().of(1));
        let outcome = case.p(10.ms(), seg(0..10).of(1)).s(11.ms(), seg(0..10).of(1)).run();
        outcome.quiet().released(1, 8.ms(), "matched").released(2, 9.ms(), "matched").released(
            3,
            11.ms(),
            "matched",
        );
    });
}

#[test]
fn case_47_secondary_is_early() {
    on_both(|case| {
        let case = case.isns(OLD, OLD).new_incarnation(HIGHER).handshake(0.ms()).s(1.ms(), seg(0..10).fin());
        let case = case.s(5.ms(), syn_ack().of(1)).p(8.ms(), seg(0..10).fin()).p(9.ms(), syn_ack().of(1));
        let outcome = case.s(10.ms(), seg(0..10).of(1)).p(11.ms(), seg(0..10).of(1)).run();
        outcome.quiet().released(1, 8.ms(), "matched").released(2, 9.ms(), "matched").released(
            3,
            11.ms(),
            "matched",
        );
    });
}

#[test]
fn case_49_late_segment_of_the_old_incarnation() {
    on_both(|case| {
        let case = old_connection(case, LOWER).p(10.ms(), syn_ack().of(1)).s(10.ms(), syn_ack().of(1));
        let case = case.p(12.ms(), seg(0..10)).s(12.ms(), seg(0..10));
        let case = case.p(13.ms(), seg(0..10).of(1)).s(14.ms(), seg(0..10).of(1));
        let outcome = case.p(15.ms(), ack(50).of(1)).s(16.ms(), ack(50).of(1)).run();
        // Reading: old bytes that have left already are judged by position, so the PVM's copy leaves at once.
        outcome.quiet().released(5, 12.ms(), "matched");
        outcome.dropped(5, 12.ms(), "duplicate|stale|matched");
        outcome.released(6, 14.ms(), "matched").released(7, 16.ms(), "ack");
    });
}

#[test]
fn case_49_late_segment_of_the_secondary_only() {
    on_both(|case| {
        let case = old_connection(case, HIGHER).p(10.ms(), syn_ack().of(1)).s(10.ms(), syn_ack().of(1));
        let case = case.p(11.ms(), seg(0..10).of(1)).s(12.ms(), seg(0..10)).s(13.ms(), seg(0..10).of(1));
        let outcome = case.run();
        outcome.quiet().dropped(5, 12.ms(), "duplicate|stale|matched").released(5, 13.ms(), "matched");
    });
}

#[test]
fn case_49_late_segment_where_the_connection_is_picked_up() {
    // What the SVM sends first is of another life: it tells neither where the SVM is nor what it has acknowledged, although
    // its ack seems to be ahead of everything here.
    let other = Isns { primary: 3_000_000_000, secondary: 3_000_500_000, client: 1_090_000_000 };
    for late in [seg(0..10), ack(0), seg(0..10).fin()] {
        on_both(|case| {
            let case = case.isns(OLD, OLD).client_isn(90_000_000).new_incarnation(other);
            let case = case.s(0.ms(), late.clone().of(1)).p(1.ms(), ack(50)).p(2.ms(), seg(0..10));
            let outcome = case.s(3.ms(), ack(50)).s(4.ms(), seg(0..10)).run();
            outcome.quiet().released(0, 3.ms(), "ack").released(1, 4.ms(), "matched");
        });
    }
}

#[test]
fn case_49_late_segment_after_the_primary_was_picked_up() {
    let other = Isns { primary: 3_000_000_000, secondary: 3_000_500_000, client: 1_090_000_000 };
    on_both(|case| {
        let case = case.isns(OLD, OLD).client_isn(90_000_000).new_incarnation(other);
        let case = case.p(0.ms(), ack(50)).s(1.ms(), seg(0..10).of(1)).p(2.ms(), seg(0..10));
        let outcome = case.s(3.ms(), ack(50)).s(4.ms(), seg(0..10)).run();
        outcome.quiet().dropped(0, 1.ms(), "stale").released(0, 3.ms(), "ack").released(1, 4.ms(), "matched");
    });
}

#[test]
fn case_49_data_of_a_life_whose_syn_was_lost() {
    // Its numbers lie below those of the life before, after a commit: no retransmission of that one answers another client.
    let other = Isns { primary: OLD - 500_000_000, secondary: OLD - 500_000_000, client: 40_000_000 };
    on_both(|case| {
        let case = case.isns(OLD, OLD).client_isn(90_000_000).new_incarnation(other).handshake(0.ms());
        let outcome = case.p(1.ms(), seg(0..10)).p(410.ms(), seg(0..10).of(1)).run();
        outcome.requests(&[(401.ms(), "timeout"), (810.ms(), "timeout")]);
        outcome.released(1, 406.ms(), "flush").released(2, 815.ms(), "flush");
    });
}

#[test]
fn case_49_the_ack_of_a_late_reset_does_not_count() {
    let other = Isns { primary: OLD, secondary: OLD, client: 1_090_000_000 };
    on_both(|case| {
        let case = case.isns(OLD, OLD).client_isn(90_000_000).new_incarnation(other).handshake(0.ms());
        let case =
            case.p(1.ms(), ack(50)).s(2.ms(), rst().ack(0).of(1)).p(3.ms(), ack(60)).s(4.ms(), ack(60));
        case.run().released(1, 4.ms(), "ack").released(2, 4.ms(), "ack");
    });
}

#[test]
fn case_61_the_secondarys_syn_late_by_a_commit() {
    // It was on its way when the checkpoint was committed, and the SVM goes on as the PVM's copy, or in its own numbers.
    on_both(|case| {
        let case = case.isns(OLD, 7_000).p(0.ms(), syn_ack()).s(410.ms(), syn_ack());
        for case in [case.clone().secondary_translated(), case.set("secondary_sequence", "raw")] {
            let outcome = case.p(411.ms(), seg(0..10)).s(412.ms(), seg(0..10)).run();
            outcome.timeout(400.ms()).released(0, 405.ms(), "flush");
            outcome.dropped(0, 410.ms(), "duplicate|stale").released(1, 412.ms(), "matched");
        }
    });
}

#[test]
fn case_61_a_life_that_only_the_secondary_began() {
    // The SVM is in the new life when a checkpoint makes it a copy of a PVM that is not: the old one goes on, in numbers
    // of the SVM's own as before.
    on_both(|case| {
        let case = case.isns(OLD, 7_000).new_incarnation(HIGHER).set("secondary_sequence", "raw");
        let case =
            case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(1.ms(), seg(0..10)).s(2.ms(), syn_ack().of(1));
        let outcome = case.p(410.ms(), seg(10..20)).s(411.ms(), seg(10..20)).run();
        outcome.timeout(402.ms()).dropped(2, 407.ms(), "flush").released(2, 411.ms(), "matched");
    });
}

#[test]
fn case_47_a_secondary_a_mebibyte_of_client_data_behind_is_no_stranger() {
    on_both(|case| {
        let case = case.p(0.ms(), syn_ack()).p(1.ms(), ack(1_100_000));
        let case =
            case.s(2.ms(), syn_ack()).s(3.ms(), ack(1_100_000)).p(4.ms(), seg(0..9)).s(5.ms(), seg(0..9));
        case.run().quiet().released(0, 2.ms(), "matched").released(1, 3.ms(), "ack").released(
            2,
            5.ms(),
            "matched",
        );
    });
}
