//! Case 79, in depth: what is in a tunnel is compared by the rules for what is in no tunnel, and the tunnel is part of the
//! flow. `links.rs` has the ways in which it is opaque.

use colo_tests::case::{
    Case, IpVersion, Ns, Packet, Side, Time, WINDOW, ack, cut, flow_name, on_both, seg, syn_ack, udp,
};
use etherparse::{IpNumber, PacketBuilder};

const P: Side = Side::Primary;
const S: Side = Side::Secondary;

type Tunnel = fn(Packet) -> Packet;

const TUNNELS: [(&str, Tunnel); 3] = [
    ("vxlan 42", |packet| packet.in_vxlan(42)),
    ("gre", |packet| packet.in_gre()),
    ("gre", |packet| packet.in_gre_ethernet()),
];

/// Each kind of tunnel, over IPv4 with IPv4 in it, and over IPv6 with IPv6 in it.
fn in_every_tunnel(check: impl Fn(Case, &str, Tunnel)) {
    for (name, tunnel) in TUNNELS {
        on_both(|case| check(case.set("tunnels", "inner"), name, tunnel));
    }
}

/// Bytes between two hosts of their own, over that IP version.
fn around(
    ip: IpVersion,
    write: impl FnOnce(etherparse::PacketBuilderStep<etherparse::IpHeaders>) -> Vec<u8>,
) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([0x52, 0x54, 0, 0, 0, 1], [0x52, 0x54, 0, 0, 0, 9]);
    write(match ip {
        IpVersion::V4 => link.ipv4([192, 168, 0, 1], [192, 168, 0, 2], 64),
        IpVersion::V6 => link.ipv6([0xfd; 16], [0xfe; 16], 64),
    })
}

fn vxlan(ip: IpVersion, port: u16, header: [u8; 8], frame: &[u8]) -> Vec<u8> {
    around(ip, |step| {
        let mut out = Vec::new();
        step.udp(port, 4789).write(&mut out, &[&header[..], frame].concat()).expect("it fits");
        out
    })
}

fn network(vni: u8) -> [u8; 8] {
    [8, 0, 0, 0, 0, 0, vni, 0]
}

/// GRE with any header, protocol and optional fields included.
fn gre(ip: IpVersion, header: &[u8], content: &[u8]) -> Vec<u8> {
    around(ip, |step| {
        let mut out = Vec::new();
        step.write(&mut out, IpNumber(47), &[header, content].concat()).expect("it fits");
        out
    })
}

fn inner(ip: IpVersion) -> Case {
    Case::new(ip).set("tunnels", "inner")
}

/// A tunnel with a number around a frame.
type Network = fn(IpVersion, u8, &[u8]) -> Vec<u8>;

const BOTH: [IpVersion; 2] = [IpVersion::V4, IpVersion::V6];

#[test]
fn case_79_inner_flows_name_their_tunnel() {
    in_every_tunnel(|case, name, tunnel| {
        let name = format!("{name} {}", flow_name(case.ip(), "tcp", 0));
        let case = case.p(0.ms(), tunnel(syn_ack())).s(0.ms(), tunnel(syn_ack()));
        let case = case.p(1.ms(), tunnel(seg(0..10))).s(2.ms(), tunnel(seg(0..10).with_byte(4, 0xFF)));
        let outcome = case.run();
        outcome.mismatch(2.ms(), "payload").detail("offset", 4).names_flow(0, &name);
        outcome.released(1, 7.ms(), "flush");
    });
}

#[test]
fn case_79_two_networks_are_two_flows() {
    for (outer, ip) in BOTH.into_iter().flat_map(|outer| BOTH.map(|ip| (outer, ip))) {
        let mut case = inner(ip);
        let (one, two) = (case.frame(P, udp(b"one")), case.frame(P, udp(b"two")));
        let networks: [Network; 2] = [
            |outer, vni, frame| vxlan(outer, 50_000, network(vni), frame),
            |outer, key, frame| gre(outer, &[0x20, 0, 0x65, 0x58, 0, 0, 0, key], frame),
        ];
        for numbered in networks {
            let tunnel = |number: u8, frame: &[u8]| numbered(outer, number, frame);
            // The same addresses and ports in two networks: other content, other pace.
            let case =
                inner(ip).frame_at(P, 0.ms(), &tunnel(1, &one), 1).frame_at(P, 1.ms(), &tunnel(2, &two), 2);
            let case =
                case.frame_at(S, 2.ms(), &tunnel(2, &two), 2).frame_at(S, 90.ms(), &tunnel(1, &one), 1);
            case.run().quiet().released(1, 2.ms(), "matched").released(0, 90.ms(), "matched");
            // No network is the partner of the other.
            let case =
                inner(ip).frame_at(P, 1.ms(), &tunnel(1, &one), 1).frame_at(S, 2.ms(), &tunnel(2, &one), 2);
            case.run().timeout(401.ms()).released(0, 406.ms(), "flush");
        }
    }
}

#[test]
fn case_79_the_ends_of_a_tunnel_are_part_of_the_flow() {
    on_both(|mut case| {
        let ip = case.ip();
        let frame = vxlan(ip, 50_000, network(42), &case.frame(P, udp(b"one")));
        let mut elsewhere = frame.clone();
        // The last byte of the outer destination; its checksum is wrong then, which decides nothing.
        elsewhere[if ip == IpVersion::V4 { 33 } else { 53 }] ^= 1;
        let case = inner(ip).frame_at(P, 1.ms(), &frame, 0).frame_at(S, 2.ms(), &elsewhere, 1);
        case.run().timeout(401.ms()).released(0, 406.ms(), "flush");
    });
}

#[test]
fn case_79_what_a_tunnel_may_choose_does_not_count() {
    on_both(|mut case| {
        let ip = case.ip();
        let frame = case.frame(P, udp(b"one"));
        let mut unsummed = vxlan(ip, 60_000, network(42), &frame);
        let checksum = if ip == IpVersion::V4 { 40 } else { 60 };
        unsummed[checksum..checksum + 2].fill(0);
        let gre_of = |header: &[u8]| gre(ip, header, &frame);
        let pairs = [
            (vxlan(ip, 50_000, network(42), &frame), unsummed),
            // Sequence numbers; one side has none. A checksum, and none.
            (gre_of(&[0x10, 0, 0x65, 0x58, 0, 0, 0, 1]), gre_of(&[0x10, 0, 0x65, 0x58, 0, 0, 7, 7])),
            (gre_of(&[0x10, 0, 0x65, 0x58, 0, 0, 0, 2]), gre_of(&[0, 0, 0x65, 0x58])),
            (gre_of(&[0x80, 0, 0x65, 0x58, 1, 2, 0, 0]), gre_of(&[0, 0, 0x65, 0x58])),
        ];
        for (ours, theirs) in pairs {
            let case = inner(ip).frame_at(P, 0.ms(), &ours, 0).frame_at(S, 1.ms(), &theirs, 0);
            case.run().quiet().released(0, 1.ms(), "matched");
        }
    });
}

#[test]
fn case_79_a_tunnel_in_a_tunnel_is_opaque() {
    on_both(|mut case| {
        let ip = case.ip();
        let nested = |frame: &[u8]| vxlan(ip, 50_000, network(1), &vxlan(ip, 50_000, network(2), frame));
        let whole = nested(&case.frame(P, seg(0..10)));
        let halves = [case.frame(S, seg(0..4)), case.frame(S, seg(4..10))].map(|frame| nested(&frame));
        let equal = inner(ip).frame_at(P, 1.ms(), &whole, 0).frame_at(S, 2.ms(), &whole, 0);
        equal.run().quiet().released(0, 2.ms(), "matched");
        let case = inner(ip).frame_at(P, 1.ms(), &whole, 0).frame_at(S, 2.ms(), &halves[0], 0);
        let outcome = case.frame_at(S, 3.ms(), &halves[1], 0).run();
        let ends = match ip {
            IpVersion::V4 => "192.168.0.1:50000 > 192.168.0.2:4789".to_owned(),
            IpVersion::V6 => {
                let host = |byte: &str| vec![byte.repeat(2); 8].join(":");
                format!("[{}]:50000 > [{}]:4789", host("fd"), host("fe"))
            }
        };
        outcome.mismatch(22.ms(), "datagram").names_flow(0, &format!("vxlan 1 udp {ends}"));
    });
}

#[test]
fn case_79_a_truncated_inner_packet_is_opaque() {
    on_both(|mut case| {
        let ip = case.ip();
        let frame = case.frame(P, seg(0..10));
        // In its Ethernet, IP and TCP header, and in its payload.
        for len in [5, 13, 20, frame.len() - 25, frame.len() - 1] {
            let ours = vxlan(ip, 50_000, network(42), &frame[..len]);
            let equal = inner(ip).frame_at(P, 1.ms(), &ours, 0).frame_at(S, 2.ms(), &ours, 0);
            equal.run().quiet().released(0, 2.ms(), "matched");
            // Even the source address of the inner link counts now: nobody knows what is in it.
            let mut other = frame[..len].to_vec();
            other[len - 1] ^= 1;
            let other = vxlan(ip, 50_000, network(42), &other);
            let case = inner(ip).frame_at(P, 1.ms(), &ours, 0).frame_at(S, 2.ms(), &other, 0);
            let outcome = case.run();
            outcome.mismatch(22.ms(), "datagram").detail("offset", 8 + len - 1).released(0, 27.ms(), "flush");
        }
    });
}

#[test]
fn case_79_the_window_is_lowered_inside() {
    in_every_tunnel(|case, _, tunnel| {
        let case = case.clamped(&[1]).p(0.ms(), tunnel(syn_ack())).s(0.ms(), tunnel(syn_ack()));
        let case = case.p(1.ms(), tunnel(seg(0..10).window(65_000))).s(2.ms(), tunnel(seg(0..10)));
        case.run().quiet().released(1, 2.ms(), "matched").window(1, WINDOW).checksum_right(1);
    });
    in_every_tunnel(|case, _, tunnel| {
        let case = case.clamped(&[1]).p(0.ms(), tunnel(syn_ack())).s(0.ms(), tunnel(syn_ack()));
        let case = case.p(1.ms(), tunnel(ack(0).window(65_000)));
        case.run().quiet().released(1, 21.ms(), "ack").window(1, WINDOW).checksum_right(1);
    });
}

#[test]
fn case_79_the_window_is_lowered_under_gres_own_checksum() {
    on_both(|mut case| {
        let ip = case.ip();
        let summed = |frame: &[u8]| {
            let mut header = vec![0x90, 0, 0x65, 0x58, 0, 0, 0, 0, 0, 0, 0, 5];
            let words = [&header[..], frame].concat();
            let sum =
                words.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
            let sum = sum.sum::<u32>();
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            header[4..6].copy_from_slice(&(!u16::try_from(sum).expect("folded")).to_be_bytes());
            gre(ip, &header, frame)
        };
        let opening = [P, S].map(|side| summed(&case.frame(side, syn_ack())));
        let segments = [(P, 65_000), (S, WINDOW)]
            .map(|(side, window)| summed(&case.frame(side, seg(0..10).window(window))));
        let case =
            inner(ip).clamped(&[1]).frame_at(P, 0.ms(), &opening[0], 0).frame_at(S, 0.ms(), &opening[1], 0);
        let case = case.frame_at(P, 1.ms(), &segments[0], 0).frame_at(S, 2.ms(), &segments[1], 0);
        // That what is around adds up as before is checked for every frame that leaves lowered.
        case.run().quiet().released(1, 2.ms(), "matched").window(1, WINDOW).checksum_right(1);
    });
}

#[test]
fn case_79_fragments_of_a_tunnel_are_put_together() {
    in_every_tunnel(|mut case, _, tunnel| {
        let opening = [P, S].map(|side| case.frame(side, tunnel(syn_ack())));
        let whole = case.frame(P, tunnel(seg(0..200)));
        let halves = [case.frame(S, tunnel(seg(0..90))), case.frame(S, tunnel(seg(90..200)))];
        let case = Case::new(case.ip()).set("tunnels", "inner").frame_at(P, 0.ms(), &opening[0], 0);
        let mut case = case.frame_at(S, 0.ms(), &opening[1], 0);
        for (piece, at) in cut(&whole, 7, &[64, 128]).iter().zip(1..) {
            case = case.frame_at(P, Ns(at * 1_000_000), piece, 0);
        }
        // The SVM's first half comes in fragments, too, the last first.
        for (piece, at) in cut(&halves[0], 9, &[80]).iter().rev().zip(5..) {
            case = case.frame_at(S, Ns(at * 1_000_000), piece, 0);
        }
        let outcome = case.frame_at(S, 8.ms(), &halves[1], 0).run();
        outcome.quiet();
        (1..4).for_each(|piece| _ = outcome.released(piece, 8.ms(), "matched"));
    });
}

#[test]
fn case_79_inner_fragments_are_datagrams() {
    on_both(|mut case| {
        let ip = case.ip();
        let datagram = case.frame(P, udp(&[7; 64]));
        let tunnel = |frame: &[u8]| vxlan(ip, 50_000, network(42), frame);
        let pieces = |id: u16, place: usize| {
            cut(&datagram, id, &[place]).iter().map(|piece| tunnel(piece)).collect::<Vec<_>>()
        };
        // Cut alike: the identification does not count.
        let (ours, theirs) = (pieces(7, 40), pieces(9, 40));
        let case = inner(ip).frame_at(P, 0.ms(), &ours[0], 0).frame_at(P, 1.ms(), &ours[1], 1);
        let case = case.frame_at(S, 2.ms(), &theirs[0], 0).frame_at(S, 3.ms(), &theirs[1], 1);
        case.run().quiet().released(0, 2.ms(), "matched").released(1, 3.ms(), "matched");
        // Equal bytes of another place are no partners.
        let all_same = tunnel(&cut(&datagram, 7, &[16, 32])[1]);
        let elsewhere = tunnel(&cut(&datagram, 7, &[16, 32, 48])[2]);
        let case = inner(ip).frame_at(P, 1.ms(), &all_same, 0).frame_at(S, 2.ms(), &elsewhere, 1);
        case.run().timeout(401.ms()).released(0, 406.ms(), "flush");
    });
}

#[test]
fn case_79_inner_syn_options_are_compared() {
    in_every_tunnel(|case, name, tunnel| {
        let name = format!("{name} {}", flow_name(case.ip(), "tcp", 0));
        let other = syn_ack().without_options().mss(1_300).sack_permitted();
        let outcome = case.p(1.ms(), tunnel(syn_ack())).s(2.ms(), tunnel(other)).run();
        outcome.mismatch(2.ms(), "syn-options").names_flow(0, &name);
    });
}

#[test]
fn case_79_inner_urgent_data_is_compared() {
    in_every_tunnel(|case, _, tunnel| {
        let case = case.p(0.ms(), tunnel(syn_ack())).s(0.ms(), tunnel(syn_ack()));
        let equal =
            case.clone().p(1.ms(), tunnel(seg(0..10).urgent(5))).s(2.ms(), tunnel(seg(0..10).urgent(5)));
        equal.run().quiet().released(1, 2.ms(), "matched");
        let case = case.p(1.ms(), tunnel(seg(0..10).urgent(5))).s(2.ms(), tunnel(seg(0..10)));
        case.run().mismatch(2.ms(), "urgent").detail("offset", 5);
    });
}

#[test]
fn case_79_inner_classes_have_their_policy() {
    let arp = |target: u8| {
        let head = [&[0xff; 6][..], &[0x52, 0x54, 0, 0, 0, 1], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
        [&head[..], &[0x52, 0x54, 0, 0, 0, 1, 10, 0, 0, 1], &[0; 6], &[10, 0, 0, target]].concat()
    };
    for ip in BOTH {
        let tunnel = |target: u8| vxlan(ip, 50_000, network(42), &arp(target));
        inner(ip).frame_at(P, 1.ms(), &tunnel(2), 0).run().quiet().released(0, 1.ms(), "pass");
        let compared = || inner(ip).set("class.arp", "compare").frame_at(P, 1.ms(), &tunnel(2), 0);
        compared().frame_at(S, 2.ms(), &tunnel(2), 0).run().quiet().released(0, 2.ms(), "matched");
        let outcome = compared().frame_at(S, 2.ms(), &tunnel(3), 0).run();
        let name = "vxlan 42 arp 52:54:00:00:00:01 > ff:ff:ff:ff:ff:ff";
        outcome.mismatch(22.ms(), "datagram").names_flow(0, name);
        // ARP outside is no partner of ARP inside.
        let case = compared().frame_at(S, 2.ms(), &arp(2), 0);
        case.run().timeout(401.ms());
    }
}

#[test]
fn case_79_rules_see_the_inner_flow() {
    in_every_tunnel(|case, _, tunnel| {
        let case = case.config("[[rule]]\nprotocol = \"udp\"\nguest_ports = \"80\"\naction = \"pass\"");
        let outcome = case.p(1.ms(), tunnel(udp(b"one"))).p(2.ms(), tunnel(seg(0..10))).run();
        outcome.released(0, 1.ms(), "pass").timeout(402.ms());
    });
}
