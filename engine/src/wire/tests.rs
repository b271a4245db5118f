//! Frames built by etherparse, then padded, cut and damaged.

use etherparse::PacketBuilder;

use super::*;
use crate::flow::Selector;

fn tcp(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64);
    let mut frame = Vec::new();
    builder.tcp(80, 4242, 1000, 512).ack(77).write(&mut frame, payload).unwrap();
    frame
}

fn segment(frame: &[u8]) -> Segment {
    match Packet::parse(frame) {
        Packet::Tcp(_, segment) => segment,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_padded_ack_has_no_payload() {
    let mut frame = tcp(b"");
    assert_eq!(frame.len(), 54);
    frame.resize(60, 0xee);
    let segment = segment(&frame);
    assert_eq!(segment.payload.len, 0);
    assert!(segment.is_pure_ack());
    assert_eq!((segment.seq, segment.ack), (SeqNumber(1000), Some(SeqNumber(77))));
}

#[test]
fn the_payload_is_where_it_says() {
    let frame = tcp(b"hello");
    let payload = segment(&frame).payload;
    assert_eq!(payload.of(&frame), b"hello");
    assert_eq!(payload.part(&frame, 1, 3), b"ell");
    assert_eq!(payload.part(&frame, 3, 3), b"", "never beyond the payload");
}

#[test]
fn every_truncation_is_malformed() {
    let frame = tcp(b"hello");
    for len in 0..frame.len() {
        assert_eq!(Packet::parse(&frame[..len]), Packet::Class(Class::Malformed), "{len} bytes");
    }
}

#[test]
fn no_bit_flip_leads_outside_the_frame() {
    let frame = tcp(b"hello");
    for bit in 0..frame.len() * 8 {
        let mut flipped = frame.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let extent = match Packet::parse(&flipped) {
            Packet::Tcp(_, segment) => segment.payload,
            Packet::Datagram(_, extent) => extent,
            Packet::Fragment(fragment) => fragment.payload,
            Packet::Class(_) | Packet::Stray(_) => continue,
        };
        assert_eq!(extent.of(&flipped).len(), usize::try_from(extent.len).unwrap(), "bit {bit}");
    }
}

#[test]
fn tags_are_part_of_the_flow() {
    let plain = tcp(b"x");
    let mut tagged = plain.clone();
    tagged.splice(12..12, [0x88, 0xa8, 0x20, 7, 0x81, 0, 0, 9]);
    let flow = *Packet::parse(&tagged).flow().unwrap();
    assert_eq!(flow.to_string(), "vlan 7.9 tcp 10.0.0.1:80 > 10.0.0.9:4242");
    assert_eq!(segment(&tagged).payload.of(&tagged), b"x");
    let mut three = tagged.clone();
    three.splice(12..12, [0x81, 0, 0, 1]);
    assert_eq!(Packet::parse(&three), Packet::Class(Class::Other));
}

#[test]
fn udp_content_is_the_udp_payload() {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [9; 16], 64).udp(53, 5353);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"answer").unwrap();
    frame.extend([0; 9]);
    let Packet::Datagram(flow, extent) = Packet::parse(&frame) else { panic!("no datagram") };
    assert_eq!(extent.of(&frame), b"answer");
    assert_eq!(flow.selector(), Selector::Ports { source: 53, destination: 5353 });
}

#[test]
fn echo_replies_are_keyed_by_identifier() {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64);
    let mut frame = Vec::new();
    builder.icmpv4_echo_reply(7, 1).write(&mut frame, b"ping").unwrap();
    assert_eq!(Packet::parse(&frame).flow().unwrap().to_string(), "icmp 10.0.0.1 > 10.0.0.9 id 7");
}

#[test]
fn fragments_say_where_they_belong() {
    let mut frame = tcp(b"hello");
    frame[18..22].copy_from_slice(&[0x12, 0x34, 0x20, 3]); // more fragments, offset 24
    let Packet::Fragment(fragment) = Packet::parse(&frame) else { panic!("no fragment") };
    assert_eq!((fragment.identification, fragment.offset, fragment.end()), (0x1234, 24, 49));
    assert_eq!((fragment.place, fragment.headers_len()), (Place::Inner, 34));
    assert_eq!(fragment.flow().to_string(), "tcp 10.0.0.1 > 10.0.0.9 fragments");
    assert_eq!(fragment.payload.of(&frame), &frame[34..]);
    let arp = [&[0xff; 12][..], &[8, 6], &[0; 28]].concat();
    assert_eq!(Packet::parse(&arp), Packet::Class(Class::Arp));
}
