//! Frames as the simulated guests send them, and as the model reads them: Ethernet, IPv4, TCP, UDP, ICMP, by hand.
//!
//! Nothing of the engine's parser is used here: what it gets wrong must not be wrong here as well.

/// Both ends of a flow, guest first: addresses and ports (ICMP: type and identifier).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ends {
    /// IP protocol.
    pub protocol: u8,
    /// Last bytes of the guest's and the client's address.
    pub hosts: [u8; 2],
    /// The guest's and the client's port.
    pub ports: [u16; 2],
}

/// TCP flags.
pub const FIN: u8 = 1;
/// Synchronize.
pub const SYN: u8 = 2;
/// Reset.
pub const RST: u8 = 4;
/// Push.
pub const PSH: u8 = 8;
/// Acknowledge.
pub const ACK: u8 = 16;

/// A TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number; counts with the flag.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Receive window, as in the header.
    pub window: u16,
    /// Data.
    pub payload: &'a [u8],
}

/// What a frame is to the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A segment.
    Tcp(Ends, Tcp<'a>),
    /// A datagram and what of it is compared.
    Datagram(Ends, &'a [u8]),
    /// Something that is not compared, or that is broken.
    Other,
}

const ETHERNET: usize = 14;
const IP: usize = 20;
/// The shortest frame on the wire, without its checksum.
const SHORTEST: usize = 60;

fn ip_frame(ends: Ends, id: u16, payload: &[u8], padding: u8) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET + IP + payload.len().max(SHORTEST));
    frame.extend([0x52, 0x54, 0, 0, 0, ends.hosts[1], 0x52, 0x54, 0, 0, 0, ends.hosts[0], 8, 0]);
    let total = u16::try_from(IP + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let id = id.to_be_bytes();
    frame.extend([0x45, 0, total[0], total[1], id[0], id[1], 0x40, 0, 64, ends.protocol, 0, 0]);
    frame.extend([10, 0, 0, ends.hosts[0], 10, 0, 0, ends.hosts[1]]);
    let checksum = checksum(0, &frame[ETHERNET..]);
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(payload);
    while frame.len() < SHORTEST {
        frame.push(padding);
    }
    frame
}

/// The frame of a segment. `id`: the IP identification. A short frame is padded with `padding`.
pub fn tcp_frame(ends: Ends, id: u16, segment: &Tcp<'_>, padding: u8) -> Vec<u8> {
    let options: &[u8] = if segment.flags & SYN == 0 { &[] } else { &[2, 4, 5, 0xb4] };
    let mut tcp = Vec::with_capacity(24 + segment.payload.len());
    tcp.extend(ends.ports[0].to_be_bytes());
    tcp.extend(ends.ports[1].to_be_bytes());
    tcp.extend(segment.seq.to_be_bytes());
    tcp.extend(if segment.flags & ACK == 0 { 0 } else { segment.ack }.to_be_bytes());
    tcp.extend([if options.is_empty() { 0x50 } else { 0x60 }, segment.flags]);
    tcp.extend(segment.window.to_be_bytes());
    tcp.extend([0; 4]);
    tcp.extend(options);
    tcp.extend(segment.payload);
    let checksum = transport_checksum(ends, &tcp);
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    ip_frame(ends, id, &tcp, padding)
}

/// The frame of a UDP datagram, or of an ICMP message whose type and identifier are the ports.
pub fn datagram_frame(ends: Ends, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(8 + content.len());
    if ends.protocol == 17 {
        datagram.extend(ends.ports[0].to_be_bytes());
        datagram.extend(ends.ports[1].to_be_bytes());
        datagram.extend(u16::try_from(8 + content.len()).unwrap_or(u16::MAX).to_be_bytes());
        datagram.extend([0; 2]);
        datagram.extend(content);
        let checksum = transport_checksum(ends, &datagram);
        datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    } else {
        datagram.extend([0; 4]);
        datagram.extend(ends.ports[1].to_be_bytes());
        datagram.extend([0, 1]);
        datagram.extend(content);
        let checksum = checksum(0, &datagram);
        datagram[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    ip_frame(ends, id, &datagram, padding)
}

/// An ARP request of a guest.
pub fn arp_frame(host: u8, number: u8) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([0x52, 0x54, 0, 0, 0, host, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.resize(SHORTEST, number);
    frame
}

fn transport_checksum(ends: Ends, segment: &[u8]) -> u16 {
    let mut pseudo = vec![10, 0, 0, ends.hosts[0], 10, 0, 0, ends.hosts[1], 0, ends.protocol];
    pseudo.extend(u16::try_from(segment.len()).unwrap_or(u16::MAX).to_be_bytes());
    checksum(sum(&pseudo), segment)
}

fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum()
}

fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut all = start + sum(bytes);
    while all > 0xffff {
        all = (all & 0xffff) + (all >> 16);
    }
    !u16::try_from(all).unwrap_or(0)
}

/// Whether a TCP frame's checksum is right.
pub fn tcp_checksum_is_right(frame: &[u8]) -> bool {
    let (Parsed::Tcp(ends, _), Some(ip)) = (parse(frame), frame.get(ETHERNET..)) else { return false };
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    transport_checksum(ends, &ip[header..total]) == 0
}

/// Where the window and the checksum of an option-free IPv4 TCP frame are.
pub const WINDOW_AT: usize = ETHERNET + IP + 14;
/// See [`WINDOW_AT`].
pub const CHECKSUM_AT: usize = ETHERNET + IP + 16;
/// Length of all headers of a TCP frame without options, and of what tells one frame's header from another's.
pub const HEADERS: usize = ETHERNET + IP + 20;

/// Reads a frame.
pub fn parse(frame: &[u8]) -> Parsed<'_> {
    read(frame).unwrap_or(Parsed::Other)
}

/// Whether a frame is a piece of a datagram: more follow, or it does not begin it.
pub fn is_fragment(frame: &[u8]) -> bool {
    let word = |at: usize| frame.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    word(12) == Some(0x0800) && word(ETHERNET + 6).is_some_and(|word| word & 0x3fff != 0)
}

fn read(frame: &[u8]) -> Option<Parsed<'_>> {
    let ip = frame.get(ETHERNET..)?;
    let word = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if word(frame, 12)? != 0x0800 || *ip.first()? >> 4 != 4 {
        return None;
    }
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(word(ip, 2)?);
    if header < IP || is_fragment(frame) {
        return None;
    }
    let payload = ip.get(..total)?.get(header..)?;
    let protocol = ip[9];
    let hosts = [ip[15], ip[19]];
    match protocol {
        6 => {
            let long = |at: usize| Some(u32::from_be_bytes(payload.get(at..at + 4)?.try_into().ok()?));
            let offset = usize::from(*payload.get(12)? >> 4) * 4;
            let ends = Ends { protocol, hosts, ports: [word(payload, 0)?, word(payload, 2)?] };
            let flags = *payload.get(13)? & 0x3f;
            let window = word(payload, 14)?;
            if offset < 20 {
                return None;
            }
            let data = payload.get(offset..)?;
            Some(Parsed::Tcp(ends, Tcp { seq: long(4)?, ack: long(8)?, flags, window, payload: data }))
        }
        17 => {
            let ends = Ends { protocol, hosts, ports: [word(payload, 0)?, word(payload, 2)?] };
            // What UDP says is its length; what the IP packet has behind that is nobody's. A length of 0 is the whole of it.
            let end = match usize::from(word(payload, 4)?) {
                0 => payload.len(),
                length => length,
            };
            Some(Parsed::Datagram(ends, payload.get(8..end)?))
        }
        1 => {
            let ends = Ends { protocol, hosts, ports: [u16::from(*payload.first()?), word(payload, 4)?] };
            Some(Parsed::Datagram(ends, payload))
        }
        _ => None,
    }
}
