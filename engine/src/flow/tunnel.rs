//! Flows in a tunnel: a flow's key with what is around it folded in.
//!
//! A key has no room for a second pair of addresses. It keeps the tunnel's kind and number, for people, and of all that
//! the tunnel is a keyed digest of 46 bits; whether two tunnels are one is decided by that. The key is drawn at each
//! start, so a guest cannot make two tunnels look the same.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use super::{FlowHasher, FlowKey, Selector};

/// What a packet travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// VXLAN (RFC 7348), with its network identifier.
    Vxlan(u32),
    /// GRE (RFC 2784), with its key if it has one (RFC 2890).
    Gre(Option<u32>),
}

/// The tunnel's kind in the selector's word: 1 VXLAN, 2 GRE without key, 3 GRE with a key; 0: not in a tunnel.
const KIND_BIT: u32 = 62;
/// The digest's upper 14 bits in the selector's word, above the selector, below the protocol. The lower 32 take the place
/// of the tag stack; above them stands the tunnel's number.
const DIGEST_BIT: u32 = 34;
const LOW: u64 = 0xffff_ffff;

impl FlowKey {
    /// The same flow in a tunnel, which `digest` tells from all others.
    #[must_use]
    pub fn in_tunnel(self, tunnel: Tunnel, digest: u64) -> Self {
        let (kind, number) = match tunnel {
            Tunnel::Vxlan(network) => (1, network),
            Tunnel::Gre(None) => (2, 0),
            Tunnel::Gre(Some(key)) => (3, key),
        };
        let selector = self.selector | kind << KIND_BIT | (digest >> 50) << DIGEST_BIT;
        Self { selector, around: u64::from(number) << 32 | digest & LOW, ..self }
    }

    /// The tunnel it is in.
    pub fn tunnel(&self) -> Option<Tunnel> {
        let number = u32::try_from(self.around >> 32).unwrap_or(0);
        match self.selector >> KIND_BIT {
            1 => Some(Tunnel::Vxlan(number)),
            2 => Some(Tunnel::Gre(None)),
            3 => Some(Tunnel::Gre(Some(number))),
            _ => None,
        }
    }
}

impl FlowHasher {
    /// The keyed digest of a tunnel: of the addresses and tags of the flow that it is to those who do not look into it,
    /// and of `identity`, what its headers say. Ports do not count: the source port of VXLAN is anybody's choice.
    pub(crate) fn digest_tunnel(&self, outer: &FlowKey, identity: [u64; 2]) -> u64 {
        let outer = FlowKey::new(outer.addresses(), outer.vlan(), outer.protocol(), Selector::None);
        let mut hasher = self.state.build_hasher();
        for word in outer.addresses.into_iter().chain([outer.selector, outer.around]).chain(identity) {
            hasher.write_u64(word);
        }
        hasher.finish()
    }
}

impl fmt::Display for Tunnel {
    /// `vxlan 42`, `gre`, `gre 42`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vxlan(network) => write!(f, "vxlan {network}"),
            Self::Gre(None) => f.write_str("gre"),
            Self::Gre(Some(key)) => write!(f, "gre {key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Addresses, VlanTags};
    use super::*;

    fn tunnels() -> impl Strategy<Value = Tunnel> {
        prop_oneof![any::<u32>().prop_map(Tunnel::Vxlan), any::<Option<u32>>().prop_map(Tunnel::Gre),]
    }

    proptest! {
        /// What a key says of the inner packet, and of the tunnel, it still says with the other folded in.
        #[test]
        fn nothing_of_the_key_is_lost(
            tunnel in tunnels(), digest in any::<u64>(), protocol in any::<u8>(),
            source in any::<u128>(), destination in any::<u128>(), ports in any::<[u16; 2]>(), six in any::<bool>(),
        ) {
            let low = |address: u128| u32::try_from(address & u128::from(u32::MAX)).unwrap();
            let addresses = if six {
                Addresses::V6 { source, destination }
            } else {
                Addresses::V4 { source: low(source), destination: low(destination) }
            };
            let selector = Selector::Ports { source: ports[0], destination: ports[1] };
            let plain = FlowKey::new(addresses, VlanTags::default(), protocol, selector);
            let key = plain.in_tunnel(tunnel, digest);
            prop_assert_eq!((key.addresses(), key.protocol(), key.selector()), (addresses, protocol, selector));
            prop_assert_eq!((key.tunnel(), key.vlan(), key.class()), (Some(tunnel), VlanTags::default(), None));
            prop_assert_eq!(key.to_string(), format!("{tunnel} {plain}"));
            prop_assert_eq!(plain.tunnel(), None);
            prop_assert_ne!(key, plain);
            // Each of the 46 bits counts, for the key and for its hash.
            let hasher = FlowHasher::fixed();
            for bit in (0..32).chain(50..64) {
                let other = plain.in_tunnel(tunnel, digest ^ 1 << bit);
                prop_assert_ne!(key, other);
                prop_assert!(hasher.hash(&key) != hasher.hash(&other));
            }
        }
    }

    #[test]
    fn a_tunnel_is_its_ends_its_tags_and_what_its_headers_say() {
        let hasher = FlowHasher::fixed();
        let outer = |destination: u32, tag: Option<u16>, port: u16| {
            let mut tags = VlanTags::default();
            assert!(tag.is_none_or(|tag| tags.push(tag)));
            let addresses = Addresses::V4 { source: 1, destination };
            FlowKey::new(addresses, tags, 17, Selector::Ports { source: port, destination: 4789 })
        };
        let digest = hasher.digest_tunnel(&outer(2, None, 7), [3, 4]);
        assert_eq!(digest, hasher.digest_tunnel(&outer(2, None, 8), [3, 4]), "the source port is nobody's");
        for (key, identity) in
            [(outer(3, None, 7), [3, 4]), (outer(2, Some(0), 7), [3, 4]), (outer(2, None, 7), [4, 3])]
        {
            assert_ne!(digest, hasher.digest_tunnel(&key, identity), "{key} {identity:?}");
        }
        assert_ne!(digest, FlowHasher::seeded(1).digest_tunnel(&outer(2, None, 7), [3, 4]), "it is keyed");
    }

    #[test]
    fn a_key_is_no_larger_for_it() {
        assert_eq!(size_of::<FlowKey>(), 48);
    }
}
