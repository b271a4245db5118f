//! Frames of a class as datagrams of a flow, so that a policy other than "pass" has something to hold and compare.
//!
//! Looks at headers for a second time. Such frames are rare, and most of them pass.

use super::{Class, Extent, Packet, be16, ethertype, link_layer};
use crate::flow::{Addresses, FlowKey, Selector, VlanTags};

/// ARP for Ethernet and IPv4 (RFC 826): fields before the addresses.
const ARP_HEADER: usize = 8;

impl Packet {
    /// The packet, a frame of a class as a datagram of that class's flow. A class of IP is known by its addresses and
    /// compared by its IP payload; the others by their MAC addresses and what is behind the tags.
    #[inline(always)]
    #[must_use]
    pub fn with_class_flow(self, ethernet: &[u8]) -> Self {
        match self {
            Self::Class(class) => datagram_of(class, ethernet),
            packet => packet,
        }
    }
}

#[cold]
fn datagram_of(class: Class, ethernet: &[u8]) -> Packet {
    let (kind, vlan, offset) =
        link_layer(ethernet).unwrap_or((0, VlanTags::default(), ethernet.len().min(14)));
    datagram_in(class, ethernet, &Link { start: 0, kind, vlan, network: offset })
}

/// Of an untagged frame in a tunnel: where it starts, its `EtherType`, and where its network layer starts.
pub(super) fn datagram_at(class: Class, ethernet: &[u8], start: usize, kind: u16, network: usize) -> Packet {
    datagram_in(class, ethernet, &Link { start, kind, vlan: VlanTags::default(), network })
}

/// A link layer.
struct Link {
    /// Where it starts.
    start: usize,
    /// `EtherType`.
    kind: u16,
    vlan: VlanTags,
    /// Where the network layer starts.
    network: usize,
}

fn datagram_in(class: Class, ethernet: &[u8], link: &Link) -> Packet {
    let (kind, vlan, offset) = (link.kind, link.vlan, link.network);
    let mac = |at: usize| {
        let bytes = ethernet.get(link.start + at..).and_then(<[u8]>::first_chunk::<6>);
        bytes.copied().unwrap_or_default()
    };
    let of_ip = match (class, kind) {
        (Class::Igmp, ethertype::IPV4) => addressed_v4(ethernet, offset, vlan),
        (Class::NeighbourDiscovery | Class::MulticastListener, ethertype::IPV6) => {
            addressed_v6(ethernet, offset, vlan)
        }
        _ => None,
    };
    if let Some((flow, content)) = of_ip {
        return Packet::Datagram(flow.in_class(class), content);
    }
    let behind = ethernet.get(offset..).unwrap_or(&[]);
    let length = match class {
        Class::Arp => arp_length(behind).unwrap_or(behind.len()),
        _ => behind.len(),
    };
    let flow = FlowKey::of_link(class, mac(6), mac(0), kind, vlan);
    Packet::Datagram(flow, Extent::new(offset, length.min(behind.len())))
}

/// What an ARP packet says its length is: behind it may be padding.
fn arp_length(packet: &[u8]) -> Option<usize> {
    let (hardware, protocol) = (*packet.get(4)?, *packet.get(5)?);
    // An odd one is taken whole.
    let known = be16(packet.get(2..4)?) == ethertype::IPV4 && hardware == 6 && protocol == 4;
    known.then(|| ARP_HEADER + 2 * usize::from(hardware) + 2 * usize::from(protocol))
}

/// Flow and IP payload (RFC 791 section 3.1).
fn addressed_v4(ethernet: &[u8], offset: usize, vlan: VlanTags) -> Option<(FlowKey, Extent)> {
    let header: &[u8; 20] = ethernet.get(offset..)?.first_chunk()?;
    let (length, total) = (usize::from(header[0] & 0x0f) * 4, usize::from(be16(&header[2..4])));
    ethernet.get(offset..offset + total)?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let addresses = Addresses::V4 { source: word(12), destination: word(16) };
    let flow = FlowKey::new(addresses, vlan, header[9], Selector::None);
    Some((flow, Extent::new(offset + length, total.checked_sub(length)?)))
}

/// Flow and IP payload, extension headers included (RFC 8200 section 3).
fn addressed_v6(ethernet: &[u8], offset: usize, vlan: VlanTags) -> Option<(FlowKey, Extent)> {
    let header: &[u8; 40] = ethernet.get(offset..)?.first_chunk()?;
    let length = usize::from(be16(&header[4..6]));
    ethernet.get(offset..offset + 40 + length)?;
    let whole = |at: usize| header[at..].first_chunk::<16>().map_or(0, |bytes| u128::from_be_bytes(*bytes));
    let addresses = Addresses::V6 { source: whole(8), destination: whole(24) };
    let flow = FlowKey::new(addresses, vlan, header[6], Selector::None);
    Some((flow, Extent::new(offset + 40, length)))
}
