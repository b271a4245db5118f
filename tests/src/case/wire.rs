//! Frames out of packets: Ethernet, IPv4 or IPv6, TCP or UDP, with every checksum right. etherparse writes them, so
//! the tests share no code with the engine's own header edits.

use std::net::IpAddr;

use etherparse::{
    Ethernet2Header, IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, PacketBuilderStep, TcpHeader,
};

use super::others::Icmp;
use super::packet::{Ack, Body, Flag, Packet, UdpChecksum};
use super::wrap::wrap;
use crate::frame::{fold, ones_sum};

/// The IP version of all packets of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpVersion {
    /// 10.0.0.1 to 10.0.0.9.
    V4,
    /// `fd00::1` to `fd00::9`.
    V6,
}

/// The guest's port in every flow.
pub(super) const GUEST_PORT: u16 = 80;
/// The client's port in flow 0; flow n has this plus n.
pub(super) const CLIENT_PORT: u16 = 4242;

pub(super) const ETHERNET_LEN: usize = 14;
const ICMPV6: u8 = 58;
const UDP_CHECKSUM_AT: usize = 6;
const UDP_HEADER_LEN: usize = 8;

/// The numbers a TCP segment gets from its case.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers {
    pub(super) seq: u32,
    pub(super) ack: u32,
}

fn guest_v6() -> [u8; 16] {
    std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).octets()
}

fn client_v6() -> [u8; 16] {
    std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9).octets()
}

/// The guest's address and the client's.
pub(super) fn addresses(ip: IpVersion) -> (IpAddr, IpAddr) {
    match ip {
        IpVersion::V4 => ([10, 0, 0, 1].into(), [10, 0, 0, 9].into()),
        IpVersion::V6 => (guest_v6().into(), client_v6().into()),
    }
}

/// The name the engine gives a flow of this case.
pub fn flow_name(ip: IpVersion, protocol: &str, flow: u16) -> String {
    let port = CLIENT_PORT + flow;
    match ip {
        IpVersion::V4 => format!("{protocol} 10.0.0.1:{GUEST_PORT} > 10.0.0.9:{port}"),
        IpVersion::V6 => format!("{protocol} [fd00::1]:{GUEST_PORT} > [fd00::9]:{port}"),
    }
}

/// The whole frame of a packet.
pub(super) fn frame(ip: IpVersion, packet: &Packet, numbers: Numbers, payload: &[u8]) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([0x52, 0x54, 0, 0, 0, packet.mac], [0x52, 0x54, 0, 0, 0, 9]);
    let network = network(ip, packet, link);
    let mut frame = Vec::new();
    let port = CLIENT_PORT + packet.flow;
    match &packet.body {
        Body::Tcp(tcp) => {
            let mut header = TcpHeader::new(GUEST_PORT, port, numbers.seq, tcp.window);
            header.ack = tcp.ack != Ack::Absent;
            header.acknowledgment_number = if header.ack { numbers.ack } else { 0 };
            header.syn = tcp.has(Flag::Syn);
            header.fin = tcp.has(Flag::Fin);
            header.rst = tcp.has(Flag::Rst);
            header.psh = tcp.has(Flag::Psh);
            header.ece = tcp.has(Flag::Ece);
            header.cwr = tcp.has(Flag::Cwr);
            header.urg = tcp.has(Flag::Urg);
            header.urgent_pointer = tcp.urgent;
            header.set_options(&tcp.options).expect("options fit");
            network.tcp_header(header).write_to_vec(&mut frame, payload).expect("a segment fits");
        }
        Body::Udp(_, checksum) => {
            network.udp(GUEST_PORT, port).write_to_vec(&mut frame, payload).expect("a datagram fits");
            if *checksum == UdpChecksum::Zero {
                let at = frame.len() - payload.len() - UDP_HEADER_LEN + UDP_CHECKSUM_AT;
                frame[at..at + 2].fill(0);
            }
        }
        Body::Icmp(message) => {
            let (number, bytes) = icmp(ip, message);
            network.write(&mut frame, IpNumber(number), &bytes).expect("a message fits");
        }
        Body::Ip(number, bytes) => {
            network.write(&mut frame, IpNumber(*number), bytes).expect("a packet fits");
        }
        Body::Frame(bytes, _) => frame.clone_from(bytes),
    }
    let mut frame = wrap(frame, ip, &packet.carriage);
    pad(&mut frame, packet);
    frame
}

/// What IP carries for an ICMP message: protocol number and payload, checksum right.
fn icmp(ip: IpVersion, message: &Icmp) -> (u8, Vec<u8>) {
    let (v4, v6, rest) = match message {
        Icmp::EchoReply { id, sequence, payload } => {
            let rest = [&id.to_be_bytes()[..], &sequence.to_be_bytes(), payload].concat();
            ((0, 0), (129, 0), rest)
        }
        Icmp::PortUnreachable(embedded) => {
            let rest = [&[0; 4][..], &embedded.bytes(ip)].concat();
            ((3, 3), (1, 4), rest)
        }
        Icmp::V6 { kind, body } => {
            assert!(ip == IpVersion::V6, "a message of IPv6 only");
            ((0, 0), (*kind, 0), body.clone())
        }
    };
    let ((kind, code), number) = if ip == IpVersion::V4 { (v4, 1) } else { (v6, ICMPV6) };
    let mut bytes = [&[kind, code, 0, 0][..], &rest].concat();
    let pseudo = if ip == IpVersion::V6 {
        let length = u64::try_from(bytes.len()).expect("a short message");
        ones_sum(&guest_v6()) + ones_sum(&client_v6()) + u64::from(ICMPV6) + length
    } else {
        0
    };
    let checksum = fold(pseudo + ones_sum(&bytes));
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    (number, bytes)
}

fn network(
    ip: IpVersion,
    packet: &Packet,
    link: PacketBuilderStep<Ethernet2Header>,
) -> PacketBuilderStep<IpHeaders> {
    let headers = match ip {
        IpVersion::V4 => {
            let header = Ipv4Header {
                identification: packet.ip_id,
                time_to_live: packet.ttl,
                source: [10, 0, 0, 1],
                destination: [10, 0, 0, 9],
                ..Ipv4Header::default()
            };
            IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
        }
        IpVersion::V6 => {
            let header = Ipv6Header {
                hop_limit: packet.ttl,
                source: guest_v6(),
                destination: client_v6(),
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default())
        }
    };
    link.ip(headers)
}

/// Padding is rubbish on purpose and differs with the MAC: a comparer that reads by frame length trips over it.
fn pad(frame: &mut Vec<u8>, packet: &Packet) {
    let real = packet.pad_to == 0 || frame.len() > ETHERNET_LEN;
    debug_assert!(real, "only a frame with headers is padded");
    while frame.len() < packet.pad_to {
        frame.push(0xA0 ^ packet.mac);
    }
}
