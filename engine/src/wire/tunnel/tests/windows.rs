//! Windows lowered in a tunnel: every checksum on the way stays right, in one frame and in fragments.

use pmd_tap::{Frame, FramePool, Nanos, PoolSettings, VirtioHeader};
use proptest::prelude::*;

use super::super::super::{Rewritten, has_bad_checksum, set_tcp_window, tcp_header};
use super::*;
use crate::fragments::{FragmentSettings, Reassembly};
use crate::shard::Budget;
use crate::side::Side;

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Bytes in GRE with a checksum and a sequence number.
fn gre_summed(version: u8, kind: u16, inner: &[u8]) -> Vec<u8> {
    let mut header = (gre::CHECKSUM | gre::SEQUENCE).to_be_bytes().to_vec();
    header.extend(kind.to_be_bytes());
    header.extend([0, 0, 0, 0, 0, 0, 0, 5]);
    header.extend(inner);
    let checksum = !fold(sum(&header));
    header[4..6].copy_from_slice(&checksum.to_be_bytes());
    gre_with(version, gre::CHECKSUM | gre::SEQUENCE, kind, &header[4..])
}

/// One of the tunnels around a segment.
fn tunnel(number: u8, outer: u8, inner: &[u8]) -> Vec<u8> {
    match number {
        0 => vxlan(outer, 42, inner),
        1 => gre_summed(outer, be16(&inner[12..]), &inner[14..]),
        _ => gre_summed(outer, gre::ETHERNET, inner),
    }
}

/// The content of a tunnel as a frame of its own.
fn inner_frame(frame: &[u8]) -> Vec<u8> {
    let Packet::Datagram(outer, content) = Packet::parse(frame) else { panic!("no datagram") };
    let inside = Inside::new(&outer, content, frame).unwrap();
    let mut link = vec![0; 12];
    link.extend(inside.ethertype.to_be_bytes());
    [&link, &inside.frame[inside.network..]].concat()
}

/// Nothing is wrong, neither around the segment nor in it.
fn judge(frame: &[u8], window: u16) {
    assert!(!has_bad_checksum(frame), "around: {frame:02x?}");
    let inner = inner_frame(frame);
    assert!(!has_bad_checksum(&inner), "inside: {inner:02x?}");
    let Packet::Tcp(_, segment) = Packet::parse(&inner) else { panic!("no TCP") };
    assert_eq!(segment.window, window);
    let Packet::Datagram(outer, content) = Packet::parse(frame) else { panic!("no datagram") };
    if outer.protocol() == GRE && content.of(frame)[0] & 0x80 != 0 {
        assert_eq!(fold(sum(content.of(frame))), 0xffff, "GRE's own");
    }
}

fn segment(version: u8, seq: u32, window: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    ip(version, 9).tcp(80, 4242, seq, window).ack(7).write(&mut frame, payload).unwrap();
    frame
}

fn pool() -> FramePool {
    FramePool::new(PoolSettings::for_frames(64, 0)).unwrap()
}

/// A frame cut into fragments of so many bytes, a multiple of 8, behind the IP header.
fn cut(frame: &[u8], size: usize) -> Vec<Vec<u8>> {
    let headers = if frame[12] == 8 { 34 } else { 54 };
    let (headers, payload) = frame.split_at(headers);
    let last = payload.len().div_ceil(size) - 1;
    let piece = |(number, bytes): (usize, &[u8])| {
        let (place, more) = (u16::try_from(number * size).unwrap(), number != last);
        let mut piece = headers.to_vec();
        if headers.len() == 34 {
            let word = (place / 8) | if more { 0x2000 } else { 0 };
            piece[16..18].copy_from_slice(&u16::try_from(20 + bytes.len()).unwrap().to_be_bytes());
            piece[20..22].copy_from_slice(&word.to_be_bytes());
            piece[24..26].fill(0);
            let checksum = !fold(sum(&piece[14..34]));
            piece[24..26].copy_from_slice(&checksum.to_be_bytes());
        } else {
            piece[18..20].copy_from_slice(&u16::try_from(8 + bytes.len()).unwrap().to_be_bytes());
            let carried = std::mem::replace(&mut piece[20], 44);
            let [high, low] = (place | u16::from(more)).to_be_bytes();
            piece.extend([carried, 0, high, low, 0, 0, 0, 1]);
        }
        piece.extend(bytes);
        piece
    };
    payload.chunks(size).enumerate().map(piece).collect()
}

/// What fragments make.
fn assembled(pieces: &[Vec<u8>], pool: &mut FramePool) -> Frame {
    let settings =
        FragmentSettings { max_fragments: 64, compare_timeout: std::time::Duration::from_millis(400) };
    let mut reassembly = Reassembly::new(Side::Primary, settings, hasher());
    let mut whole = None;
    for (bytes, number) in pieces.iter().zip(0..) {
        let mut frame = pool.frame_from(bytes).unwrap();
        frame.stamp(Nanos(number), number);
        let Packet::Fragment(fragment) = opened(bytes) else { panic!("no fragment") };
        whole = reassembly.receive(frame, &fragment, Budget::Room, pool);
    }
    let (frame, packet) = whole.unwrap();
    assert!(matches!(packet, Packet::Tcp(flow, _) if flow.tunnel().is_some()), "{packet:?}");
    frame
}

proptest! {
    #[test]
    fn all_checksums_stay_right(
        [outer, inner] in prop::sample::select(VERSIONS.to_vec()), kind in 0_u8..3, seq in any::<u32>(),
        before in any::<u16>(), after in prop_oneof![any::<u16>(), Just(0), Just(0xffff)],
        payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let bytes = tunnel(kind, outer, &segment(inner, seq, before, &payload));
        judge(&bytes, before);
        let mut pool = pool();
        let mut frame = pool.frame_from(&bytes).unwrap();
        let rewritten = set_tcp_window(&mut frame, after);
        prop_assert_eq!(rewritten == Rewritten::Yes, before != after);
        judge(frame.ethernet(), after);
        let changed = bytes.iter().zip(frame.ethernet()).filter(|(old, new)| old != new).count();
        prop_assert!(changed <= 4, "window and checksum, nothing else");
    }

    /// The header may lie across fragments. Put together again they are what the whole would have become.
    #[test]
    fn fragments_are_changed_where_the_header_is(
        [outer, inner] in prop::sample::select(VERSIONS.to_vec()), kind in 0_u8..3,
        before in any::<u16>(), after in any::<u16>(), size in (1_usize..16).prop_map(|size| size * 8),
        turned in any::<bool>(),
    ) {
        prop_assume!(before != after);
        let bytes = tunnel(kind, outer, &segment(inner, 5, before, b"a payload of some length, so that it needs two"));
        let mut pieces = cut(&bytes, size);
        prop_assume!(pieces.len() > 1);
        if turned {
            pieces.reverse();
        }
        let mut pool = pool();
        let mut frame = assembled(&pieces, &mut pool);
        prop_assert_eq!(set_tcp_window(&mut frame, after), Rewritten::Yes);
        let mut left: Vec<Vec<u8>> = frame.followers().map(|piece| piece.ethernet().to_vec()).collect();
        prop_assert_eq!(left.len(), pieces.len());
        for piece in &left {
            prop_assert!(!has_bad_checksum(piece));
        }
        if turned {
            left.reverse();
        }
        let mut whole = pool.frame_from(&bytes).unwrap();
        set_tcp_window(&mut whole, after);
        judge(whole.ethernet(), after);
        prop_assert_eq!(left, cut(whole.ethernet(), size));
    }
}

/// Who sends through a tunnel may leave the segment's checksum to the card, or the tunnel's.
#[test]
fn a_partial_checksum_is_left_alone_and_no_other() {
    let bytes = vxlan(4, 42, &segment(4, 5, 4_000, b"abc"));
    let header = usize::try_from(tcp_header(&bytes).unwrap().offset).unwrap();
    for (flags, start, changes) in [(1_u8, header, false), (1, 34, true), (0, header, true)] {
        let mut virtio = vec![0; 12];
        virtio[0] = flags;
        virtio[6..8].copy_from_slice(&u16::try_from(start).unwrap().to_le_bytes());
        let mut pool = pool();
        let mut frame = pool.frame_from(&[&virtio, &bytes[..]].concat()).unwrap();
        frame.set_virtio_header(VirtioHeader::from_len(12).unwrap());
        assert_eq!(set_tcp_window(&mut frame, 100), Rewritten::Yes);
        let (window, checksum) = (header + 14..header + 16, header + 16..header + 18);
        assert_eq!(frame.ethernet()[window], [0, 100]);
        assert_eq!(frame.ethernet()[checksum.clone()] != bytes[checksum], changes, "from {start}");
        assert_eq!(frame.ethernet()[..header], bytes[..header], "nothing around it changes");
    }
}
