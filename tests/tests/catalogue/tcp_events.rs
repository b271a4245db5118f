//! Rule 2, events, and what is not compared: cases 29, 31, 32, 36 to 44, 54 and 69 for TCP. SYN and FIN have a
//! position each; a reset is matched by position or by its raw number.

use colo_tests::case::{Case, Flag, Time, ack, fin, on_both, rst, seg, syn_ack};

fn after_ten_bytes(case: Case) -> Case {
    case.handshake(0.ms()).p(1.ms(), seg(0..10)).s(1.ms(), seg(0..10))
}

#[test]
fn case_29_timestamps_differ() {
    on_both(|case| {
        let case = case.p(0.ms(), syn_ack().timestamps(1, 2)).s(0.ms(), syn_ack().timestamps(900, 2));
        let case = case.p(1.ms(), seg(0..10).timestamps(5, 6)).s(2.ms(), seg(0..10).timestamps(905, 7));
        let outcome = case.p(3.ms(), ack(0).timestamps(8, 9)).run();
        outcome.quiet().released(0, 0.ms(), "matched").released(1, 2.ms(), "matched").released(
            2,
            3.ms(),
            "ack",
        );
    });
}

#[test]
fn case_31_sack_blocks_differ() {
    on_both(|case| {
        let case = case.handshake(0.ms()).s(1.ms(), ack(100).sack(7_000_500, 7_000_600));
        let outcome = case.p(2.ms(), ack(100).sack(7_000_200, 7_000_300)).p(3.ms(), ack(100)).run();
        outcome.quiet().released(1, 2.ms(), "ack").released(2, 3.ms(), "ack");
    });
}

#[test]
fn case_31_sack_blocks_differ_beside_data() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10).sack(7_000_200, 7_000_300));
        case.s(2.ms(), seg(0..10)).run().quiet().released(1, 2.ms(), "matched");
    });
}

#[test]
fn case_32_syn_retransmit() {
    on_both(|case| {
        let late = case.clone().p(0.ms(), syn_ack()).p(200.ms(), syn_ack()).s(300.ms(), syn_ack());
        late.run().quiet().released(0, 300.ms(), "matched").released(1, 300.ms(), "matched");
        let again = case.handshake(0.ms()).p(1000.ms(), syn_ack()).p(1001.ms(), seg(0..10));
        let outcome = again.s(1002.ms(), seg(0..10)).run();
        outcome.quiet().released(1, 1000.ms(), "matched").released(2, 1002.ms(), "matched");
    });
}

#[test]
fn case_32_syn_retransmit_of_the_secondary() {
    on_both(|case| {
        let case = case.isns(1_000, 9_000_000).handshake(0.ms()).s(100.ms(), syn_ack());
        let outcome = case.p(101.ms(), seg(0..10)).s(102.ms(), seg(0..10)).run();
        outcome.quiet().released(1, 102.ms(), "matched").dropped(1, 100.ms(), "duplicate|matched");
    });
}

#[test]
fn case_36_fin_on_both() {
    on_both(|case| {
        let outcome =
            after_ten_bytes(case).p(3.ms(), fin()).s(4.ms(), fin()).p(5.ms(), ack(1)).s(6.ms(), ack(1)).run();
        outcome.quiet().released(2, 4.ms(), "matched").dropped(2, 4.ms(), "matched").released(
            3,
            6.ms(),
            "ack",
        );
    });
}

#[test]
fn case_37_fin_with_data_and_data_then_fin() {
    on_both(|case| {
        let case = case.handshake(0.ms());
        let merged = case.clone().p(1.ms(), seg(0..10).fin()).s(2.ms(), seg(0..10)).s(3.ms(), fin()).run();
        merged.quiet().released(1, 3.ms(), "matched");
        let split = case.p(1.ms(), seg(0..10)).p(2.ms(), fin()).s(3.ms(), seg(0..10).fin()).run();
        split.quiet().released(1, 3.ms(), "matched").released(2, 3.ms(), "matched");
    });
}

#[test]
fn case_38_fin_position_differs() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..100).fin()).s(2.ms(), seg(0..90).fin());
        // Reading: where one stream ends and the other goes on is where they differ, so the offset is 90.
        case.run().mismatch(2.ms(), "fin").detail("offset", 90).released(1, 7.ms(), "flush");
    });
}

#[test]
fn case_38_fin_position_differs_other_way() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..90)).p(1.ms(), fin()).s(2.ms(), seg(0..100).fin());
        // The data is the SVM's too; only the end of it is not.
        case.run().mismatch(2.ms(), "fin").released(1, 2.ms(), "matched").released(2, 7.ms(), "flush");
    });
}

#[test]
fn case_39_fin_of_the_primary_only() {
    on_both(|case| {
        let case = after_ten_bytes(case).p(3.ms(), fin());
        case.run().timeout(403.ms()).released(2, 408.ms(), "flush");
    });
}

#[test]
fn case_40_early_fin_of_the_secondary() {
    on_both(|case| {
        let case =
            case.handshake(0.ms()).s(1.ms(), seg(0..10).fin()).p(2.ms(), seg(0..10)).p(3.ms(), seg(10..20));
        let outcome = case.run();
        outcome.mismatch(3.ms(), "fin").released(1, 2.ms(), "matched").released(2, 8.ms(), "flush");
    });
}

#[test]
fn case_41_rst_on_both() {
    on_both(|case| {
        let outcome = after_ten_bytes(case).p(3.ms(), rst()).s(4.ms(), rst()).run();
        outcome.quiet().released(2, 4.ms(), "matched").dropped(2, 4.ms(), "matched");
    });
}

#[test]
fn case_42_rst_of_the_primary_only() {
    on_both(|case| {
        let outcome = after_ten_bytes(case).p(3.ms(), rst()).s(4.ms(), seg(10..20)).run();
        outcome.mismatch(4.ms(), "rst").released(2, 9.ms(), "flush");
    });
}

#[test]
fn case_42_rst_of_the_secondary_only() {
    on_both(|case| {
        let outcome = after_ten_bytes(case).s(3.ms(), rst()).p(4.ms(), seg(10..20)).run();
        outcome.mismatch(4.ms(), "rst").released(2, 9.ms(), "flush");
    });
}

#[test]
fn case_42_rst_of_one_side_while_the_other_is_behind() {
    // §7.4: no mismatch before the other side has sent beyond it; the data sent before the reset is still compared.
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).p(2.ms(), rst());
        let outcome = case.s(3.ms(), seg(0..10)).s(4.ms(), rst()).run();
        outcome.quiet().released(1, 3.ms(), "matched").released(2, 4.ms(), "matched");
    });
}

#[test]
fn case_42_rst_never_answered_is_noticed_in_time() {
    on_both(|case| {
        let outcome = after_ten_bytes(case).p(3.ms(), rst()).run();
        // Reading: "a mismatch only when ..., or at the timeout" names the moment; the word for it is left open.
        outcome.commits(&[408.ms()]).released(2, 408.ms(), "flush");
    });
}

#[test]
fn case_43_rst_against_fin() {
    // Reading: a FIN occupies position 10, so it lies beyond a reset at 10 and the contradiction shows at once; both
    // words are fair names for it.
    on_both(|case| {
        let case = after_ten_bytes(case);
        let outcome = case.clone().p(3.ms(), fin()).s(4.ms(), rst()).run();
        outcome.mismatch(4.ms(), "rst|fin").released(2, 9.ms(), "flush");
        let outcome = case.p(3.ms(), rst()).s(4.ms(), fin()).run();
        outcome.mismatch(4.ms(), "rst|fin").released(2, 9.ms(), "flush");
    });
}

#[test]
fn case_44_rst_for_an_unknown_flow() {
    on_both(|case| {
        // To a SYN for a closed port: sequence 0 and an ack. To a stray segment: that segment's ack, no ACK flag.
        let closed = case.clone().p(0.ms(), rst().raw_seq(0)).s(1.ms(), rst().raw_seq(0)).run();
        closed.quiet().released(0, 1.ms(), "matched").dropped(0, 1.ms(), "matched");
        let stray = |seq: u32| rst().raw_seq(seq).no_ack();
        let outcome = case.p(0.ms(), stray(77_777)).s(1.ms(), stray(77_777)).run();
        outcome.quiet().released(0, 1.ms(), "matched").dropped(0, 1.ms(), "matched");
    });
}

#[test]
fn fine_point_04_rst_matches_by_raw_number() {
    // ISNs differ and the SVM is raw, yet a reset that answers a segment carries the peer's ack on both sides.
    on_both(|case| {
        let case = after_ten_bytes(case.isns(1_000, 900_000_000));
        let answer = || rst().raw_seq(1_011).no_ack();
        case.p(3.ms(), answer()).s(4.ms(), answer()).run().quiet().released(2, 4.ms(), "matched");
    });
}

#[test]
fn fine_point_04_rst_matches_by_stream_position() {
    on_both(|case| {
        let case = after_ten_bytes(case.isns(1_000, 900_000_000));
        case.p(3.ms(), rst()).s(4.ms(), rst()).run().quiet().released(2, 4.ms(), "matched");
    });
}

#[test]
fn case_54_psh_ece_cwr_differ() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10).flag(Flag::Psh).flag(Flag::Cwr));
        let case = case.s(2.ms(), seg(0..10).flag(Flag::Ece)).p(3.ms(), ack(0).flag(Flag::Ece));
        case.run().quiet().released(1, 2.ms(), "matched").released(2, 3.ms(), "ack");
    });
}

#[test]
fn case_69_padding_and_other_volatile_fields_differ() {
    on_both(|case| {
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..2).ip_id(5).ttl(64).pad_to(60));
        let outcome = case.s(2.ms(), seg(0..2).ip_id(99).ttl(128).mac(2).pad_to(90)).run();
        outcome.quiet().released(1, 2.ms(), "matched");
    });
}
