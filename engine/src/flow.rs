//! Which frames belong together, and which shard they belong to.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::hash::{BuildHasher, Hasher};

mod tunnel;

pub use tunnel::Tunnel;

use crate::wire::{Class, Tunnels};

/// Source and destination address of a packet. Both guests send in the same direction, so a flow has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4, host byte order.
    V4 {
        /// The guest's.
        source: u32,
        /// Its peer's.
        destination: u32,
    },
    /// IPv6, host byte order.
    V6 {
        /// The guest's.
        source: u128,
        /// Its peer's.
        destination: u128,
    },
}

/// The VLAN identifiers of a frame, outermost first: none, one (IEEE 802.1Q) or two (802.1ad).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VlanTags {
    /// Identifier plus one; 0: no such tag.
    tags: [u16; 2],
}

impl VlanTags {
    /// Adds an inner tag from its tag control information; false if there are two already.
    pub fn push(&mut self, control: u16) -> bool {
        let Some(free) = self.tags.iter_mut().find(|tag| **tag == 0) else {
            return false;
        };
        *free = (control & 0x0fff) + 1;
        true
    }

    /// Half a word.
    #[inline(always)]
    fn word(self) -> u64 {
        u64::from(self.tags[0]) << 16 | u64::from(self.tags[1])
    }

    fn from_word(word: u64) -> Self {
        Self { tags: [word >> 16, word].map(|tag| u16::try_from(tag & 0xffff).unwrap_or(0)) }
    }

    /// The identifiers, outermost first.
    pub fn identifiers(self) -> impl Iterator<Item = u16> {
        self.tags.into_iter().filter(|tag| *tag != 0).map(|tag| tag - 1)
    }
}

/// What tells flows of one address pair and protocol apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Nothing.
    None,
    /// TCP, UDP, UDP-Lite ports.
    Ports {
        /// The guest's.
        source: u16,
        /// Its peer's.
        destination: u16,
    },
    /// ICMP query or reply.
    Query {
        /// ICMP type.
        kind: u8,
        /// Identifier.
        identifier: u16,
    },
    /// A fragment, which need not carry ports.
    Fragment,
}

impl Selector {
    /// 34 bits.
    #[inline(always)]
    fn word(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Ports { source, destination } => 1 << 32 | u64::from(source) << 16 | u64::from(destination),
            Self::Query { kind, identifier } => 2 << 32 | u64::from(kind) << 16 | u64::from(identifier),
            Self::Fragment => 3 << 32,
        }
    }

    fn from_word(word: u64) -> Self {
        let low = |shift: u32| u16::try_from((word >> shift) & 0xffff).unwrap_or(0);
        match (word >> 32) & 3 {
            1 => Self::Ports { source: low(16), destination: low(0) },
            2 => Self::Query { kind: low(16).to_be_bytes()[1], identifier: low(0) },
            3 => Self::Fragment,
            _ => Self::None,
        }
    }
}

/// What makes a flow: frames with equal keys are compared with each other, no others.
///
/// Packed into words: a key is written, moved, hashed and compared for every frame, and fields of mixed size that are
/// written one by one and moved by the vector stall the processor (no store forwarding).
#[derive(Clone, Copy, Eq)]
pub struct FlowKey {
    /// IPv4: both in the first word. IPv6: two words each.
    addresses: [u64; 4],
    /// The selector's word, the protocol from bit 48 on, and bit 56 for IPv6.
    selector: u64,
    /// What the packet travels in: the tag stack, or the tunnel.
    around: u64,
}

impl PartialEq for FlowKey {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        // As a rule all of it is equal: few branches. Most keys are of IPv4, whose last three words are 0.
        let mut differ = (self.selector ^ other.selector) | (self.around ^ other.around);
        differ |= self.addresses[0] ^ other.addresses[0];
        differ == 0 && (self.selector & IPV6 == 0 || self.addresses == other.addresses)
    }
}

const PROTOCOL_BIT: u32 = 48;
const IPV6: u64 = 1 << 56;
/// The flow of a class of frames; the class stands in bits 58 to 60.
const CLASS: u64 = 1 << 57;
const CLASS_BIT: u32 = 58;
/// Of a class, and known by its MAC addresses, which stand in the first two words of the addresses, above the source's
/// the `EtherType`.
const LINK: u64 = 1 << 61;
/// Protocol number of frames that are not IP: reserved (IANA).
const NOT_IP: u8 = 255;

impl FlowKey {
    /// From its parts: the protocol is the IP protocol number.
    #[inline(always)]
    pub fn new(addresses: Addresses, vlan: VlanTags, protocol: u8, selector: Selector) -> Self {
        let selector = selector.word() | u64::from(protocol) << PROTOCOL_BIT;
        match addresses {
            Addresses::V4 { source, destination } => {
                let word = u64::from(source) << 32 | u64::from(destination);
                Self { addresses: [word, 0, 0, 0], selector, around: vlan.word() }
            }
            Addresses::V6 { source, destination } => {
                let [source, destination] = [halves(source), halves(destination)];
                let addresses = [source[0], source[1], destination[0], destination[1]];
                Self { addresses, selector: selector | IPV6, around: vlan.word() }
            }
        }
    }

    /// The flow of a class of frames that are not IP: known by source, destination, `EtherType` and tags.
    #[cold]
    pub fn of_link(
        class: Class,
        source: [u8; 6],
        destination: [u8; 6],
        ethertype: u16,
        vlan: VlanTags,
    ) -> Self {
        let word = |mac: [u8; 6]| mac.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let source = word(source) | u64::from(ethertype) << 48;
        // The hash covers all four words only with this bit.
        let selector = u64::from(NOT_IP) << PROTOCOL_BIT | IPV6 | LINK;
        Self { addresses: [source, word(destination), 0, 0], selector, around: vlan.word() }.in_class(class)
    }

    /// The same, as the flow of a class of frames.
    #[must_use]
    pub fn in_class(self, class: Class) -> Self {
        let class = u64::try_from(class.index()).unwrap_or(0) << CLASS_BIT;
        Self { selector: self.selector | CLASS | class, ..self }
    }

    /// The class of frames that it is the flow of, unless it is compared by the rules for IP.
    #[inline(always)]
    pub fn class(&self) -> Option<Class> {
        if self.selector & CLASS == 0 { None } else { self.which_class() }
    }

    #[cold]
    fn which_class(&self) -> Option<Class> {
        Class::ALL.get(usize::try_from(self.selector >> CLASS_BIT & 7).ok()?).copied()
    }

    /// MAC addresses of a flow that is not IP: source and destination.
    fn link(&self) -> Option<[[u8; 6]; 2]> {
        if self.selector & LINK == 0 {
            return None;
        }
        let mac = |word: u64| {
            let [_, _, rest @ ..] = word.to_be_bytes();
            rest
        };
        Some([mac(self.addresses[0]), mac(self.addresses[1])])
    }

    /// Source and destination; of a flow that is not IP they mean nothing.
    pub fn addresses(&self) -> Addresses {
        let [one, two, three, four] = self.addresses;
        if self.selector & IPV6 != 0 {
            let whole = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
            return Addresses::V6 { source: whole(one, two), destination: whole(three, four) };
        }
        let [source, destination] =
            [one >> 32, one & 0xffff_ffff].map(|word| u32::try_from(word).unwrap_or(0));
        Addresses::V4 { source, destination }
    }

    /// Tag stack; none of a flow in a tunnel.
    pub fn vlan(&self) -> VlanTags {
        match self.tunnel() {
            None => VlanTags::from_word(self.around),
            Some(_) => VlanTags::default(),
        }
    }

    /// IP protocol number.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.selector.to_be_bytes()[1]
    }

    /// Ports, identifiers.
    pub fn selector(&self) -> Selector {
        Selector::from_word(self.selector)
    }
}

/// The high and the low half.
#[inline(always)]
fn halves(address: u128) -> [u64; 2] {
    [address >> 64, address & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or(0))
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlowKey({self})")
    }
}

/// The protocol's name as in `/etc/protocols`, for the known ones.
pub(crate) fn protocol_name(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        58 => "icmpv6",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}

impl fmt::Display for FlowKey {
    /// `tcp 10.0.0.1:80 > 10.0.0.9:4242`, `tcp [fd00::1]:80 > [fd00::9]:4242`, `icmp 10.0.0.1 > 10.0.0.9 id 7`,
    /// `proto 89 10.0.0.1 > 10.0.0.9`, `arp 52:54:00:00:00:01 > ff:ff:ff:ff:ff:ff`, with `vlan 7.9 ` in front when tagged,
    /// with `vxlan 42 `, `gre ` or `gre 42 ` when in a tunnel.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tunnel) = self.tunnel() {
            write!(f, "{tunnel} ")?;
        }
        for (place, identifier) in self.vlan().identifiers().enumerate() {
            write!(f, "{}{identifier}", if place == 0 { "vlan " } else { "." })?;
        }
        if self.vlan() != VlanTags::default() {
            f.write_str(" ")?;
        }
        if let Some(class) = self.class() {
            write!(f, "{} ", class.label())?;
        }
        if let Some([source, destination]) = self.link() {
            return write!(f, "{} > {}", Mac(source), Mac(destination));
        }
        match protocol_name(self.protocol()) {
            _ if self.class().is_some() => {}
            Some(name) => write!(f, "{name} ")?,
            None => write!(f, "proto {} ", self.protocol())?,
        }
        match (self.addresses(), self.selector()) {
            (Addresses::V4 { source, destination }, selector) => {
                write_ends(f, Ipv4Addr::from(source), Ipv4Addr::from(destination), ["", ""], selector)
            }
            (Addresses::V6 { source, destination }, selector) => {
                write_ends(f, Ipv6Addr::from(source), Ipv6Addr::from(destination), ["[", "]"], selector)
            }
        }
    }
}

/// Written as people write it.
struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

fn write_ends(
    f: &mut fmt::Formatter<'_>,
    source: impl fmt::Display,
    destination: impl fmt::Display,
    [open, close]: [&str; 2],
    selector: Selector,
) -> fmt::Result {
    match selector {
        Selector::Ports { source: from, destination: to } => {
            write!(f, "{open}{source}{close}:{from} > {open}{destination}{close}:{to}")
        }
        Selector::Query { identifier, .. } => write!(f, "{source} > {destination} id {identifier}"),
        Selector::Fragment => write!(f, "{source} > {destination} fragments"),
        Selector::None => write!(f, "{source} > {destination}"),
    }
}

/// Number of a shard: a worker core's share of the flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub usize);

/// A flow's keyed hash: 32 bits choose the shard, the other 32 the bucket in its table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowHash(u64);

impl FlowHash {
    /// The shard among `shards`, by multiplication instead of division (Lemire 2016, "fast alternative to modulo").
    #[inline(always)]
    pub fn shard(self, shards: usize) -> ShardId {
        let shards = u64::try_from(shards).unwrap_or(1);
        ShardId(usize::try_from(((self.0 >> 32) * shards) >> 32).unwrap_or(0))
    }

    /// What the table of a shard looks it up by.
    #[inline(always)]
    pub fn bucket_bits(self) -> u32 {
        u32::try_from(self.0 & 0xffff_ffff).unwrap_or(0)
    }
}

/// Hashes flows with a key that is drawn at each start, so that a guest cannot aim at one shard or bucket.
///
/// It also knows whether a packet in a tunnel has a flow of its own, so that whoever hashes frames asks nobody else.
#[derive(Clone, Debug)]
pub struct FlowHasher {
    state: ahash::RandomState,
    tunnels: Tunnels,
}

impl FlowHasher {
    /// With a fresh key.
    pub fn random() -> Self {
        Self { state: ahash::RandomState::new(), tunnels: Tunnels::Opaque }
    }

    /// With a fixed key, so that a replay is the same each time.
    pub fn fixed() -> Self {
        Self::seeded(0x636f_6c6f)
    }

    /// With a key derived from a seed.
    pub fn seeded(seed: u64) -> Self {
        Self {
            state: ahash::RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 0x9e37_79b9_7f4a_7c15),
            tunnels: Tunnels::Opaque,
        }
    }

    /// With the same key, and tunnels as they are wanted.
    #[must_use]
    pub fn with_tunnels(self, tunnels: Tunnels) -> Self {
        Self { tunnels, ..self }
    }

    /// Whether it is asked what is in tunnels.
    #[inline(always)]
    pub fn tunnels(&self) -> Tunnels {
        self.tunnels
    }

    /// The hash of a flow.
    #[inline(always)]
    pub fn hash(&self, key: &FlowKey) -> FlowHash {
        let mut hasher = self.state.build_hasher();
        hasher.write_u64(key.addresses[0]);
        if key.selector & IPV6 != 0 {
            for word in &key.addresses[1..] {
                hasher.write_u64(*word);
            }
        }
        // The selector takes the lower 34 bits: tags, or what of a tunnel's digest stands in their place, go above them.
        hasher.write_u64(key.selector ^ key.around.rotate_left(35));
        FlowHash(hasher.finish())
    }

    /// The hash of a fragmented datagram: of what its fragments have in common.
    pub fn hash_fragment(&self, key: &FlowKey, identification: u32) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u64(self.hash(key).0);
        hasher.write_u32(identification);
        hasher.finish()
    }

    /// The keyed digest of those parts of a datagram's content that count.
    pub fn digest_parts<'a>(&self, flow: u32, parts: impl Iterator<Item = &'a [u8]>) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u32(flow);
        for part in parts {
            hasher.write(part);
        }
        hasher.finish()
    }

    /// The keyed digest of a datagram's content within its flow.
    pub fn digest(&self, flow: u32, content: &[u8]) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u32(flow);
        hasher.write(content);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(selector: Selector, protocol: u8) -> FlowKey {
        let addresses = Addresses::V4 { source: 0x0a00_0001, destination: 0x0a00_0009 };
        FlowKey::new(addresses, VlanTags::default(), protocol, selector)
    }

    #[test]
    fn flows_are_written_as_people_write_them() {
        let ports = Selector::Ports { source: 80, destination: 4242 };
        let key = v4(ports, 6);
        assert_eq!(key.to_string(), "tcp 10.0.0.1:80 > 10.0.0.9:4242");
        let mut tags = VlanTags::default();
        assert!(tags.push(7) && tags.push(4095) && !tags.push(1));
        let key = FlowKey::new(key.addresses(), tags, 6, ports);
        assert_eq!(
            (key.to_string().as_str(), key.vlan()),
            ("vlan 7.4095 tcp 10.0.0.1:80 > 10.0.0.9:4242", tags)
        );
        let arp =
            FlowKey::of_link(Class::Arp, [0x52, 0x54, 0, 0, 0, 1], [255; 6], 0x0806, VlanTags::default());
        assert_eq!(arp.to_string(), "arp 52:54:00:00:00:01 > ff:ff:ff:ff:ff:ff");
        assert_eq!((arp.class(), arp.protocol()), (Some(Class::Arp), 255));
        let igmp = v4(Selector::None, 2).in_class(Class::Igmp);
        assert_eq!(
            (igmp.to_string().as_str(), igmp.class()),
            ("igmp 10.0.0.1 > 10.0.0.9", Some(Class::Igmp))
        );
        let icmp = v4(Selector::Query { kind: 0, identifier: 7 }, 1);
        assert_eq!(icmp.to_string(), "icmp 10.0.0.1 > 10.0.0.9 id 7");
        assert_eq!(v4(Selector::None, 89).to_string(), "proto 89 10.0.0.1 > 10.0.0.9");
        let source = u128::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
        let v6 = Addresses::V6 { source, destination: source + 8 };
        let v6 = FlowKey::new(v6, VlanTags::default(), 6, ports);
        assert_eq!(v6.to_string(), "tcp [fd00::1]:80 > [fd00::9]:4242");
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let hasher = FlowHasher::fixed();
        let base = v4(Selector::Ports { source: 80, destination: 4242 }, 6);
        let mut tags = VlanTags::default();
        assert!(tags.push(0));
        let tagged = FlowKey::new(base.addresses(), tags, 6, base.selector());
        let others = [
            tagged,
            FlowKey::new(base.addresses(), VlanTags::default(), 17, base.selector()),
            v4(Selector::Ports { source: 4242, destination: 80 }, 6),
            FlowKey::new(
                Addresses::V4 { source: 0x0a00_0009, destination: 0x0a00_0001 },
                VlanTags::default(),
                6,
                base.selector(),
            ),
        ];
        for other in others {
            assert_ne!(hasher.hash(&base), hasher.hash(&other), "{other}");
        }
    }

    #[test]
    fn shards_are_used_evenly() {
        let hasher = FlowHasher::random();
        let mut counts = [0_u32; 3];
        for port in 0..3000 {
            let key = v4(Selector::Ports { source: 80, destination: port }, 6);
            counts[hasher.hash(&key).shard(3).0] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
