//! What is not TCP: datagrams, how packets are carried, protocols of the link.

use super::{Entry, entry};
use crate::case::{
    Case, IpVersion, Packet, Time, arp, echo_reply, embedded, frame, group_report, ip_protocol, lldp,
    neighbour_advertisement, port_unreachable, seg, syn_ack, udp,
};

const P: u64 = 0;
const S: u64 = 10;

/// The primary's packets, then the secondary's; each side in one write.
fn both(primary: impl IntoIterator<Item = Packet>, secondary: impl IntoIterator<Item = Packet>) -> Case {
    on(IpVersion::V4, primary, secondary)
}

fn on(
    ip: IpVersion,
    primary: impl IntoIterator<Item = Packet>,
    secondary: impl IntoIterator<Item = Packet>,
) -> Case {
    let case = primary.into_iter().fold(Case::new(ip), |case, packet| case.p(P.ms(), packet));
    secondary.into_iter().fold(case, |case, packet| case.s(S.ms(), packet))
}

fn same(packets: &[Packet]) -> Case {
    both(packets.to_vec(), packets.to_vec())
}

fn numbered(count: u8) -> Vec<Packet> {
    (0..count).map(|mark| udp(&[mark; 20])).collect()
}

/// UDP.
pub(super) fn datagrams() -> Vec<Entry> {
    let turned: Vec<Packet> = numbered(4).into_iter().rev().collect();
    let one_by_one = (0_u64..).zip(numbered(4)).fold(Case::v4(), |case, (n, packet)| {
        case.p((n * 20).ms(), packet.clone()).s((n * 20 + 10).ms(), packet)
    });
    vec![
        entry("UDP, one by one", &[], one_by_one),
        entry("UDP, four of the primary, then the same four of the secondary", &["Q1"], same(&numbered(4))),
        entry("UDP, four of the secondary first", &[], {
            let case = numbered(4).into_iter().fold(Case::v4(), |case, packet| case.s(P.ms(), packet));
            numbered(4).into_iter().fold(case, |case, packet| case.p(S.ms(), packet))
        }),
        entry("UDP, the secondary's in the opposite order", &["Q1", "D3"], both(numbered(4), turned)),
        entry("UDP, the payload differs", &[], both([udp(b"one")], [udp(b"two")])),
        entry("UDP, the length differs", &[], both([udp(b"one")], [udp(b"three")])),
        entry(
            "UDP, the secondary lacks the first of two",
            &["D3"],
            both(numbered(2), numbered(2).into_iter().skip(1)),
        ),
        entry("UDP, the secondary is silent", &[], both([udp(b"one")], [])),
        entry(
            "UDP, the secondary has no checksum",
            &["Q16"],
            both([udp(b"one")], [udp(b"one").udp_checksum_zero()]),
        ),
        entry(
            "UDP, IP ID and TTL differ",
            &[],
            both([udp(b"one").ip_id(5)], [udp(b"one").ip_id(900).ttl(63)]),
        ),
        entry(
            "UDP, padding behind the packet differs",
            &["Q16"],
            both([udp(b"one").pad_to(60)], [udp(b"one").pad_to(60).mac(9)]),
        ),
        entry("UDP, padded on one side only", &["Q16"], both([udp(b"one").pad_to(60)], [udp(b"one")])),
        entry("UDP over IPv6, equal", &[], on(IpVersion::V6, [udp(b"one")], [udp(b"one")])),
        entry(
            "UDP over IPv6, the payload differs",
            &["Q11"],
            on(IpVersion::V6, [udp(b"one")], [udp(b"two")]),
        ),
    ]
}

/// ICMP, SCTP, GRE.
pub(super) fn messages() -> Vec<Entry> {
    vec![
        entry("echo reply, equal", &[], same(&[echo_reply(7, 1, b"ping")])),
        entry(
            "echo reply, the payload differs",
            &[],
            both([echo_reply(7, 1, b"ping")], [echo_reply(7, 1, b"pong")]),
        ),
        entry(
            "echo replies to two pings, in another order",
            &[],
            both(
                [echo_reply(7, 1, b"a"), echo_reply(8, 1, b"b")],
                [echo_reply(8, 1, b"b"), echo_reply(7, 1, b"a")],
            ),
        ),
        entry(
            "ICMP error, the quoted packet's ID differs",
            &["Q16"],
            both([port_unreachable(embedded())], [port_unreachable(embedded().ip_id(900))]),
        ),
        entry("SCTP, equal", &[], same(&[ip_protocol(132, b"some chunk of SCTP")])),
        entry(
            "SCTP, IP ID differs",
            &["Q17"],
            both([ip_protocol(132, b"some chunk").ip_id(5)], [ip_protocol(132, b"some chunk").ip_id(900)]),
        ),
        entry(
            "SCTP, the payload differs",
            &[],
            both([ip_protocol(132, b"some chunk")], [ip_protocol(132, b"some other")]),
        ),
        entry(
            "GRE, four packets, then the same four",
            &["Q1"],
            same(&(0..4).map(|n| ip_protocol(47, &[n; 40])).collect::<Vec<_>>()),
        ),
        entry(
            "GRE, the payload differs",
            &[],
            both([ip_protocol(47, &[1; 40])], [ip_protocol(47, &[2; 40])]),
        ),
    ]
}

/// Tags, options, fragments, tunnels.
pub(super) fn carriage() -> Vec<Entry> {
    let data = || udp(&[b'x'; 64]);
    let tagged = |id| [udp(b"one").vlan(id)];
    vec![
        entry("fragments, cut alike", &[], both(data().cut(1, &[24]), data().cut(1, &[24]))),
        entry(
            "fragments, cut alike, another identification",
            &[],
            both(data().cut(1, &[24]), data().cut(9, &[24])),
        ),
        entry("fragments, cut differently", &["Q18"], both(data().cut(1, &[24]), data().cut(1, &[24, 48]))),
        entry(
            "fragments, the content differs",
            &[],
            both(data().cut(1, &[24]), data().with_byte(60, 0xEE).cut(1, &[24])),
        ),
        entry(
            "fragments, one of the primary's is missing",
            &["Q18"],
            both(data().cut(1, &[24]).into_iter().take(1), data().cut(1, &[24])),
        ),
        entry("a tag of VLAN 7 on both sides", &[], both(tagged(7), tagged(7))),
        entry("a tag of VLAN 7 against VLAN 9", &["Q11"], both(tagged(7), tagged(9))),
        entry("tagged TCP, a byte differs", &["Q11"], {
            let case = Case::v4().p(0.ms(), syn_ack().vlan(7)).s(5.ms(), syn_ack().vlan(7));
            case.p(10.ms(), seg(0..10).vlan(7)).s(20.ms(), seg(0..10).vlan(7).with_byte(4, 0xEE))
        }),
        entry("two tags on both sides", &[], both([udp(b"one").qinq(7, 9)], [udp(b"one").qinq(7, 9)])),
        entry(
            "IP options, equal",
            &[],
            both([udp(b"one").ip_options(&[1, 1, 1, 0])], [udp(b"one").ip_options(&[1, 1, 1, 0])]),
        ),
        entry(
            "IP options of the primary only",
            &["Q16"],
            both([udp(b"one").ip_options(&[1, 1, 1, 0])], [udp(b"one")]),
        ),
        entry("VXLAN, an inner segment cut differently", &[], {
            let inner = |range| seg(range).in_vxlan(42);
            both([inner(0..10)], [inner(0..5), inner(5..10)])
        }),
    ]
}

/// ARP and its like, and frames that are none.
pub(super) fn links() -> Vec<Entry> {
    let six = |one: &Packet, other: &Packet| on(IpVersion::V6, [one.clone()], [other.clone()]);
    vec![
        entry("ARP, equal", &[], same(&[arp(9)])),
        entry("ARP, differs", &[], both([arp(9)], [arp(8)])),
        entry("ARP of the primary only", &[], both([arp(9)], [])),
        entry("LLDP, differs", &[], both([lldp(1)], [lldp(2)])),
        entry("group report, equal", &[], same(&[group_report(5)])),
        entry("group report of the primary only", &["D4"], both([group_report(5)], [])),
        entry(
            "neighbour advertisement, differs",
            &[],
            six(&neighbour_advertisement(9), &neighbour_advertisement(8)),
        ),
        entry("IPv4 with a header cut off", &[], both([cut_off()], [cut_off()])),
        entry("a runt of ten bytes", &[], both([frame(&[2; 10], "runt")], [])),
    ]
}

/// An Ethernet header and four bytes of IP.
fn cut_off() -> Packet {
    frame(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40], "truncated")
}
