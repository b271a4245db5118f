//! Datagrams: cases 64 to 69 and §7.10. They match whatever the order of the SVM, and leave in the PVM's.

use colo_tests::case::{Case, Time, flow_name, on_both, udp};

#[test]
fn case_64_udp_in_order() {
    on_both(|case| {
        let case =
            case.p(0.ms(), udp(b"one")).s(1.ms(), udp(b"one")).p(2.ms(), udp(b"two")).s(3.ms(), udp(b"two"));
        let outcome = case.run();
        outcome.quiet().released(0, 1.ms(), "matched").dropped(0, 1.ms(), "matched");
        outcome.released(1, 3.ms(), "matched").dropped(1, 3.ms(), "matched");
    });
}

#[test]
fn case_64_udp_secondary_first() {
    on_both(|case| {
        let outcome = case.s(0.ms(), udp(b"one")).p(1.ms(), udp(b"one")).run();
        outcome.quiet().released(0, 1.ms(), "matched").dropped(0, 1.ms(), "matched");
    });
}

#[test]
fn case_64_udp_empty_payload() {
    on_both(|case| {
        case.p(0.ms(), udp(b"").pad_to(70)).s(1.ms(), udp(b"")).run().quiet().released(0, 1.ms(), "matched");
    });
}

#[test]
fn case_64_flows_do_not_wait_for_each_other() {
    on_both(|case| {
        let case = case.p(0.ms(), udp(b"one")).p(1.ms(), udp(b"two").flow(1)).s(2.ms(), udp(b"two").flow(1));
        let outcome = case.s(3.ms(), udp(b"one")).run();
        outcome.quiet().released(1, 2.ms(), "matched").released(0, 3.ms(), "matched");
    });
}

#[test]
fn case_65_udp_burst_before_the_secondary() {
    on_both(|case| {
        let case = case.p(0.ms(), udp(b"one")).p(1.ms(), udp(b"two")).s(2.ms(), udp(b"one"));
        let late = case.clone().s(90.ms(), udp(b"two")).run();
        late.quiet().released(0, 2.ms(), "matched").released(1, 90.ms(), "matched");
        case.run().released(0, 2.ms(), "matched").timeout(401.ms()).released(1, 406.ms(), "flush");
    });
}

#[test]
fn case_65_equal_datagrams_match_one_each() {
    on_both(|case| {
        let case = case.p(0.ms(), udp(b"same")).p(1.ms(), udp(b"same")).s(2.ms(), udp(b"same"));
        case.clone().s(3.ms(), udp(b"same")).run().quiet().released(1, 3.ms(), "matched");
        case.run().released(0, 2.ms(), "matched").timeout(401.ms());
    });
}

#[test]
fn case_66_udp_reordered() {
    on_both(|case| {
        let case =
            case.p(0.ms(), udp(b"one")).p(1.ms(), udp(b"two")).s(2.ms(), udp(b"two")).s(3.ms(), udp(b"one"));
        let outcome = case.run();
        // The second one is matched at 2 ms and waits for the first.
        outcome.quiet().released(0, 3.ms(), "matched").released(1, 3.ms(), "matched");
    });
}

#[test]
fn case_67_udp_payload_differs() {
    on_both(|case| {
        let name = flow_name(case.ip(), "udp", 0);
        let outcome = case.p(1.ms(), udp(b"answer 17")).s(2.ms(), udp(b"answer 18")).run();
        outcome.mismatch(22.ms(), "datagram").detail("offset", 8).names_flow(0, &name);
        outcome.detail("primary_frame", 0).detail("secondary_frame", 0).commits(&[27.ms()]);
        outcome.released(0, 27.ms(), "flush").dropped(0, 27.ms(), "flush");
    });
}

#[test]
fn case_67_udp_length_differs() {
    on_both(|case| {
        let outcome = case.p(1.ms(), udp(b"hello")).s(2.ms(), udp(b"hello, you")).run();
        outcome.mismatch(22.ms(), "datagram").detail("offset", 5);
    });
}

#[test]
fn fine_point_10_grace_runs_from_the_later_head() {
    on_both(|case| {
        let outcome = case.clone().s(0.ms(), udp(b"one")).p(100.ms(), udp(b"two")).run();
        outcome.mismatch(120.ms(), "datagram");
        // New heads, new grace: once A has gone, the SVM's B meets the PVM's C at 16 ms.
        let case = case.p(1.ms(), udp(b"A")).s(2.ms(), udp(b"B")).s(15.ms(), udp(b"A")).p(16.ms(), udp(b"C"));
        let outcome = case.run();
        outcome.released(0, 15.ms(), "matched").mismatch(36.ms(), "datagram");
        outcome.detail("primary_frame", 1).detail("secondary_frame", 0);
    });
}

#[test]
fn fine_point_10_reordering_within_the_grace() {
    on_both(|case| {
        let case = case.p(1.ms(), udp(b"A")).s(2.ms(), udp(b"B")).s(15.ms(), udp(b"A")).p(18.ms(), udp(b"B"));
        case.run().quiet().released(0, 15.ms(), "matched").released(1, 18.ms(), "matched");
    });
}

#[test]
fn fine_point_10_reorder_grace_is_a_setting() {
    let case = Case::v4().set("reorder_grace", "50").p(1.ms(), udp(b"A")).s(2.ms(), udp(b"B"));
    case.run().mismatch(52.ms(), "datagram");
}

#[test]
fn fine_point_12_grace_comes_before_a_timeout_of_its_instant() {
    let case = Case::v4().set("compare_timeout", "20").p(1.ms(), udp(b"A")).s(1.ms(), udp(b"B"));
    case.run().mismatch(21.ms(), "datagram");
}

#[test]
fn case_68_udp_checksum_zero_on_one_side() {
    let zero = || udp(b"one").udp_checksum_zero();
    Case::v4().p(0.ms(), zero()).s(1.ms(), udp(b"one")).run().quiet().released(0, 1.ms(), "matched");
    Case::v4().p(0.ms(), udp(b"one")).s(1.ms(), zero()).run().quiet().released(0, 1.ms(), "matched");
}

#[test]
fn case_69_udp_padding_and_volatile_fields_differ() {
    on_both(|case| {
        let case = case
            .p(0.ms(), udp(b"one").ip_id(7).ttl(64))
            .s(1.ms(), udp(b"one").ip_id(8).ttl(9).mac(2).pad_to(80));
        let outcome = case.p(2.ms(), udp(b"x").pad_to(60)).s(3.ms(), udp(b"x").mac(2).pad_to(60)).run();
        outcome.quiet().released(0, 1.ms(), "matched").released(1, 3.ms(), "matched");
    });
}
