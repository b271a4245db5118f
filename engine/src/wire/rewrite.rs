//! The one edit of a frame that leaves: a lower TCP window, with the checksum updated.

use std::ops::Range;

use pmd_tap::Frame;

use super::tcp::Depth;
use super::{Extent, Fragment, Packet, be16, put, tcp};

/// The window in a TCP header; the checksum is behind it (RFC 9293 section 3.1).
const WINDOW: u32 = 14;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM` in the flags, the first byte of a virtio-net header (virtio 1.2 section 5.1.6.2): the
/// checksum field has the pseudo header's sum only, which does not depend on the window.
const NEEDS_CSUM: u8 = 1;
/// Where that header says from which byte on the checksum is to be computed.
const CSUM_START: Range<usize> = 6..8;

/// Whether a frame was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rewritten {
    /// It was.
    Yes,
    /// It has that window anyway, or no TCP header.
    No,
}

/// Sets the window field of a segment's TCP header. A checksum that was right stays right, and so do those of a tunnel
/// around it: the segment's words add up to the same as before, as what the window has gained the checksum has lost. Of a
/// segment that came in fragments those that have the header are changed, since they are what leaves.
#[cold]
pub(crate) fn set_tcp_window(frame: &mut Frame, window: u16) -> Rewritten {
    let Some((header, depth)) = tcp::header(frame.ethernet()) else { return Rewritten::No };
    let fields: Option<&[u8; 4]> = header.part(frame.ethernet(), WINDOW, 4).first_chunk();
    let Some([before, checksum]) = fields.map(|fields| [be16(&fields[..2]), be16(&fields[2..])]) else {
        return Rewritten::No;
    };
    if before == window {
        return Rewritten::No;
    }
    let changed = |partial: Checksum| {
        let checksum =
            if partial == Checksum::Partial { checksum } else { updated(checksum, before, window) };
        let ([high, low], [sum_high, sum_low]) = (window.to_be_bytes(), checksum.to_be_bytes());
        [high, low, sum_high, sum_low]
    };
    let at = header.offset + WINDOW;
    if !frame.is_assembled() {
        let fields = changed(Checksum::of(frame, header, depth));
        put_ethernet(frame, at, &fields);
        return Rewritten::Yes;
    }
    // The first fragment has the virtio header that counts, and says where the datagram begins in the frame of the whole.
    let Some((first, piece)) = frame
        .followers()
        .find_map(|frame| Some((frame, piece_of(frame)?)).filter(|(_, piece)| piece.offset == 0))
    else {
        return Rewritten::No;
    };
    let Some(place) = at.checked_sub(piece.headers_len()) else { return Rewritten::No };
    let fields = changed(Checksum::of(first, header, depth));
    frame.visit_followers(|original| put_part(original, place, &fields));
    Rewritten::Yes
}

/// Puts those of `bytes`, which stand at a place of the whole datagram, that a fragment has.
fn put_part(fragment: &mut Frame, place: u32, bytes: &[u8]) {
    let Some(piece) = piece_of(fragment) else { return };
    for (byte, place) in bytes.iter().zip(place..) {
        if let Some(place) = place.checked_sub(piece.offset).filter(|place| *place < piece.payload.len) {
            put_ethernet(fragment, piece.payload.offset + place, &[*byte]);
        }
    }
}

/// What stands in a segment's checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checksum {
    Whole,
    /// The pseudo header's sum only, which does not depend on the window.
    Partial,
}

impl Checksum {
    /// Of the segment with that header in a frame. Who sends through a tunnel may leave the checksum of the tunnel's UDP
    /// to others instead (virtio 1.2 section 5.1.6.2: `csum_start`).
    fn of(frame: &Frame, header: Extent, depth: Depth) -> Self {
        let virtio = frame.bytes().get(..frame.virtio_header().len()).unwrap_or(&[]);
        let needed = virtio.first().is_some_and(|flags| flags & NEEDS_CSUM != 0);
        let start = virtio.get(CSUM_START).and_then(<[u8]>::first_chunk).copied().map(u16::from_le_bytes);
        let here = depth == Depth::Outer || start.map(u32::from) == Some(header.offset);
        if needed && here { Self::Partial } else { Self::Whole }
    }
}

fn piece_of(frame: &Frame) -> Option<Fragment> {
    match Packet::parse_any(frame.ethernet()) {
        Packet::Fragment(fragment) => Some(fragment),
        _ => None,
    }
}

/// Puts bytes at a place that counts from the Ethernet header on.
fn put_ethernet(frame: &mut Frame, at: u32, bytes: &[u8]) {
    let virtio = frame.virtio_header().len();
    if let Ok(at) = usize::try_from(at) {
        put(frame.bytes_mut(), virtio + at, bytes);
    }
}

/// An Internet checksum after one of its words has changed (RFC 1624 equation 3). A sum of zero cannot come about: the
/// pseudo header's protocol is not zero, so a right checksum is never 0xffff and does not become it.
fn updated(checksum: u16, before: u16, after: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv6FlowLabel, PacketBuilder, PacketHeaders, SlicedPacket, TransportHeader};
    use pmd_tap::{FramePool, PoolSettings, VirtioHeader};
    use proptest::prelude::*;

    use super::*;

    /// A frame's TCP checksum, and what it should be.
    fn checksums(ethernet: &[u8]) -> (u16, u16) {
        let headers = PacketHeaders::from_ethernet_slice(ethernet).unwrap();
        let payload = headers.payload.slice();
        let Some(TransportHeader::Tcp(tcp)) = &headers.transport else { panic!("no TCP") };
        let full = match headers.net.unwrap() {
            etherparse::NetHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(&ip, payload).unwrap(),
            etherparse::NetHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(&ip, payload).unwrap(),
            etherparse::NetHeaders::Arp(_) => panic!("no IP"),
        };
        (tcp.checksum, full)
    }

    fn ipv4(seq: u32, window: u16, payload: &[u8], tagged: bool) -> Vec<u8> {
        let mut frame = Vec::new();
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = etherparse::Ipv4Header {
            options: [1, 1, 1, 1].as_slice().try_into().unwrap(),
            source: [10, 0, 0, 1],
            destination: [10, 0, 0, 9],
            time_to_live: 64,
            ..Default::default()
        };
        let ip = etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default());
        let network = if tagged { link.single_vlan(7.try_into().unwrap()).ip(ip) } else { link.ip(ip) };
        network.tcp(80, 4242, seq, window).ack(7).write(&mut frame, payload).unwrap();
        frame.extend([0xee; 5]);
        frame
    }

    /// With a hop-by-hop header in front of TCP.
    fn ipv6(seq: u32, window: u16, payload: &[u8]) -> Vec<u8> {
        let hop =
            etherparse::Ipv6RawExtHeader::new_raw(etherparse::IpNumber::TCP, &[1, 4, 0, 0, 0, 0]).unwrap();
        let ip = etherparse::Ipv6Header {
            flow_label: Ipv6FlowLabel::try_new(5).unwrap(),
            next_header: etherparse::IpNumber::IPV6_HEADER_HOP_BY_HOP,
            source: [0xfd; 16],
            destination: [0xfe; 16],
            ..Default::default()
        };
        let extensions = etherparse::Ipv6Extensions {
            hop_by_hop_options: Some(hop),
            ..etherparse::Ipv6Extensions::default()
        };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ip(etherparse::IpHeaders::Ipv6(ip, extensions))
            .tcp(80, 4242, seq, window)
            .ack(7)
            .write(&mut frame, payload)
            .unwrap();
        frame
    }

    proptest! {
        /// Against full recomputation: everything but window and checksum stays, and the checksum is right.
        #[test]
        fn the_checksum_stays_right(
            seq in any::<u32>(), before in any::<u16>(),
            after in prop_oneof![any::<u16>(), Just(0), Just(0xffff)],
            payload in prop::collection::vec(any::<u8>(), 0..40), shape in 0_u8..3,
        ) {
            let bytes = match shape {
                0 => ipv6(seq, before, &payload),
                shape => ipv4(seq, before, &payload, shape == 1),
            };
            let (found, right) = checksums(&bytes);
            prop_assert_eq!(found, right, "etherparse writes right checksums");
            let mut pool = FramePool::new(PoolSettings::for_frames(1, 0)).unwrap();
            let mut frame = pool.frame_from(&bytes).unwrap();
            set_tcp_window(&mut frame, after);
            let (found, right) = checksums(frame.ethernet());
            prop_assert_eq!(found, right);
            let tcp = SlicedPacket::from_ethernet(frame.ethernet()).unwrap().transport.unwrap();
            let etherparse::TransportSlice::Tcp(tcp) = tcp else { panic!("no TCP") };
            prop_assert_eq!(tcp.window_size(), after);
            let at = usize::try_from(tcp::header(&bytes).unwrap().0.offset + WINDOW).unwrap();
            for (index, (old, new)) in bytes.iter().zip(frame.ethernet()).enumerate() {
                let edited = (at..at + 4).contains(&index);
                prop_assert!(old == new || edited, "byte {index}");
            }
        }

        /// The two representations of zero: a sum that was never canonical does not become wrong either.
        #[test]
        fn equation_3_agrees_with_a_sum_of_words(words in prop::collection::vec(any::<u16>(), 1..8), new in any::<u16>()) {
            let sum = |words: &[u16]| {
                // 6 stands for the pseudo header's protocol.
                let mut sum: u32 = 6 + words.iter().map(|word| u32::from(*word)).sum::<u32>();
                while sum >> 16 != 0 {
                    sum = (sum & 0xffff) + (sum >> 16);
                }
                !u16::try_from(sum).unwrap()
            };
            let mut changed = words.clone();
            changed[0] = new;
            prop_assert_eq!(updated(sum(&words), words[0], new), sum(&changed));
        }
    }

    #[test]
    fn a_partial_checksum_is_left_alone() {
        let plain = ipv4(5, 4000, b"abc", false);
        for (flags, changes) in [(NEEDS_CSUM, false), (0, true), (2, true)] {
            let mut bytes = vec![0; 12];
            bytes[0] = flags;
            bytes.extend(&plain);
            let mut pool = FramePool::new(PoolSettings::for_frames(1, 0)).unwrap();
            let mut frame = pool.frame_from(&bytes).unwrap();
            frame.set_virtio_header(VirtioHeader::from_len(12).unwrap());
            let before = checksums(frame.ethernet()).0;
            assert_eq!(set_tcp_window(&mut frame, 100), Rewritten::Yes);
            assert_eq!(checksums(frame.ethernet()).0 != before, changes, "flags {flags}");
        }
    }
}
