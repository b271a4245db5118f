//! Where things lie in an Ethernet frame with IPv4 or IPv6 and TCP or UDP in it: enough to look at, alter and mend
//! the frames of these tests. Extension headers and fragments are none of its business.

use anyhow::{Context, Result, ensure};

/// Length of an untagged Ethernet header, bytes.
pub const ETHERNET: usize = 14;

/// IP protocol numbers met here.
pub mod protocol {
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
}

/// TCP flag bits.
pub mod flag {
    /// Sender is finished.
    pub const FIN: u8 = 0x01;
    /// Start of a connection.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The ack number counts.
    pub const ACK: u8 = 0x10;
}

/// Byte ranges of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    addresses: (usize, usize),
    /// Protocol behind IP.
    pub protocol: u8,
    /// First byte of the TCP or UDP header.
    pub transport: usize,
    /// First byte of the payload.
    pub payload: usize,
    /// One past the last byte that IP counts; Ethernet padding may follow.
    pub end: usize,
}

/// Finds TCP or UDP in a frame; `None` for everything else.
pub fn layout(frame: &[u8]) -> Option<Layout> {
    let (addresses, protocol, transport, end) = match frame.get(12..ETHERNET)? {
        [0x08, 0x00] => {
            let header = usize::from(frame.get(ETHERNET)? & 0x0f) * 4;
            let total = usize::from(be16(frame, ETHERNET + 2)?);
            ((ETHERNET + 12, 8), *frame.get(ETHERNET + 9)?, ETHERNET + header, ETHERNET + total)
        }
        [0x86, 0xdd] => {
            let payload = usize::from(be16(frame, ETHERNET + 4)?);
            ((ETHERNET + 8, 32), *frame.get(ETHERNET + 6)?, ETHERNET + 40, ETHERNET + 40 + payload)
        }
        _ => return None,
    };
    let header = match protocol {
        protocol::TCP => usize::from(frame.get(transport + 12)? >> 4) * 4,
        protocol::UDP => 8,
        _ => return None,
    };
    let payload = transport + header;
    (payload <= end && end <= frame.len()).then_some(Layout { addresses, protocol, transport, payload, end })
}

impl Layout {
    /// Source port.
    pub fn source_port(&self, frame: &[u8]) -> u16 {
        be16(frame, self.transport).unwrap_or_default()
    }

    /// Destination port.
    pub fn destination_port(&self, frame: &[u8]) -> u16 {
        be16(frame, self.transport + 2).unwrap_or_default()
    }

    /// Key of the frame's flow: addresses and ports as bytes, protocol.
    pub fn flow(&self, frame: &[u8]) -> (Vec<u8>, u8) {
        let (at, length) = self.addresses;
        let mut key = frame[at..at + length].to_vec();
        key.extend_from_slice(&frame[self.transport..self.transport + 4]);
        (key, self.protocol)
    }

    /// TCP sequence number.
    pub fn sequence(&self, frame: &[u8]) -> u32 {
        be32(frame, self.transport + 4).unwrap_or_default()
    }

    /// TCP ack number.
    pub fn ack(&self, frame: &[u8]) -> u32 {
        be32(frame, self.transport + 8).unwrap_or_default()
    }

    /// TCP flags.
    pub fn flags(&self, frame: &[u8]) -> u8 {
        frame[self.transport + 13]
    }

    /// TCP window field.
    pub fn window(&self, frame: &[u8]) -> u16 {
        be16(frame, self.transport + 14).unwrap_or_default()
    }

    /// What is left of a transport checksum when all it covers is added up: 0 for a right one. A change that keeps
    /// the checksum in step keeps this, right or wrong.
    pub fn residue(&self, frame: &[u8]) -> u16 {
        let (addresses, address_bytes) = self.addresses;
        let length = u64::try_from(self.end - self.transport).unwrap_or_default();
        let sum = ones_sum(&frame[addresses..addresses + address_bytes])
            + ones_sum(&frame[self.transport..self.end])
            + u64::from(self.protocol)
            + length;
        fold(sum)
    }

    /// Overwrites the TCP ack number; the checksum is then wrong.
    pub fn set_ack(&self, frame: &mut [u8], ack: u32) {
        frame[self.transport + 8..self.transport + 12].copy_from_slice(&ack.to_be_bytes());
    }

    /// Writes the right TCP or UDP checksum. Kernels leave it to the card, so captured frames often carry half of one.
    pub fn mend_checksum(&self, frame: &mut [u8]) -> Result<()> {
        let at = self.transport + if self.protocol == protocol::TCP { 16 } else { 6 };
        frame[at..at + 2].fill(0);
        let length = u16::try_from(self.end - self.transport).context("a transport length over 65,535")?;
        let (addresses, address_bytes) = self.addresses;
        let sum = ones_sum(&frame[addresses..addresses + address_bytes])
            + ones_sum(&frame[self.transport..self.end])
            + u64::from(self.protocol)
            + u64::from(length);
        // UDP spells a computed 0 as all ones, because 0 means "none".
        let checksum = match fold(sum) {
            0 if self.protocol == protocol::UDP => 0xffff,
            checksum => checksum,
        };
        frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        Ok(())
    }
}

/// Fields of a TCP frame over IPv4 without options.
#[derive(Debug, Clone, Copy)]
pub struct Tcp4 {
    /// Source address and port.
    pub source: ([u8; 4], u16),
    /// Destination address and port.
    pub destination: ([u8; 4], u16),
    /// Sequence number.
    pub sequence: u32,
    /// Ack number.
    pub ack: u32,
    /// Flag bits.
    pub flags: u8,
    /// IP identification; never compared, so tests put the sender's mark there.
    pub identification: u16,
}

impl Tcp4 {
    /// The whole frame, checksums right.
    pub fn frame(&self, payload: &[u8]) -> Result<Vec<u8>> {
        let total = u16::try_from(40 + payload.len()).context("a payload that IPv4 cannot carry")?;
        let mut frame = Vec::with_capacity(ETHERNET + usize::from(total));
        frame.extend_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00]);
        frame.extend_from_slice(&[0x45, 0]);
        frame.extend_from_slice(&total.to_be_bytes());
        frame.extend_from_slice(&self.identification.to_be_bytes());
        frame.extend_from_slice(&[0x40, 0, 64, protocol::TCP, 0, 0]);
        frame.extend_from_slice(&self.source.0);
        frame.extend_from_slice(&self.destination.0);
        let checksum = fold(ones_sum(&frame[ETHERNET..]));
        frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend_from_slice(&self.source.1.to_be_bytes());
        frame.extend_from_slice(&self.destination.1.to_be_bytes());
        frame.extend_from_slice(&self.sequence.to_be_bytes());
        frame.extend_from_slice(&self.ack.to_be_bytes());
        frame.extend_from_slice(&[0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend_from_slice(payload);
        let layout = layout(&frame).context("our own frame has no layout")?;
        ensure!(layout.end == frame.len(), "our own frame is longer than IP says");
        layout.mend_checksum(&mut frame)?;
        Ok(frame)
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// Sum of big-endian words, not folded; a last odd byte counts as a word's first.
pub(crate) fn ones_sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    let sum: u64 = words.by_ref().map(|word| u64::from(word[0]) << 8 | u64::from(word[1])).sum();
    sum + words.remainder().first().map_or(0, |last| u64::from(*last) << 8)
}

/// The internet checksum of a sum of words.
pub(crate) fn fold(mut sum: u64) -> u16 {
    loop {
        match u16::try_from(sum) {
            Ok(sum) => return !sum,
            Err(_) => sum = (sum & 0xffff) + (sum >> 16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_frame_checks_with_etherparse() {
        let tcp = Tcp4 {
            source: ([10, 0, 0, 1], 80),
            destination: ([10, 0, 0, 9], 4242),
            sequence: u32::MAX,
            ack: 7,
            flags: flag::ACK,
            identification: 3,
        };
        let frame = tcp.frame(b"odd").unwrap();
        let sliced = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("no IPv4") };
        assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
        let Some(etherparse::TransportSlice::Tcp(transport)) = &sliced.transport else { panic!("no TCP") };
        let expected =
            transport.to_header().calc_checksum_ipv4(&ip.header().to_header(), transport.payload()).unwrap();
        assert_eq!(transport.checksum(), expected);
        let layout = layout(&frame).unwrap();
        assert_eq!((layout.sequence(&frame), layout.ack(&frame)), (u32::MAX, 7));
        assert_eq!(&frame[layout.payload..layout.end], b"odd");
    }
}
