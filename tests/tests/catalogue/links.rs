//! What carries a packet: extension chains, tags, tunnels, IP options: cases 76 to 79 and 87. None of it hides the
//! stream, and tags keep flows apart.

use colo_tests::case::{Case, IpVersion, Packet, Time, WINDOW, flow_name, on_both, seg, syn_ack, udp};

/// Padding that fills an options header of eight bytes (`PadN`, RFC 8200 section 4.2).
const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];

fn chained(packet: Packet) -> Packet {
    // Hop-by-hop, destination options, routing with no segment left, and once more destination options.
    packet.extension(0, &PADDING).extension(60, &PADDING).extension(43, &[0; 6]).extension(60, &[0; 14])
}

fn v6() -> Case {
    Case::new(IpVersion::V6)
}

#[test]
fn case_76_ipv6_extension_chain() {
    let case = v6().p(0.ms(), chained(syn_ack())).s(0.ms(), chained(syn_ack()));
    let case = case.p(1.ms(), chained(seg(0..10))).s(2.ms(), chained(seg(0..3)));
    let outcome = case.s(3.ms(), chained(seg(3..10))).run();
    outcome.quiet().released(0, 0.ms(), "matched").released(1, 3.ms(), "matched");
}

#[test]
fn case_76_ipv6_extension_chain_a_byte_differs() {
    let case = v6().p(0.ms(), chained(syn_ack())).s(0.ms(), chained(syn_ack()));
    let case = case.p(1.ms(), chained(seg(0..10))).s(2.ms(), chained(seg(0..10).with_byte(4, 0xFF)));
    let outcome = case.run();
    outcome.mismatch(2.ms(), "payload").detail("offset", 4);
    outcome.names_flow(0, &flow_name(IpVersion::V6, "tcp", 0));
}

#[test]
fn case_76_ipv6_extension_chain_before_udp_and_on_one_side() {
    let case = v6().p(0.ms(), chained(udp(b"one"))).s(1.ms(), chained(udp(b"one")));
    let outcome = case.p(2.ms(), chained(udp(b"two"))).s(3.ms(), udp(b"two")).run();
    // The flow is the same and the UDP payload is what is compared.
    outcome.quiet().released(0, 1.ms(), "matched").released(1, 3.ms(), "matched");
}

#[test]
fn case_76_ipv6_extension_chain_is_bounded() {
    // 150 headers are 1,200 bytes: nobody walks that far, and nobody reads beyond it.
    let endless = |packet: Packet| (0..150).fold(packet, |packet, _| packet.extension(60, &PADDING));
    let case = v6().handshake(0.ms()).p(1.ms(), endless(udp(b"one"))).s(1.ms(), endless(udp(b"one")));
    let outcome = case.p(2.ms(), seg(0..10)).s(3.ms(), seg(0..10)).run();
    outcome.quiet().released(1, 1.ms(), "pass|matched").released(2, 3.ms(), "matched");
}

#[test]
fn case_77_vlan_same() {
    on_both(|case| {
        let case = case.p(0.ms(), syn_ack().vlan(7)).s(0.ms(), syn_ack().vlan(7));
        let case = case.p(1.ms(), seg(0..10).vlan(7)).s(2.ms(), seg(0..4).vlan(7));
        let case = case.s(3.ms(), seg(4..10).vlan(7)).p(4.ms(), udp(b"x").vlan(7));
        let outcome = case.s(5.ms(), udp(b"x").vlan(7)).run();
        outcome.quiet().released(0, 0.ms(), "matched").released(1, 3.ms(), "matched");
        outcome.released(2, 5.ms(), "matched");
    });
}

#[test]
fn case_77_vlan_differs() {
    on_both(|case| {
        let name = format!("vlan 7 {}", flow_name(case.ip(), "udp", 0));
        let outcome = case.p(1.ms(), udp(b"one").vlan(7)).s(2.ms(), udp(b"one").vlan(8)).run();
        outcome.timeout(401.ms()).names_flow(0, &name).released(0, 406.ms(), "flush");
        outcome.dropped(0, 406.ms(), "flush");
    });
}

#[test]
fn case_77_vlan_against_none() {
    on_both(|case| {
        let name = flow_name(case.ip(), "udp", 0);
        let outcome = case.p(1.ms(), udp(b"one")).s(2.ms(), udp(b"one").vlan(7)).run();
        outcome.timeout(401.ms()).names_flow(0, &name).released(0, 406.ms(), "flush");
    });
}

#[test]
fn case_77_vlan_keeps_equal_connections_apart() {
    // The same addresses and ports in two networks: other content, other pace.
    on_both(|case| {
        let case = case.p(0.ms(), udp(b"one").vlan(7)).p(1.ms(), udp(b"two").vlan(8));
        let outcome = case.s(2.ms(), udp(b"two").vlan(8)).s(90.ms(), udp(b"one").vlan(7)).run();
        outcome.quiet().released(1, 2.ms(), "matched").released(0, 90.ms(), "matched");
    });
}

#[test]
fn case_78_qinq() {
    on_both(|case| {
        let case = case.p(0.ms(), syn_ack().qinq(7, 9)).s(0.ms(), syn_ack().qinq(7, 9));
        let case = case.p(1.ms(), seg(0..10).qinq(7, 9)).s(2.ms(), seg(0..4).qinq(7, 9));
        let outcome = case.s(3.ms(), seg(4..10).qinq(7, 9)).run();
        outcome.quiet().released(0, 0.ms(), "matched").released(1, 3.ms(), "matched");
    });
}

#[test]
fn case_78_qinq_of_two_customer_tags() {
    on_both(|case| {
        let case = case.p(0.ms(), udp(b"one").vlan(7).vlan(9)).s(1.ms(), udp(b"one").vlan(7).vlan(9));
        case.run().quiet().released(0, 1.ms(), "matched");
    });
}

#[test]
fn case_78_qinq_differs() {
    on_both(|case| {
        let name = format!("vlan 7.9 {}", flow_name(case.ip(), "udp", 0));
        // The inner tag, the order of the tags, one tag less.
        for other in [udp(b"one").qinq(7, 8), udp(b"one").qinq(9, 7), udp(b"one").vlan(9)] {
            let outcome = case.clone().p(1.ms(), udp(b"one").qinq(7, 9)).s(2.ms(), other).run();
            outcome.timeout(401.ms()).names_flow(0, &name).released(0, 406.ms(), "flush");
        }
    });
}

type Tunnel = fn(Packet) -> Packet;

const TUNNELS: [Tunnel; 3] =
    [|packet| packet.in_vxlan(42), |packet| packet.in_gre(), |packet| packet.in_gre_ethernet()];

#[test]
fn case_79_tunnel_is_opaque() {
    on_both(|case| {
        for tunnel in TUNNELS {
            // Compared datagram by datagram: equal ones match, in whatever order.
            let case = case.clone().p(0.ms(), tunnel(seg(0..10))).s(1.ms(), tunnel(seg(0..10)));
            let case = case.p(2.ms(), tunnel(udp(b"one"))).p(3.ms(), tunnel(udp(b"two")));
            let outcome = case.s(4.ms(), tunnel(udp(b"two"))).s(5.ms(), tunnel(udp(b"one"))).run();
            outcome.quiet().released(0, 1.ms(), "matched");
            outcome.released(1, 5.ms(), "matched").released(2, 5.ms(), "matched");
        }
    });
}

#[test]
fn case_79_tunnel_is_opaque_to_the_stream_in_it() {
    on_both(|case| {
        for tunnel in TUNNELS {
            let case = case.clone().p(1.ms(), tunnel(seg(0..10))).s(2.ms(), tunnel(seg(0..4)));
            let outcome = case.s(3.ms(), tunnel(seg(4..10))).run();
            outcome.mismatch(22.ms(), "datagram").released(0, 27.ms(), "flush");
        }
    });
}

/// Both guests speak through a tunnel: the SVM cuts the ten bytes in two.
fn inner_stream(case: Case, tunnel: Tunnel) -> Case {
    let case = case.set("tunnels", "inner").p(0.ms(), tunnel(syn_ack())).s(0.ms(), tunnel(syn_ack()));
    case.p(1.ms(), tunnel(seg(0..10))).s(2.ms(), tunnel(seg(0..4)))
}

#[test]
fn case_79_inner_stream_is_compared() {
    on_both(|case| {
        for tunnel in TUNNELS {
            let equal = inner_stream(case.clone(), tunnel).s(3.ms(), tunnel(seg(4..10))).run();
            equal.quiet().released(0, 0.ms(), "matched").released(1, 3.ms(), "matched");
            let other =
                inner_stream(case.clone(), tunnel).s(3.ms(), tunnel(seg(4..10).with_byte(7, 0xFF))).run();
            other.mismatch(3.ms(), "payload").detail("offset", 7).released(1, 8.ms(), "flush");
        }
    });
}

#[test]
fn case_79_inner_flows_do_not_wait_for_each_other() {
    on_both(|case| {
        for tunnel in TUNNELS {
            let case = case.clone().set("tunnels", "inner").p(0.ms(), tunnel(udp(b"one")));
            let case = case.p(1.ms(), tunnel(udp(b"two").flow(1))).s(2.ms(), tunnel(udp(b"two").flow(1)));
            let outcome = case.s(90.ms(), tunnel(udp(b"one"))).run();
            outcome.quiet().released(1, 2.ms(), "matched").released(0, 90.ms(), "matched");
        }
    });
}

#[test]
fn case_79_inner_and_outer_are_two_flows() {
    // Reading: the tunnel is part of the flow, as tags are. The client tells one packet from the other.
    on_both(|case| {
        let case = case.set("tunnels", "inner").p(1.ms(), udp(b"one").in_vxlan(42)).s(2.ms(), udp(b"one"));
        case.run().timeout(401.ms()).released(0, 406.ms(), "flush");
    });
}

#[test]
fn case_87_ip_options() {
    // Options are volatile; that the header is longer than 20 bytes moves everything behind it.
    let nops = |packet: Packet, count: usize| packet.ip_options(&vec![1; count]);
    for (ours, theirs) in [(4, 4), (4, 0), (0, 40), (40, 8)] {
        let case = Case::v4().p(0.ms(), nops(syn_ack(), ours)).s(0.ms(), nops(syn_ack(), theirs));
        let case = case.p(1.ms(), nops(seg(0..10), ours)).s(2.ms(), nops(seg(0..4), theirs));
        let case = case.s(3.ms(), nops(seg(4..10), theirs)).p(4.ms(), nops(udp(b"one"), ours));
        let outcome = case.s(5.ms(), nops(udp(b"one"), theirs)).run();
        outcome.quiet().released(0, 0.ms(), "matched").released(1, 3.ms(), "matched");
        outcome.released(2, 5.ms(), "matched");
    }
}

#[test]
fn case_87_ip_options_a_byte_differs() {
    let nops = |packet: Packet| packet.ip_options(&[1; 8]);
    let case = Case::v4().p(0.ms(), nops(syn_ack())).s(0.ms(), nops(syn_ack()));
    let case = case.p(1.ms(), nops(seg(0..10))).s(2.ms(), nops(seg(0..10).with_byte(9, 0xFF)));
    case.run().mismatch(2.ms(), "payload").detail("offset", 9);
}

#[test]
fn case_87_ip_options_and_a_clamped_window() {
    // The rewrite finds the TCP header behind the options, and its checksum is right.
    let nops = |packet: Packet| packet.ip_options(&[1; 12]);
    let case = Case::v4().clamped(&[1]).p(0.ms(), nops(syn_ack())).s(0.ms(), syn_ack());
    let outcome = case.p(1.ms(), nops(seg(0..10).window(65_000))).s(2.ms(), seg(0..10)).run();
    outcome.quiet().released(1, 2.ms(), "matched").window(1, WINDOW).checksum_right(1);
}
