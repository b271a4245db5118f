//! How a packet is carried: VLAN tags, IP options and extension headers, fragments, tunnels, spoilt checksums. Said
//! about any packet, done by `wrap.rs` once the packet is bytes.

use std::ops::Range;

use super::packet::Packet;

/// Tag protocol identifier of a customer's VLAN tag.
pub(super) const CUSTOMER_TAG: u16 = 0x8100;
/// Tag protocol identifier of a service provider's tag.
pub(super) const SERVICE_TAG: u16 = 0x88A8;

/// One fragment of a datagram. Offsets count in the IP payload, the transport header included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The identification that its siblings share.
    pub(super) id: u16,
    /// Bytes of the payload it carries; an end behind the payload's means the last.
    pub(super) bytes: Range<usize>,
    /// The offset it claims; a multiple of 8.
    pub(super) offset: usize,
}

/// What a packet travels in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tunnel {
    /// An Ethernet frame in UDP, port 4789 (RFC 7348).
    Vxlan(u32),
    /// An IP packet in GRE without options (RFC 2784).
    Gre,
    /// An Ethernet frame in GRE (RFC 7637, without its key).
    GreEthernet,
}

/// A checksum that is wrong on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoilt {
    /// TCP's or UDP's.
    Transport,
    /// IPv4's header checksum; IPv6 has none.
    IpHeader,
}

/// All of it; the default is a plain untagged packet.
#[derive(Debug, Clone, Default)]
pub(super) struct Carriage {
    /// Outermost first.
    pub(super) tags: Vec<(u16, u16)>,
    pub(super) ip_options: Vec<u8>,
    /// IPv6 extension headers, outermost first: protocol number and the bytes from the third on.
    pub(super) extensions: Vec<(u8, Vec<u8>)>,
    pub(super) piece: Option<Piece>,
    pub(super) tunnel: Option<Tunnel>,
    pub(super) spoilt: Option<Spoilt>,
    pub(super) destination_mac: Option<[u8; 6]>,
}

impl Packet {
    /// Adds a VLAN tag; the first added is the outermost.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.carriage.tags.push((CUSTOMER_TAG, id));
        self
    }

    /// Tagged twice: a provider's tag outside, a customer's inside.
    #[must_use]
    pub fn qinq(mut self, outer: u16, inner: u16) -> Self {
        self.carriage.tags.extend([(SERVICE_TAG, outer), (CUSTOMER_TAG, inner)]);
        self
    }

    /// Adds IPv4 options, a multiple of four bytes, at most 40.
    #[must_use]
    pub fn ip_options(mut self, bytes: &[u8]) -> Self {
        self.carriage.ip_options = bytes.to_vec();
        self
    }

    /// Adds an IPv6 extension header by its protocol number: 0 hop-by-hop, 43 routing, 60 destination options. `body` is
    /// what follows its first two bytes, a multiple of eight plus six bytes.
    #[must_use]
    pub fn extension(mut self, number: u8, body: &[u8]) -> Self {
        assert!(body.len() % 8 == 6, "an extension header is a multiple of eight bytes");
        self.carriage.extensions.push((number, body.to_vec()));
        self
    }

    /// Only this part of the packet, as a fragment. An end behind the packet's is its end.
    #[must_use]
    pub fn piece(self, id: u16, bytes: Range<usize>) -> Self {
        let offset = bytes.start;
        self.piece_at(id, bytes, offset)
    }

    /// A fragment that claims another offset than its bytes have.
    #[must_use]
    pub fn piece_at(mut self, id: u16, bytes: Range<usize>, offset: usize) -> Self {
        assert!(offset.is_multiple_of(8), "fragments lie at multiples of eight");
        self.carriage.piece = Some(Piece { id, bytes, offset });
        self
    }

    /// All of the packet in fragments, cut at these offsets of the IP payload.
    #[must_use]
    pub fn cut(self, id: u16, cuts: &[usize]) -> Vec<Self> {
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain(std::iter::once(usize::MAX));
        starts.zip(ends).map(|(start, end)| self.clone().piece(id, start..end)).collect()
    }

    /// Inside a VXLAN tunnel between two hosts of their own.
    #[must_use]
    pub fn in_vxlan(mut self, vni: u32) -> Self {
        self.carriage.tunnel = Some(Tunnel::Vxlan(vni));
        self
    }

    /// Inside a GRE tunnel, as an IP packet.
    #[must_use]
    pub fn in_gre(mut self) -> Self {
        self.carriage.tunnel = Some(Tunnel::Gre);
        self
    }

    /// Inside a GRE tunnel, as an Ethernet frame.
    #[must_use]
    pub fn in_gre_ethernet(mut self) -> Self {
        self.carriage.tunnel = Some(Tunnel::GreEthernet);
        self
    }

    /// With a wrong TCP or UDP checksum.
    #[must_use]
    pub fn bad_checksum(mut self) -> Self {
        self.carriage.spoilt = Some(Spoilt::Transport);
        self
    }

    /// With a wrong IPv4 header checksum.
    #[must_use]
    pub fn bad_ip_checksum(mut self) -> Self {
        self.carriage.spoilt = Some(Spoilt::IpHeader);
        self
    }

    /// To this Ethernet address: broadcast, a group.
    #[must_use]
    pub fn to_mac(mut self, address: [u8; 6]) -> Self {
        self.carriage.destination_mac = Some(address);
        self
    }
}
