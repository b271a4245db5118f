//! The builder's carriage checks itself with etherparse and by putting together what it cut.

use etherparse::{LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};

use super::*;
use crate::frame::{fold, ones_sum};

/// The bytes of a packet of the PVM.
fn bytes(ip: IpVersion, packet: Packet) -> Vec<u8> {
    Case::new(ip).p(0.ms(), packet).sent(Side::Primary)[0].bytes.clone()
}

const BOTH: [IpVersion; 2] = [IpVersion::V4, IpVersion::V6];

/// The IP payload of a piece, its offset in bytes, whether more follow, its identification.
fn piece(frame: &[u8]) -> (Vec<u8>, usize, bool, u32) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    match sliced.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            let offset = usize::from(header.fragment_offset.byte_offset());
            let more = header.more_fragments;
            (ip.payload().payload.to_vec(), offset, more, u32::from(header.identification))
        }
        NetSlice::Ipv6(_) => {
            assert_eq!(frame[20], 44);
            let field = u16::from_be_bytes([frame[56], frame[57]]);
            let id = u32::from_be_bytes([frame[58], frame[59], frame[60], frame[61]]);
            (frame[62..].to_vec(), usize::from(field & !7), field & 1 == 1, id)
        }
        NetSlice::Arp(_) => panic!("not IP"),
    }
}

#[test]
fn pieces_make_the_datagram_they_were_cut_from() {
    for (ip, header) in [(IpVersion::V4, 34), (IpVersion::V6, 54)] {
        let whole = bytes(ip, udp(&[7; 64]));
        let mut payload = Vec::new();
        let pieces = udp(&[7; 64]).cut(9, &[24, 48]);
        for (index, part) in pieces.into_iter().enumerate() {
            let (part, offset, more, id) = piece(&bytes(ip, part));
            assert_eq!((offset, more, id), (payload.len(), index < 2, 9));
            payload.extend(part);
        }
        assert_eq!(payload, whole[header..]);
    }
}

#[test]
fn a_piece_can_claim_another_offset() {
    for ip in BOTH {
        let (part, offset, more, _) = piece(&bytes(ip, udp(&[7; 64]).piece_at(1, 48..72, 65_528)));
        assert_eq!((part.len(), offset, more), (24, 65_528, false));
    }
}

#[test]
fn tags_extensions_and_options_parse() {
    for ip in BOTH {
        let tagged = bytes(ip, seg(0..10).qinq(7, 9));
        let sliced = SlicedPacket::from_ethernet(&tagged).unwrap();
        let ids = sliced.link_exts.iter().filter_map(|tag| match tag {
            LinkExtSlice::Vlan(tag) => Some(tag.vlan_identifier().value()),
            LinkExtSlice::Macsec(_) => None,
        });
        assert_eq!(ids.collect::<Vec<_>>(), [7, 9]);
        assert!(matches!(sliced.transport, Some(TransportSlice::Tcp(_))));
    }
    let chained = bytes(IpVersion::V6, seg(0..10).extension(0, &[1, 4, 0, 0, 0, 0]).extension(60, &[0; 14]));
    let sliced = SlicedPacket::from_ethernet(&chained).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP behind the chain") };
    assert_eq!(tcp.payload().len(), 10);
    let optioned = bytes(IpVersion::V4, seg(0..10).ip_options(&[1; 12]));
    let sliced = SlicedPacket::from_ethernet(&optioned).unwrap();
    let Some(NetSlice::Ipv4(net)) = sliced.net else { panic!("no IPv4") };
    assert_eq!(
        (net.header().ihl(), net.header().header_checksum()),
        (8, net.header().to_header().calc_header_checksum())
    );
    assert!(matches!(sliced.transport, Some(TransportSlice::Tcp(tcp)) if tcp.payload().len() == 10));
}

#[test]
fn tunnels_carry_the_whole_packet() {
    for ip in BOTH {
        let inner = bytes(ip, seg(0..10));
        let vxlan = bytes(ip, seg(0..10).in_vxlan(42));
        let Some(TransportSlice::Udp(udp)) = SlicedPacket::from_ethernet(&vxlan).unwrap().transport else {
            panic!("VXLAN is UDP")
        };
        assert_eq!((udp.destination_port(), &udp.payload()[..8]), (4_789, &[8, 0, 0, 0, 0, 0, 42, 0][..]));
        assert_eq!(udp.payload()[8..], inner);
        let gre = bytes(ip, seg(0..10).in_gre());
        assert!(gre.ends_with(&inner[12..]) && gre[gre.len() - inner.len() + 10..][..2] == [0, 0]);
        let ethernet = bytes(ip, seg(0..10).in_gre_ethernet());
        assert!(ethernet.ends_with(&inner));
    }
}

#[test]
fn messages_have_right_checksums() {
    let error = || port_unreachable(embedded().ip_id(5).ttl(9));
    for message in [echo_reply(7, 1, b"odd"), error()] {
        assert_eq!(fold(ones_sum(&bytes(IpVersion::V4, message.clone())[34..])), 0);
        let frame = bytes(IpVersion::V6, message);
        let length = u64::try_from(frame.len() - 54).unwrap();
        assert_eq!(fold(ones_sum(&frame[22..54]) + ones_sum(&frame[54..]) + 58 + length), 0);
    }
    let embedded = &bytes(IpVersion::V4, error())[42..];
    assert_eq!((fold(ones_sum(&embedded[..20])), &embedded[4..6], embedded[8]), (0, &[0, 5][..], 9));
    for message in [neighbour_advertisement(1), listener_report(1)] {
        let frame = bytes(IpVersion::V6, message);
        let start = if frame[20] == 0 { 62 } else { 54 };
        let length = u64::try_from(frame.len() - start).unwrap();
        assert_eq!(fold(ones_sum(&frame[22..54]) + ones_sum(&frame[start..]) + 58 + length), 0);
    }
    assert_eq!(fold(ones_sum(&bytes(IpVersion::V4, group_report(1))[34..])), 0);
}

#[test]
fn spoilt_checksums_are_wrong_and_windows_and_urgent_pointers_are_set() {
    for ip in BOTH {
        for packet in [seg(0..10), udp(b"one")] {
            let (good, bad) = (bytes(ip, packet.clone()), bytes(ip, packet.bad_checksum()));
            let at = crate::frame::layout(&good).unwrap();
            assert_eq!(at.residue(&good), 0);
            assert_ne!(at.residue(&bad), 0);
        }
        let frame = bytes(ip, seg(0..10).window(77).urgent(5));
        let at = crate::frame::layout(&frame).unwrap();
        assert_eq!((at.window(&frame), frame[at.transport + 13] & 0x20), (77, 0x20));
        assert_eq!(frame[at.transport + 18..at.transport + 20], [0, 5]);
    }
}

#[test]
fn only_a_lower_window_counts_as_clamped() {
    let lowered = |window: u16| bytes(IpVersion::V4, seg(0..10).window(window));
    let clamped = departures::only_the_window_is_lower;
    assert!(clamped(&lowered(500), &lowered(400)));
    assert!(!clamped(&lowered(500), &lowered(500)) && !clamped(&lowered(400), &lowered(500)));
    let mut stale = lowered(500);
    stale[48..50].copy_from_slice(&400_u16.to_be_bytes());
    assert!(!clamped(&lowered(500), &stale), "the checksum is of the old window");
    let mut other = lowered(400);
    other[20] ^= 1;
    assert!(!clamped(&lowered(500), &other), "something else differs as well");
}
