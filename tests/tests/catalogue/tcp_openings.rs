//! How connections begin and end: cases 30, 33 to 35, 45 and 46, and the urgent pointer (53). SYN options must agree
//! because the client keeps what it was told; everything else is a matter of positions.

use colo_tests::case::{
    Case, Flag, Isns, Packet, Time, ack, fin, flow_name, on_both, rst, seg, syn, syn_ack,
};

fn plain() -> Packet {
    syn_ack().without_options()
}

#[test]
fn case_30_mss_differs() {
    on_both(|case| {
        let name = flow_name(case.ip(), "tcp", 0);
        let outcome = case.p(0.ms(), plain().mss(1_460)).s(1.ms(), plain().mss(1_400)).run();
        outcome.mismatch(1.ms(), "syn-options").detail("offset", 0).names_flow(0, &name);
        outcome.detail("primary_frame", 0).detail("secondary_frame", 0);
        outcome.commits(&[6.ms()]).released(0, 6.ms(), "flush").dropped(0, 6.ms(), "flush");
    });
}

#[test]
fn case_30_mss_on_one_side_only() {
    on_both(|case| {
        let outcome = case.clone().p(0.ms(), plain().mss(1_460)).s(1.ms(), plain()).run();
        outcome.mismatch(1.ms(), "syn-options").detail("offset", 0);
        let outcome = case.s(0.ms(), plain().mss(1_460)).p(1.ms(), plain()).run();
        outcome.mismatch(1.ms(), "syn-options").detail("offset", 0);
    });
}

#[test]
fn case_30_sack_permitted_differs() {
    on_both(|case| {
        let with = || plain().mss(1_460).sack_permitted();
        let outcome = case.clone().p(0.ms(), with()).s(1.ms(), plain().mss(1_460)).run();
        outcome.mismatch(1.ms(), "syn-options").detail("offset", 0).released(0, 6.ms(), "flush");
        let outcome = case.s(0.ms(), with()).p(1.ms(), plain().mss(1_460)).run();
        outcome.mismatch(1.ms(), "syn-options").detail("offset", 0).released(0, 6.ms(), "flush");
    });
}

#[test]
fn case_30_timestamps_permitted_differ() {
    on_both(|case| {
        let outcome = case.clone().p(0.ms(), syn_ack().timestamps(1, 2)).s(1.ms(), syn_ack()).run();
        outcome.mismatch(1.ms(), "syn-options").detail("offset", 0);
        let outcome = case.s(0.ms(), syn_ack().timestamps(1, 2)).p(1.ms(), syn_ack()).run();
        outcome.mismatch(1.ms(), "syn-options").detail("offset", 0);
    });
}

#[test]
fn case_30_a_syn_without_ack_is_compared_too() {
    on_both(|case| {
        let outcome = case.p(0.ms(), syn().without_options().mss(1_400)).s(1.ms(), syn()).run();
        outcome.mismatch(1.ms(), "syn-options").detail("offset", 0).released(0, 6.ms(), "flush");
    });
}

#[test]
fn case_30_isns_differ_as_well() {
    on_both(|case| {
        let case = case.isns(1_000, 900_000_000).p(0.ms(), plain().mss(1_460));
        case.s(1.ms(), plain().mss(1_400)).run().mismatch(1.ms(), "syn-options").detail("offset", 0);
    });
}

#[test]
fn case_30_order_of_options_does_not_matter() {
    on_both(|case| {
        let case = case.p(0.ms(), plain().mss(1_460).sack_permitted().wscale(7).timestamps(1, 2));
        let outcome = case.s(1.ms(), plain().timestamps(8, 2).wscale(7).sack_permitted().mss(1_460)).run();
        outcome.quiet().released(0, 1.ms(), "matched");
    });
}

#[test]
fn case_30_ignored() {
    on_both(|case| {
        let case = case.set("syn_options", "ignore").p(0.ms(), plain().mss(1_460).sack_permitted());
        let outcome = case.s(1.ms(), plain().mss(1_400).timestamps(3, 4)).run();
        outcome.quiet().released(0, 1.ms(), "matched");
    });
}

#[test]
fn case_30_the_options_of_a_retransmitted_syn() {
    // A SYN that has left is judged by position; so is its copy.
    on_both(|case| {
        let case = case.handshake(0.ms()).p(100.ms(), syn_ack()).s(101.ms(), syn_ack());
        let outcome = case.p(102.ms(), seg(0..10)).s(103.ms(), seg(0..10)).run();
        outcome.quiet().released(1, 100.ms(), "matched").released(2, 103.ms(), "matched");
    });
}

#[test]
fn case_33_syn_with_data() {
    on_both(|case| {
        // The PVM's SYN carries five bytes, the SVM's none; the byte after the SYN is byte 0 either way.
        let case = case.p(0.ms(), syn_ack().data(5)).s(1.ms(), syn_ack()).s(2.ms(), seg(0..10));
        let outcome = case.p(3.ms(), seg(5..10)).run();
        outcome.quiet().released(0, 2.ms(), "matched").released(1, 3.ms(), "matched");
    });
}

#[test]
fn case_33_syn_with_data_of_the_secondary() {
    on_both(|case| {
        let case = case.isns(1_000, 900_000_000).s(0.ms(), syn_ack().data(5)).p(1.ms(), syn_ack());
        let outcome = case.p(2.ms(), seg(0..10)).s(3.ms(), seg(5..10)).run();
        outcome.quiet().released(0, 1.ms(), "matched").released(1, 3.ms(), "matched");
    });
}

#[test]
fn case_33_syn_with_data_of_an_active_open() {
    on_both(|case| {
        let case = case.p(0.ms(), syn().data(100)).s(1.ms(), syn().data(60)).p(2.ms(), seg(100..120));
        // Not all that was sent is acknowledged: the guests send the rest again, as they like.
        let case = case.s(3.ms(), seg(60..100)).s(4.ms(), seg(100..120)).p(5.ms(), seg(60..100).ack(0));
        let outcome = case.run();
        outcome.quiet().released(0, 3.ms(), "matched").released(1, 4.ms(), "matched");
        outcome.released(2, 5.ms(), "matched");
    });
}

#[test]
fn case_33_a_byte_of_the_syns_data_differs() {
    on_both(|case| {
        let case = case.p(0.ms(), syn_ack().data(5)).s(1.ms(), syn_ack().data(5).with_byte(3, 0xFF));
        let outcome = case.run();
        outcome.mismatch(1.ms(), "payload").detail("offset", 3).released(0, 6.ms(), "flush");
    });
}

#[test]
fn case_33_the_syns_data_wraps() {
    on_both(|case| {
        let case = case.isns(0xFFFF_FFFD, 1_000).p(0.ms(), syn_ack().data(5)).s(1.ms(), syn_ack());
        let outcome = case.s(2.ms(), seg(0..5)).run();
        outcome.quiet().released(0, 2.ms(), "matched");
    });
}

#[test]
fn case_34_active_open() {
    on_both(|case| {
        let case = case.isns(1_000, 900_000_000).p(0.ms(), syn()).s(1.ms(), syn());
        // The client's SYN/ACK: both answer with an ACK, then speak.
        let case = case.p(2.ms(), ack(0)).s(3.ms(), ack(0)).p(4.ms(), seg(0..10)).s(5.ms(), seg(0..10));
        let outcome = case.run();
        outcome.quiet().released(0, 1.ms(), "matched").released(1, 3.ms(), "ack");
        outcome.released(2, 5.ms(), "matched").dropped(0, 1.ms(), "matched");
    });
}

#[test]
fn case_34_active_open_the_ack_carries_data() {
    on_both(|case| {
        let case = case.s(0.ms(), syn()).p(1.ms(), syn()).s(2.ms(), ack(0)).s(3.ms(), seg(0..10));
        let outcome = case.p(4.ms(), seg(0..10).ack(0)).run();
        outcome.quiet().released(0, 1.ms(), "matched").released(1, 4.ms(), "matched");
    });
}

#[test]
fn case_34_active_open_of_the_primary_only() {
    on_both(|case| {
        // SYNs are sent again after a second: they wait too, and leave in order.
        let outcome = case.clone().p(0.ms(), syn()).run();
        outcome.timeout(400.ms()).released(0, 405.ms(), "flush");
        let outcome = case.p(0.ms(), syn()).p(300.ms(), syn()).s(350.ms(), syn()).run();
        outcome.quiet().released(0, 350.ms(), "matched").released(1, 350.ms(), "matched");
    });
}

#[test]
fn case_34_active_open_is_refused() {
    // The client answers with a reset; the guests have nothing more to say, and try again from a new number.
    on_both(|case| {
        let again = Isns { primary: 5_000_000, secondary: 6_000_000, client: 0 };
        let case = case.new_incarnation(again).p(0.ms(), syn()).s(1.ms(), syn());
        let outcome = case.p(900.ms(), syn().of(1)).s(901.ms(), syn().of(1)).run();
        outcome.quiet().released(0, 1.ms(), "matched").released(1, 901.ms(), "matched");
    });
}

#[test]
fn case_35_simultaneous_open() {
    on_both(|case| {
        let case = case.isns(1_000, 900_000_000).p(0.ms(), syn()).s(1.ms(), syn());
        // Their SYNs cross the client's: both send theirs again, with an ACK and the same number.
        let case = case.p(2.ms(), syn_ack()).s(3.ms(), syn_ack());
        let outcome = case.p(4.ms(), seg(0..10)).s(5.ms(), seg(0..10)).run();
        outcome.quiet().released(0, 1.ms(), "matched").released(1, 3.ms(), "matched");
        outcome.released(2, 5.ms(), "matched");
    });
}

#[test]
fn case_35_simultaneous_open_secondary_first() {
    on_both(|case| {
        let case = case.s(0.ms(), syn()).s(1.ms(), syn_ack()).p(2.ms(), syn()).p(3.ms(), syn_ack());
        let outcome = case.p(4.ms(), seg(0..10)).s(5.ms(), seg(0..10)).run();
        outcome.quiet().released(0, 2.ms(), "matched").released(1, 3.ms(), "matched");
        outcome.released(2, 5.ms(), "matched");
    });
}

#[test]
fn case_35_simultaneous_open_on_one_side_only() {
    // Reading: the client's SYN reached the SVM before it had sent its own, so it only ever sent a SYN/ACK. The SYN
    // has one position and both have sent it; the PVM's bare SYN acknowledges nothing.
    on_both(|case| {
        let case = case.p(0.ms(), syn()).p(1.ms(), syn_ack()).s(2.ms(), syn_ack());
        let outcome = case.p(3.ms(), seg(0..10)).s(4.ms(), seg(0..10)).run();
        outcome.quiet().released(0, 2.ms(), "matched").released(1, 2.ms(), "matched");
        outcome.released(2, 4.ms(), "matched");
    });
}

/// Ten bytes, then both ends close at once: the FINs cross, and each is acknowledged behind its own.
fn closed_at_once(case: Case) -> Case {
    let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(1.ms(), seg(0..10));
    case.p(2.ms(), fin()).s(3.ms(), fin()).p(4.ms(), ack(1)).s(5.ms(), ack(1))
}

#[test]
fn case_45_simultaneous_close() {
    on_both(|case| {
        let outcome = closed_at_once(case).run();
        outcome.quiet().released(2, 3.ms(), "matched").released(3, 5.ms(), "ack");
    });
}

#[test]
fn case_45_the_last_ack_still_finds_the_connection() {
    // The client's FIN comes again: it is acknowledged once more, up to compare_timeout after the close at least.
    on_both(|case| {
        let outcome = closed_at_once(case).p(404.ms(), ack(1)).run();
        outcome.quiet().released(4, 404.ms(), "ack");
    });
}

#[test]
fn case_45_the_entry_goes_after_the_linger() {
    // An hour later nothing is known of what the SVM acknowledged: the ACK waits for it, as on an unknown connection.
    on_both(|case| {
        let outcome = closed_at_once(case).p(3_600_000.ms(), ack(1)).s(3_600_007.ms(), ack(1)).run();
        outcome.quiet().released(4, 3_600_007.ms(), "ack");
    });
}

#[test]
fn case_45_closed_connections_make_room() {
    // 64 connections fill the table and close; ten minutes later 64 others find room without a checkpoint.
    on_both(|case| {
        let mut case = case.set("max_connections", "64");
        for flow in 0..64 {
            case = case.handshake_of(flow, 0.ms()).p(0.ms(), fin().flow(flow)).s(0.ms(), fin().flow(flow));
            case = case.p(0.ms(), ack(1).flow(flow)).s(0.ms(), ack(1).flow(flow));
        }
        for flow in 100..164 {
            case = case.p(600_000.ms(), syn_ack().flow(flow)).s(600_000.ms(), syn_ack().flow(flow));
        }
        let outcome = case.run();
        outcome.quiet();
        for frame in 192..256 {
            outcome.released(frame, 600_000.ms(), "matched");
        }
    });
}

#[test]
fn case_45_reset_connections_go_too() {
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), ack(7)).p(2.ms(), rst()).s(3.ms(), rst());
        let outcome = case.p(3_600_000.ms(), ack(7)).s(3_600_007.ms(), ack(7)).run();
        outcome.quiet().released(1, 3.ms(), "matched").released(2, 3_600_007.ms(), "ack");
    });
}

#[test]
fn case_46_half_closed_by_the_client_then_data() {
    // The client has sent its FIN, which both acknowledge; the guests go on talking and are compared.
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), ack(1)).s(2.ms(), ack(1)).p(3.ms(), seg(0..10));
        let equal = case.clone().s(4.ms(), seg(0..10)).run();
        equal.quiet().released(1, 2.ms(), "ack").released(2, 4.ms(), "matched");
        let differs = case.clone().s(4.ms(), seg(0..10).with_byte(6, 0xFF)).run();
        differs.mismatch(4.ms(), "payload").detail("offset", 6).released(2, 9.ms(), "flush");
        case.run().timeout(403.ms()).released(2, 408.ms(), "flush");
    });
}

#[test]
fn case_46_half_closed_by_the_guest_then_acks() {
    // The guests have sent their FIN and go on listening: what they acknowledge is still bounded by rule 3.
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), fin()).s(2.ms(), fin()).p(3.ms(), ack(500));
        let follows = case.clone().s(60.ms(), ack(500)).run();
        follows.quiet().released(1, 2.ms(), "matched").released(2, 60.ms(), "ack");
        case.run().timeout(403.ms()).released(2, 408.ms(), "flush");
    });
}

#[test]
fn case_53_urgent_pointer_differs() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10).urgent(5)).s(2.ms(), seg(0..10).urgent(7));
        let outcome = case.run();
        outcome.mismatch(2.ms(), "urgent").detail("primary_frame", 1).detail("secondary_frame", 1);
        outcome.released(1, 7.ms(), "flush");
    });
}

#[test]
fn case_53_urgent_pointer_differs_secondary_first() {
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), seg(0..10).urgent(7)).p(2.ms(), seg(0..10).urgent(5));
        case.run().mismatch(2.ms(), "urgent").released(1, 7.ms(), "flush");
    });
}

#[test]
fn case_53_urgent_flag_on_one_side_only() {
    on_both(|case| {
        let case = case.handshake(0.ms());
        let primary = case.clone().p(1.ms(), seg(0..10).urgent(5)).s(2.ms(), seg(0..10)).run();
        primary.mismatch(2.ms(), "urgent").released(1, 7.ms(), "flush");
        let secondary = case.p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10).urgent(5)).run();
        secondary.mismatch(2.ms(), "urgent").released(1, 7.ms(), "flush");
    });
}

#[test]
fn case_53_same_urgent_position_from_other_segments() {
    // The absolute position counts: 8 from 0, and 4 from 4; and it may be said before its byte is there.
    on_both(|case| {
        let case = case.isns(1_000, 900_000_000).handshake(0.ms()).p(1.ms(), seg(0..10).urgent(8));
        let outcome = case.s(2.ms(), seg(0..4).urgent(8)).s(3.ms(), seg(4..10).urgent(4)).run();
        outcome.quiet().released(1, 3.ms(), "matched");
    });
}

#[test]
fn case_53_same_urgent_pointer() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10).urgent(10)).s(2.ms(), seg(0..10).urgent(10));
        case.run().quiet().released(1, 2.ms(), "matched");
    });
}

#[test]
fn case_53_a_pointer_without_its_flag_means_nothing() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10).urgent_pointer(5));
        let outcome = case.s(2.ms(), seg(0..10).flag(Flag::Psh)).run();
        outcome.quiet().released(1, 2.ms(), "matched");
    });
}
