//! Frames cut into IP fragments, and frames with more headers than etherparse's builder writes.

use super::wire::ETHERNET_LEN;
use super::{Case, Ns, Packet, Sent, Side};

const V4_HEADERS: usize = ETHERNET_LEN + 20;
const V6_HEADERS: usize = ETHERNET_LEN + 40;
const V6_NEXT_HEADER: usize = ETHERNET_LEN + 6;
const FRAGMENT: u8 = 44;

fn is_v4(frame: &[u8]) -> bool {
    frame[ETHERNET_LEN] >> 4 == 4
}

fn put16(frame: &mut [u8], at: usize, value: usize) {
    frame[at..at + 2].copy_from_slice(&u16::try_from(value).expect("16 bits").to_be_bytes());
}

/// The bytes `from..to` of an untagged frame's IP payload as a fragment, last if `to` is the end.
pub fn piece(frame: &[u8], identification: u16, from: usize, to: usize) -> Vec<u8> {
    assert!(from.is_multiple_of(8), "offsets count in eights");
    let (headers, more_flag) = if is_v4(frame) { (V4_HEADERS, 0x2000) } else { (V6_HEADERS, 1) };
    let (head, payload) = frame.split_at(headers);
    let more = if to < payload.len() { more_flag } else { 0 };
    let mut piece = head.to_vec();
    if is_v4(frame) {
        put16(&mut piece, ETHERNET_LEN + 2, 20 + to - from);
        put16(&mut piece, ETHERNET_LEN + 4, usize::from(identification));
        put16(&mut piece, ETHERNET_LEN + 6, (from / 8) | more);
    } else {
        put16(&mut piece, ETHERNET_LEN + 4, 8 + to - from);
        let next = std::mem::replace(&mut piece[V6_NEXT_HEADER], FRAGMENT);
        piece.extend([next, 0, 0, 0, 0, 0, 0, 0]);
        put16(&mut piece, V6_HEADERS + 2, from | more);
        put16(&mut piece, V6_HEADERS + 6, usize::from(identification));
    }
    piece.extend(&payload[from..to]);
    piece
}

/// A frame cut into fragments at these offsets of its IP payload.
pub fn cut(frame: &[u8], identification: u16, places: &[usize]) -> Vec<Vec<u8>> {
    let len = frame.len() - if is_v4(frame) { V4_HEADERS } else { V6_HEADERS };
    let ends: Vec<usize> = [&[0], places, &[len]].concat();
    ends.windows(2).map(|ends| piece(frame, identification, ends[0], ends[1])).collect()
}

/// An IPv6 frame with extension headers in front of its payload; each names itself in front of its bytes.
pub fn with_extensions(frame: &[u8], headers: &[(u8, [u8; 8])]) -> Vec<u8> {
    let mut whole = frame.to_vec();
    for (number, header) in headers.iter().rev() {
        let next = std::mem::replace(&mut whole[V6_NEXT_HEADER], *number);
        let mut header = *header;
        header[0] = next;
        whole.splice(V6_HEADERS..V6_HEADERS, header);
    }
    let len = whole.len() - V6_HEADERS;
    put16(&mut whole, ETHERNET_LEN + 4, len);
    whole
}

/// An IPv4 frame with four bytes of options.
pub fn with_options(frame: &[u8]) -> Vec<u8> {
    let mut whole = frame.to_vec();
    whole[ETHERNET_LEN] += 1;
    let len = whole.len() + 4 - ETHERNET_LEN;
    put16(&mut whole, ETHERNET_LEN + 2, len);
    whole.splice(V4_HEADERS..V4_HEADERS, [1, 1, 1, 0]);
    whole
}

/// A frame with VLAN tags, outermost first: protocol and identifier of each.
pub fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let tags = tags.iter().flat_map(|(kind, id)| [kind.to_be_bytes(), id.to_be_bytes()].concat());
    let mut whole = frame.to_vec();
    whole.splice(12..12, tags.collect::<Vec<u8>>());
    whole
}

impl Case {
    /// The frame of a packet that one side sends now, for the case to change before it is sent.
    pub fn frame(&mut self, side: Side, packet: Packet) -> Vec<u8> {
        self.build(side, Ns(0), packet).bytes
    }

    /// One side sends exactly these bytes. `flow` is for the check of the order: frames of one number leave in order.
    #[must_use]
    pub fn frame_at(mut self, side: Side, at: Ns, bytes: &[u8], flow: u16) -> Self {
        let what = format!("{} bytes", bytes.len());
        let list = match side {
            Side::Primary => &mut self.primary,
            Side::Secondary => &mut self.secondary,
        };
        list.push(Sent { at, stamp: at, bytes: bytes.to_vec(), what, flow: ("raw", flow) });
        self
    }
}
