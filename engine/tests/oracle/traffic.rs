//! Traffic as the reference comparer sees it, by stream offset, and the frames that the engine sees instead.

use colo_engine::side::{BySide, Side};
use etherparse::{PacketBuilder, TcpOptionElement};

/// How a flow's frames are built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) ip: Ip,
    pub(crate) port: u16,
    pub(crate) isns: BySide<u32>,
    pub(crate) client_isn: u32,
    pub(crate) numbering: Numbering,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ip {
    V4,
    V6,
}

/// In which space the secondary's numbers are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// Both guests chose the same ISN.
    Equal,
    /// The secondary's own.
    Raw,
    /// The SYN in its own, all others in the primary's.
    Translated,
}

/// A frame on its way to the comparer.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at_ns: u64,
    pub(crate) flow: usize,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Segment(Segment),
    Datagram(Vec<u8>),
}

/// What a SYN offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) mss: Option<u16>,
    pub(crate) scale: Option<u8>,
    pub(crate) sack: bool,
    pub(crate) timestamps: bool,
}

impl Offer {
    pub(crate) const PLAIN: Self = Self { mss: None, scale: None, sack: false, timestamps: false };

    fn elements(self) -> Vec<TcpOptionElement> {
        let mut elements = vec![TcpOptionElement::Noop];
        elements.extend(self.mss.map(TcpOptionElement::MaximumSegmentSize));
        elements.extend(self.sack.then_some(TcpOptionElement::SelectiveAcknowledgementPermitted));
        elements.extend(self.timestamps.then_some(TcpOptionElement::Timestamp(5, 6)));
        elements.extend(self.scale.map(TcpOptionElement::WindowScale));
        elements
    }
}

/// A TCP segment by stream offset: the SYN is at -1, the first byte at 0. `ack` counts from the client's SYN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: i64,
    pub(crate) syn: bool,
    pub(crate) payload: Vec<u8>,
    pub(crate) fin: bool,
    pub(crate) ack: Option<u32>,
    /// Bytes beyond the IP packet.
    pub(crate) padding: usize,
    /// The window field.
    pub(crate) window: u16,
    /// The urgent pointer, with URG.
    pub(crate) urgent: Option<u16>,
    /// With SYN.
    pub(crate) offer: Offer,
}

impl Default for Segment {
    fn default() -> Self {
        Self {
            start: 0,
            syn: false,
            payload: Vec::new(),
            fin: false,
            ack: None,
            padding: 0,
            window: 512,
            urgent: None,
            offer: Offer::PLAIN,
        }
    }
}

impl Segment {
    /// The offset that it announces as urgent.
    pub(crate) fn urgent_at(&self) -> Option<i64> {
        self.urgent.map(|pointer| self.start + i64::from(pointer))
    }

    pub(crate) fn data(start: i64, payload: &[u8]) -> Self {
        Self { start, payload: payload.to_vec(), ack: Some(0), ..Self::default() }
    }

    pub(crate) fn syn_ack() -> Self {
        Self { start: -1, syn: true, ack: Some(0), ..Self::default() }
    }

    /// Its positions, each with its byte unless it is a SYN or a FIN.
    pub(crate) fn positions(&self) -> Vec<(i64, Option<u8>)> {
        let syn = self.syn.then_some(None);
        let fin = self.fin.then_some(None);
        let bytes = self.payload.iter().copied().map(Some);
        let items = syn.into_iter().chain(bytes).chain(fin);
        (self.start..).zip(items).collect()
    }

    pub(crate) fn end(&self) -> i64 {
        self.start + i64::try_from(self.positions().len()).unwrap()
    }

    pub(crate) fn fin_at(&self) -> Option<i64> {
        self.fin.then(|| self.end() - 1)
    }
}

impl Flow {
    pub(crate) fn frame(&self, side: Side, what: &What) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = match self.ip {
            Ip::V4 => ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64),
            Ip::V6 => ethernet.ipv6([0xfd; 16], [0xfe; 16], 64),
        };
        let mut frame = Vec::new();
        match what {
            What::Datagram(payload) => {
                ip.udp(self.port, 5353).write(&mut frame, payload).unwrap();
            }
            What::Segment(segment) => {
                let mut tcp = ip.tcp(self.port, 4242, self.number(side, segment), segment.window);
                if let Some(ack) = segment.ack {
                    tcp = tcp.ack(self.client_isn.wrapping_add(1).wrapping_add(ack));
                }
                if segment.syn {
                    tcp = tcp.syn().options(&segment.offer.elements()).unwrap();
                }
                if let Some(pointer) = segment.urgent {
                    tcp = tcp.urg(pointer);
                }
                if segment.fin {
                    tcp = tcp.fin();
                }
                tcp.write(&mut frame, &segment.payload).unwrap();
                frame.resize(frame.len() + segment.padding, 0xee);
            }
        }
        frame
    }

    fn number(&self, side: Side, segment: &Segment) -> u32 {
        let isn = match (side, self.numbering) {
            (Side::Secondary, Numbering::Translated) if !segment.syn => self.isns.primary,
            _ => self.isns[side],
        };
        let offset = u32::try_from((segment.start + 1).rem_euclid(1 << 32)).unwrap();
        isn.wrapping_add(offset)
    }
}
