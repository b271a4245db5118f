//! Rules of the operator (case 91, as far as a replay goes): the first that matches decides, and everything else is
//! compared. Replacing them while frames are held needs a running engine: `catalogue_live`.

use colo_tests::case::{Case, IpVersion, Time, ack, echo_reply, on_both, seg, udp};

#[test]
fn case_91_rule_pass() {
    on_both(|case| {
        let case = case.config("[[rule]]\nprotocol = \"udp\"\nguest_ports = \"80\"\naction = \"pass\"");
        let case = case.p(1.ms(), udp(b"one")).s(2.ms(), udp(b"other")).handshake(3.ms());
        let outcome = case.p(4.ms(), seg(0..10)).s(5.ms(), seg(0..10).with_byte(3, 0xFF)).run();
        // Uncompared, counted as such; TCP to the same port is no UDP.
        outcome.released(0, 1.ms(), "pass").dropped(0, 2.ms(), "pass");
        outcome.mismatch(5.ms(), "payload").released(2, 10.ms(), "flush");
    });
}

#[test]
fn case_91_rule_pass_for_tcp() {
    on_both(|case| {
        let case = case.config("[[rule]]\nprotocol = \"tcp\"\npeer_ports = \"4242\"\naction = \"pass\"");
        // Neither bytes nor acks nor windows are looked at.
        let case = case.handshake(0.ms()).p(1.ms(), seg(0..10)).p(2.ms(), ack(500).window(65_000));
        let outcome = case.s(3.ms(), seg(0..10).with_byte(3, 0xFF)).run();
        outcome.quiet().released(0, 0.ms(), "pass").released(1, 1.ms(), "pass").released(2, 2.ms(), "pass");
        outcome.dropped(1, 3.ms(), "pass");
    });
}

#[test]
fn case_91_rule_hold() {
    on_both(|case| {
        let case = case.config("[[rule]]\nprotocol = \"udp\"\npeer_ports = \"4242\"\naction = \"hold\"");
        let case = case.p(1.ms(), udp(b"one")).s(2.ms(), udp(b"one"));
        let outcome = case.p(3.ms(), udp(b"two").flow(1)).s(4.ms(), udp(b"two").flow(1)).run();
        outcome.timeout(401.ms()).released(0, 406.ms(), "flush").released(1, 4.ms(), "matched");
    });
}

#[test]
fn case_91_rule_for_another_port_changes_nothing() {
    on_both(|case| {
        let rules = "[[rule]]\nprotocol = \"udp\"\nguest_ports = \"53\"\naction = \"pass\"\n\
                     [[rule]]\nprotocol = \"udp\"\npeer_ports = \"80\"\naction = \"pass\"";
        let outcome = case.config(rules).p(1.ms(), udp(b"one")).s(2.ms(), udp(b"other")).run();
        outcome.mismatch(22.ms(), "datagram").released(0, 27.ms(), "flush");
    });
}

#[test]
fn case_91_the_first_rule_that_matches_wins() {
    on_both(|case| {
        let rules = "[[rule]]\nprotocol = \"udp\"\npeer_ports = \"4243\"\naction = \"compare\"\n\
                     [[rule]]\nprotocol = \"udp\"\naction = \"pass\"\n\
                     [[rule]]\nprotocol = \"udp\"\naction = \"hold\"";
        let case = case.config(rules).p(1.ms(), udp(b"one")).p(1.ms(), udp(b"two").flow(1));
        let outcome = case.s(2.ms(), udp(b"two").flow(1)).run();
        outcome.quiet().released(0, 1.ms(), "pass").released(1, 2.ms(), "matched");
    });
}

#[test]
fn case_91_rules_for_addresses() {
    let rule = |guest: &str, peer: &str| {
        format!("[[rule]]\nguest = \"{guest}\"\npeer = \"{peer}\"\naction = \"pass\"")
    };
    let v4 = Case::v4().p(1.ms(), udp(b"one")).s(2.ms(), udp(b"other"));
    let v6 = Case::new(IpVersion::V6).p(1.ms(), udp(b"one")).s(2.ms(), udp(b"other"));
    for (guest, peer) in [("10.0.0.0/24", "10.0.0.9/32"), ("0.0.0.0/0", "10.0.0.8/31")] {
        let outcome = v4.clone().config(&rule(guest, peer)).run();
        outcome.quiet().released(0, 1.ms(), "pass").dropped(0, 2.ms(), "pass");
        // A rule for IPv4 says nothing about IPv6.
        v6.clone().config(&rule(guest, peer)).run().mismatch(22.ms(), "datagram");
    }
    // One bit past the prefix, or guest and peer taken for each other.
    for (guest, peer) in [("10.0.0.0/24", "10.0.0.10/31"), ("10.0.0.9/32", "10.0.0.1/32")] {
        v4.clone().config(&rule(guest, peer)).run().mismatch(22.ms(), "datagram");
    }
    let outcome = v6.clone().config(&rule("fd00::/64", "fd00::9/128")).run();
    outcome.quiet().released(0, 1.ms(), "pass").dropped(0, 2.ms(), "pass");
    v6.config(&rule("fd00::/64", "fd00:0:0:1::/64")).run().mismatch(22.ms(), "datagram");
}

#[test]
fn case_91_rules_for_protocols_without_ports() {
    let case = Case::v4().config("[[rule]]\nprotocol = \"icmp\"\naction = \"pass\"");
    let case = case.p(1.ms(), echo_reply(7, 1, b"ping")).s(2.ms(), echo_reply(7, 1, b"pong"));
    case.run().quiet().released(0, 1.ms(), "pass").dropped(0, 2.ms(), "pass");
}
