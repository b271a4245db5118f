//! ICMP: cases 70 and 71. Queries are flows of their own by identifier; an error's embedded packet is compared but
//! for what its way through the net has changed.

use colo_tests::case::{IpVersion, Time, echo_reply, embedded, on_both, port_unreachable};

#[test]
fn case_70_echo_reply() {
    on_both(|case| {
        let case = case.p(0.ms(), echo_reply(7, 1, b"ping")).s(1.ms(), echo_reply(7, 1, b"ping").ip_id(9));
        let outcome = case.s(2.ms(), echo_reply(7, 2, b"ping").ttl(9)).p(3.ms(), echo_reply(7, 2, b"ping"));
        let outcome = outcome.run();
        outcome.quiet().released(0, 1.ms(), "matched").dropped(0, 1.ms(), "matched");
        outcome.released(1, 3.ms(), "matched").dropped(1, 3.ms(), "matched");
    });
}

#[test]
fn case_70_echo_replies_of_two_identifiers_do_not_wait() {
    on_both(|case| {
        let case = case.p(0.ms(), echo_reply(7, 1, b"one")).p(1.ms(), echo_reply(8, 1, b"two"));
        let outcome = case.s(2.ms(), echo_reply(8, 1, b"two")).s(90.ms(), echo_reply(7, 1, b"one")).run();
        outcome.quiet().released(1, 2.ms(), "matched").released(0, 90.ms(), "matched");
    });
}

#[test]
fn case_70_echo_replies_of_one_identifier_keep_their_order() {
    on_both(|case| {
        let case = case.p(0.ms(), echo_reply(7, 1, b"ping")).p(1.ms(), echo_reply(7, 2, b"ping"));
        let outcome = case.s(2.ms(), echo_reply(7, 2, b"ping")).s(3.ms(), echo_reply(7, 1, b"ping")).run();
        outcome.quiet().released(0, 3.ms(), "matched").released(1, 3.ms(), "matched");
    });
}

#[test]
fn case_70_identifier_differs() {
    on_both(|case| {
        let ip = case.ip();
        let outcome = case.p(1.ms(), echo_reply(7, 1, b"ping")).s(2.ms(), echo_reply(8, 1, b"ping")).run();
        outcome.timeout(401.ms()).released(0, 406.ms(), "flush").dropped(0, 406.ms(), "flush");
        if ip == IpVersion::V4 {
            outcome.names_flow(0, "icmp 10.0.0.1 > 10.0.0.9 id 7");
        }
    });
}

#[test]
fn case_70_echoed_bytes_differ() {
    on_both(|case| {
        let case = case.p(1.ms(), echo_reply(7, 1, b"ping")).s(2.ms(), echo_reply(7, 1, b"pong"));
        case.run().mismatch(22.ms(), "datagram").released(0, 27.ms(), "flush");
    });
}

#[test]
fn case_71_embedded_id_and_ttl_differ() {
    on_both(|case| {
        let case = case.p(0.ms(), port_unreachable(embedded().ip_id(5).ttl(60)));
        let outcome = case.s(1.ms(), port_unreachable(embedded().ip_id(900).ttl(61))).run();
        outcome.quiet().released(0, 1.ms(), "matched").dropped(0, 1.ms(), "matched");
    });
}

#[test]
fn case_71_secondary_first() {
    on_both(|case| {
        let case = case.s(0.ms(), port_unreachable(embedded().ip_id(900).ttl(61)));
        let outcome = case.p(1.ms(), port_unreachable(embedded().ip_id(5).ttl(60))).run();
        outcome.quiet().released(0, 1.ms(), "matched").dropped(0, 1.ms(), "matched");
    });
}

#[test]
fn case_71_embedded_checksum_differs() {
    // The outer ICMP checksum covers it and differs as well.
    on_both(|case| {
        let case = case.p(0.ms(), port_unreachable(embedded().checksum(0x1234)));
        let outcome = case.s(1.ms(), port_unreachable(embedded())).run();
        outcome.quiet().released(0, 1.ms(), "matched");
    });
}

#[test]
fn case_71_embedded_packet_differs() {
    on_both(|case| {
        let case = case.p(1.ms(), port_unreachable(embedded().port(9_999)));
        let outcome = case.s(2.ms(), port_unreachable(embedded().port(9_998))).run();
        outcome.mismatch(22.ms(), "datagram").released(0, 27.ms(), "flush");
    });
}

#[test]
fn case_71_an_error_is_no_echo() {
    // Another type class, another flow: neither waits for the other.
    on_both(|case| {
        let case = case.p(0.ms(), echo_reply(0, 0, b"ping")).p(1.ms(), port_unreachable(embedded()));
        let case = case.s(2.ms(), port_unreachable(embedded())).s(50.ms(), echo_reply(0, 0, b"ping"));
        case.run().quiet().released(1, 2.ms(), "matched").released(0, 50.ms(), "matched");
    });
}
