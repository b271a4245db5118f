//! The usual frame: untagged, IPv4 without options, unfragmented, TCP or UDP. A peek at fixed offsets instead of a walk
//! from header to header. Whatever does not look usual, odd lengths included, is the full parser's business; a test
//! holds both to the same answers.

use super::tunnel::VXLAN_PORT;
use super::{Extent, Segment, SeqNumber, TcpFlags, Tunnels};
use crate::flow::{Addresses, FlowKey, Selector, VlanTags};

/// Ethernet, IPv4 and TCP headers without options; a UDP frame has that length by padding.
const HEADERS: usize = 54;
const IP: usize = 14;
const TRANSPORT: usize = 34;
const TCP: u8 = 6;
const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const MIN_TCP_HEADER: usize = 20;

/// The first bytes of such a frame.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a> {
    headers: &'a [u8; HEADERS],
    /// Bytes behind the IP header, by the IP header.
    carried: usize,
}

impl<'a> Plain<'a> {
    /// If it is one.
    #[inline(always)]
    pub(crate) fn new(ethernet: &'a [u8]) -> Option<Self> {
        let headers = ethernet.first_chunk::<HEADERS>()?;
        let (kind, version) = ([headers[12], headers[13]], headers[IP]);
        let fragment = u16::from_be_bytes([headers[20], headers[21]]) & 0x3fff;
        let total = usize::from(u16::from_be_bytes([headers[16], headers[17]]));
        let usual = kind == [0x08, 0x00] && version == 0x45 && fragment == 0;
        if !usual || IP + total > ethernet.len() {
            return None;
        }
        let carried = total.checked_sub(TRANSPORT - IP)?;
        Some(Self { headers, carried })
    }

    #[inline(always)]
    fn word(self, at: usize) -> u32 {
        let bytes = self.headers;
        u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }

    #[inline(always)]
    fn half(self, at: usize) -> u16 {
        u16::from_be_bytes([self.headers[at], self.headers[at + 1]])
    }

    #[inline(always)]
    pub(crate) fn flow(self) -> FlowKey {
        let addresses = Addresses::V4 { source: self.word(26), destination: self.word(30) };
        let ports = Selector::Ports { source: self.half(TRANSPORT), destination: self.half(TRANSPORT + 2) };
        FlowKey::new(addresses, VlanTags::default(), self.headers[23], ports)
    }

    /// The TCP segment, if it is one (RFC 9293 section 3.1).
    #[inline(always)]
    pub(crate) fn segment(self) -> Option<Segment> {
        let header = usize::from(self.headers[46] >> 4) * 4;
        if self.headers[23] != TCP || header < MIN_TCP_HEADER || header > self.carried {
            return None;
        }
        let (flags, ack) = (self.headers[47], self.word(42));
        Some(Segment {
            seq: SeqNumber(self.word(38)),
            ack: (flags & 0x10 != 0).then_some(SeqNumber(ack)),
            flags: TcpFlags::from_bits(flags),
            window: self.half(48),
            payload: Extent::new(TRANSPORT + header, self.carried - header),
        })
    }

    /// Where the UDP payload stands, if it is UDP and has an ordinary length (RFC 768).
    #[inline(always)]
    pub(crate) fn udp_payload(self) -> Option<Extent> {
        let length = usize::from(self.half(38));
        if self.headers[23] != UDP || length < UDP_HEADER || length > self.carried {
            return None;
        }
        Some(Extent::new(TRANSPORT + UDP_HEADER, length - UDP_HEADER))
    }

    /// Of UDP: whether it may be a tunnel, and tunnels are looked into. Who does not look pays for one branch.
    #[inline(always)]
    pub(crate) fn is_opened(self, tunnels: Tunnels) -> bool {
        tunnels == Tunnels::Inner && self.has_tunnel_port()
    }

    #[cold]
    #[inline(never)]
    fn has_tunnel_port(self) -> bool {
        self.half(TRANSPORT + 2) == VXLAN_PORT
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Packet;
    use super::*;

    fn frame(protocol: u8) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 9, 0, 80, 4, 0]);
        match protocol {
            TCP => frame.extend([0, 0, 0, 5, 0, 0, 0, 7, 0x60, 0x18, 1, 1, 0, 0, 0, 0]),
            _ => frame.extend([0, 40, 0, 0]),
        }
        frame.resize(IP + 60, 3);
        frame
    }

    proptest! {
        /// Usual frames with a few bytes changed and the end cut off or padded.
        #[test]
        fn the_peek_agrees_with_the_full_parser(
            protocol in prop::sample::select(vec![TCP, UDP, 136, 1]),
            changes in prop::collection::vec((12_usize..60, any::<u8>()), 0..3),
            len in 10_usize..90,
        ) {
            let mut frame = frame(protocol);
            for (at, byte) in changes {
                frame[at] = byte;
            }
            for len in [len, IP + 60] {
                frame.resize(len, 0);
                prop_assert_eq!(Packet::parse(&frame), Packet::parse_any(&frame));
            }
        }
    }
}
