//! IPv4, IPv6 and what they carry.

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, UdpHeaderSlice, ip_number};

use super::extension;
use super::fragment::{Carrier, Fragment, v4_word};
use super::{Class, Extent, Packet, Segment, SeqNumber, TcpFlags, be16, ethertype};
use crate::flow::{Addresses, FlowKey, Selector, VlanTags};

const UDP_LITE: u8 = 136;

/// An IP payload: what is behind the IP header (and extension headers), up to the length that the header gives.
#[derive(Clone, Copy)]
struct Carried<'a> {
    addresses: Addresses,
    vlan: VlanTags,
    protocol: u8,
    bytes: &'a [u8],
    /// Of `bytes`, from the start of the frame.
    offset: usize,
}

/// `None`: malformed.
#[inline]
pub(super) fn parse_v4(ethernet: &[u8], offset: usize, vlan: VlanTags) -> Option<Packet> {
    match carried_v4(ethernet, offset, vlan)? {
        (_, Some(fragment)) => Some(Packet::Fragment(fragment)),
        (carried, None) => carried.transport(),
    }
}

/// What an IPv4 packet carries, and what says that it is a piece of a datagram only.
#[inline(always)]
fn carried_v4(ethernet: &[u8], offset: usize, vlan: VlanTags) -> Option<(Carried<'_>, Option<Fragment>)> {
    let packet = ethernet.get(offset..)?;
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let header_len = header.slice().len();
    // RFC 791: the total length counts the header; what the frame has beyond it is padding.
    let bytes = packet.get(header_len..usize::from(header.total_len()))?;
    let carried = Carried {
        addresses: Addresses::V4 {
            source: u32::from_be_bytes(header.source()),
            destination: u32::from_be_bytes(header.destination()),
        },
        vlan,
        protocol: header.protocol().0,
        bytes,
        offset: offset + header_len,
    };
    let fragment = v4_word(header.slice())
        .map(|word| Fragment::v4(&carried.carrier(offset), header.identification(), word, carried.extent()));
    Some((carried, fragment))
}

/// `None`: malformed.
#[inline]
pub(super) fn parse_v6(ethernet: &[u8], offset: usize, vlan: VlanTags) -> Option<Packet> {
    match carried_v6(ethernet, offset, vlan)? {
        (_, Some(fragment)) => Some(Packet::Fragment(fragment)),
        (carried, None) => carried.transport(),
    }
}

/// What an IPv6 packet carries, and what says that it is a piece of a datagram only.
#[inline(always)]
fn carried_v6(ethernet: &[u8], offset: usize, vlan: VlanTags) -> Option<(Carried<'_>, Option<Fragment>)> {
    let packet = ethernet.get(offset..)?;
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let header_len = header.slice().len();
    let payload = packet.get(header_len..header_len + usize::from(header.payload_length()))?;
    let walked = extension::walk(header.next_header().0, payload)?;
    let carried = Carried {
        addresses: Addresses::V6 {
            source: u128::from_be_bytes(header.source()),
            destination: u128::from_be_bytes(header.destination()),
        },
        vlan,
        protocol: walked.protocol,
        bytes: payload.get(walked.len..)?,
        offset: offset + header_len + walked.len,
    };
    let fragment = walked.fragment.as_ref().map(|fragment| {
        Fragment::v6(&carried.carrier(offset), offset + header_len, fragment, carried.extent())
    });
    Some((carried, fragment))
}

/// Where the TCP header of an unfragmented packet stands in its frame, and its length; the network layer starts at
/// `offset`.
pub(super) fn tcp_header(ethernet: &[u8], ethertype: u16, offset: usize) -> Option<Extent> {
    let (carried, fragment) = match ethertype {
        ethertype::IPV4 => carried_v4(ethernet, offset, VlanTags::default())?,
        ethertype::IPV6 => carried_v6(ethernet, offset, VlanTags::default())?,
        _ => return None,
    };
    if fragment.is_some() || carried.protocol != ip_number::TCP.0 {
        return None;
    }
    let header = TcpHeaderSlice::from_slice(carried.bytes).ok()?;
    Some(Extent::new(carried.offset, header.slice().len()))
}

impl Carried<'_> {
    #[inline(always)]
    fn flow(&self, selector: Selector) -> FlowKey {
        FlowKey::new(self.addresses, self.vlan, self.protocol, selector)
    }

    /// The whole IP payload.
    fn extent(&self) -> Extent {
        Extent::new(self.offset, self.bytes.len())
    }

    fn carrier(&self, network: usize) -> Carrier {
        Carrier { addresses: self.addresses, vlan: self.vlan, protocol: self.protocol, network }
    }

    /// The whole IP payload as one datagram.
    fn datagram(&self, selector: Selector) -> Packet {
        Packet::Datagram(self.flow(selector), self.extent())
    }

    #[inline(always)]
    fn transport(&self) -> Option<Packet> {
        match ip_number_of(self.protocol) {
            Transport::Tcp => self.tcp(),
            Transport::Udp => self.udp(),
            Transport::Icmp => self.icmp(),
            Transport::Icmpv6 => self.icmpv6(),
            Transport::Igmp => Some(Packet::Class(Class::Igmp)),
            Transport::Other => Some(self.datagram(Selector::None)),
        }
    }

    /// RFC 9293 section 3.1.
    #[inline(always)]
    fn tcp(&self) -> Option<Packet> {
        let header = TcpHeaderSlice::from_slice(self.bytes).ok()?;
        let header_len = header.slice().len();
        let flags = TcpFlags::from_bits(header.slice()[13]);
        let segment = Segment {
            seq: SeqNumber(header.sequence_number()),
            ack: header.ack().then(|| SeqNumber(header.acknowledgment_number())),
            flags,
            window: header.window_size(),
            payload: Extent::new(self.offset + header_len, self.bytes.len() - header_len),
        };
        let ports = Selector::Ports { source: header.source_port(), destination: header.destination_port() };
        Some(Packet::Tcp(self.flow(ports), segment))
    }

    /// RFC 768; RFC 3828 for UDP-Lite, whose length field is the checksum coverage.
    #[inline(always)]
    fn udp(&self) -> Option<Packet> {
        let header = UdpHeaderSlice::from_slice(self.bytes).ok()?;
        let header_len = header.slice().len();
        let end = match usize::from(header.length()) {
            _ if self.protocol == UDP_LITE => self.bytes.len(),
            // RFC 2675: a jumbogram has length 0.
            0 => self.bytes.len(),
            length => length,
        };
        let payload = self.bytes.get(header_len..end)?;
        let ports = Selector::Ports { source: header.source_port(), destination: header.destination_port() };
        Some(Packet::Datagram(self.flow(ports), Extent::new(self.offset + header_len, payload.len())))
    }

    /// RFC 792: queries and their replies carry an identifier in bytes 4 and 5.
    fn icmp(&self) -> Option<Packet> {
        let kind = *self.bytes.first()?;
        let selector = match kind {
            0 | 8 | 13..=18 => Selector::Query { kind, identifier: be16(self.bytes.get(4..6)?) },
            _ => Selector::None,
        };
        Some(self.datagram(selector))
    }

    /// RFC 4443, RFC 4861 (133–137), RFC 2710 and RFC 3810 (130–132, 143).
    fn icmpv6(&self) -> Option<Packet> {
        let kind = *self.bytes.first()?;
        Some(match kind {
            133..=137 => Packet::Class(Class::NeighbourDiscovery),
            130..=132 | 143 => Packet::Class(Class::MulticastListener),
            128 | 129 => self.datagram(Selector::Query { kind, identifier: be16(self.bytes.get(4..6)?) }),
            _ => self.datagram(Selector::None),
        })
    }
}

enum Transport {
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
    Igmp,
    Other,
}

#[inline(always)]
fn ip_number_of(protocol: u8) -> Transport {
    match etherparse::IpNumber(protocol) {
        ip_number::TCP => Transport::Tcp,
        ip_number::ICMP => Transport::Icmp,
        ip_number::IPV6_ICMP => Transport::Icmpv6,
        ip_number::IGMP => Transport::Igmp,
        ip_number::UDP | etherparse::IpNumber(UDP_LITE) => Transport::Udp,
        _ => Transport::Other,
    }
}
