//! Parts of a datagram's content that never count: what routers and kernels fill in as they like.
//!
//! An ICMP error quotes the packet that it is about. What a hop changes in that packet (identification, TTL, checksums)
//! says nothing about the guest that quotes it; nor does the ICMP checksum, which covers the quotation. Everything else
//! of the quotation counts.

use std::ops::Range;

use arrayvec::ArrayVec;

use crate::flow::FlowKey;

/// Most stretches of one content.
const MOST: usize = 8;
/// IPv6 extension headers that are walked in a quoted packet.
const QUOTED_EXTENSIONS: usize = 4;

/// IP protocol numbers.
mod protocol {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ICMP: u8 = 1;
    pub(super) const TCP: u8 = 6;
    pub(super) const UDP: u8 = 17;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const ICMPV6: u8 = 58;
    pub(super) const DESTINATION: u8 = 60;
    pub(super) const UDP_LITE: u8 = 136;
}

/// Bytes of an ICMP error before the packet that it quotes (RFC 792, RFC 4443 section 3).
const ICMP_HEADER: usize = 8;
const IPV6_HEADER: usize = 40;

/// Stretches of a content, in order, that do not overlap. Which they are is told by bytes outside of them alone, so equal
/// contents have equal stretches.
pub(super) type Stretches = ArrayVec<Range<usize>, MOST>;

/// What never counts of a datagram's content.
#[cold]
pub(super) fn stretches(key: &FlowKey, content: &[u8]) -> Stretches {
    let mut found = Stretches::new();
    let kind = content.first().copied();
    match (key.protocol(), kind) {
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
        (protocol::ICMP, Some(3 | 4 | 5 | 11 | 12)) => {
            add(&mut found, 2..4);
            quoted_v4(&mut found, content);
        }
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        (protocol::ICMPV6, Some(1..=4)) => {
            add(&mut found, 2..4);
            quoted_v6(&mut found, content);
        }
        _ => {}
    }
    found.retain(|range| range.start < content.len());
    for range in &mut found {
        range.end = range.end.min(content.len());
    }
    found
}

fn add(found: &mut Stretches, range: Range<usize>) {
    // There are never more than MOST of them.
    let _ = found.try_push(range);
}

/// RFC 791 section 3.1.
fn quoted_v4(found: &mut Stretches, content: &[u8]) {
    let Some(header) = content.get(ICMP_HEADER..) else { return };
    let Some(&first) = header.first().filter(|first| **first >> 4 == 4) else { return };
    let length = usize::from(first & 0x0f) * 4;
    // Identification, TTL, header checksum.
    for range in [4..6, 8..9, 10..12] {
        add(found, ICMP_HEADER + range.start..ICMP_HEADER + range.end);
    }
    let (Some([flags, offset]), Some(&carried)) = (header.get(6..8), header.get(9)) else { return };
    if length >= 20 && u16::from_be_bytes([*flags, *offset]).trailing_zeros() >= 13 {
        quoted_checksum(found, carried, ICMP_HEADER + length);
    }
}

/// RFC 8200 section 3.
fn quoted_v6(found: &mut Stretches, content: &[u8]) {
    let Some(header) = content.get(ICMP_HEADER..) else { return };
    if header.first().is_none_or(|first| first >> 4 != 6) {
        return;
    }
    add(found, ICMP_HEADER + 7..ICMP_HEADER + 8);
    let Some(&next) = header.get(6) else { return };
    let (mut carried, mut at) = (next, ICMP_HEADER + IPV6_HEADER);
    for _ in 0..QUOTED_EXTENSIONS {
        let (Some(&next), Some(&length)) = (content.get(at), content.get(at + 1)) else { return };
        match carried {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
                at += usize::from(length) * 8 + 8;
            }
            protocol::FRAGMENT => {
                // The identification. A later fragment has no transport header.
                add(found, at + 4..at + 8);
                let first = content.get(at + 2..at + 4).is_some_and(|place| place[0] == 0 && place[1] < 8);
                if !first {
                    return;
                }
                at += 8;
            }
            _ => break,
        }
        carried = next;
    }
    quoted_checksum(found, carried, at);
}

/// The checksum of the quoted packet's transport header, if the quotation reaches so far.
fn quoted_checksum(found: &mut Stretches, carried: u8, at: usize) {
    let place = match carried {
        protocol::TCP => 16,
        protocol::UDP | protocol::UDP_LITE => 6,
        protocol::ICMP | protocol::ICMPV6 => 2,
        _ => return,
    };
    add(found, at + place..at + place + 2);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Addresses, Selector, VlanTags};

    fn key(protocol: u8) -> FlowKey {
        FlowKey::new(
            Addresses::V4 { source: 1, destination: 2 },
            VlanTags::default(),
            protocol,
            Selector::None,
        )
    }

    #[test]
    fn an_icmp_error_has_its_quotation_masked() {
        let mut content = vec![3, 3, 9, 9, 0, 0, 0, 0];
        let mut quoted = [0_u8; 28];
        (quoted[0], quoted[9]) = (0x45, 17);
        content.extend(quoted);
        let found: Vec<_> = stretches(&key(1), &content).into_iter().collect();
        assert_eq!(found, [2..4, 12..14, 16..17, 18..20, 34..36]);
        content[8 + 7] = 1;
        assert_eq!(stretches(&key(1), &content).len(), 4, "a later fragment has no UDP header");
        content[0] = 0;
        assert!(stretches(&key(1), &content).is_empty(), "an echo reply quotes nothing");
        assert!(stretches(&key(17), &[3; 64]).is_empty());
    }

    #[test]
    fn an_icmpv6_error_is_walked_to_its_transport_header() {
        let mut content = vec![1, 4, 9, 9, 0, 0, 0, 0, 0x60];
        content.resize(8 + 40, 0);
        content[8 + 6] = 44;
        content.extend([17, 0, 0, 1, 7, 7, 7, 7]);
        content.extend([0; 8]);
        let found: Vec<_> = stretches(&key(58), &content).into_iter().collect();
        assert_eq!(found, [2..4, 15..16, 52..56, 62..64]);
    }

    /// An error of `ICMPv6` about a packet with these extension headers, and 20 bytes of its transport header.
    fn quoting_v6(extensions: &[(u8, &[u8])], carried: u8) -> Vec<u8> {
        let mut content = vec![1, 4, 9, 9, 0, 0, 0, 0, 0x60];
        content.resize(8 + 40, 0);
        let kinds = extensions.iter().map(|(kind, _)| *kind).chain([carried]);
        content[8 + 6] = kinds.clone().next().unwrap();
        for ((_, header), next) in extensions.iter().zip(kinds.skip(1)) {
            content.push(next);
            content.extend(*header);
        }
        content.extend([0; 20]);
        content
    }

    #[test]
    fn extension_headers_of_a_quotation_are_stepped_over_by_their_length() {
        // 8 and 24 bytes; the length counts units of 8 beyond the first (RFC 8200 section 4.3).
        let (short, long) = ([0; 7], [[2].as_slice(), &[0xff; 22]].concat());
        for kind in [0, 43, 60] {
            let content = quoting_v6(&[(kind, &short)], 6);
            let found: Vec<_> = stretches(&key(58), &content).into_iter().collect();
            assert_eq!(found, [2..4, 15..16, 56 + 16..56 + 18], "header {kind}");
            let content = quoting_v6(&[(kind, &long), (60, &short)], 17);
            let found: Vec<_> = stretches(&key(58), &content).into_iter().collect();
            assert_eq!(found, [2..4, 15..16, 80 + 6..80 + 8], "header {kind}");
        }
        let four = [(0, short.as_slice()), (60, &short), (43, &short), (60, &short)];
        let found = stretches(&key(58), &quoting_v6(&four, 17));
        assert_eq!(found.last(), Some(&(80 + 6..80 + 8)), "as many as are walked");
    }

    #[test]
    fn each_transport_has_its_checksum_elsewhere() {
        for (carried, place) in
            [(6, Some(16)), (17, Some(6)), (136, Some(6)), (1, Some(2)), (58, Some(2)), (132, None)]
        {
            let found = stretches(&key(58), &quoting_v6(&[], carried));
            assert_eq!(found.get(2).cloned(), place.map(|at| 48 + at..48 + at + 2), "protocol {carried}");
        }
    }

    /// Only the first fragment has a transport header: fragment offset 0 (RFC 8200 section 4.5).
    #[test]
    fn a_later_fragment_quoted_has_no_checksum() {
        for (place, first) in
            [([0, 1], true), ([0, 7], true), ([0, 8], false), ([1, 0], false), ([1, 1], false)]
        {
            let header = [0, place[0], place[1], 7, 7, 7, 7];
            let found: Vec<_> = stretches(&key(58), &quoting_v6(&[(44, &header)], 17)).into_iter().collect();
            let mut expected = vec![2..4, 15..16, 52..56];
            expected.extend(first.then_some(62..64));
            assert_eq!(found, expected, "{place:?}");
        }
    }

    #[test]
    fn no_quotation_leads_outside_of_the_content() {
        let mut content = vec![12, 0, 1, 2, 3, 4, 5, 6];
        for byte in [0x4f, 0x45, 0x60, 0xff, 0] {
            content.truncate(8);
            for _ in 0..80 {
                content.push(byte);
                for (protocol, kind) in [(1, 3), (58, 1)] {
                    content[0] = kind;
                    let found = stretches(&key(protocol), &content);
                    assert!(found.iter().all(|range| range.start < range.end && range.end <= content.len()));
                    assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));
                }
            }
        }
    }
}
