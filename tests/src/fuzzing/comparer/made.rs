//! Frames out of a few bytes: five flows, numbers around the wrap of the sequence space, content that is mostly a
//! function of its position, and now and then a changed byte anywhere.

use crate::frame::{ETHERNET, protocol};
use crate::fuzzing::bytes::Bytes;

/// Where sequence and acknowledgment numbers lie: around the wrap.
const BASE: u32 = u32::MAX - 40;
/// Steps that lead far away: the limit of a plausible position, a window, half of the space.
const FAR: [u32; 4] = [1 << 20, 1 << 30, (1 << 31) - 8, 1 << 31];
/// Longest payload, bytes.
const LONGEST: u8 = 24;
/// Flags: ACK, with FIN, SYN, RST, PSH, bare SYN and RST, none.
const FLAGS: [u8; 8] = [0x10, 0x10, 0x18, 0x11, 0x12, 0x14, 0x02, 0x04];

/// The next frame.
pub(super) fn frame(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let [kind, at, shape] = bytes.array();
    let mut frame = match kind & 7 {
        flow @ 0..4 => segment(flow, at, shape, bytes),
        4 => network(protocol::UDP, &datagram(at & 3, shape)),
        5 => network(1, &[8, 0, 0, 0, 0, at & 1, 0, 0, shape & 3]),
        6 => network(47, &[at & 3; 6][..usize::from(shape & 7).min(6)]),
        _ => bytes.take(usize::from(shape & 63)).to_vec(),
    };
    if kind & 0xe0 == 0xe0 {
        change(&mut frame, bytes);
    }
    frame
}

/// Flips bits of a byte anywhere, cuts the end off, or pads.
fn change(frame: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    let [place, how] = bytes.array();
    let place = usize::from(place).min(frame.len());
    match how {
        0xfe => frame.truncate(place),
        0xff => frame.resize(frame.len() + (place & 31), 0xaa),
        bits => {
            if let Some(byte) = frame.get_mut(place) {
                *byte ^= bits;
            }
        }
    }
}

/// Near the wrap, or a few steps of a far kind away.
fn number(at: u8, far: u8) -> u32 {
    let near = BASE.wrapping_add(u32::from(at));
    match far {
        0 => near,
        far => near.wrapping_add(FAR[usize::from(far & 3)].wrapping_mul(u32::from(far >> 2 & 3) + 1)),
    }
}

fn segment(flow: u8, at: u8, shape: u8, bytes: &mut Bytes<'_>) -> Vec<u8> {
    let [flags, ack] = bytes.array();
    // Two rare bits: a far number, and content that is not that of its place.
    let far = if flags & 0xc0 == 0xc0 { bytes.u8() } else { 0 };
    let noise = if flags & 0x38 == 0x38 { bytes.u8() } else { 0 };
    let seq = number(at, far & 0xf);
    let len = u32::from(shape % (LONGEST + 1));
    let mut content = Vec::with_capacity(64);
    content.extend_from_slice(&(80 + u16::from(flow & 1)).to_be_bytes());
    content.extend_from_slice(&4242_u16.to_be_bytes());
    content.extend_from_slice(&seq.to_be_bytes());
    content.extend_from_slice(&number(ack, far >> 4).to_be_bytes());
    content.extend_from_slice(&[0x50, FLAGS[usize::from(flags & 7)], 0xff, 0xff, 0, 0, 0, 0]);
    content.extend((0..len).map(|step| content_at(seq.wrapping_add(step)) ^ noise));
    if flow & 2 == 0 { network(protocol::TCP, &content) } else { network_v6(protocol::TCP, &content) }
}

fn content_at(position: u32) -> u8 {
    position.to_be_bytes()[3] % 7
}

fn datagram(port: u8, shape: u8) -> Vec<u8> {
    let content = [shape >> 4 & 3; 3];
    let content = &content[..usize::from(shape & 3)];
    let mut datagram = vec![0, port, 0, 53, 0, 8 + (shape & 3), 0, 0];
    datagram.extend_from_slice(content);
    datagram
}

fn ethernet(kind: [u8; 2]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    frame.extend_from_slice(&kind);
    frame
}

fn network(protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = ethernet([0x08, 0x00]);
    let total = u16::try_from(20 + content.len()).expect("a short packet");
    frame.extend_from_slice(&[0x45, 0]);
    frame.extend_from_slice(&total.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 9]);
    debug_assert_eq!(frame.len(), ETHERNET + 20);
    frame.extend_from_slice(content);
    frame
}

fn network_v6(protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = ethernet([0x86, 0xdd]);
    let length = u16::try_from(content.len()).expect("a short packet");
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[protocol, 64]);
    frame.extend_from_slice(&[1; 16]);
    frame.extend_from_slice(&[9; 16]);
    frame.extend_from_slice(content);
    frame
}
