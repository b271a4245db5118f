//! What is compared and what is not, cases 70, 71, 79 and 80: ICMP, tunnels as payload, classes; rules and masks.

use std::time::Duration;

use colo_tests::replayed::Replayed;
use colo_tests::sniff::Captured;
use etherparse::{Icmpv4Type, PacketBuilder};

const GUEST: [u8; 4] = [10, 0, 0, 1];
const PEER: [u8; 4] = [10, 0, 0, 9];

fn link() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([0x52, 0x54, 0, 0, 0, 1], [0x52, 0x54, 0, 0, 0, 9])
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    link().ipv4(GUEST, PEER, 64).udp(from, to).write(&mut frame, payload).expect("a frame");
    frame
}

fn tcp(seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let step = link().ipv4(GUEST, PEER, 64).tcp(80, 4242, seq, 60_000).ack(7_000);
    step.write(&mut frame, payload).expect("a frame");
    frame
}

fn ethertype(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([0x52, 0x54, 0, 0, 0, 1]);
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

fn arp(target: u8) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0, 0, 1];
    packet.extend(GUEST);
    packet.extend([0; 6]);
    packet.extend([10, 0, 0, target]);
    ethertype(0x0806, &packet)
}

/// Replays frames that come one a millisecond, the secondary's at half milliseconds.
fn replay(primary: &[Vec<u8>], secondary: &[Vec<u8>], config: &str) -> Replayed {
    let capture = |frames: &[Vec<u8>], first_us: u64| -> Vec<Captured> {
        let at = |index: usize| Duration::from_micros(first_us + 1_000 * u64::try_from(index).expect("few"));
        frames
            .iter()
            .enumerate()
            .map(|(index, bytes)| Captured { at: at(index), bytes: bytes.clone() })
            .collect()
    };
    let (primary, secondary) = (capture(primary, 0), capture(secondary, 500));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("colo.toml");
    std::fs::write(&path, config).expect("a file");
    let path = path.display().to_string();
    let replayed = Replayed::run(&primary, &secondary, &["--config", &path]).expect("a replay");
    replayed.check_books(&primary, &secondary).expect("books");
    replayed
}

/// The reasons for which the primary's frames left, in the order of the frames.
fn released(replayed: &Replayed) -> Vec<&str> {
    replayed.released.values().map(|why| why[0].as_str()).collect()
}

fn quiet(replayed: &Replayed) {
    assert!(replayed.requests.is_empty(), "{:?}", replayed.requests);
}

#[test]
fn case_70_icmp_echo_replies_are_keyed_by_identifier() {
    let reply = |id, seq| {
        let mut frame = Vec::new();
        let echo = etherparse::IcmpEchoHeader { id, seq };
        let step = link().ipv4(GUEST, PEER, 64).icmpv4(Icmpv4Type::EchoReply(echo));
        step.write(&mut frame, b"ping").expect("a frame");
        frame
    };
    // Two pings at once, which the secondary answers the other way round: neither waits for the other.
    let replayed = replay(&[reply(1, 1), reply(2, 1)], &[reply(2, 1), reply(1, 1)], "");
    quiet(&replayed);
    assert_eq!(released(&replayed), ["matched", "matched"]);
    let replayed = replay(&[reply(1, 1)], &[reply(2, 1)], "");
    assert_eq!(replayed.requests_for("timeout").len(), 1, "another identifier is another flow");
    assert_eq!(replayed.requests[0]["flow"], "icmp 10.0.0.1 > 10.0.0.9 id 1");
}

/// Port unreachable, about a datagram of the client.
fn unreachable(id: u16, ttl: u8, port: u16) -> Vec<u8> {
    let mut quoted = vec![0x45, 0, 0, 32];
    quoted.extend(id.to_be_bytes());
    quoted.extend([0, 0, ttl, 17]);
    quoted.extend([id.to_be_bytes()[1], ttl]);
    quoted.extend(PEER);
    quoted.extend(GUEST);
    quoted.extend(4242_u16.to_be_bytes());
    quoted.extend(port.to_be_bytes());
    quoted.extend([0, 12, ttl, 3]);
    let mut frame = Vec::new();
    let kind = Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
    link().ipv4(GUEST, PEER, 64).icmpv4(kind).write(&mut frame, &quoted).expect("a frame");
    frame
}

#[test]
fn case_71_icmp_error_whose_quotation_differs_where_hops_write() {
    let replayed = replay(&[unreachable(7, 63, 99)], &[unreachable(8, 60, 99)], "");
    quiet(&replayed);
    assert_eq!(released(&replayed), ["matched"]);
    // Out of order too, where they are found by digest.
    let (one, other) =
        ([unreachable(1, 9, 1), unreachable(2, 9, 2)], [unreachable(3, 8, 2), unreachable(4, 7, 1)]);
    let replayed = replay(&one, &other, "");
    quiet(&replayed);
    assert_eq!(released(&replayed), ["matched", "matched"]);
}

#[test]
fn case_71_icmp_error_about_another_packet_is_a_mismatch() {
    let replayed = replay(&[unreachable(7, 63, 99)], &[unreachable(8, 60, 98)], "");
    assert_eq!(replayed.requests_for("mismatch").len(), 1);
    // The port's second byte, behind 8 bytes of ICMP, 20 of IP and 3 of UDP.
    assert_eq!(replayed.requests[0]["detail"]["offset"], 31);
}

#[test]
fn case_79_tunnels_are_opaque_payload() {
    let inner = udp(80, 4242, b"inner");
    let vxlan = |last: &[u8]| udp(50_000, 4_789, &[&[8, 0, 0, 0, 0, 0, 7, 0], &inner[..], last].concat());
    quiet(&replay(&[vxlan(b"x")], &[vxlan(b"x")], ""));
    let replayed = replay(&[vxlan(b"x")], &[vxlan(b"y")], "");
    assert_eq!(replayed.requests_for("mismatch").len(), 1);
}

#[test]
fn case_80_own_classes_pass_by_default() {
    let frames = [arp(1), ethertype(0x88cc, b"lldp"), ethertype(0x88b5, b"local"), ethertype(0x0800, b"E")];
    let replayed = replay(&frames, &[arp(2)], "");
    quiet(&replayed);
    assert_eq!(released(&replayed), ["pass"; 4]);
    assert_eq!(replayed.dropped[&0], ["pass"]);
}

#[test]
fn case_80_a_class_that_is_compared() {
    let mut padded = arp(2);
    padded.resize(60, 0xee);
    let config = "[class]\narp = \"compare\"\n";
    let replayed = replay(&[arp(2), ethertype(0x88cc, b"lldp")], &[padded], config);
    quiet(&replayed);
    assert_eq!(released(&replayed), ["matched", "pass"], "padding does not count, other classes still pass");
    let replayed = replay(&[arp(2)], &[arp(3)], config);
    assert_eq!(replayed.requests_for("mismatch").len(), 1);
    assert_eq!(replayed.requests[0]["flow"], "arp 52:54:00:00:00:01 > ff:ff:ff:ff:ff:ff");
    assert_eq!(replayed.requests[0]["detail"]["offset"], 27);
    assert_eq!(released(&replayed), ["flush"]);
}

#[test]
fn case_80_a_class_that_is_held() {
    let frames = [arp(1), udp(53, 99, b"x"), arp(2)];
    let replayed = replay(&frames, &[arp(1), udp(53, 99, b"x")], "class.arp = \"hold\"\n");
    assert_eq!(released(&replayed), ["flush", "matched", "flush"]);
    assert_eq!(replayed.dropped[&0], ["pass"]);
    assert_eq!(replayed.requests.len(), 1);
    assert_eq!(replayed.requests[0]["reason"], "timeout");
    assert_eq!(replayed.requests[0]["detail"]["waits_for"], "checkpoint");
    let malformed = ethertype(0x0800, b"E");
    let replayed = replay(&[malformed], &[], "class.malformed = \"hold\"\n");
    assert_eq!(released(&replayed), ["flush"]);
}

#[test]
fn case_80_broadcast_and_dhcp_are_udp() {
    let mut offer = Vec::new();
    let step = PacketBuilder::ethernet2([2; 6], [0xff; 6]).ipv4(GUEST, [255; 4], 64).udp(67, 68);
    step.write(&mut offer, b"offer").expect("a frame");
    let replayed = replay(&[offer.clone()], &[offer], "");
    quiet(&replayed);
    assert_eq!(released(&replayed), ["matched"]);
}

#[test]
fn case_81_bad_checksums_are_counted_and_leave() {
    let spoilt = |mut frame: Vec<u8>, at: usize| {
        frame[at] ^= 1;
        frame
    };
    // The IP header's, UDP's, TCP's: none is compared.
    let good = [udp(80, 9, b"one"), udp(81, 9, b"two"), tcp(1_000, b"three")];
    let bad = [spoilt(good[0].clone(), 25), spoilt(good[1].clone(), 41), spoilt(good[2].clone(), 51)];
    let replayed = replay(&bad, &good, "");
    quiet(&replayed);
    assert_eq!(released(&replayed), ["matched"; 3]);
    assert_eq!(replayed.released_frames, bad, "they leave as they are");
    assert_eq!(replayed.summary["bad_checksums"], serde_json::json!({ "primary": 3, "secondary": 0 }));
    let replayed = replay(&good, &bad, "verify_checksums = \"off\"\n");
    assert_eq!(replayed.summary["bad_checksums"]["secondary"], 0);
}

#[test]
fn case_91_own_the_first_rule_that_matches_counts() {
    let config = "[[rule]]\nprotocol = \"udp\"\nguest_ports = \"53\"\npeer = \"10.0.0.0/24\"\naction = \"pass\"\n\
                  [[rule]]\nprotocol = \"udp\"\nguest_ports = \"50-60\"\naction = \"hold\"\n";
    let frames = [udp(53, 9, b"pass"), udp(54, 9, b"hold"), udp(61, 9, b"compare")];
    let replayed =
        replay(&frames, &[udp(53, 9, b"else"), udp(54, 9, b"hold"), udp(61, 9, b"compare")], config);
    assert_eq!(released(&replayed), ["pass", "flush", "matched"]);
    assert_eq!([0, 1, 2].map(|frame| replayed.dropped[&frame][0].as_str()), ["pass", "pass", "matched"]);
    assert_eq!(replayed.requests.len(), 1, "the held one asks for a checkpoint in time");
    assert_eq!(replayed.requests[0]["reason"], "timeout");
}

const MASKED: &str = "allow_unsafe_masks = true\n[[rule]]\nguest_ports = \"80\"\n\
                      mask = [{ offset = 4, length = 2 }, { regex = 'Date: [^\\r]*' }]\n";

#[test]
fn case_91_masks_forgive_and_are_counted() {
    let pairs: [(&[u8], &[u8]); 3] = [
        (b"abcdXXef", b"abcdYYef"),
        (b"0123456 Date: Mon\r\n", b"0123456 Date: Tue\r\n"),
        (b"same", b"same"),
    ];
    for (one, other) in pairs {
        let replayed = replay(&[udp(80, 9, one)], &[udp(80, 9, other)], MASKED);
        quiet(&replayed);
        assert_eq!(replayed.summary["masked_differences"], u64::from(one != other));
        let bare = replay(&[udp(81, 9, one)], &[udp(81, 9, other)], MASKED);
        assert_eq!(bare.requests_for("mismatch").len(), usize::from(one != other), "no rule, no mask");
    }
    for (one, other, offset) in
        [("abcdXXef", "abcdYYeg", 7), ("abcdXX", "abcdYYx", 6), ("abcdeeDate: a", "abcdeedate: a", 6)]
    {
        let replayed = replay(&[udp(80, 9, one.as_bytes())], &[udp(80, 9, other.as_bytes())], MASKED);
        assert_eq!(replayed.requests_for("mismatch").len(), 1, "{one} {other}");
        assert_eq!(replayed.requests[0]["detail"]["offset"], offset);
    }
}

#[test]
fn case_91_masks_of_streams_go_by_stream_offset() {
    let config = "allow_unsafe_masks = true\n[[rule]]\nprotocol = \"tcp\"\n\
                  mask = [{ offset = 4, length = 2 }, { regex = 'Date: [^\\r]*' }]\n";
    let one = [tcp(1_000, b"abcd"), tcp(1_004, b"XXef"), tcp(1_008, b"...Date: Mon\r\n")];
    let other = [tcp(1_000, b"abcdY"), tcp(1_005, b"Yef"), tcp(1_008, b"...Date: Tue\r\n")];
    let replayed = replay(&one, &other, config);
    quiet(&replayed);
    assert_eq!(released(&replayed), ["matched"; 3]);
    let other = [tcp(1_000, b"abcdY"), tcp(1_005, b"YeF"), tcp(1_008, b"...Date: Tue\r\n")];
    let replayed = replay(&one, &other, config);
    assert_eq!(replayed.requests_for("mismatch").len(), 1);
    assert_eq!(replayed.requests[0]["detail"]["offset"], 7);
}
