//! The chain of IPv6 extension headers (RFC 8200 section 4): what is behind it, and whether a fragment header is in it.
//!
//! Walked here are the headers that every packet may have and that carry nothing to compare: hop-by-hop options, routing,
//! destination options, authentication, fragment. Anything else, ESP and mobility included, is what the packet carries.

use super::be16;

/// Most extension headers of a packet. RFC 8200 section 4.1 names six and one repeats; the guest may be hostile.
pub(super) const MAX_EXTENSION_HEADERS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

const FRAGMENT_HEADER_LEN: usize = 8;

/// Where a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// Number of the protocol behind the chain; for a fragment what its fragment header names.
    pub(super) protocol: u8,
    /// Bytes of the chain; a fragment's end with its fragment header.
    pub(super) len: usize,
    /// The fragment header that it ends with.
    pub(super) fragment: Option<FragmentHeader>,
}

/// RFC 8200 section 4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FragmentHeader {
    /// Where it starts in the chain.
    pub(super) at: usize,
    /// Where in the chain the byte stands that names it; `None`: in the IPv6 header.
    pub(super) named_at: Option<usize>,
    /// Bytes of the datagram before the fragment's.
    pub(super) offset: u16,
    pub(super) more: bool,
    pub(super) identification: u32,
}

/// Walks the chain of a packet from the number in its IPv6 header on; `None`: malformed. An atomic fragment, which is
/// whole (RFC 6946), is walked past.
pub(super) fn walk(first: u8, bytes: &[u8]) -> Option<Walked> {
    let (mut protocol, mut at, mut named_at) = (first, 0, None);
    let mut fragmented = false;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        let rest = bytes.get(at..)?;
        let len = match protocol {
            // Nowhere but behind the IPv6 header (RFC 8200 section 4.3).
            HOP_BY_HOP if at > 0 => return None,
            HOP_BY_HOP | ROUTING | DESTINATION => 8 * (usize::from(*rest.get(1)?) + 1),
            // RFC 4302 section 2.2: in words, less two.
            AUTHENTICATION => 4 * (usize::from(*rest.get(1)?) + 2),
            // One at most.
            FRAGMENT if fragmented => return None,
            FRAGMENT => FRAGMENT_HEADER_LEN,
            _ => return Some(Walked { protocol, len: at, fragment: None }),
        };
        let header = rest.get(..len)?;
        if protocol == FRAGMENT {
            fragmented = true;
            let fragment = fragment_header(header, at, named_at);
            if fragment.offset != 0 || fragment.more {
                return Some(Walked { protocol: header[0], len: at + len, fragment: Some(fragment) });
            }
        }
        (protocol, named_at, at) = (header[0], Some(at), at + len);
    }
    None
}

fn fragment_header(header: &[u8], at: usize, named_at: Option<usize>) -> FragmentHeader {
    let word = be16(&header[2..4]);
    let identification = u32::from(be16(&header[4..6])) << 16 | u32::from(be16(&header[6..8]));
    FragmentHeader { at, named_at, offset: word & 0xfff8, more: word & 1 != 0, identification }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(next: u8) -> [u8; 8] {
        [next, 0, 1, 4, 0, 0, 0, 0]
    }

    #[test]
    fn all_headers_are_walked_and_the_fragment_header_is_found() {
        let authentication = [&[FRAGMENT, 1][..], &[0; 10]].concat();
        let fragment = [6, 0, 0x05, 0xa9, 1, 2, 3, 4];
        let chain = [&options(ROUTING)[..], &options(AUTHENTICATION), &authentication, &fragment].concat();
        let walked = walk(HOP_BY_HOP, &chain).unwrap();
        let found = FragmentHeader {
            at: 28,
            named_at: Some(16),
            offset: 0x5a8,
            more: true,
            identification: 0x0102_0304,
        };
        assert_eq!(walked, Walked { protocol: 6, len: 36, fragment: Some(found) });
        let named = walk(FRAGMENT, &fragment).unwrap().fragment.unwrap().named_at;
        assert_eq!(named, None, "the IPv6 header names it");
    }

    #[test]
    fn an_atomic_fragment_is_walked_past() {
        let chain = [&[DESTINATION, 0, 0, 0, 1, 2, 3, 4][..], &options(17), &[9; 8]].concat();
        assert_eq!(walk(FRAGMENT, &chain), Some(Walked { protocol: 17, len: 16, fragment: None }));
        let twice = [&[FRAGMENT, 0, 0, 0, 1, 2, 3, 4][..], &[17, 0, 0, 0, 1, 2, 3, 4]].concat();
        assert_eq!(walk(FRAGMENT, &twice), None);
    }

    #[test]
    fn the_walk_is_bounded() {
        let chain_of = |headers: usize| {
            let mut chain: Vec<u8> = (1..headers).flat_map(|_| options(DESTINATION)).collect();
            chain.extend(options(17));
            chain
        };
        assert_eq!(walk(DESTINATION, &chain_of(8)).unwrap().len, 64);
        assert_eq!(walk(DESTINATION, &chain_of(9)), None);
        assert_eq!(walk(DESTINATION, &options(HOP_BY_HOP)), None, "hop-by-hop options come first");
        assert_eq!(walk(17, &[]), Some(Walked { protocol: 17, len: 0, fragment: None }));
    }

    #[test]
    fn every_truncation_is_malformed() {
        let chain =
            [&options(AUTHENTICATION)[..], &[FRAGMENT, 1], &[0; 10], &[6, 0, 0, 9, 0, 0, 0, 0]].concat();
        for len in 0..chain.len() {
            assert_eq!(walk(HOP_BY_HOP, &chain[..len]), None, "{len} bytes");
        }
    }
}
