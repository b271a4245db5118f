//! What one guest sends, said in the words of the catalogue: stream positions, client positions, flags. Nothing
//! here is bytes yet; `wire.rs` makes frames of it once the case knows the initial sequence numbers.

use std::ops::Range;

use etherparse::TcpOptionElement;

use super::carriage::Carriage;
use super::others::Icmp;

/// The header bits of a TCP segment that a case may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// Synchronise.
    Syn,
    /// End of the stream.
    Fin,
    /// Reset.
    Rst,
    /// Push.
    Psh,
    /// ECN echo.
    Ece,
    /// Congestion window reduced.
    Cwr,
    /// The urgent pointer counts.
    Urg,
}

/// The acknowledgement a segment carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ack {
    /// The highest one its side has sent so far, as a real stack would.
    Running,
    /// The first so many bytes of the client's stream.
    Client(i64),
    /// Exactly this number on the wire.
    Raw(u32),
    /// No ACK flag.
    Absent,
}

/// Where a segment lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// Right behind what its side has sent so far.
    Next,
    /// At this stream position; 0 is the byte after the SYN, -1 the SYN itself.
    Position(i64),
    /// Exactly this sequence number on the wire.
    Raw(u32),
}

/// In whose sequence space an SVM segment is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// As the case says for all of the SVM's segments.
    OfCase,
    /// The PVM's, as after a checkpoint or behind a rewriter.
    Primary,
    /// The SVM's own.
    Own,
}

/// A TCP segment in catalogue words.
#[derive(Debug, Clone)]
pub(super) struct Tcp {
    pub(super) from: From,
    pub(super) len: i64,
    pub(super) ack: Ack,
    pub(super) flags: Vec<Flag>,
    pub(super) window: u16,
    pub(super) urgent: u16,
    pub(super) options: Vec<TcpOptionElement>,
    pub(super) space: Space,
    pub(super) incarnation: usize,
}

/// What lies above IP.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Tcp(Tcp),
    Udp(Vec<u8>, UdpChecksum),
    Icmp(Icmp),
    /// Any other IP protocol: its number and payload, the same for both IP versions.
    Ip(u8, Vec<u8>),
    /// A whole Ethernet frame and what it is.
    Frame(Vec<u8>, &'static str),
}

/// Whether a datagram carries its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UdpChecksum {
    Real,
    Zero,
}

/// One packet of either guest, before it has a time and a side.
#[derive(Debug, Clone)]
pub struct Packet {
    pub(super) body: Body,
    pub(super) flow: u16,
    /// Bytes that differ from the content function: (stream position or payload index, byte).
    pub(super) planted: Vec<(i64, u8)>,
    pub(super) pad_to: usize,
    pub(super) ip_id: u16,
    pub(super) ttl: u8,
    pub(super) mac: u8,
    /// How IP and the link carry it.
    pub(super) carriage: Carriage,
}

pub(super) fn packet(body: Body) -> Packet {
    let carriage = Carriage::default();
    Packet { body, flow: 0, planted: Vec::new(), pad_to: 0, ip_id: 0, ttl: 64, mac: 1, carriage }
}

/// The window field of every segment that says nothing else.
pub const WINDOW: u16 = 60_000;

fn tcp(from: From, len: i64) -> Packet {
    packet(Body::Tcp(Tcp {
        from,
        len,
        ack: Ack::Running,
        flags: Vec::new(),
        // One window for everybody and no scale: a right edge then moves with the ack alone and rule 4 is silent.
        window: WINDOW,
        urgent: 0,
        options: Vec::new(),
        space: Space::OfCase,
        incarnation: 0,
    }))
}

/// A segment with the stream's bytes `[start, end)`.
pub fn seg(range: Range<i64>) -> Packet {
    tcp(From::Position(range.start), range.end - range.start)
}

/// A pure ACK of the first `client_position` bytes of the client's stream.
pub fn ack(client_position: i64) -> Packet {
    tcp(From::Next, 0).ack(client_position)
}

/// A bare FIN behind everything its side has sent.
pub fn fin() -> Packet {
    tcp(From::Next, 0).flag(Flag::Fin)
}

/// A RST behind everything its side has sent.
pub fn rst() -> Packet {
    tcp(From::Next, 0).flag(Flag::Rst)
}

/// The guest's answer to a client's SYN.
pub fn syn_ack() -> Packet {
    tcp(From::Position(-1), 0)
        .flag(Flag::Syn)
        .ack(0)
        .option(TcpOptionElement::MaximumSegmentSize(1460))
        .option(TcpOptionElement::SelectiveAcknowledgementPermitted)
}

/// A guest's SYN when it connects out.
pub fn syn() -> Packet {
    syn_ack().no_ack()
}

/// A UDP datagram.
pub fn udp(payload: &[u8]) -> Packet {
    packet(Body::Udp(payload.to_vec(), UdpChecksum::Real))
}

impl Packet {
    fn with_tcp(mut self, change: impl FnOnce(&mut Tcp)) -> Self {
        match &mut self.body {
            Body::Tcp(tcp) => change(tcp),
            _ => panic!("this belongs to TCP: {self:?}"),
        }
        self
    }

    /// Sets a flag. SYN and FIN occupy a position of the stream; a FIN follows the payload.
    #[must_use]
    pub fn flag(self, flag: Flag) -> Self {
        self.with_tcp(|tcp| tcp.flags.push(flag))
    }

    /// With FIN behind the payload.
    #[must_use]
    pub fn fin(self) -> Self {
        self.flag(Flag::Fin)
    }

    /// Acknowledges the first `client_position` bytes of the client's stream.
    #[must_use]
    pub fn ack(self, client_position: i64) -> Self {
        self.with_tcp(|tcp| tcp.ack = Ack::Client(client_position))
    }

    /// Carries exactly this ack number.
    #[must_use]
    pub fn raw_ack(self, number: u32) -> Self {
        self.with_tcp(|tcp| tcp.ack = Ack::Raw(number))
    }

    /// Without the ACK flag.
    #[must_use]
    pub fn no_ack(self) -> Self {
        self.with_tcp(|tcp| tcp.ack = Ack::Absent)
    }

    /// Lies at this stream position.
    #[must_use]
    pub fn at(self, position: i64) -> Self {
        self.with_tcp(|tcp| tcp.from = From::Position(position))
    }

    /// Carries exactly this sequence number.
    #[must_use]
    pub fn raw_seq(self, number: u32) -> Self {
        self.with_tcp(|tcp| tcp.from = From::Raw(number))
    }

    /// Written in the PVM's sequence space, whoever sends it.
    #[must_use]
    pub fn in_primary_space(self) -> Self {
        self.with_tcp(|tcp| tcp.space = Space::Primary)
    }

    /// Adds a TCP option.
    #[must_use]
    pub fn option(self, option: TcpOptionElement) -> Self {
        self.with_tcp(|tcp| tcp.options.push(option))
    }

    /// Carries no TCP option.
    #[must_use]
    pub fn without_options(self) -> Self {
        self.with_tcp(|tcp| tcp.options.clear())
    }

    /// Adds the maximum segment size.
    #[must_use]
    pub fn mss(self, bytes: u16) -> Self {
        self.option(TcpOptionElement::MaximumSegmentSize(bytes))
    }

    /// Adds the window scale: windows are shifted left by so many bits once both SYNs have it.
    #[must_use]
    pub fn wscale(self, shift: u8) -> Self {
        self.option(TcpOptionElement::WindowScale(shift))
    }

    /// Adds SACK-permitted.
    #[must_use]
    pub fn sack_permitted(self) -> Self {
        self.option(TcpOptionElement::SelectiveAcknowledgementPermitted)
    }

    /// Sets the window field, as it stands in the header.
    #[must_use]
    pub fn window(self, field: u16) -> Self {
        self.with_tcp(|tcp| tcp.window = field)
    }

    /// Sets the urgent pointer and the flag that makes it count.
    #[must_use]
    pub fn urgent(self, pointer: u16) -> Self {
        self.urgent_pointer(pointer).flag(Flag::Urg)
    }

    /// Sets the urgent pointer alone.
    #[must_use]
    pub fn urgent_pointer(self, pointer: u16) -> Self {
        self.with_tcp(|tcp| tcp.urgent = pointer)
    }

    /// Carries so many bytes of the stream, behind its SYN if it has one.
    #[must_use]
    pub fn data(self, bytes: i64) -> Self {
        self.with_tcp(|tcp| tcp.len = bytes)
    }

    /// Adds the timestamps option.
    #[must_use]
    pub fn timestamps(self, value: u32, echo: u32) -> Self {
        self.option(TcpOptionElement::Timestamp(value, echo))
    }

    /// Adds a SACK block; the numbers are the wire's, for nobody compares them.
    #[must_use]
    pub fn sack(self, left: u32, right: u32) -> Self {
        self.option(TcpOptionElement::SelectiveAcknowledgement((left, right), [None; 3]))
    }

    /// Belongs to the n-th incarnation of its connection; see `Case::new_incarnation`.
    #[must_use]
    pub fn of(self, incarnation: usize) -> Self {
        self.with_tcp(|tcp| tcp.incarnation = incarnation)
    }

    /// Belongs to flow n: the client's port is 4242 + n.
    #[must_use]
    pub fn flow(mut self, flow: u16) -> Self {
        self.flow = flow;
        self
    }

    /// Plants another byte at a stream position (TCP) or payload index (UDP). Bytes from 0x80 always differ from
    /// the stream's own.
    #[must_use]
    pub fn with_byte(mut self, position: i64, byte: u8) -> Self {
        self.planted.push((position, byte));
        self
    }

    /// Pads the Ethernet frame with rubbish behind the IP packet, up to this length.
    #[must_use]
    pub fn pad_to(mut self, length: usize) -> Self {
        self.pad_to = length;
        self
    }

    /// Sets the IP identification (IPv4 only; IPv6 has none).
    #[must_use]
    pub fn ip_id(mut self, id: u16) -> Self {
        self.ip_id = id;
        self
    }

    /// Sets the TTL or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the last byte of the sender's MAC address.
    #[must_use]
    pub fn mac(mut self, last: u8) -> Self {
        self.mac = last;
        self
    }

    /// Sends a datagram without its checksum.
    #[must_use]
    pub fn udp_checksum_zero(mut self) -> Self {
        match &mut self.body {
            Body::Udp(_, checksum) => *checksum = UdpChecksum::Zero,
            _ => panic!("this belongs to UDP: {self:?}"),
        }
        self
    }
}

impl Tcp {
    pub(super) fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    /// Positions of the stream it occupies.
    pub(super) fn span(&self) -> i64 {
        self.len + i64::from(self.has(Flag::Syn)) + i64::from(self.has(Flag::Fin))
    }
}

/// The byte at a stream position: the same for both guests, always below 0x80, another one in each incarnation.
pub fn content(incarnation: usize, position: i64) -> u8 {
    let salt = u64::try_from(incarnation).expect("few incarnations").wrapping_mul(0x5851_F42D_4C95_7F2D);
    let mixed = (position.cast_unsigned() ^ salt).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    u8::try_from(mixed >> 57).expect("seven bits")
}
