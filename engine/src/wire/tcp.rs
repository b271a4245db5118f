//! Looks into TCP headers that only few segments need: the options of a SYN, the urgent pointer. The header is found
//! again by walking the frame, so that the usual segment carries none of it around.

use super::options::SynOptions;
use super::{Extent, be16, ip, link_layer, tunnel};

/// Where a TCP header stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Behind the frame's IP header.
    Outer,
    /// In a tunnel.
    Inner,
}

/// The TCP header of an unfragmented frame that is compared as a segment, options included. If it is not in front of
/// everybody's eyes, tunnels are looked into: otherwise the frame would not be compared so.
pub(super) fn header(ethernet: &[u8]) -> Option<(Extent, Depth)> {
    let (ethertype, _, offset) = link_layer(ethernet)?;
    match ip::tcp_header(ethernet, ethertype, offset) {
        Some(header) => Some((header, Depth::Outer)),
        None => tunnel::tcp_header(ethernet).map(|header| (header, Depth::Inner)),
    }
}

/// The same, wherever it stands.
pub(crate) fn tcp_header(ethernet: &[u8]) -> Option<Extent> {
    header(ethernet).map(|(header, _)| header)
}

/// What a SYN offers (RFC 9293 section 3.1).
#[cold]
pub(crate) fn syn_options(ethernet: &[u8]) -> SynOptions {
    const FIXED_LEN: usize = 20;
    let header = tcp_header(ethernet).map(|extent| extent.of(ethernet)).unwrap_or_default();
    SynOptions::parse(header.get(FIXED_LEN..).unwrap_or_default())
}

/// The urgent pointer of a segment with URG (RFC 9293 section 3.1): counted from the segment's sequence number.
#[cold]
pub(crate) fn urgent_pointer(ethernet: &[u8]) -> Option<u16> {
    let header = tcp_header(ethernet)?.of(ethernet);
    header.get(18..20).map(be16)
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, TcpOptionElement};

    use super::*;

    #[test]
    fn header_fields_are_found_behind_tags_and_options() {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .vlan(etherparse::VlanHeader::Single(etherparse::SingleVlanHeader {
                vlan_id: 7.try_into().unwrap(),
                ether_type: etherparse::EtherType::IPV4,
                ..Default::default()
            }))
            .ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64)
            .tcp(80, 4242, 5, 512)
            .syn()
            .urg(0xbeef)
            .options(&[TcpOptionElement::MaximumSegmentSize(1400), TcpOptionElement::WindowScale(9)])
            .unwrap();
        builder.write(&mut frame, b"payload").unwrap();
        assert_eq!(urgent_pointer(&frame), Some(0xbeef));
        let options = syn_options(&frame);
        assert_eq!((options.mss, options.window_scale), (Some(1400), Some(9)));
        for len in 0..frame.len() {
            // No part of a frame is read beyond its end.
            let _ = (urgent_pointer(&frame[..len]), syn_options(&frame[..len]));
        }
    }
}
