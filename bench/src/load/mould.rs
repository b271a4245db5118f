//! Frames of a load: made once, then only the few bytes changed that tell one from another, checksums included.
//!
//! A frame says which it is: its flow in the destination's address and port, its place in the flow and in the run in
//! the first eight bytes of payload. So a frame that comes back can be checked to the last byte without being kept.

use std::ops::Range;

use pmd_tap::Framing;

use crate::frames::Protocol;
use crate::load::shape::Shape;

const IP_CHECKSUM: Range<usize> = 24..26;
const ADDRESS: Range<usize> = 30..34;
const PORT: Range<usize> = 36..38;
const SEQUENCE: Range<usize> = 38..42;
/// Where the transport's header begins.
const TRANSPORT: usize = 34;
/// Bytes of payload that name the frame.
const NAME_BYTES: usize = 8;
/// The longest headers and the name behind them.
const HEAD_BYTES: usize = 54 + NAME_BYTES;
/// As virtio-net sends it: flags, kind, header length, segment size, checksum start and offset, buffers.
const VIRTIO_BYTES: usize = 12;
/// Clients on one address.
const PORTS: u32 = 50_000;
const FIRST_PORT: u32 = 1024;
const FIRST_ADDRESS: u32 = 0x0a01_0000;
/// What a segment of a super frame carries.
const SEGMENT_BYTES: u16 = 1446;
/// The longest frame that leaves as one packet.
const LONGEST_PACKET: usize = 9018;
/// Where a flow's sequence numbers begin: far apart, so that frames of two flows are not taken for each other.
const SEQUENCE_STEP: u32 = 0x9e37_79b1;

/// Which frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Its flow.
    pub flow: u32,
    /// Its place in the flow, counted from 0.
    pub place: u32,
    /// The low half of its place in the run.
    pub number: u32,
}

/// Whether the secondary's frame is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// As the primary sends it.
    Equal,
    /// One byte of payload is another; the checksum is right.
    Different,
}

/// All frames of a run, less what tells them apart.
#[derive(Debug)]
pub struct Mould {
    protocol: Protocol,
    flows: u32,
    /// As on the socket: length words, virtio header, frame.
    wire: Vec<u8>,
    /// Where the Ethernet header begins in `wire`.
    start: usize,
    payload: u32,
    ip_sum: u32,
    transport_sum: u32,
    checksum: Checksum,
}

/// What the transport's checksum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checksum {
    Whole,
    /// Of the pseudo header only: the rest is the network card's, as with every super frame.
    Partial,
}

impl Mould {
    /// For the shape's frames. Frames that are longer than any packet are super frames, with a virtio header that says
    /// so.
    pub fn new(shape: &Shape) -> Self {
        let mut frame = shape.protocol.template(shape.frame);
        frame[ADDRESS].fill(0);
        let checksum = if shape.is_super() { Checksum::Partial } else { Checksum::Whole };
        let segment_len = u32::try_from(frame.len() - TRANSPORT).unwrap_or(0);
        let protocol = u32::from(frame[23]);
        let pseudo = sum(&frame[26..30]) + protocol + segment_len;
        let transport_sum = match checksum {
            Checksum::Partial => pseudo,
            Checksum::Whole => {
                // Address, port, sequence number and name are added for each frame.
                let name = shape.protocol.header_bytes();
                let mut still = frame[TRANSPORT..].to_vec();
                still[PORT.start - TRANSPORT..PORT.end - TRANSPORT].fill(0);
                if shape.protocol == Protocol::Tcp {
                    still[SEQUENCE.start - TRANSPORT..SEQUENCE.end - TRANSPORT].fill(0);
                }
                still[name - TRANSPORT..name - TRANSPORT + NAME_BYTES].fill(0);
                pseudo + sum(&still)
            }
        };
        let ip_sum = sum(&frame[14..TRANSPORT]);
        let mut wire = Vec::new();
        if shape.framing() == Framing::VnetHeader {
            wire.extend(word(frame.len() + VIRTIO_BYTES));
            wire.extend(word(VIRTIO_BYTES));
            wire.extend(virtio_header(shape.protocol, checksum));
        } else {
            wire.extend(word(frame.len()));
        }
        let start = wire.len();
        let payload = u32::try_from(frame.len() - shape.protocol.header_bytes()).unwrap_or(0);
        wire.append(&mut frame);
        let flows = shape.flows;
        Self { protocol: shape.protocol, flows, wire, start, payload, ip_sum, transport_sum, checksum }
    }

    /// A frame as it goes over the socket, without a name.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// Bytes of a frame and its virtio header: what its length word says.
    pub fn content_bytes(&self) -> usize {
        self.wire.len() - self.prefix_bytes()
    }

    /// Bytes in front of that.
    pub fn prefix_bytes(&self) -> usize {
        if self.start > 8 { 8 } else { 4 }
    }

    /// Names the frame in `wire`, which was a copy of [`wire`](Self::wire) once.
    pub fn name(&self, wire: &mut [u8], name: Name, content: Content) {
        self.name_frame(&mut wire[self.start..], name, content);
    }

    fn name_frame(&self, frame: &mut [u8], name: Name, content: Content) {
        let address = FIRST_ADDRESS + name.flow / PORTS;
        let port = FIRST_PORT + name.flow % PORTS;
        let number = if content == Content::Equal { name.number } else { name.number ^ 0x8000_0000 };
        frame[ADDRESS].copy_from_slice(&address.to_be_bytes());
        frame[PORT].copy_from_slice(&low(port));
        frame[IP_CHECKSUM].copy_from_slice(&low(!fold(self.ip_sum + halves(address))));
        let mut sum = self.transport_sum + halves(address);
        let mut varying = port + halves(name.place) + halves(number);
        if self.protocol == Protocol::Tcp {
            let sequence =
                name.flow.wrapping_mul(SEQUENCE_STEP).wrapping_add(name.place.wrapping_mul(self.payload));
            frame[SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
            varying += halves(sequence);
        }
        let (head, at) = match self.protocol {
            Protocol::Tcp => (54, 50),
            Protocol::Udp => (42, 40),
        };
        let value = match self.checksum {
            Checksum::Partial => fold(sum),
            Checksum::Whole => {
                sum += varying;
                let value = !fold(sum);
                // UDP writes "none" as 0.
                if low(value) == [0; 2] { 0xffff } else { value }
            }
        };
        frame[at..at + 2].copy_from_slice(&low(value));
        frame[head..head + 4].copy_from_slice(&name.place.to_be_bytes());
        frame[head + 4..head + NAME_BYTES].copy_from_slice(&number.to_be_bytes());
    }

    /// The name of what came back, prefix left away; `None` when it is not, to the last byte, a frame of this mould.
    pub fn check(&self, content: &[u8]) -> Option<Name> {
        let own = &self.wire[self.prefix_bytes()..];
        let virtio = self.start - self.prefix_bytes();
        if content.len() != own.len() || content[..virtio] != own[..virtio] {
            return None;
        }
        let (own, frame) = (&own[virtio..], &content[virtio..]);
        let head = self.protocol.header_bytes();
        let end = head + NAME_BYTES;
        let address = number(&frame[ADDRESS]);
        let port = u32::from(u16::from_be_bytes([frame[36], frame[37]]));
        let flow = address
            .checked_sub(FIRST_ADDRESS)?
            .checked_mul(PORTS)?
            .checked_add(port.checked_sub(FIRST_PORT)?)?;
        let name = Name { flow, place: number(&frame[head..]), number: number(&frame[head + 4..]) };
        if flow >= self.flows || port >= FIRST_PORT + PORTS || frame[end..] != own[end..] {
            return None;
        }
        let mut expected = [0; HEAD_BYTES];
        let expected = &mut expected[..end];
        expected.copy_from_slice(&own[..end]);
        self.name_frame(expected, name, Content::Equal);
        (*expected == frame[..end]).then_some(name)
    }
}

impl Shape {
    /// Longer than any packet: the network card is to cut it.
    pub fn is_super(&self) -> bool {
        self.frame > LONGEST_PACKET
    }

    /// What stands in front of the frames.
    pub fn framing(&self) -> Framing {
        if self.vnet || self.is_super() { Framing::VnetHeader } else { Framing::Plain }
    }
}

fn virtio_header(protocol: Protocol, checksum: Checksum) -> [u8; VIRTIO_BYTES] {
    let mut header = [0; VIRTIO_BYTES];
    header[10] = 1;
    if checksum == Checksum::Partial {
        // The checksum is to be completed, from the transport's header on, at its offset there. Little endian.
        let (kind, at, head) = match protocol {
            Protocol::Tcp => (1, 16, 54),
            Protocol::Udp => (5, 6, 42),
        };
        header[..3].copy_from_slice(&[1, kind, head]);
        header[4..6].copy_from_slice(&SEGMENT_BYTES.to_le_bytes());
        header[6] = 34;
        header[8] = at;
    }
    header
}

fn word(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes()
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Both halves of a word, added.
fn halves(word: u32) -> u32 {
    (word >> 16) + (word & 0xffff)
}

/// The lower half of a word as it goes into a frame.
fn low(word: u32) -> [u8; 2] {
    let [_, _, high, low] = word.to_be_bytes();
    [high, low]
}

/// Sixteen-bit words, added, each carry still in the upper half. Up to 64 KiB.
fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let odd = rest.first().map_or(0, |last| u32::from(*last) << 8);
    fold(words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>()) + odd
}

fn fold(sum: u32) -> u32 {
    halves(halves(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(protocol: Protocol, frame: usize) -> Shape {
        Shape { protocol, frame, flows: 60_000, ..Shape::default() }
    }

    fn named(mould: &Mould, name: Name, content: Content) -> Vec<u8> {
        let mut wire = mould.wire().to_vec();
        mould.name(&mut wire, name, content);
        wire.split_off(mould.prefix_bytes())
    }

    const NAME: Name = Name { flow: 51_234, place: 0xfedc_ba98, number: 0x1234_5678 };

    #[test]
    fn a_frame_is_known_by_its_name_and_one_changed_byte_is_seen() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for len in [64, 65, 512, 1460, 65_000] {
                let mould = Mould::new(&shape(protocol, len));
                let mut frame = named(&mould, NAME, Content::Equal);
                assert_eq!(mould.check(&frame), Some(NAME), "{protocol:?} {len}");
                for at in (0..frame.len()).step_by(1 + len / 200) {
                    frame[at] ^= 1;
                    assert_eq!(mould.check(&frame), None, "{protocol:?} {len}, byte {at}");
                    frame[at] ^= 1;
                }
                assert_eq!(mould.check(&frame[1..]), None);
            }
        }
    }

    #[test]
    fn checksums_are_those_of_the_protocols() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (len, content) in
                [64, 65, 1400].into_iter().zip([Content::Equal, Content::Different].repeat(2))
            {
                let frame = named(&Mould::new(&shape(protocol, len)), NAME, content);
                let ip = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
                let Some(etherparse::NetSlice::Ipv4(ipv4)) = &ip.net else { panic!("no IPv4") };
                let header = ipv4.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                match ip.transport.unwrap() {
                    etherparse::TransportSlice::Tcp(tcp) => {
                        let payload = tcp.payload();
                        let sum = tcp.to_header().calc_checksum_ipv4(&header, payload).unwrap();
                        assert_eq!(tcp.checksum(), sum);
                    }
                    etherparse::TransportSlice::Udp(udp) => {
                        let payload = udp.payload();
                        let sum = udp.to_header().calc_checksum_ipv4(&header, payload).unwrap();
                        assert_eq!(udp.checksum(), sum);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn the_secondary_s_other_frame_differs_in_payload_and_checksum_only() {
        let mould = Mould::new(&shape(Protocol::Tcp, 100));
        let (equal, different) =
            (named(&mould, NAME, Content::Equal), named(&mould, NAME, Content::Different));
        let differing: Vec<_> = (0..100).filter(|&at| equal[at] != different[at]).collect();
        assert_eq!(differing, [50, 58]);
    }

    #[test]
    fn super_frames_say_how_they_are_to_be_cut() {
        let mould = Mould::new(&shape(Protocol::Tcp, 40_000));
        assert_eq!(mould.wire()[..8], [0, 0, 0x9c, 0x4c, 0, 0, 0, 12]);
        let header = [1, 1, 54, 0, 0xa6, 5, 34, 0, 16, 0, 1, 0];
        assert_eq!(mould.wire()[8..20], header);
        assert_eq!(mould.content_bytes(), 40_012);
    }
}
