//! A piece of an IP datagram: what it says of itself, and the headers of the whole that it is a piece of.
//!
//! What belongs together, and when it is complete, is the business of [`fragments`](crate::fragments).

use super::extension::{self, FragmentHeader};
use super::{Extent, be16};
use crate::flow::{Addresses, FlowKey, Selector, VlanTags};

const V4_TOTAL_LEN: usize = 2;
const V4_FRAGMENT_WORD: usize = 6;
const V6_PAYLOAD_LEN: usize = 4;
const V6_HEADER_LEN: u32 = 40;
const V6_FRAGMENT_HEADER_LEN: u32 = 8;
/// What the length fields of both versions can say.
const MAX_IP_LEN: u32 = 65_535;
const TCP: u8 = 6;
/// Of UDP, and the least of all others: an ICMP header, an SCTP chunk's.
const MIN_TRANSPORT_HEADER: usize = 8;
const MIN_TCP_HEADER: usize = 20;
/// The protocol number that keys all IPv6 fragments: only the first one knows what the datagram carries (RFC 8200 section
/// 4.5).
const V6_FRAGMENT: u8 = 44;

/// One fragment, IPv4 (RFC 791 section 3.2) or IPv6 (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    flow: FlowKey,
    /// As the sender numbered the datagram.
    pub identification: u32,
    /// Bytes of the datagram before this one's first.
    pub offset: u32,
    /// Whether it is the last.
    pub place: Place,
    /// Where its part of the datagram stands.
    pub payload: Extent,
    /// Where the IP header starts.
    network: u32,
    /// IPv6: where the byte stands that names the fragment header.
    named_at: Option<u32>,
}

/// Whether more of a datagram follows behind a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// More follows.
    Inner,
    /// It is the end.
    Last,
}

impl Place {
    pub(super) fn new(more: bool) -> Self {
        if more { Self::Inner } else { Self::Last }
    }
}

/// What the IP headers in front of a fragment say.
pub(super) struct Carrier {
    pub(super) addresses: Addresses,
    pub(super) vlan: VlanTags,
    pub(super) protocol: u8,
    /// Where the IP header starts.
    pub(super) network: usize,
}

impl Fragment {
    /// From an IPv4 header's words.
    pub(super) fn v4(carrier: &Carrier, identification: u16, word: u16, payload: Extent) -> Self {
        Self {
            flow: carrier.flow(),
            identification: u32::from(identification),
            offset: u32::from(word & 0x1fff) * 8,
            place: Place::new(word & 0x2000 != 0),
            payload,
            network: u32::try_from(carrier.network).unwrap_or(0),
            named_at: None,
        }
    }

    /// From an IPv6 fragment header; `chain` is where the extension headers start.
    pub(super) fn v6(carrier: &Carrier, chain: usize, header: &FragmentHeader, payload: Extent) -> Self {
        // The next header field of an IPv6 header is its seventh byte, that of an extension header its first.
        let named_at = header.named_at.map_or(carrier.network + 6, |at| chain + at);
        Self {
            flow: carrier.flow(),
            identification: header.identification,
            offset: u32::from(header.offset),
            place: Place::new(header.more),
            payload,
            network: u32::try_from(carrier.network).unwrap_or(0),
            named_at: u32::try_from(named_at).ok(),
        }
    }

    /// Addresses, tags and protocol, for people.
    pub fn flow(&self) -> &FlowKey {
        &self.flow
    }

    /// What the fragments of one datagram have in common, besides the identification.
    pub fn key(&self) -> FlowKey {
        match self.named_at {
            None => self.flow,
            Some(_) => FlowKey::new(self.flow.addresses(), self.flow.vlan(), V6_FRAGMENT, Selector::Fragment),
        }
    }

    /// Bytes of the datagram before the one behind this.
    pub fn end(&self) -> u32 {
        self.offset + self.payload.len
    }

    /// Bytes of Ethernet and IP headers that the whole datagram has, going by this fragment.
    pub fn headers_len(&self) -> u32 {
        let own = if self.named_at.is_some() { V6_FRAGMENT_HEADER_LEN } else { 0 };
        self.payload.offset - own
    }

    /// Whether a length field can say how long a datagram is that has `len` bytes behind these headers.
    pub fn can_carry(&self, len: u32) -> bool {
        let uncounted = if self.named_at.is_some() { V6_HEADER_LEN } else { 0 };
        self.headers_len() - self.network - uncounted + len <= MAX_IP_LEN
    }

    /// Whether it is a first fragment without all of the transport header, so that whoever looks at one fragment only
    /// cannot tell what the datagram is (RFC 1858 section 3, RFC 7112 section 5).
    pub fn hides_its_header(&self, ethernet: &[u8]) -> bool {
        if self.offset != 0 {
            return false;
        }
        let Some((protocol, behind)) = self.transport(ethernet) else { return true };
        let transport = self.payload.of(ethernet).get(behind..).unwrap_or(&[]);
        let needed = match (protocol, transport.get(12)) {
            (TCP, None) => return true,
            (TCP, Some(offset)) => MIN_TCP_HEADER.max(usize::from(offset >> 4) * 4),
            _ => MIN_TRANSPORT_HEADER,
        };
        transport.len() < needed
    }

    /// Of a first fragment: the transport protocol, and how far behind the fragment's headers it starts. `None`: it does
    /// not start here.
    fn transport(&self, ethernet: &[u8]) -> Option<(u8, usize)> {
        match (self.offset, self.named_at) {
            (0, None) => Some((self.flow.protocol(), 0)),
            (0, Some(_)) => {
                let walked = extension::walk(self.flow.protocol(), self.payload.of(ethernet))?;
                walked.fragment.is_none().then_some((walked.protocol, walked.len))
            }
            _ => None,
        }
    }

    /// Writes the headers of the whole datagram, going by this fragment, its first: no longer a fragment's, and with a
    /// length of `len` bytes behind them. Checksums are left as they are: nobody reads them here.
    pub fn write_headers(&self, ethernet: &[u8], len: u32, whole: &mut [u8]) {
        let headers = Extent { offset: 0, len: self.headers_len() };
        let network = usize::try_from(self.network).unwrap_or(0);
        let counted_from = if self.named_at.is_some() { self.network + V6_HEADER_LEN } else { self.network };
        let length = u16::try_from(headers.len - counted_from + len).unwrap_or(u16::MAX);
        put(whole, 0, headers.of(ethernet));
        match self.named_at {
            None => {
                put(whole, network + V4_FRAGMENT_WORD, &[0; 2]);
                put(whole, network + V4_TOTAL_LEN, &length.to_be_bytes());
            }
            Some(at) => {
                put(whole, usize::try_from(at).unwrap_or(usize::MAX), &[self.flow.protocol()]);
                put(whole, network + V6_PAYLOAD_LEN, &length.to_be_bytes());
            }
        }
    }
}

impl Carrier {
    fn flow(&self) -> FlowKey {
        FlowKey::new(self.addresses, self.vlan, self.protocol, Selector::Fragment)
    }
}

/// Copies `bytes` to a place in a frame; nowhere beyond its end.
pub(crate) fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = at.checked_add(bytes.len()).and_then(|end| frame.get_mut(at..end)) {
        place.copy_from_slice(bytes);
    }
}

/// The IPv4 word with flags and offset, if it makes the packet a fragment.
pub(super) fn v4_word(header: &[u8]) -> Option<u16> {
    let word = be16(header.get(V4_FRAGMENT_WORD..)?);
    (word & 0x3fff != 0).then_some(word)
}
