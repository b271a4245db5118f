//! Addresses of the demo network, and the few header fields the world itself has to read: whose connection a
//! packet belongs to and whether it opens one. Everything else is left to the TCP/IP stacks.

use std::fmt;

use smoltcp::wire::{IpAddress, IpEndpoint, Ipv4Address, Ipv4Packet, Ipv6Address, Ipv6Packet, TcpPacket};

use super::random::mix;

/// The port the guests serve.
pub(super) const SERVER_PORT: u16 = 80;

/// First port of the client's range.
const FIRST_CLIENT_PORT: u16 = 1_024;

/// Ethernet header bytes.
pub(super) const ETHERNET_HEADER: usize = 14;

/// The client's and the guests' MAC addresses. Both guests have the same one: they are one machine.
const CLIENT_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0xc0, 0x10, 0x09];
const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0xc0, 0x10, 0x01];

/// IP version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The guests' address.
    pub(super) fn server(self) -> IpAddress {
        match self {
            Self::V4 => IpAddress::Ipv4(Ipv4Address::new(10, 0, 0, 1)),
            Self::V6 => IpAddress::Ipv6(Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        }
    }
}

/// One client connection. The server's half of the 4-tuple follows from the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ConnectionKey(pub(super) IpEndpoint);

impl ConnectionKey {
    /// The `number`-th connection of the world: ports first, then further client addresses, so that no 4-tuple
    /// comes back within millions of connections.
    pub(super) fn nth(number: u64, family: Family) -> Self {
        let ports = u64::from(u16::MAX - FIRST_CLIENT_PORT) + 1;
        let port = FIRST_CLIENT_PORT + u16::try_from(number % ports).unwrap_or(0);
        let host = 9 + u8::try_from(number / ports % 200).unwrap_or(0);
        let address = match family {
            Family::V4 => IpAddress::Ipv4(Ipv4Address::new(10, 0, 0, host)),
            Family::V6 => IpAddress::Ipv6(Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host))),
        };
        Self(IpEndpoint::new(address, port))
    }

    /// The connection's IP version.
    pub(super) fn family(&self) -> Family {
        match self.0.addr {
            IpAddress::Ipv4(_) => Family::V4,
            IpAddress::Ipv6(_) => Family::V6,
        }
    }

    /// The seed of this connection in the world of `seed`: the same for both guests.
    pub(super) fn seed(&self, seed: u64) -> u64 {
        let port = mix(seed, u64::from(self.0.port));
        match self.0.addr {
            IpAddress::Ipv4(address) => mix(port, u64::from(address.to_bits())),
            IpAddress::Ipv6(address) => mix(port, u64::from(address.segments()[7]) | 1 << 40),
        }
    }
}

impl fmt::Display for ConnectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.addr {
            IpAddress::Ipv4(address) => write!(f, "{address}:{}", self.0.port),
            IpAddress::Ipv6(address) => write!(f, "[{address}]:{}", self.0.port),
        }
    }
}

/// What a TCP packet's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Who sent it.
    pub(super) source: IpEndpoint,
    /// Who is to get it.
    pub(super) destination: IpEndpoint,
    /// What it does to the connection.
    pub(super) event: Event,
}

/// What a TCP packet does to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A first SYN, without ACK.
    Open,
    /// Carries a FIN.
    Finish,
    /// Anything else.
    Other,
}

/// Reads the header of an IP packet; `None` when it is not TCP or not whole.
pub(super) fn parse(packet: &[u8]) -> Option<Header> {
    let (source, destination, payload): (IpAddress, IpAddress, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            (ip.src_addr().into(), ip.dst_addr().into(), ip.payload())
        }
        6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            (ip.src_addr().into(), ip.dst_addr().into(), ip.payload())
        }
        _ => return None,
    };
    let tcp = TcpPacket::new_checked(payload).ok()?;
    let event = match (tcp.syn() && !tcp.ack(), tcp.fin()) {
        (true, _) => Event::Open,
        (false, true) => Event::Finish,
        (false, false) => Event::Other,
    };
    Some(Header {
        source: IpEndpoint::new(source, tcp.src_port()),
        destination: IpEndpoint::new(destination, tcp.dst_port()),
        event,
    })
}

/// The Ethernet header of a guest's packet to the client.
pub(super) fn ethernet_header(packet: &[u8]) -> [u8; ETHERNET_HEADER] {
    let mut header = [0; ETHERNET_HEADER];
    header[..6].copy_from_slice(&CLIENT_MAC);
    header[6..12].copy_from_slice(&GUEST_MAC);
    let ipv6 = packet.first().is_some_and(|first| first >> 4 == 6);
    header[12..].copy_from_slice(if ipv6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_give_distinct_connections_and_seeds() {
        let keys: Vec<_> = [0, 1, 64_511, 64_512, 200_000]
            .into_iter()
            .flat_map(|n| [ConnectionKey::nth(n, Family::V4), ConnectionKey::nth(n, Family::V6)])
            .collect();
        let seeds: std::collections::HashSet<u64> = keys.iter().map(|key| key.seed(1)).collect();
        assert_eq!(seeds.len(), keys.len());
        assert_eq!(keys[0].to_string(), "10.0.0.9:1024");
        assert_eq!(keys[7].to_string(), "[fd00::a]:1024");
    }

    #[test]
    fn what_is_not_tcp_has_no_header() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0x45; 12]), None);
        assert_eq!(parse(&[0x60; 20]), None);
    }
}
