//! What is in a tunnel: VXLAN (RFC 7348), GRE (RFC 2784, RFC 2890), NVGRE (RFC 7637).
//!
//! The outer packet has been parsed already, so this looks at the content of a datagram. One tunnel is opened, not one in
//! the other. Whatever is not understood to its end, a tagged frame included, stays what it was: a datagram of the outer
//! flow. Fragments in a tunnel are not put together.

use super::{Class, Extent, Fragment, Packet, Place, be16, class, ethertype, ip, link_layer};
use crate::flow::{FlowHasher, FlowKey, Selector, Tunnel, VlanTags};

const UDP: u8 = 17;
const GRE: u8 = 47;
/// UDP port of VXLAN (IANA).
pub(super) const VXLAN_PORT: u16 = 4789;

/// RFC 7348 section 5: flags, reserved, network identifier (24 bits), reserved.
const VXLAN_HEADER: usize = 8;
/// The identifier is valid.
const VXLAN_I: u8 = 0x08;

/// Bits of the first word of a GRE header (RFC 2784 section 2, RFC 2890 section 2).
mod gre {
    pub(super) const CHECKSUM: u16 = 0x8000;
    pub(super) const KEY: u16 = 0x2000;
    pub(super) const SEQUENCE: u16 = 0x1000;
    /// RFC 1701's routing and its like, which RFC 2784 section 2.3 has discarded, and the version.
    pub(super) const UNKNOWN: u16 = 0x4000 | 0x0c00 | 0x0007;
    pub(super) const FIXED_LEN: usize = 4;
    /// Of each of the fields that may follow.
    pub(super) const FIELD_LEN: usize = 4;
    /// Transparent Ethernet bridging (RFC 7637 section 3.2).
    pub(super) const ETHERNET: u16 = 0x6558;
}

/// What a packet in a tunnel is to the comparer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tunnels {
    /// Content of a datagram of the outer flow.
    #[default]
    Opaque,
    /// A packet of a flow of its own.
    Inner,
}

/// A packet in a tunnel.
struct Inside<'a> {
    tunnel: Tunnel,
    /// What the tunnel's header says besides: two tunnels that differ in it are two.
    identity: u64,
    /// The outer frame up to the end of the tunnel's content.
    frame: &'a [u8],
    /// Where the inner Ethernet header starts, or the inner IP header if there is none.
    start: usize,
    ethertype: u16,
    /// Where the inner network layer starts.
    network: usize,
}

impl Packet {
    /// The packet in the tunnel, if this is one and they are looked into.
    #[inline(always)]
    #[must_use]
    pub fn in_tunnel(self, ethernet: &[u8], hasher: &FlowHasher) -> Self {
        match &self {
            Self::Datagram(outer, content) if hasher.tunnels() == Tunnels::Inner => {
                inner_packet(outer, *content, ethernet, hasher).unwrap_or(self)
            }
            _ => self,
        }
    }
}

/// `None`: it is not in a tunnel, or not understood.
#[inline(never)]
fn inner_packet(outer: &FlowKey, content: Extent, ethernet: &[u8], hasher: &FlowHasher) -> Option<Packet> {
    let inside = Inside::new(outer, content, ethernet)?;
    let key = |flow: FlowKey, place: u64| {
        flow.in_tunnel(inside.tunnel, hasher.digest_tunnel(outer, [inside.identity, place]))
    };
    Some(match inside.packet()? {
        Packet::Tcp(flow, segment) => Packet::Tcp(key(flow, 0), segment),
        Packet::Datagram(flow, extent) => Packet::Datagram(key(flow, 0), extent),
        Packet::Fragment(fragment) => {
            Packet::Datagram(key(fragment.key(), place_of(&fragment)), fragment.payload)
        }
        Packet::Class(_) | Packet::Stray(_) => return None,
    })
}

/// Where a fragment belongs is not among its bytes but has to be compared, so each place is a flow; not 0.
fn place_of(fragment: &Fragment) -> u64 {
    let last = u64::from(fragment.place == Place::Last);
    1 << 32 | u64::from(fragment.offset) << 1 | last
}

/// The TCP header in the tunnel that a frame is, options included.
pub(super) fn tcp_header(ethernet: &[u8]) -> Option<Extent> {
    let Packet::Datagram(outer, content) = Packet::parse_any(ethernet) else { return None };
    let inside = Inside::new(&outer, content, ethernet)?;
    ip::tcp_header(inside.frame, inside.ethertype, inside.network)
}

impl<'a> Inside<'a> {
    /// `None`: the outer datagram is no tunnel, or one that is not understood.
    fn new(outer: &FlowKey, content: Extent, ethernet: &'a [u8]) -> Option<Self> {
        let start = usize::try_from(content.offset).ok()?;
        let frame = ethernet.get(..start + usize::try_from(content.len).ok()?)?;
        match (outer.protocol(), outer.selector()) {
            (UDP, Selector::Ports { destination: VXLAN_PORT, .. }) => Self::vxlan(frame, start),
            (GRE, _) => Self::gre(frame, start),
            _ => None,
        }
    }

    fn vxlan(frame: &'a [u8], start: usize) -> Option<Self> {
        let header: &[u8; VXLAN_HEADER] = frame.get(start..)?.first_chunk()?;
        if header[0] & VXLAN_I == 0 {
            return None;
        }
        let network = u32::from_be_bytes([0, header[4], header[5], header[6]]);
        // Reserved bits included: extensions carry a group's policy there, and nobody else has any.
        Self::ethernet(Tunnel::Vxlan(network), u64::from_be_bytes(*header), frame, start + VXLAN_HEADER)
    }

    fn gre(frame: &'a [u8], start: usize) -> Option<Self> {
        let header: &[u8; gre::FIXED_LEN] = frame.get(start..)?.first_chunk()?;
        let (flags, kind) = (be16(&header[..2]), be16(&header[2..]));
        if flags & gre::UNKNOWN != 0 {
            return None;
        }
        let mut at = start + gre::FIXED_LEN;
        let mut field = |flag: u16| {
            if flags & flag == 0 {
                return Some(None);
            }
            let bytes: &[u8; gre::FIELD_LEN] = frame.get(at..)?.first_chunk()?;
            at += gre::FIELD_LEN;
            Some(Some(u32::from_be_bytes(*bytes)))
        };
        field(gre::CHECKSUM)?;
        let key = field(gre::KEY)?;
        field(gre::SEQUENCE)?;
        // Checksum and sequence number are not content, nor is that there are any.
        let flags = flags & !(gre::CHECKSUM | gre::SEQUENCE);
        let identity = u64::from(flags) << 48 | u64::from(kind) << 32 | u64::from(key.unwrap_or(0));
        let tunnel = Tunnel::Gre(key);
        match kind {
            gre::ETHERNET => Self::ethernet(tunnel, identity, frame, at),
            ethertype => Some(Self { tunnel, identity, frame, start: at, ethertype, network: at })
                .filter(|_| matches!(ethertype, ethertype::IPV4 | ethertype::IPV6)),
        }
    }

    /// An Ethernet frame is in the tunnel. One with tags is not looked into: a key has no room for them.
    fn ethernet(tunnel: Tunnel, identity: u64, frame: &'a [u8], start: usize) -> Option<Self> {
        let (ethertype, tags, offset) = link_layer(frame.get(start..)?)?;
        let network = start + offset;
        (tags == VlanTags::default()).then_some(Self { tunnel, identity, frame, start, ethertype, network })
    }

    /// The packet; its flow knows nothing of the tunnel yet. `None`: it is not understood.
    fn packet(&self) -> Option<Packet> {
        let packet = match self.ethertype {
            ethertype::IPV4 => ip::parse_v4(self.frame, self.network, VlanTags::default())?,
            ethertype::IPV6 => ip::parse_v6(self.frame, self.network, VlanTags::default())?,
            ethertype::ARP => Packet::Class(Class::Arp),
            ethertype::LLDP => Packet::Class(Class::Lldp),
            _ => return None,
        };
        Some(match packet {
            Packet::Class(Class::Malformed | Class::Other) => return None,
            Packet::Class(known) => {
                class::datagram_at(known, self.frame, self.start, self.ethertype, self.network)
            }
            packet => packet,
        })
    }
}

#[cfg(test)]
mod tests;
