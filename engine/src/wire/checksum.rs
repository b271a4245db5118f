//! Checksums on the wire, for counting only: a frame with a wrong one is compared and leaves like any other.
//!
//! Reads every byte of the frame, so it is done only when somebody asked for it.

use super::{be16, ethertype, link_layer};

/// IP protocol numbers with a checksum that is looked at, and IPv6 extension headers in front of them.
mod protocol {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ICMP: u8 = 1;
    pub(super) const TCP: u8 = 6;
    pub(super) const UDP: u8 = 17;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const ICMPV6: u8 = 58;
    pub(super) const DESTINATION: u8 = 60;
}

/// IPv6 extension headers that are walked.
const EXTENSIONS: usize = 8;

/// Whether the frame carries a wrong checksum: of the IPv4 header, TCP, UDP (0 is none), ICMP or `ICMPv6`. What cannot
/// be parsed, and fragments behind their IP header, have none.
#[cold]
pub(crate) fn has_bad_checksum(ethernet: &[u8]) -> bool {
    let Some((kind, _, offset)) = link_layer(ethernet) else { return false };
    let packet = ethernet.get(offset..).unwrap_or(&[]);
    match kind {
        ethertype::IPV4 => is_bad_v4(packet),
        ethertype::IPV6 => is_bad_v6(packet),
        _ => None,
    }
    .unwrap_or(false)
}

/// RFC 791 section 3.1. `None`: malformed.
fn is_bad_v4(packet: &[u8]) -> Option<bool> {
    let length = usize::from(packet.first()? & 0x0f) * 4;
    let total = usize::from(be16(packet.get(2..4)?));
    let header = packet.get(..length).filter(|header| header.len() >= 20)?;
    if fold(sum(header)) != 0xffff {
        return Some(true);
    }
    if be16(&header[6..8]) & 0x3fff != 0 {
        return Some(false);
    }
    is_bad_transport(&header[12..20], header[9], packet.get(length..total)?)
}

/// RFC 8200 section 3. `None`: malformed.
fn is_bad_v6(packet: &[u8]) -> Option<bool> {
    let header = packet.get(..40)?;
    let mut rest = packet.get(40..40 + usize::from(be16(&header[4..6])))?;
    let mut next = header[6];
    for _ in 0..EXTENSIONS {
        if !matches!(next, protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION) {
            break;
        }
        next = *rest.first()?;
        rest = rest.get(usize::from(*rest.get(1)?) * 8 + 8..)?;
    }
    is_bad_transport(&header[8..40], next, rest)
}

/// RFC 9293 section 3.1, RFC 768, RFC 792, RFC 4443 section 2.3; the pseudo header of RFC 8200 section 8.1, which adds up
/// to the same for IPv4.
fn is_bad_transport(addresses: &[u8], carried: u8, bytes: &[u8]) -> Option<bool> {
    let (pseudo, bytes) = match carried {
        protocol::TCP => (true, bytes.get(..).filter(|bytes| bytes.len() >= 20)?),
        protocol::UDP => {
            if be16(bytes.get(6..8)?) == 0 {
                return Some(false);
            }
            (true, bytes.get(..usize::from(be16(bytes.get(4..6)?)))?)
        }
        protocol::ICMPV6 => (true, bytes.get(..).filter(|bytes| bytes.len() >= 4)?),
        protocol::ICMP => (false, bytes.get(..).filter(|bytes| bytes.len() >= 4)?),
        _ => return Some(false),
    };
    let mut total = sum(bytes);
    if pseudo {
        total += sum(addresses) + u64::from(carried) + u64::try_from(bytes.len()).unwrap_or(0);
    }
    Some(fold(total) != 0xffff)
}

/// RFC 1071: 16-bit words, an odd byte as the high half of one.
fn sum(bytes: &[u8]) -> u64 {
    let (words, odd) = bytes.as_chunks::<2>();
    let whole: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    whole + odd.first().map_or(0, |byte| u64::from(*byte) << 8)
}

fn fold(mut total: u64) -> u64 {
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    total
}

#[cfg(test)]
mod tests {
    use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, PacketBuilder};

    use super::*;

    /// One frame of each protocol over both IP versions, padded on the wire.
    fn frames() -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for payload in [&b"even"[..], b"odd", b""] {
            let v4 = || PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64);
            let v6 = || PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([0xfd; 16], [0xfe; 16], 64);
            let echo = IcmpEchoHeader { id: 7, seq: 9 };
            let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
                let mut frame = Vec::new();
                write(&mut frame);
                frame.extend([0xaa; 7]);
                frames.push(frame);
            };
            add(&|frame| v4().tcp(80, 9, 1, 2).write(frame, payload).unwrap());
            add(&|frame| v6().tcp(80, 9, 1, 2).write(frame, payload).unwrap());
            add(&|frame| v4().udp(80, 9).write(frame, payload).unwrap());
            add(&|frame| v6().udp(80, 9).write(frame, payload).unwrap());
            add(&|frame| v4().icmpv4(Icmpv4Type::EchoReply(echo)).write(frame, payload).unwrap());
            add(&|frame| v6().icmpv6(Icmpv6Type::EchoReply(echo)).write(frame, payload).unwrap());
        }
        frames
    }

    #[test]
    fn right_checksums_are_right_and_every_flipped_payload_bit_is_seen() {
        for frame in frames() {
            assert!(!has_bad_checksum(&frame), "{frame:?}");
            // Behind the IP header, up to the padding; a flip of UDP's length leaves nothing to check.
            let start = if frame[12] == 8 { 34 } else { 54 };
            for at in (start..frame.len() - 7).filter(|at| ![start + 4, start + 5].contains(at)) {
                let mut other = frame.clone();
                other[at] ^= 0x10;
                assert!(has_bad_checksum(&other), "byte {at} of {frame:?}");
            }
            let mut padded = frame.clone();
            *padded.last_mut().unwrap() ^= 1;
            assert!(!has_bad_checksum(&padded));
        }
    }

    #[test]
    fn the_ipv4_header_has_its_own_and_udp_may_have_none() {
        let mut frame = frames().swap_remove(2);
        frame[22] -= 1;
        assert!(has_bad_checksum(&frame));
        frame[22] += 1;
        frame[40..42].fill(0);
        assert!(!has_bad_checksum(&frame));
    }

    #[test]
    fn nothing_is_read_beyond_a_truncated_frame() {
        for frame in frames() {
            for end in 0..frame.len() {
                has_bad_checksum(&frame[..end]);
            }
        }
    }
}
