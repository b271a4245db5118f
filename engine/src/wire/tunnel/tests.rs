//! Frames in tunnels, against what is known of the frames themselves.

use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep, TcpOptionElement};

use super::super::{Segment, TcpFlags, syn_options, urgent_pointer};
use super::*;

mod windows;

/// Whose IP version is which.
const VERSIONS: [[u8; 2]; 4] = [[4, 4], [4, 6], [6, 4], [6, 6]];

fn ip(version: u8, host: u8) -> PacketBuilderStep<etherparse::IpHeaders> {
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    match version {
        4 => link.ipv4([10, 0, 0, 1], [10, 0, 0, host], 64),
        _ => link.ipv6([0xfd; 16], [host; 16], 64),
    }
}

/// A segment of five bytes.
fn tcp(version: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    ip(version, 9).tcp(80, 4242, 1_000, 512).ack(7).write(&mut frame, b"hello").unwrap();
    frame
}

fn udp(version: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    ip(version, 9).udp(53, 5353).write(&mut frame, payload).unwrap();
    frame
}

fn outer_udp(version: u8, source: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    ip(version, 77).udp(source, port).write(&mut frame, payload).unwrap();
    frame
}

fn vxlan_with(version: u8, source: u16, header: [u8; 8], inner: &[u8]) -> Vec<u8> {
    outer_udp(version, source, VXLAN_PORT, &[&header[..], inner].concat())
}

fn vxlan(version: u8, network: u8, inner: &[u8]) -> Vec<u8> {
    vxlan_with(version, 50_000, [8, 0, 0, 0, 0, 0, network, 0], inner)
}

/// `inner` with everything behind the first word of the GRE header.
fn gre_with(version: u8, flags: u16, kind: u16, inner: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let payload = [&flags.to_be_bytes()[..], &kind.to_be_bytes(), inner].concat();
    ip(version, 77).write(&mut frame, IpNumber(GRE), &payload).unwrap();
    frame
}

/// The frame's IP packet in GRE.
fn gre(version: u8, inner: &[u8]) -> Vec<u8> {
    gre_with(version, 0, be16(&inner[12..]), &inner[14..])
}

fn gre_ethernet(version: u8, inner: &[u8]) -> Vec<u8> {
    gre_with(version, 0, gre::ETHERNET, inner)
}

fn hasher() -> FlowHasher {
    FlowHasher::fixed().with_tunnels(Tunnels::Inner)
}

fn opened(frame: &[u8]) -> Packet {
    Packet::received(frame, &hasher())
}

fn key(frame: &[u8]) -> FlowKey {
    let key = *opened(frame).flow().unwrap();
    assert!(key.tunnel().is_some(), "{key} is not in a tunnel");
    key
}

/// It is what it is to those who do not look.
fn is_opaque(frame: &[u8], why: &str) {
    let whole = Packet::received(frame, &FlowHasher::fixed());
    assert_eq!(opened(frame), whole, "{why}");
    assert_eq!(whole.flow().and_then(FlowKey::tunnel), None, "{why}");
}

#[test]
fn the_stream_in_a_tunnel_is_found() {
    for [outer, inner] in VERSIONS {
        let frame = tcp(inner);
        let Packet::Tcp(plain, plain_segment) = Packet::parse(&frame) else { panic!("no TCP") };
        for (name, tunnel) in [
            ("vxlan 42", vxlan(outer, 42, &frame)),
            ("gre", gre(outer, &frame)),
            ("gre", gre_ethernet(outer, &frame)),
        ] {
            // A padded frame of the tunnel, and a padded frame in it, are the same.
            let padded = [&tunnel[..], &[0xee; 9]].concat();
            for bytes in [&tunnel, &padded] {
                let Packet::Tcp(flow, segment) = opened(bytes) else { panic!("no TCP in {name}") };
                assert_eq!(flow.to_string(), format!("{name} {plain}"));
                assert_eq!(segment.payload.of(bytes), b"hello");
                assert_eq!(Segment { payload: plain_segment.payload, ..segment }, plain_segment);
            }
            is_opaque_to_others(&tunnel);
        }
        let padded = opened(&vxlan(outer, 42, &[&frame[..], &[0; 6]].concat()));
        assert_eq!(padded, opened(&vxlan(outer, 42, &frame)));
    }
}

fn is_opaque_to_others(frame: &[u8]) {
    let Packet::Datagram(flow, _) = Packet::received(frame, &FlowHasher::fixed()) else {
        panic!("no datagram")
    };
    assert_eq!(flow.tunnel(), None);
}

#[test]
fn datagrams_and_messages_in_a_tunnel_are_found() {
    let datagram = vxlan(6, 1, &udp(4, b"answer"));
    let Packet::Datagram(flow, content) = opened(&datagram) else { panic!("no datagram") };
    assert_eq!(content.of(&datagram), b"answer");
    assert_eq!(flow.to_string(), "vxlan 1 udp 10.0.0.1:53 > 10.0.0.9:5353");
    let mut echo = Vec::new();
    ip(6, 9).icmpv6_echo_reply(7, 1).write(&mut echo, b"ping").unwrap();
    assert!(key(&gre(4, &echo)).to_string().starts_with("gre icmpv6 "));
    // ARP and neighbour discovery are of their class, inside.
    let arp = [&[0xff; 6][..], &[2; 6], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[7; 20], &[0xee; 18]].concat();
    let tunnel = gre_ethernet(4, &arp);
    let Packet::Datagram(flow, content) = opened(&tunnel) else { panic!("no datagram") };
    assert_eq!((flow.class(), content.of(&tunnel)), (Some(Class::Arp), &arp[14..42]));
    assert_eq!(flow.to_string(), "gre arp 02:02:02:02:02:02 > ff:ff:ff:ff:ff:ff");
    let mut neighbour = Vec::new();
    ip(6, 9).icmpv6_raw(135, 0, [0; 4]).write(&mut neighbour, &[9; 16]).unwrap();
    for tunnel in [vxlan(4, 42, &neighbour), gre(6, &neighbour)] {
        let Packet::Datagram(flow, content) = opened(&tunnel) else { panic!("no datagram") };
        assert_eq!((flow.class(), content.of(&tunnel)), (Some(Class::NeighbourDiscovery), &neighbour[54..]));
    }
}

#[test]
fn a_flow_is_known_by_its_tunnel() {
    let inner = tcp(4);
    let header = |bytes: [u8; 8]| vxlan_with(4, 50_000, bytes, &inner);
    let keyed = |number: u8| gre_with(4, gre::KEY, 0x0800, &[&[0, 0, 0, number], &inner[14..]].concat());
    let mut tagged = vxlan(4, 42, &inner);
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    let mut elsewhere = Vec::new();
    let payload = [&[8, 0, 0, 0, 0, 0, 42, 0], &inner[..]].concat();
    ip(4, 78).udp(50_000, VXLAN_PORT).write(&mut elsewhere, &payload).unwrap();
    let frames = [
        inner.clone(),
        vxlan(4, 42, &inner),
        vxlan(4, 43, &inner),
        vxlan(6, 42, &inner),
        vxlan(4, 42, &tcp(6)),
        tagged,
        elsewhere,
        // The policy group of an extension.
        header([0x88, 0, 0, 1, 0, 0, 42, 0]),
        gre(4, &inner),
        gre_ethernet(4, &inner),
        keyed(0),
        keyed(42),
        gre_with(4, 0x0010, 0x0800, &inner[14..]),
    ];
    let keys = frames.each_ref().map(|frame| *opened(frame).flow().unwrap());
    for (one, key) in keys.iter().enumerate() {
        for (other, another) in keys.iter().enumerate() {
            assert_eq!(key == another, one == other, "{key} and {another}, {one} and {other}");
            assert!((hasher().hash(key) == hasher().hash(another)) == (one == other), "{one} and {other}");
        }
    }
    assert_eq!(keys[11].to_string(), "gre 42 tcp 10.0.0.1:80 > 10.0.0.9:4242");
}

#[test]
fn what_tunnels_may_choose_is_not_part_of_the_flow() {
    let inner = tcp(6);
    let known = key(&vxlan(4, 42, &inner));
    assert_eq!(key(&vxlan_with(4, 60_000, [8, 0, 0, 0, 0, 0, 42, 0], &inner)), known, "the source port");
    let mut other = vxlan(4, 42, &inner);
    other[15] = 0xb8;
    other[18..20].copy_from_slice(&[7, 7]);
    other[22] = 3;
    other[40..42].copy_from_slice(&[0, 0]);
    assert_eq!(key(&other), known, "traffic class, identification, TTL, checksum");
    let known = key(&gre(4, &inner));
    let rest = |fields: &[u8]| [fields, &inner[14..]].concat();
    for (flags, fields) in [
        (gre::CHECKSUM, &[1, 2, 0, 0][..]),
        (gre::SEQUENCE, &[0, 0, 0, 9]),
        (gre::SEQUENCE | gre::CHECKSUM, &[1, 2, 0, 0, 0, 0, 0, 8]),
    ] {
        let frame = gre_with(4, flags, 0x86dd, &rest(fields));
        let Packet::Tcp(flow, segment) = opened(&frame) else { panic!("no TCP") };
        assert_eq!((flow, segment.payload.of(&frame)), (known, &b"hello"[..]), "{flags:x}");
    }
    let all = gre_with(4, 0xb000, 0x86dd, &rest(&[1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 9]));
    assert_eq!(key(&all).tunnel(), Some(Tunnel::Gre(Some(256))), "the key stands between the two");
}

#[test]
fn one_tunnel_is_opened_and_not_the_next() {
    let innermost = tcp(4);
    for (nested, name) in [
        (vxlan(4, 1, &vxlan(4, 2, &innermost)), "vxlan 1 udp 10.0.0.1:50000 > 10.0.0.77:4789"),
        (gre(6, &vxlan(4, 2, &innermost)), "gre udp 10.0.0.1:50000 > 10.0.0.77:4789"),
        (vxlan(4, 1, &gre(4, &innermost)), "vxlan 1 gre 10.0.0.1 > 10.0.0.77"),
    ] {
        let Packet::Datagram(flow, content) = opened(&nested) else { panic!("no datagram") };
        assert_eq!(flow.to_string(), name);
        assert!(content.of(&nested).ends_with(&innermost[14..]));
    }
}

#[test]
fn what_is_not_understood_is_opaque() {
    let inner = tcp(4);
    let mut tagged = inner.clone();
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    let mut bad = inner.clone();
    bad[46] = 0x40;
    let mut experimental = inner.clone();
    experimental[12..14].copy_from_slice(&[0x88, 0xb5]);
    for (frame, why) in [
        (vxlan_with(4, 50_000, [0, 0, 0, 0, 0, 0, 42, 0], &inner), "no network identifier"),
        (outer_udp(4, 50_000, 4790, &[&[8, 0, 0, 0, 0, 0, 42, 0], &inner[..]].concat()), "another port"),
        (outer_udp(4, VXLAN_PORT, 50_000, &[&[8, 0, 0, 0, 0, 0, 42, 0], &inner[..]].concat()), "an answer"),
        (gre_with(4, 1, 0x880b, &inner[14..]), "version 1"),
        (gre_with(4, 1, 0x0800, &inner[14..]), "version 1 with IP"),
        (gre_with(4, 0x4000, 0x0800, &inner[14..]), "routing"),
        (gre_with(4, 0x0800, 0x0800, &inner[14..]), "strict source route"),
        (gre_with(4, 0, 0x8847, &inner[14..]), "MPLS"),
        (gre_with(4, 0, 0x0806, &inner[14..]), "ARP without a link"),
        (gre_with(4, 0, 0x86dd, &inner[14..]), "IPv4 that calls itself IPv6"),
        (vxlan(4, 42, &tagged), "a tag in the tunnel"),
        (vxlan(4, 42, &bad), "a TCP header that is too short"),
        (vxlan(4, 42, &experimental), "another protocol"),
    ] {
        is_opaque(&frame, why);
    }
    // UDP-Lite has the port, but is no VXLAN.
    let mut lite = vxlan(4, 42, &inner);
    lite[23] = 136;
    is_opaque(&lite, "UDP-Lite");
}

#[test]
fn a_truncated_packet_is_opaque_and_nothing_is_read_beyond_it() {
    for [outer, inner] in VERSIONS {
        let (inner, headers) = (tcp(inner), if outer == 4 { 34 } else { 54 });
        for whole in [vxlan(outer, 42, &inner), gre(outer, &inner), gre_ethernet(outer, &inner)] {
            assert!(key(&whole).tunnel().is_some());
            for len in headers..whole.len() {
                // The tunnel itself is cut: its lengths say so.
                let mut cut = whole[..len].to_vec();
                let (at, counted) = if outer == 4 { (16, len - 14) } else { (18, len - 54) };
                cut[at..at + 2].copy_from_slice(&u16::try_from(counted).unwrap().to_be_bytes());
                let udp = whole[if outer == 4 { 23 } else { 20 }] == UDP;
                if udp && len >= headers + 8 {
                    let counted = u16::try_from(len - headers).unwrap().to_be_bytes();
                    cut[headers + 4..headers + 6].copy_from_slice(&counted);
                }
                is_opaque(&cut, "cut");
                // The frame is cut, and behind its end would be the rest.
                is_opaque(&whole[..len], "a short frame");
                let _ = (syn_options(&cut), urgent_pointer(&cut));
            }
        }
    }
}

#[test]
fn no_bit_flip_leads_outside_the_frame() {
    for frame in [vxlan(4, 42, &tcp(6)), gre(6, &tcp(4)), gre_ethernet(4, &udp(6, b"answer"))] {
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let extent = match opened(&flipped) {
                Packet::Tcp(_, segment) => segment.payload,
                Packet::Datagram(_, extent) => extent,
                Packet::Fragment(fragment) => fragment.payload,
                Packet::Class(_) | Packet::Stray(_) => continue,
            };
            assert_eq!(extent.of(&flipped).len(), usize::try_from(extent.len).unwrap(), "bit {bit}");
        }
    }
}

#[test]
fn fragments_in_a_tunnel_are_known_by_their_place() {
    let fragment = |offset: u16, identification: u8| {
        let mut frame = udp(4, &[7; 24]);
        frame[18..20].copy_from_slice(&[0, identification]);
        frame[20..22].copy_from_slice(&offset.to_be_bytes());
        vxlan(4, 42, &frame)
    };
    let Packet::Datagram(flow, content) = opened(&fragment(0x2000, 1)) else { panic!("no datagram") };
    assert_eq!(flow.to_string(), "vxlan 42 udp 10.0.0.1 > 10.0.0.9 fragments");
    assert_eq!(content.len, 32);
    assert_eq!(key(&fragment(0x2000, 2)), flow, "the identification is anybody's");
    let others = [fragment(0x2004, 1), fragment(0x0004, 1), vxlan(4, 42, &udp(4, &[7; 24]))];
    for other in others {
        assert_ne!(key(&other), flow);
    }
    let mut six = udp(6, &[7; 24]);
    (six[20], six[19]) = (44, six[19] + 8);
    six.splice(54..54, [17, 0, 0, 1, 0, 0, 0, 9]);
    assert_eq!(key(&gre(4, &six)).to_string().split(' ').next_back(), Some("fragments"));
}

#[test]
fn the_header_in_a_tunnel_is_looked_into() {
    for [outer, inner] in VERSIONS {
        let mut syn = Vec::new();
        let options = [TcpOptionElement::MaximumSegmentSize(1400), TcpOptionElement::WindowScale(9)];
        let step = ip(inner, 9).tcp(80, 4242, 5, 512).syn().urg(0xbeef).options(&options).unwrap();
        step.write(&mut syn, b"payload").unwrap();
        for frame in [vxlan(outer, 42, &syn), gre(outer, &syn), gre_ethernet(outer, &syn)] {
            let Packet::Tcp(_, segment) = opened(&frame) else { panic!("no TCP") };
            assert_eq!(segment.flags, TcpFlags::from_bits(0x22));
            assert_eq!(urgent_pointer(&frame), Some(0xbeef));
            let options = syn_options(&frame);
            assert_eq!((options.mss, options.window_scale), (Some(1400), Some(9)));
        }
    }
}
