//! The virtio-net header between a frame and a kernel interface: one port's length made of another's.
//!
//! All legal headers begin with the same ten bytes, `struct virtio_net_hdr` (virtio 1.2, section 5.1.6), which is all that
//! Linux reads of them.

use std::fmt;
use std::io::IoSlice;

use arrayvec::ArrayVec;

use crate::{Frame, VirtioHeader};

/// Bytes that Linux reads and writes of a header.
pub(crate) const COMMON_BYTES: usize = 10;
/// Longest header of all.
const LONGEST: usize = 20;

const ZEROS: [u8; LONGEST] = [0; LONGEST];

/// The parts of a frame with a header of that length in front, whatever the frame's own: what is missing is zero, which
/// asks for nothing.
#[inline]
pub(crate) fn parts(frame: &Frame, wanted: VirtioHeader) -> ArrayVec<IoSlice<'_>, 3> {
    let own = frame.virtio_header().len();
    let mut parts = ArrayVec::new();
    if own == wanted.len() {
        parts.push(IoSlice::new(frame.bytes()));
        return parts;
    }
    let head = frame.bytes().get(..own.min(wanted.len())).unwrap_or_default();
    if !head.is_empty() {
        parts.push(IoSlice::new(head));
    }
    if head.len() < wanted.len() {
        parts.push(IoSlice::new(&ZEROS[head.len()..wanted.len()]));
    }
    parts.push(IoSlice::new(frame.ethernet()));
    parts
}

/// Clears what the kernel leaves as it was of a longer header: it belongs to another frame.
#[inline]
pub(crate) fn clear_rest(frame: &mut Frame) {
    let len = frame.virtio_header().len();
    if let Some(rest) = frame.bytes_mut().get_mut(COMMON_BYTES..len) {
        rest.fill(0);
    }
}

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: from `csum_start` on the frame is to be summed up, and the sum goes to `csum_offset`.
const NEEDS_CHECKSUM: u8 = 1;
/// Places in a header.
const FLAGS: usize = 0;
const HEADER_LENGTH: usize = 2;
const CHECKSUM_START: usize = 6;
const CHECKSUM_OFFSET: usize = 8;
/// Where UDP has its checksum: there a zero means that there is none.
const UDP_CHECKSUM_OFFSET: usize = 6;

fn half(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 2).map_or(0, |half| usize::from(u16::from_le_bytes([half[0], half[1]])))
}

/// Does what a header asks for as to the checksum. What makes no sense is left alone.
pub(crate) fn complete_checksum(header: &[u8], ethernet: &mut [u8]) {
    if header.get(FLAGS).is_none_or(|flags| flags & NEEDS_CHECKSUM == 0) {
        return;
    }
    let (start, offset) = (half(header, CHECKSUM_START), half(header, CHECKSUM_OFFSET));
    let Some(covered) = ethernet.get_mut(start..) else { return };
    if offset + 2 > covered.len() {
        return;
    }
    let mut sum = 0_u64;
    let mut pairs = covered.chunks_exact(2);
    for pair in &mut pairs {
        sum += u64::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        sum += u64::from(*last) << 8;
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let mut sum = !u16::try_from(sum).unwrap_or(0);
    if sum == 0 && offset == UDP_CHECKSUM_OFFSET {
        sum = 0xffff;
    }
    covered[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The places that a header names lie so many bytes further back: something was put in front of them.
pub(crate) fn shift(header: &mut [u8], by: u16) {
    let asks = header.get(FLAGS).is_some_and(|flags| flags & NEEDS_CHECKSUM != 0);
    for (at, applies) in [(CHECKSUM_START, asks), (HEADER_LENGTH, half(header, HEADER_LENGTH) != 0)] {
        if let (true, Some(place)) = (applies, header.get_mut(at..at + 2)) {
            let moved = u16::from_le_bytes([place[0], place[1]]).saturating_add(by);
            place.copy_from_slice(&moved.to_le_bytes());
        }
    }
}

/// The header that is meant, by its length if that is given.
pub(crate) fn parse_header(bytes: Option<&str>) -> Result<VirtioHeader, String> {
    match bytes {
        None | Some("12") => Ok(VirtioHeader::MERGEABLE),
        Some("10") => Ok(VirtioHeader::from_len(10).unwrap_or_default()),
        Some(other) => Err(format!("vnet={other} is no length of a header here: 10 or 12")),
    }
}

/// `,vnet`, as short as it can be written.
pub(crate) fn write_header(f: &mut fmt::Formatter<'_>, header: VirtioHeader) -> fmt::Result {
    match header {
        VirtioHeader::NONE => Ok(()),
        VirtioHeader::MERGEABLE => f.write_str(",vnet"),
        other => write!(f, ",vnet={}", other.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FramePool, PoolSettings};

    #[test]
    fn a_header_of_any_length_becomes_one_of_any_other() {
        let mut pool = FramePool::new(PoolSettings { small: 1, mtu: 0, jumbo: 0, gso: 0 }).unwrap();
        let header: Vec<u8> = (1..=20).collect();
        for own in [0, 10, 12, 20] {
            for wanted in [0, 10, 12] {
                let bytes = [&header[..own], &[99; 60]].concat();
                let mut frame = pool.frame_from(&bytes).unwrap();
                frame.set_virtio_header(VirtioHeader::from_len(own).unwrap());
                let sent: Vec<u8> = parts(&frame, VirtioHeader::from_len(wanted).unwrap())
                    .iter()
                    .flat_map(|part| part.to_vec())
                    .collect();
                let (head, ethernet) = sent.split_at(wanted);
                assert_eq!(ethernet, [99; 60], "{own} to {wanted}");
                for (at, byte) in head.iter().enumerate() {
                    assert_eq!(*byte, if at < own { header[at] } else { 0 }, "{own} to {wanted}");
                }
                pool.recycle(frame);
            }
        }
    }

    #[test]
    fn stale_bytes_of_a_header_are_cleared() {
        let mut pool = FramePool::new(PoolSettings { small: 1, mtu: 0, jumbo: 0, gso: 0 }).unwrap();
        let mut frame = pool.frame_from(&[7; 32]).unwrap();
        frame.set_virtio_header(VirtioHeader::from_len(12).unwrap());
        clear_rest(&mut frame);
        assert_eq!(frame.bytes()[..13], [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 7]);
        frame.set_virtio_header(VirtioHeader::NONE);
        clear_rest(&mut frame);
        assert_eq!(frame.bytes()[12..], [7; 20]);
    }

    #[test]
    fn an_open_checksum_is_completed() {
        // RFC 1071, section 3: these words add up to ddf2.
        let mut frame = [vec![9; 14], vec![0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7, 0, 0]].concat();
        let header = [1, 0, 0, 0, 0, 0, 14, 0, 8, 0];
        complete_checksum(&header, &mut frame);
        assert_eq!(frame[22..], (!0xddf2_u16).to_be_bytes());
        let before = frame.clone();
        for senseless in [[0; 10], [1, 0, 0, 0, 0, 0, 99, 0, 0, 0], [1, 0, 0, 0, 0, 0, 14, 0, 9, 0]] {
            complete_checksum(&senseless, &mut frame);
            assert_eq!(frame, before);
        }
        complete_checksum(&[], &mut frame);
        // An odd byte is the high one of a word; a sum of zero is written as ones where zero says that there is none.
        let mut odd = [0xff, 0xfe, 0, 0, 0, 0, 0, 0, 1];
        complete_checksum(&[1, 0, 0, 0, 0, 0, 0, 0, 6, 0], &mut odd);
        assert_eq!(odd[6..8], [0xff, 0x00]);
        let mut zero = [0xff, 0xff, 0, 0, 0, 0, 0, 0];
        complete_checksum(&[1, 0, 0, 0, 0, 0, 0, 0, 6, 0], &mut zero);
        assert_eq!(zero[6..], [0xff, 0xff]);
    }

    #[test]
    fn places_move_with_what_they_name() {
        let mut header = [1, 1, 54, 0, 0, 0, 34, 0, 16, 0];
        shift(&mut header, 4);
        assert_eq!(header, [1, 1, 58, 0, 0, 0, 38, 0, 16, 0]);
        let mut nothing = [0; 10];
        shift(&mut nothing, 4);
        assert_eq!(nothing, [0; 10]);
    }
}
