//! Packets that are neither TCP nor UDP: echo and errors of ICMP, neighbours and groups, link protocols, and frames
//! that are no packets at all.

use etherparse::PacketBuilder;

use super::packet::{Body, Packet, packet};
use super::wire::IpVersion;

/// An ICMP message in the words of both IP versions.
#[derive(Debug, Clone)]
pub(super) enum Icmp {
    /// The answer to a ping.
    EchoReply { id: u16, sequence: u16, payload: Vec<u8> },
    /// "Port unreachable", with the client's packet in it.
    PortUnreachable(Embedded),
    /// A message that only IPv6 has: type, code, the rest behind the checksum.
    V6 { kind: u8, body: Vec<u8> },
}

/// The client's packet inside an ICMP error: a UDP datagram to a port of the guest.
#[derive(Debug, Clone)]
pub struct Embedded {
    id: u16,
    ttl: u8,
    port: u16,
    checksum: Option<u16>,
}

/// The client's datagram as it reached the guest: to port 9999, with 60 hops left.
pub fn embedded() -> Embedded {
    Embedded { id: 1, ttl: 60, port: 9_999, checksum: None }
}

impl Embedded {
    /// With this IP identification (IPv4 only).
    #[must_use]
    pub fn ip_id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// With so many hops left.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// To this port of the guest.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// With this UDP checksum, right or wrong.
    #[must_use]
    pub fn checksum(mut self, checksum: u16) -> Self {
        self.checksum = Some(checksum);
        self
    }

    /// The packet from its IP header on.
    pub(super) fn bytes(&self, ip: IpVersion) -> Vec<u8> {
        let (guest, client) = super::wire::addresses(ip);
        let packet = match (guest, client) {
            (std::net::IpAddr::V4(guest), std::net::IpAddr::V4(client)) => {
                let header = etherparse::Ipv4Header {
                    identification: self.id,
                    time_to_live: self.ttl,
                    source: client.octets(),
                    destination: guest.octets(),
                    ..etherparse::Ipv4Header::default()
                };
                PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default()))
            }
            (std::net::IpAddr::V6(guest), std::net::IpAddr::V6(client)) => {
                PacketBuilder::ipv6(client.octets(), guest.octets(), self.ttl)
            }
            _ => unreachable!("both addresses are of one version"),
        };
        let mut bytes = Vec::new();
        packet.udp(4_242, self.port).write(&mut bytes, b"anybody there?").expect("it fits");
        if let Some(checksum) = self.checksum {
            let at = bytes.len() - b"anybody there?".len() - 2;
            bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        bytes
    }
}

/// The answer to a ping.
pub fn echo_reply(id: u16, sequence: u16, payload: &[u8]) -> Packet {
    packet(Body::Icmp(Icmp::EchoReply { id, sequence, payload: payload.to_vec() }))
}

/// "Port unreachable" about a client's packet.
pub fn port_unreachable(embedded: Embedded) -> Packet {
    packet(Body::Icmp(Icmp::PortUnreachable(embedded)))
}

/// A packet of any IP protocol.
pub fn ip_protocol(number: u8, payload: &[u8]) -> Packet {
    packet(Body::Ip(number, payload.to_vec()))
}

/// An Ethernet frame as it is.
pub fn frame(bytes: &[u8], what: &'static str) -> Packet {
    packet(Body::Frame(bytes.to_vec(), what))
}

fn link_frame(to: [u8; 6], kind: u16, body: &[u8], what: &'static str) -> Packet {
    let mut bytes = [&to[..], &[0x52, 0x54, 0, 0, 0, 1], &kind.to_be_bytes(), body].concat();
    bytes.resize(bytes.len().max(60), 0);
    frame(&bytes, what)
}

/// An ARP reply of the guest; `last` ends the address it asks for.
pub fn arp(last: u8) -> Packet {
    let sender = [0x52, 0x54, 0, 0, 0, 1, 10, 0, 0, 1];
    let target = [0x52, 0x54, 0, 0, 0, 9, 10, 0, 0, last];
    let body = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &sender, &target].concat();
    link_frame([0x52, 0x54, 0, 0, 0, 9], 0x0806, &body, "ARP reply")
}

/// An LLDP advertisement with this port number.
pub fn lldp(port: u8) -> Packet {
    let chassis = [0x02, 7, 4, 0x52, 0x54, 0, 0, 0, 1];
    let rest = [0x04, 2, 7, port, 0x06, 2, 0, 120, 0, 0];
    link_frame([0x01, 0x80, 0xC2, 0, 0, 0x0E], 0x88CC, &[&chassis[..], &rest].concat(), "LLDP")
}

/// A frame of a local experimental protocol (IEEE 802, 0x88B5).
pub fn other_frame(mark: u8) -> Packet {
    link_frame([0xFF; 6], 0x88B5, &[mark; 46], "other")
}

/// A neighbour advertisement; IPv6 only.
pub fn neighbour_advertisement(last: u8) -> Packet {
    let mut body = vec![0x60, 0, 0, 0];
    body.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    body.extend([2, 1, 0x52, 0x54, 0, 0, 0, 1]);
    // Neighbour discovery is only valid with 255 hops (RFC 4861 section 7.1.2).
    packet(Body::Icmp(Icmp::V6 { kind: 136, body })).ttl(255)
}

/// A multicast listener report, version 2; IPv6 only.
pub fn listener_report(last: u8) -> Packet {
    let mut body = vec![0, 0, 0, 1, 4, 0, 0, 0];
    body.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    // A hop-by-hop header with the router alert option (RFC 2711) and two bytes of padding stands before it.
    packet(Body::Icmp(Icmp::V6 { kind: 143, body })).ttl(1).extension(0, &[5, 2, 0, 0, 1, 0])
}

/// A group membership report, version 2; IPv4 only.
pub fn group_report(last: u8) -> Packet {
    let mut body = vec![0x16, 0, 0, 0, 239, 0, 0, last];
    let checksum = crate::frame::fold(crate::frame::ones_sum(&body));
    body[2..4].copy_from_slice(&checksum.to_be_bytes());
    ip_protocol(2, &body).ttl(1)
}
