//! Fragments out of a few bytes: pieces of eight datagrams of which every byte is known, at any place and of any length,
//! and what is left of such a piece when bytes of it are changed.

use crate::frame::protocol;
use crate::fuzzing::bytes::Bytes;

/// Addresses of the link.
const LINK: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
/// IPv6 headers, of RFC 8200.
const FRAGMENT_HEADER: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Longest piece, so that it fits into what the length fields say.
const LONGEST: usize = 65_000;

/// One of the datagrams that are sent in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datagram(u8);

impl Datagram {
    pub(super) fn new(bits: u8) -> Self {
        Self(bits & 7)
    }

    fn is_v4(self) -> bool {
        self.0 & 1 == 0
    }

    /// Two are UDP over each version, one TCP, one that no ports are known of.
    fn protocol(self) -> u8 {
        [protocol::UDP, protocol::UDP, protocol::TCP, 47][usize::from(self.0 >> 1)]
    }

    /// Some of the IPv6 ones have an extension header in front of the fragment header.
    fn has_options(self) -> bool {
        self.0 == 3
    }

    /// A byte of its IP payload. A UDP length of 0 says nothing (RFC 2675), and a TCP header is one without options.
    fn byte(self, at: usize) -> u8 {
        match (self.protocol(), at) {
            (protocol::UDP, 4..8) => 0,
            (protocol::TCP, 12) => 0x50,
            _ => u8::try_from((at * 7 + at / 1_000 + usize::from(self.0) * 31) % 251).expect("less than 256"),
        }
    }

    pub(super) fn content(self, from: usize, len: usize) -> Vec<u8> {
        (from..from + len).map(|at| self.byte(at)).collect()
    }

    /// Its frame, were it never cut, with so many bytes behind its headers.
    pub(super) fn whole(self, len: usize) -> Vec<u8> {
        let content = self.content(0, len);
        if self.is_v4() {
            return v4(self.protocol(), 0, 0, &content);
        }
        let (first, options) = self.options(self.protocol());
        v6(first, &[&options[..], &content].concat())
    }

    /// The part of it that starts at so many eights.
    pub(super) fn piece(self, eights: u16, len: usize, more: u16) -> Vec<u8> {
        let content = self.content(usize::from(eights) * 8, len.min(LONGEST));
        if self.is_v4() {
            return v4(self.protocol(), u16::from(self.0), more << 13 | eights, &content);
        }
        let word = (eights << 3 | more).to_be_bytes();
        let header = [self.protocol(), 0, word[0], word[1], 0, 0, 9, self.0];
        let (first, options) = self.options(FRAGMENT_HEADER);
        v6(first, &[&options[..], &header, &content].concat())
    }

    fn options(self, next: u8) -> (u8, Vec<u8>) {
        if self.has_options() {
            (DESTINATION_OPTIONS, vec![next, 0, 1, 4, 0, 0, 0, 0])
        } else {
            (next, Vec::new())
        }
    }

    /// Which bytes of a frame in front of its IP payload do not come out of a reassembly: of IPv4 the identification
    /// and the checksum, which nobody reads.
    pub(super) fn is_volatile(self, at: usize) -> bool {
        self.is_v4() && matches!(at, 18 | 19 | 24 | 25)
    }
}

fn v4(protocol: u8, identification: u16, word: u16, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + content.len()).expect("it is short enough").to_be_bytes();
    let [id, word] = [identification, word].map(u16::to_be_bytes);
    let header = [0x45, 0, len[0], len[1], id[0], id[1], word[0], word[1], 64, protocol, 0, 0];
    [&LINK[..], &[8, 0], &header, &[10, 0, 0, 1, 10, 0, 0, 9], content].concat()
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("it is short enough").to_be_bytes();
    let header = [0x60, 0, 0, 0, len[0], len[1], next, 64];
    [&LINK[..], &[0x86, 0xdd], &header, &[1; 16], &[9; 16], payload].concat()
}

/// A piece: which datagram, where, how long, and whether more follows.
pub(super) fn piece(bytes: &mut Bytes<'_>) -> (Datagram, Vec<u8>) {
    let [which, at, shape, len] = bytes.array();
    let len = usize::from(len);
    let len = match shape & 3 {
        0 | 1 => len * 8,
        2 => len,
        _ => len * 256,
    };
    // Near the start, or anywhere up to the farthest that an offset can say.
    let eights = if shape & 4 == 0 { u16::from(at) } else { u16::from(at) << 5 | 0x1f };
    let datagram = Datagram::new(which);
    (datagram, datagram.piece(eights, len, u16::from(which >> 7)))
}

/// A datagram cut anywhere, its pieces in another order.
pub(super) fn cut(bytes: &mut Bytes<'_>) -> (Datagram, Vec<Vec<u8>>) {
    let [which, len, odd, pieces] = bytes.array();
    let datagram = Datagram::new(which);
    let len = usize::from(len) * 8 + usize::from(odd & 7) + 17;
    let mut places: Vec<usize> =
        bytes.take(usize::from(pieces & 7)).iter().map(|place| usize::from(*place) * 8).collect();
    places.retain(|place| *place < len);
    places.extend([0, len]);
    places.sort_unstable();
    places.dedup();
    let mut cut: Vec<_> = places
        .windows(2)
        .map(|ends| {
            let eights = u16::try_from(ends[0] / 8).expect("short");
            datagram.piece(eights, ends[1] - ends[0], u16::from(ends[1] < len))
        })
        .collect();
    let turn = usize::from(pieces >> 3) % cut.len();
    cut.rotate_left(turn);
    if which & 0x80 != 0 {
        cut.reverse();
    }
    (datagram, cut)
}

/// Flips bits of a byte, and cuts the end off or pads.
pub(super) fn change(frame: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    let [place, bits, how] = bytes.array();
    if let Some(byte) = frame.get_mut(usize::from(place)) {
        *byte ^= bits;
    }
    match how >> 5 {
        6 => frame.resize(frame.len() + usize::from(how & 0x1f), 0xaa),
        7 => frame.truncate(frame.len().saturating_sub(usize::from(how & 0x1f))),
        _ => {}
    }
}
