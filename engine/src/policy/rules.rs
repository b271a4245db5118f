//! One rule: which flows it is about. Everything that is not said matches all.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{Action, PayloadMask};
use crate::compare::IgnoredFields;
use crate::flow::{Addresses, FlowKey, Selector, protocol_name};

/// Most ranges in a list of ports.
pub const MAX_PORT_RANGES: usize = 64;

/// IP protocols that a rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// All.
    #[default]
    Any,
    /// One, by its number.
    Number(u8),
}

impl FromStr for Protocol {
    type Err = ();

    /// `any`, a name as in a flow's text (`tcp`), or a number.
    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let named = (0..=u8::MAX).find(|number| protocol_name(*number) == Some(text));
        named.or_else(|| text.parse().ok()).map(Self::Number).ok_or(())
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Number(number) => match protocol_name(*number) {
                Some(name) => f.write_str(name),
                None => write!(f, "{number}"),
            },
        }
    }
}

/// A list of ports and ranges of ports. Empty: all, and flows without ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortRanges(Vec<RangeInclusive<u16>>);

impl PortRanges {
    /// Whether all match.
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, port: Option<u16>) -> bool {
        self.is_any() || port.is_some_and(|port| self.0.iter().any(|range| range.contains(&port)))
    }
}

impl FromStr for PortRanges {
    type Err = ();

    /// `80`, `80,443`, `8000-8100,9000`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let [first, last] = [first, last].map(|port| port.trim().parse::<u16>());
            let (first, last) = (first.map_err(|_| ())?, last.map_err(|_| ())?);
            if first > last || ranges.len() == MAX_PORT_RANGES {
                return Err(());
            }
            ranges.push(first..=last);
        }
        Ok(Self(ranges))
    }
}

impl fmt::Display for PortRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, range) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Addresses with the same leading bits (RFC 4632).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// IPv4.
    V4 {
        /// Host bits are 0.
        address: u32,
        /// 0 to 32.
        bits: u8,
    },
    /// IPv6.
    V6 {
        /// Host bits are 0.
        address: u128,
        /// 0 to 128.
        bits: u8,
    },
}

impl Network {
    fn has_v4(self, address: u32) -> bool {
        matches!(self, Self::V4 { address: own, bits } if (own ^ address) & mask_v4(bits) == 0)
    }

    fn has_v6(self, address: u128) -> bool {
        matches!(self, Self::V6 { address: own, bits } if (own ^ address) & mask_v6(bits) == 0)
    }
}

fn mask_v4(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

fn mask_v6(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

impl FromStr for Network {
    type Err = ();

    /// `10.0.0.0/8`, `fd00::/8`, or one address. Bits behind the prefix must be 0: they would be a mistake.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let bits = |most: u8| match bits {
            None => Ok(most),
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or(()),
        };
        if let Ok(address) = address.parse::<Ipv4Addr>() {
            let (address, bits) = (u32::from(address), bits(32)?);
            return if address & !mask_v4(bits) == 0 { Ok(Self::V4 { address, bits }) } else { Err(()) };
        }
        let (address, bits) = (u128::from(address.parse::<Ipv6Addr>().map_err(|_| ())?), bits(128)?);
        if address & !mask_v6(bits) == 0 { Ok(Self::V6 { address, bits }) } else { Err(()) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4 { address, bits } => write!(f, "{}/{bits}", Ipv4Addr::from(address)),
            Self::V6 { address, bits } => write!(f, "{}/{bits}", Ipv6Addr::from(address)),
        }
    }
}

/// Which flows, and what is done with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// IP protocol.
    pub protocol: Protocol,
    /// The guest's ports (TCP, UDP, UDP-Lite).
    pub guest_ports: PortRanges,
    /// Its peer's ports.
    pub peer_ports: PortRanges,
    /// The guest's address.
    pub guest: Option<Network>,
    /// Its peer's address.
    pub peer: Option<Network>,
    /// The outermost VLAN identifier.
    pub vlan: Option<u16>,
    /// What becomes of their frames.
    pub action: Action,
    /// Header fields that do not count, besides those that never do.
    pub ignored: IgnoredFields,
    /// Payload that does not count.
    pub mask: PayloadMask,
}

impl Rule {
    /// Whether a flow is one of its flows. The guest is the sender.
    pub fn matches(&self, flow: &FlowKey) -> bool {
        let (source, destination) = match flow.selector() {
            Selector::Ports { source, destination } => (Some(source), Some(destination)),
            _ => (None, None),
        };
        let protocol = match self.protocol {
            Protocol::Any => true,
            Protocol::Number(number) => number == flow.protocol(),
        };
        let addresses = match flow.addresses() {
            Addresses::V4 { source, destination } => {
                self.guest.is_none_or(|network| network.has_v4(source))
                    && self.peer.is_none_or(|network| network.has_v4(destination))
            }
            Addresses::V6 { source, destination } => {
                self.guest.is_none_or(|network| network.has_v6(source))
                    && self.peer.is_none_or(|network| network.has_v6(destination))
            }
        };
        protocol
            && addresses
            && self.guest_ports.has(source)
            && self.peer_ports.has(destination)
            && self.vlan.is_none_or(|vlan| flow.vlan().identifiers().next() == Some(vlan))
    }
}
