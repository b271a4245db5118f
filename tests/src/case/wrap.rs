//! What a packet travels in, put around its bytes by hand: options, extension headers, fragments, tags, tunnels. The
//! headers are a page each, and written from their RFCs they share nothing with what they test.

use etherparse::PacketBuilder;

use super::carriage::{Carriage, Piece, Spoilt, Tunnel};
use super::wire::IpVersion;
use crate::frame::{fold, layout, ones_sum};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const IPV6_FRAGMENT: u8 = 44;
const GRE: u8 = 47;
const VXLAN_PORT: u16 = 4789;
const MORE_FRAGMENTS: u16 = 0x2000;

/// The frame as it is on the wire.
pub(super) fn wrap(mut frame: Vec<u8>, ip: IpVersion, carriage: &Carriage) -> Vec<u8> {
    if let Some(address) = carriage.destination_mac {
        frame[..6].copy_from_slice(&address);
    }
    match carriage.spoilt {
        Some(Spoilt::Transport) => spoil_transport(&mut frame),
        Some(Spoilt::IpHeader) => frame[ETHERNET + 10] ^= 0x55,
        None => {}
    }
    if !carriage.ip_options.is_empty() {
        frame = with_ip_options(&frame, &carriage.ip_options);
    }
    if !carriage.extensions.is_empty() {
        frame = with_extensions(&frame, &carriage.extensions);
    }
    if let Some(piece) = &carriage.piece {
        frame = match ip {
            IpVersion::V4 => piece_v4(&frame, piece),
            IpVersion::V6 => piece_v6(&frame, piece),
        };
    }
    if let Some(tunnel) = carriage.tunnel {
        frame = tunnelled(&frame, ip, tunnel);
    }
    for (protocol, id) in carriage.tags.iter().rev() {
        let tag = [protocol.to_be_bytes(), id.to_be_bytes()].concat();
        frame.splice(12..12, tag);
    }
    frame
}

fn spoil_transport(frame: &mut [u8]) {
    let at = layout(frame).expect("TCP or UDP has a checksum to spoil");
    let checksum = at.transport + if at.protocol == crate::frame::protocol::TCP { 16 } else { 6 };
    frame[checksum] ^= 0x55;
}

fn be(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("fits 16 bits").to_be_bytes()
}

fn header_length(frame: &[u8]) -> usize {
    usize::from(frame[ETHERNET] & 0x0F) * 4
}

/// Sets the total length and whatever else changed, then the header checksum.
fn finish_v4(frame: &mut [u8]) {
    let total = be(frame.len() - ETHERNET);
    frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&total);
    let end = ETHERNET + header_length(frame);
    frame[ETHERNET + 10..ETHERNET + 12].fill(0);
    let checksum = fold(ones_sum(&frame[ETHERNET..end]));
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum.to_be_bytes());
}

fn with_ip_options(frame: &[u8], options: &[u8]) -> Vec<u8> {
    assert!(
        frame[ETHERNET] == 0x45 && options.len().is_multiple_of(4) && options.len() <= 40,
        "IPv4 options"
    );
    let mut out = frame.to_vec();
    out.splice(ETHERNET + IPV4..ETHERNET + IPV4, options.iter().copied());
    out[ETHERNET] = 0x40 | u8::try_from((IPV4 + options.len()) / 4).expect("at most 15 words");
    finish_v4(&mut out);
    out
}

fn with_extensions(frame: &[u8], extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    assert!(frame[ETHERNET] >> 4 == 6, "extension headers belong to IPv6");
    let mut out = frame.to_vec();
    for (number, body) in extensions.iter().rev() {
        let next = std::mem::replace(&mut out[ETHERNET + 6], *number);
        let words = u8::try_from((body.len() + 2) / 8 - 1).expect("a short extension header");
        out.splice(ETHERNET + IPV6..ETHERNET + IPV6, [next, words].into_iter().chain(body.iter().copied()));
    }
    let length = be(out.len() - ETHERNET - IPV6);
    out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&length);
    out
}

/// The bytes of a piece, and its offset field with `more` set when bytes follow.
fn cut<'a>(payload: &'a [u8], piece: &Piece, more: u16, unit: usize) -> (&'a [u8], u16) {
    let end = piece.bytes.end.min(payload.len());
    let flag = if end < payload.len() { more } else { 0 };
    (&payload[piece.bytes.start..end], u16::try_from(piece.offset / unit).expect("thirteen bits") | flag)
}

fn piece_v4(frame: &[u8], piece: &Piece) -> Vec<u8> {
    let start = ETHERNET + header_length(frame);
    let (bytes, field) = cut(&frame[start..], piece, MORE_FRAGMENTS, 8);
    let mut out = [&frame[..start], bytes].concat();
    out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&piece.id.to_be_bytes());
    out[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&field.to_be_bytes());
    finish_v4(&mut out);
    out
}

fn piece_v6(frame: &[u8], piece: &Piece) -> Vec<u8> {
    let start = ETHERNET + IPV6;
    // The field holds the offset in its upper 13 bits, so in bytes, and "more" in the lowest.
    let (bytes, field) = cut(&frame[start..], piece, 1, 1);
    let mut out = frame[..start].to_vec();
    let next = std::mem::replace(&mut out[ETHERNET + 6], IPV6_FRAGMENT);
    out.extend([next, 0]);
    out.extend(field.to_be_bytes());
    out.extend(u32::from(piece.id).to_be_bytes());
    out.extend(bytes);
    let length = be(out.len() - start);
    out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&length);
    out
}

fn tunnelled(frame: &[u8], ip: IpVersion, tunnel: Tunnel) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([0x52, 0x54, 0, 0, 0, 1], [0x52, 0x54, 0, 0, 0, 9]);
    let outer = match ip {
        IpVersion::V4 => link.ipv4([192, 168, 0, 1], [192, 168, 0, 2], 64),
        IpVersion::V6 => {
            let host = |last| std::net::Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, last).octets();
            link.ipv6(host(1), host(2), 64)
        }
    };
    let mut out = Vec::new();
    match tunnel {
        Tunnel::Vxlan(vni) => {
            let mut payload = vec![0x08, 0, 0, 0];
            payload.extend((vni << 8).to_be_bytes());
            payload.extend(frame);
            outer.udp(50_000, VXLAN_PORT).write(&mut out, &payload).expect("it fits");
        }
        Tunnel::Gre => {
            let payload = [&[0, 0], &frame[12..]].concat();
            outer.write(&mut out, etherparse::IpNumber(GRE), &payload).expect("it fits");
        }
        Tunnel::GreEthernet => {
            let payload = [&[0, 0, 0x65, 0x58], frame].concat();
            outer.write(&mut out, etherparse::IpNumber(GRE), &payload).expect("it fits");
        }
    }
    out
}
