//! Bytes → what the comparer needs to know about a frame, once. Afterwards nobody parses again.
//!
//! [`Packet::parse`] checks every length it uses against the one it stands in, so what it returns can be trusted:
//! an [`Extent`] of a packet lies inside its frame. Payload lengths come from the IP header, never from the frame's
//! length: short frames are padded on the wire.

mod checksum;
mod class;
mod extension;
mod fragment;
mod ip;
mod options;
mod plain;
mod rewrite;
mod seq;
mod tcp;
mod tunnel;

pub use fragment::{Fragment, Place};
pub use options::{Offered, SynOptions};
pub use seq::{SeqNumber, SeqRange, SeqShift};
pub use tunnel::Tunnels;

use crate::flow::{FlowHasher, FlowKey, VlanTags};
pub(crate) use checksum::has_bad_checksum;
pub(crate) use fragment::put;
pub(crate) use plain::Plain;
pub(crate) use rewrite::{Rewritten, set_tcp_window};
pub(crate) use tcp::{syn_options, tcp_header, urgent_pointer};

/// Header fields outside IP, as byte ranges.
mod field {
    use std::ops::Range;

    pub(super) const ETHERTYPE: Range<usize> = 12..14;
    pub(super) const VLAN_TCI: Range<usize> = 0..2;
    pub(super) const VLAN_ETHERTYPE: Range<usize> = 2..4;
    pub(super) const VLAN_LEN: usize = 4;
    pub(super) const ETHERNET_LEN: usize = 14;
}

/// `EtherType` values (IEEE 802 numbers) that are told apart.
mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const ARP: u16 = 0x0806;
    pub(super) const VLAN: u16 = 0x8100;
    pub(super) const IPV6: u16 = 0x86dd;
    pub(super) const QINQ: u16 = 0x88a8;
    pub(super) const LLDP: u16 = 0x88cc;
    pub(super) const QINQ_OLD: u16 = 0x9100;
}

/// Where bytes stand in a frame: an offset from the start of the Ethernet header, and a length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes before it.
    pub offset: u32,
    /// Bytes in it.
    pub len: u32,
}

impl Extent {
    #[inline(always)]
    fn new(offset: usize, len: usize) -> Self {
        // A frame is at most 69,632 bytes long.
        Self { offset: u32::try_from(offset).unwrap_or(0), len: u32::try_from(len).unwrap_or(0) }
    }

    /// Those bytes of the frame.
    #[inline(always)]
    pub fn of(self, ethernet: &[u8]) -> &[u8] {
        self.part(ethernet, 0, self.len)
    }

    /// `len` bytes from the `skip`th on; empty if they are not all in the extent and the frame.
    #[inline(always)]
    pub fn part(self, ethernet: &[u8], skip: u32, len: u32) -> &[u8] {
        if skip.saturating_add(len) > self.len {
            return &[];
        }
        let start = usize::try_from(self.offset + skip).unwrap_or(usize::MAX);
        let len = usize::try_from(len).unwrap_or(0);
        ethernet.get(start..start.saturating_add(len)).unwrap_or(&[])
    }
}

/// The TCP control bits that matter (RFC 9293 section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(u8);

impl TcpFlags {
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const URG: u8 = 0x20;

    /// From the flag byte of a TCP header.
    #[inline(always)]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// FIN: the sender has no more data.
    #[inline(always)]
    pub fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// SYN: synchronise sequence numbers.
    #[inline(always)]
    pub fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// Whether it has SYN, FIN, RST or URG: something beyond data and an acknowledgment.
    #[inline(always)]
    pub fn is_eventful(self) -> bool {
        self.0 & (Self::SYN | Self::FIN | Self::RST | Self::URG) != 0
    }

    /// URG: the urgent pointer counts.
    #[inline(always)]
    pub fn urg(self) -> bool {
        self.0 & Self::URG != 0
    }

    /// RST: reset the connection.
    #[inline(always)]
    pub fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }
}

/// A TCP segment as its sender numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number of the first position: the SYN's, or that of the first payload byte.
    pub seq: SeqNumber,
    /// Acknowledgment number, if the ACK bit is set.
    pub ack: Option<SeqNumber>,
    /// Control bits.
    pub flags: TcpFlags,
    /// The window it offers, as it stands in the header: not scaled.
    pub window: u16,
    /// Where the payload stands.
    pub payload: Extent,
}

impl Segment {
    /// Positions it takes in the stream: payload, SYN and FIN. A RST takes none, whatever it carries.
    #[inline(always)]
    pub fn positions(&self) -> u32 {
        if self.flags.rst() {
            return 0;
        }
        self.payload.len + u32::from(self.flags.syn()) + u32::from(self.flags.fin())
    }

    /// Whether it carries nothing that needs a partner: no payload, SYN, FIN or RST.
    #[inline(always)]
    pub fn is_pure_ack(&self) -> bool {
        self.positions() == 0 && !self.flags.rst()
    }
}

/// Frames outside the comparison, each with its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Address resolution (RFC 826).
    Arp,
    /// IPv6 neighbour discovery (RFC 4861).
    NeighbourDiscovery,
    /// IPv6 multicast listener discovery (RFC 3810).
    MulticastListener,
    /// IPv4 group management (RFC 3376).
    Igmp,
    /// Link layer discovery (IEEE 802.1AB).
    Lldp,
    /// Any other `EtherType`.
    Other,
    /// Truncated, or with lengths that contradict each other.
    Malformed,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 7] = [
        Self::Arp,
        Self::NeighbourDiscovery,
        Self::MulticastListener,
        Self::Igmp,
        Self::Lldp,
        Self::Other,
        Self::Malformed,
    ];

    /// Its place in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        match self {
            Self::Arp => 0,
            Self::NeighbourDiscovery => 1,
            Self::MulticastListener => 2,
            Self::Igmp => 3,
            Self::Lldp => 4,
            Self::Other => 5,
            Self::Malformed => 6,
        }
    }

    /// As a label: `arp`, `nd`, `mld`, `igmp`, `lldp`, `other`, `malformed`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Arp => "arp",
            Self::NeighbourDiscovery => "nd",
            Self::MulticastListener => "mld",
            Self::Igmp => "igmp",
            Self::Lldp => "lldp",
            Self::Other => "other",
            Self::Malformed => "malformed",
        }
    }
}

/// What a frame is to the comparer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Compared by stream position.
    Tcp(FlowKey, Segment),
    /// Compared as a whole: the extent is the UDP payload, or the IP payload of another protocol.
    Datagram(FlowKey, Extent),
    /// Not compared.
    Class(Class),
    /// A piece of a datagram: what the datagram is turns out when it is whole.
    Fragment(Fragment),
    /// Fragments whose datagram is not compared.
    Stray(Stray),
}

/// Why fragments are not compared. Only [`fragments`](crate::fragments) knows, so no parser says this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// Their datagram is not whole at the end of an epoch: they wait for the commit.
    Incomplete,
    /// There was no room to wait for the rest of their datagram.
    OverBudget,
    /// Others of their datagram were flushed at the end of that epoch.
    Late {
        /// Epochs that have ended with it.
        epoch: u32,
    },
}

impl Packet {
    /// Looks at an Ethernet frame (without virtio header). Never fails: what cannot be understood is
    /// [`Class::Malformed`] or [`Class::Other`].
    #[inline(always)]
    pub fn parse(ethernet: &[u8]) -> Self {
        if let Some(plain) = Plain::new(ethernet) {
            if let Some(segment) = plain.segment() {
                return Self::Tcp(plain.flow(), segment);
            }
            if let Some(payload) = plain.udp_payload() {
                return Self::Datagram(plain.flow(), payload);
            }
        }
        Self::parse_any(ethernet)
    }

    /// Any frame, header by header.
    #[inline(never)]
    pub(crate) fn parse_any(ethernet: &[u8]) -> Self {
        let Some((ethertype, vlan, offset)) = link_layer(ethernet) else {
            return Self::Class(Class::Malformed);
        };
        match ethertype {
            ethertype::IPV4 => ip::parse_v4(ethernet, offset, vlan).unwrap_or(Self::Class(Class::Malformed)),
            ethertype::IPV6 => ip::parse_v6(ethernet, offset, vlan).unwrap_or(Self::Class(Class::Malformed)),
            ethertype::ARP => Self::Class(Class::Arp),
            ethertype::LLDP => Self::Class(Class::Lldp),
            _ => Self::Class(Class::Other),
        }
    }

    /// What a frame that was received is: tunnels are looked into if the hasher's owner wants that, and a frame of a
    /// class has its class's flow. Not inlined: usual frames do not come here.
    #[inline(never)]
    pub(crate) fn received(ethernet: &[u8], hasher: &FlowHasher) -> Self {
        Self::parse_any(ethernet).in_tunnel(ethernet, hasher).with_class_flow(ethernet)
    }

    /// Its flow, unless it has none.
    pub fn flow(&self) -> Option<&FlowKey> {
        match self {
            Self::Tcp(flow, _) | Self::Datagram(flow, _) => Some(flow),
            Self::Class(_) | Self::Fragment(_) | Self::Stray(_) => None,
        }
    }
}

/// `EtherType`, tag stack, and where the network layer starts. At most two tags are taken off (IEEE 802.1ad); a third
/// leaves its `EtherType` standing, so the frame counts as [`Class::Other`].
#[inline(always)]
fn link_layer(ethernet: &[u8]) -> Option<(u16, VlanTags, usize)> {
    let mut ethertype = be16(ethernet.get(field::ETHERTYPE)?);
    let mut offset = field::ETHERNET_LEN;
    let mut vlan = VlanTags::default();
    while matches!(ethertype, ethertype::VLAN | ethertype::QINQ | ethertype::QINQ_OLD) {
        let tag = ethernet.get(offset..offset + field::VLAN_LEN)?;
        if !vlan.push(be16(&tag[field::VLAN_TCI])) {
            break;
        }
        ethertype = be16(&tag[field::VLAN_ETHERTYPE]);
        offset += field::VLAN_LEN;
    }
    Some((ethertype, vlan, offset))
}

/// Two bytes, network order.
#[inline(always)]
fn be16(bytes: &[u8]) -> u16 {
    match bytes {
        [high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
