//! Rules 3 and 4 as far as part 1 goes: cases 14 to 18, 20, 51 and the padding trap. An ack that is ahead holds,
//! and never differs.

use colo_tests::case::{Case, Time, ack, on_both, seg};

#[test]
fn case_14_pure_ack_on_both() {
    on_both(|case| {
        let outcome = case.handshake(0.ms()).p(1.ms(), ack(100)).s(2.ms(), ack(100)).run();
        outcome.quiet().released(1, 2.ms(), "ack").dropped(1, 2.ms(), "matched");
    });
}

#[test]
fn case_15_pure_ack_of_the_primary_only() {
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), ack(100)).p(2.ms(), ack(40)).p(3.ms(), ack(100));
        case.run().quiet().released(1, 2.ms(), "ack").released(2, 3.ms(), "ack");
    });
}

#[test]
fn case_16_pure_ack_ahead() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), ack(200)).s(2.ms(), ack(100));
        case.clone().s(3.ms(), ack(200)).run().quiet().released(1, 3.ms(), "ack");
        // Reading: what a commit lets go is a "flush", a pure ACK too: `why` says why it left.
        case.run().timeout(401.ms()).released(1, 406.ms(), "flush");
    });
}

#[test]
fn case_16_an_ack_held_holds_the_data_behind_it() {
    on_both(|case| {
        // Released order is arrival order: the data is covered at 2 ms, the ACK before it only at 3.
        let case = case.handshake(0.ms()).p(1.ms(), ack(100)).p(1.ms(), seg(0..10));
        let outcome = case.s(2.ms(), seg(0..10)).s(3.ms(), ack(100)).run();
        outcome.quiet().released(1, 3.ms(), "ack").released(2, 3.ms(), "matched");
    });
}

#[test]
fn case_16_ack_policy_any_lets_it_pass() {
    // §1.3: "any" is the MAX reading, under which the PVM's own ack always passes.
    on_both(|case| {
        let case = case.set("ack_policy", "any").handshake(0.ms()).p(1.ms(), ack(200));
        case.s(2.ms(), ack(100)).run().quiet().released(1, 1.ms(), "ack");
    });
}

#[test]
fn case_16_unknown_ack_of_the_secondary_waits() {
    // §1: before the SVM has acknowledged anything its ack is unknown. Mid-stream, the PVM's ACK comes first.
    on_both(|case| {
        let outcome = case.p(0.ms(), ack(50)).s(3.ms(), ack(50)).run();
        outcome.quiet().released(0, 3.ms(), "ack");
    });
}

#[test]
fn case_17_secondary_acks_more_often() {
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), ack(10)).s(2.ms(), ack(20)).s(3.ms(), ack(30));
        let outcome = case.p(4.ms(), ack(30)).s(5.ms(), ack(30)).s(6.ms(), ack(40)).run();
        // The last one is ahead of all the PVM ever acknowledges: no TO even so.
        outcome.quiet().released(1, 4.ms(), "ack");
        for (frame, at) in [(1, 1), (2, 2), (3, 3), (4, 5), (5, 6)] {
            outcome.dropped(frame, at.ms(), "matched|duplicate");
        }
    });
}

#[test]
fn case_18_ack_race() {
    on_both(|case| {
        let case = case.handshake(0.ms());
        // The PVM answered before the client's bytes came, the SVM after.
        let before = case.clone().p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10).ack(100)).run();
        before.quiet().released(1, 2.ms(), "matched");
        // The other way round its ack is ahead until the SVM's next one.
        let after = case.p(1.ms(), seg(0..10).ack(100)).s(2.ms(), seg(0..10)).s(40.ms(), ack(100)).run();
        after.quiet().released(1, 40.ms(), "matched");
    });
}

#[test]
fn case_20_duplicate_ack_train() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), ack(100)).s(2.ms(), ack(100));
        let outcome = case.p(3.ms(), ack(100)).p(3.ms(), ack(100)).p(4.ms(), ack(100)).run();
        outcome.quiet().released(2, 3.ms(), "ack").released(3, 3.ms(), "ack").released(4, 4.ms(), "ack");
    });
}

#[test]
fn case_20_train_while_data_is_matched() {
    // Three equal acks with the data position moving on: none is swallowed as a copy of another.
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), seg(0..10)).p(2.ms(), seg(0..10));
        let outcome = case.p(3.ms(), ack(0)).p(4.ms(), ack(0)).p(5.ms(), ack(0)).run();
        outcome.quiet().released(2, 3.ms(), "ack").released(3, 4.ms(), "ack").released(4, 5.ms(), "ack");
    });
}

#[test]
fn case_51_ack_wraps() {
    on_both(|case| {
        // In numbers P 0x10 and S 0xFFFFFFF0: as plain integers the minimum would be P's and it would leave.
        let case = case.client_isn(0xFFFF_FF00).handshake(0.ms()).s(1.ms(), ack(0).raw_ack(0xFFFF_FFF0));
        let case = case.p(2.ms(), ack(0).raw_ack(0x10));
        case.clone().s(9.ms(), ack(0).raw_ack(0x10)).run().quiet().released(1, 9.ms(), "ack");
        case.run().timeout(402.ms()).released(1, 407.ms(), "flush");
    });
}

#[test]
fn case_51_the_secondary_beyond_the_wrap() {
    on_both(|case| {
        let case = case.client_isn(0xFFFF_FF00).handshake(0.ms()).s(1.ms(), ack(0).raw_ack(0x10));
        case.p(2.ms(), ack(0).raw_ack(0xFFFF_FFF0)).run().quiet().released(1, 2.ms(), "ack");
    });
}

#[test]
fn case_52_ack_exactly_zero() {
    // The client's first byte is at 0, so the SYN/ACKs acknowledge 0 and later frames too.
    on_both(|case| {
        let case = case.client_isn(0xFFFF_FFFF).handshake(0.ms()).p(1.ms(), ack(0)).p(2.ms(), ack(1));
        let outcome = case.s(3.ms(), ack(1)).run();
        outcome.quiet().released(0, 0.ms(), "matched").released(1, 1.ms(), "ack").released(2, 3.ms(), "ack");
    });
}

#[test]
fn padding_trap_a_padded_ack_has_no_payload() {
    let case =
        Case::v4().handshake(0.ms()).s(1.ms(), ack(100).mac(2).pad_to(60)).p(2.ms(), ack(100).pad_to(60));
    let outcome = case.p(3.ms(), seg(0..10).pad_to(80)).s(4.ms(), seg(0..10)).run();
    outcome.quiet().released(1, 2.ms(), "ack").dropped(1, 1.ms(), "matched").released(2, 4.ms(), "matched");
}

#[test]
fn padding_trap_over_ipv6() {
    // An IPv6 ACK needs no padding, but a trailer behind the packet is no payload either.
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), ack(100)).p(2.ms(), ack(100).pad_to(90));
        let outcome = case.p(3.ms(), seg(0..10).pad_to(120)).s(4.ms(), seg(0..10).mac(2).pad_to(100)).run();
        outcome.quiet().released(1, 2.ms(), "ack").released(2, 4.ms(), "matched");
    });
}
