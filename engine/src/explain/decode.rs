//! What a frame of a record is: headers for people, and where its compared bytes stand.

use std::ops::Range;

use etherparse::{LaxSlicedPacket, TcpOptionElement, TcpSlice, TransportSlice};

use crate::flow::FlowHasher;
use crate::wire::{Packet, Tunnels, tcp_header};

/// A frame, decoded.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// As flows are written; `None` if it has none.
    pub(super) flow: Option<String>,
    pub(super) tcp: Option<Tcp>,
    /// Where the compared bytes stand.
    pub(super) payload: Range<usize>,
}

/// A TCP header.
#[derive(Debug, Default)]
pub(super) struct Tcp {
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) window: u16,
    /// The urgent pointer, if the flag is set.
    pub(super) urgent: Option<u16>,
    pub(super) flags: Vec<&'static str>,
    pub(super) options: Vec<String>,
}

impl Tcp {
    pub(super) fn is_syn(&self) -> bool {
        self.has("SYN")
    }

    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }
}

impl Decoded {
    /// Looks at an Ethernet frame, which may be cut short, of a record about that flow. If the flow is that of a packet in
    /// a tunnel, tunnels were looked into.
    pub(super) fn new(bytes: &[u8], flow: Option<&str>) -> Self {
        let packet = Packet::parse(bytes);
        let in_tunnel = packet.in_tunnel(bytes, &FlowHasher::fixed().with_tunnels(Tunnels::Inner));
        let opened = in_tunnel.flow().filter(|inner| inner.tunnel().is_some());
        let is_opened = opened.is_some_and(|inner| flow == Some(inner.to_string().as_str()));
        let packet = if is_opened { in_tunnel } else { packet };
        let extent = match &packet {
            Packet::Tcp(_, segment) => Some(segment.payload),
            Packet::Datagram(_, content) => Some(*content),
            Packet::Fragment(fragment) => Some(fragment.payload),
            Packet::Class(_) | Packet::Stray(_) => None,
        };
        let place = |number: u32| usize::try_from(number).unwrap_or(0);
        let payload = extent.map(|extent| place(extent.offset)..place(extent.offset) + place(extent.len));
        let lax = LaxSlicedPacket::from_ethernet(bytes).ok();
        let outer = lax.and_then(|packet| packet.transport);
        let tcp = match (&packet, outer) {
            (Packet::Tcp(..), _) if is_opened => {
                let end = payload.clone().unwrap_or_default().end;
                let start = tcp_header(bytes).map_or(end, |header| place(header.offset));
                bytes.get(start..end).and_then(|segment| TcpSlice::from_slice(segment).ok())
            }
            (_, Some(TransportSlice::Tcp(tcp))) if !is_opened => Some(tcp),
            _ => None,
        };
        let tcp = tcp.as_ref();
        // A frame that was cut short has no padding behind its payload.
        let rest = tcp.map(|tcp| bytes.len().saturating_sub(tcp.payload().len())..bytes.len());
        Self {
            flow: packet.flow().map(ToString::to_string),
            tcp: tcp.map(|tcp| Tcp {
                seq: tcp.sequence_number(),
                ack: tcp.ack().then(|| tcp.acknowledgment_number()),
                window: tcp.window_size(),
                urgent: tcp.urg().then(|| tcp.urgent_pointer()),
                flags: flags(tcp),
                options: options(tcp),
            }),
            payload: payload.or(rest).unwrap_or_default(),
        }
    }
}

fn flags(tcp: &TcpSlice<'_>) -> Vec<&'static str> {
    [
        (tcp.syn(), "SYN"),
        (tcp.fin(), "FIN"),
        (tcp.rst(), "RST"),
        (tcp.psh(), "PSH"),
        (tcp.ack(), "ACK"),
        (tcp.urg(), "URG"),
        (tcp.ece(), "ECE"),
        (tcp.cwr(), "CWR"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

fn options(tcp: &TcpSlice<'_>) -> Vec<String> {
    tcp.options_iterator()
        .filter_map(|option| match option.ok()? {
            TcpOptionElement::Noop => None,
            TcpOptionElement::MaximumSegmentSize(size) => Some(format!("MSS {size}")),
            TcpOptionElement::WindowScale(shift) => Some(format!("window scale {shift}")),
            TcpOptionElement::SelectiveAcknowledgementPermitted => Some("SACK permitted".to_owned()),
            TcpOptionElement::SelectiveAcknowledgement(..) => Some("SACK".to_owned()),
            TcpOptionElement::Timestamp(..) => Some("timestamps".to_owned()),
        })
        .collect()
}
