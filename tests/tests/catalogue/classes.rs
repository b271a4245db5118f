//! What is no stream and no flow: cases 80 and 86. Every class has a policy; `pass` is the default and compares
//! nothing. Malformed frames are one of the classes, and nobody reads beyond their ends.

use colo_tests::case::{
    Case, IpVersion, Packet, Time, ack, arp, frame, group_report, listener_report, lldp,
    neighbour_advertisement, on_both, other_frame, seg, udp,
};

/// Each class with its key, the IP version it belongs to, and a maker of frames that differ by a number.
type Class = (&'static str, IpVersion, fn(u8) -> Packet);

const CLASSES: [Class; 6] = [
    ("class.arp", IpVersion::V4, arp),
    ("class.nd", IpVersion::V6, neighbour_advertisement),
    ("class.mld", IpVersion::V6, listener_report),
    ("class.igmp", IpVersion::V4, group_report),
    ("class.lldp", IpVersion::V4, lldp),
    ("class.other", IpVersion::V4, other_frame),
];

#[test]
fn case_80_classes_pass_by_default() {
    for (_, ip, class) in CLASSES {
        // Equal, different, on one side only: it does not matter.
        let case =
            Case::new(ip).p(0.ms(), class(1)).s(1.ms(), class(1)).p(2.ms(), class(2)).s(3.ms(), class(3));
        let outcome = case.p(600.ms(), class(4)).s(1_200.ms(), class(5)).run();
        outcome.quiet().released(0, 0.ms(), "pass").released(1, 2.ms(), "pass").released(2, 600.ms(), "pass");
        outcome.dropped(0, 1.ms(), "pass").dropped(1, 3.ms(), "pass").dropped(2, 1_200.ms(), "pass");
    }
}

#[test]
fn case_80_classes_overtake_what_is_held() {
    for (_, ip, class) in CLASSES {
        let case = Case::new(ip).handshake(0.ms()).p(1.ms(), seg(0..10)).p(2.ms(), class(1));
        let outcome = case.s(3.ms(), seg(0..10)).run();
        outcome.quiet().released(2, 2.ms(), "pass").released(1, 3.ms(), "matched");
    }
}

#[test]
fn case_80_policy_hold() {
    for (key, ip, class) in CLASSES {
        // Until the next checkpoint, which it asks for itself when nothing else does; an equal frame does not help.
        let case = Case::new(ip).set(key, "hold").p(1.ms(), class(1)).s(2.ms(), class(1));
        let outcome = case.p(500.ms(), class(1)).run();
        outcome.requests(&[(401.ms(), "timeout"), (900.ms(), "timeout")]);
        outcome.released(0, 406.ms(), "flush").dropped_as(0, "pass|flush").released(1, 905.ms(), "flush");
    }
}

#[test]
fn case_80_policy_hold_leaves_at_anybodys_checkpoint() {
    for (key, ip, class) in CLASSES {
        let case = Case::new(ip).set(key, "hold").handshake(0.ms()).p(1.ms(), class(1)).p(1.ms(), seg(0..10));
        let outcome = case.s(2.ms(), seg(0..10).with_byte(1, 0xFF)).run();
        outcome.mismatch(2.ms(), "payload").released(1, 7.ms(), "flush").released(2, 7.ms(), "flush");
    }
}

#[test]
fn case_80_policy_compare() {
    for (key, ip, class) in CLASSES {
        let case = Case::new(ip).set(key, "compare");
        let equal = case.clone().p(1.ms(), class(1)).s(2.ms(), class(1)).run();
        equal.quiet().released(0, 2.ms(), "matched").dropped(0, 2.ms(), "matched");
        let differs = case.clone().p(1.ms(), class(1)).s(2.ms(), class(2)).run();
        differs.mismatch(22.ms(), "datagram").released(0, 27.ms(), "flush").dropped(0, 27.ms(), "flush");
        let alone = case.p(1.ms(), class(1)).run();
        alone.timeout(401.ms()).released(0, 406.ms(), "flush");
    }
}

#[test]
fn case_80_policy_pass_said_aloud() {
    for (key, ip, class) in CLASSES {
        let case = Case::new(ip).set(key, "pass").p(1.ms(), class(1)).s(2.ms(), class(2));
        case.run().quiet().released(0, 1.ms(), "pass").dropped(0, 2.ms(), "pass");
    }
}

#[test]
fn case_80_one_class_is_not_another() {
    // Holding ARP holds nothing else.
    let case = Case::v4().set("class.arp", "hold").p(1.ms(), lldp(1)).p(1.ms(), group_report(1));
    let outcome = case.p(1.ms(), other_frame(1)).p(2.ms(), arp(1)).run();
    for frame in 0..3 {
        outcome.released(frame, 1.ms(), "pass");
    }
    outcome.timeout(402.ms()).released(3, 407.ms(), "flush");
}

#[test]
fn case_80_classes_in_a_file() {
    let file = "[class]\narp = \"hold\"\nlldp = \"compare\"\n";
    let case = Case::v4().config(file).p(1.ms(), lldp(1)).p(2.ms(), arp(1)).s(3.ms(), lldp(1));
    let outcome = case.run();
    outcome.timeout(402.ms()).released(0, 3.ms(), "matched").released(1, 407.ms(), "flush");
}

#[test]
fn case_80_broadcast_and_multicast_udp_are_compared() {
    on_both(|case| {
        for address in [[0xFF; 6], [0x01, 0, 0x5E, 0, 0, 0xFB], [0x33, 0x33, 0, 0, 0, 0xFB]] {
            let to = |text: &[u8]| udp(text).to_mac(address);
            let equal = case.clone().p(0.ms(), to(b"offer")).s(1.ms(), to(b"offer")).run();
            equal.quiet().released(0, 1.ms(), "matched");
            let differs = case.clone().p(1.ms(), to(b"offer")).s(2.ms(), to(b"other")).run();
            differs.mismatch(22.ms(), "datagram").released(0, 27.ms(), "flush");
        }
    });
}

/// A DHCP discovery from `0.0.0.0:68` to the broadcast address, with this transaction number.
fn dhcp(transaction: u8) -> Packet {
    let mut payload = vec![1, 1, 6, 0, 0, 0, 0, transaction];
    payload.resize(240, 0);
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2([0x52, 0x54, 0, 0, 0, 1], [0xFF; 6])
        .ipv4([0; 4], [255; 4], 64)
        .udp(68, 67)
        .write(&mut bytes, &payload)
        .expect("it fits");
    frame(&bytes, "DHCP")
}

#[test]
fn case_80_dhcp_is_udp() {
    let outcome = Case::v4().p(0.ms(), dhcp(1)).s(1.ms(), dhcp(1)).run();
    outcome.quiet().released(0, 1.ms(), "matched").dropped(0, 1.ms(), "matched");
    // Guests that draw different numbers differ, and that is for a rule to allow.
    let outcome = Case::v4().p(1.ms(), dhcp(1)).s(2.ms(), dhcp(2)).run();
    outcome.mismatch(22.ms(), "datagram").detail("offset", 7).released(0, 27.ms(), "flush");
}

/// A whole TCP segment over this IP version, to be spoilt.
fn whole(ip: IpVersion) -> Vec<u8> {
    let case = Case::new(ip).p(0.ms(), seg(0..10));
    case.sent(colo_tests::case::Side::Primary)[0].bytes.clone()
}

fn spoilt(bytes: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] = byte;
    bytes
}

/// Frames that contradict themselves or end too soon.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let (v4, v6) = (whole(IpVersion::V4), whole(IpVersion::V6));
    let udp = {
        let case = Case::v4().p(0.ms(), udp(b"ten bytes!"));
        case.sent(colo_tests::case::Side::Primary)[0].bytes.clone()
    };
    vec![
        ("one byte", vec![0]),
        ("runt", v4[..13].to_vec()),
        ("no IPv4 header", v4[..14].to_vec()),
        ("cut IPv4 header", v4[..33].to_vec()),
        ("IPv4 header of four words", spoilt(&v4, 14, 0x44)),
        ("IPv4 header longer than the packet", spoilt(&v4[..40], 14, 0x4F)),
        ("IPv4 that says version 5", spoilt(&v4, 14, 0x55)),
        ("IPv4 length over the frame", spoilt(&v4, 17, 200)),
        ("IPv4 length over 32 KiB", spoilt(&v4, 16, 0xFF)),
        ("IPv4 length below its header", spoilt(&spoilt(&v4, 16, 0), 17, 19)),
        ("no TCP header", spoilt(&v4, 17, 20)),
        ("cut TCP header", spoilt(&v4, 17, 39)),
        ("TCP cut by the frame", v4[..50].to_vec()),
        ("data offset of four words", spoilt(&v4, 46, 0x40)),
        ("data offset over the packet", spoilt(&v4, 46, 0xF0)),
        ("no IPv6 header", v6[..14].to_vec()),
        ("cut IPv6 header", v6[..53].to_vec()),
        ("IPv6 that says version 4", spoilt(&v6, 14, 0x45)),
        ("IPv6 length over the frame", spoilt(&v6, 19, 200)),
        ("cut TCP header over IPv6", spoilt(&v6, 19, 19)),
        ("data offset of no words over IPv6", spoilt(&v6, 66, 0)),
        ("extension header that is not there", spoilt(&spoilt(&v6[..58], 20, 60), 19, 4)),
        ("cut UDP header", spoilt(&udp, 17, 27)),
        ("UDP length below its header", spoilt(&udp, 39, 7)),
        ("UDP length over the packet", spoilt(&udp, 39, 200)),
    ]
}

#[test]
fn case_86_malformed_frames_pass() {
    for (what, bytes) in malformed() {
        // One connection lives through it.
        let case = Case::v4().handshake(0.ms()).p(1.ms(), seg(0..10)).p(2.ms(), frame(&bytes, what));
        let case = case.s(3.ms(), frame(&bytes, what)).s(4.ms(), seg(0..10)).p(5.ms(), ack(0));
        let outcome = case.run();
        outcome.quiet().released(2, 2.ms(), "pass").dropped(1, 3.ms(), "pass");
        outcome.released(1, 4.ms(), "matched").released(3, 5.ms(), "ack");
    }
}

#[test]
fn case_86_malformed_frames_of_the_primary_only() {
    let all = malformed();
    let primary = all.iter().fold(Case::v4(), |case, (what, bytes)| case.p(1.ms(), frame(bytes, what)));
    let outcome = primary.run();
    outcome.quiet();
    for index in 0..all.len() {
        outcome.released(index, 1.ms(), "pass");
    }
}

#[test]
fn case_86_malformed_frames_of_the_secondary_only() {
    let all = malformed();
    let secondary = all.iter().fold(Case::v4(), |case, (what, bytes)| case.s(1.ms(), frame(bytes, what)));
    let outcome = secondary.run();
    outcome.quiet();
    for index in 0..all.len() {
        outcome.dropped(index, 1.ms(), "pass");
    }
}

#[test]
fn case_86_every_length_of_a_frame() {
    // Cut anywhere, whatever it is then: no panic, no frame lost, and none that the SVM lacks is called matched.
    on_both(|case| {
        let bytes = whole(case.ip());
        let mut case = case;
        for length in 1..bytes.len() {
            case = case.p(1.ms(), frame(&bytes[..length], "cut"));
        }
        let outcome = case.run();
        outcome.quiet();
        for index in 0..bytes.len() - 1 {
            outcome.released(index, 1.ms(), "pass");
        }
    });
}

#[test]
fn case_86_policy_hold() {
    for (what, bytes) in malformed() {
        let case = Case::v4().set("class.malformed", "hold").p(1.ms(), frame(&bytes, what));
        let outcome = case.run();
        outcome.timeout(401.ms()).released(0, 406.ms(), "flush");
    }
}

#[test]
fn case_86_malformed_inside_tags() {
    let (v4, tag) = (whole(IpVersion::V4), [0x81, 0, 0, 7]);
    let tagged = [&v4[..12], &tag, &v4[12..]].concat();
    // The tag cut off, a tag without what it tags, and IP cut behind it.
    for length in [15, 17, 18, 30, 45] {
        let outcome = Case::v4().p(1.ms(), frame(&tagged[..length], "cut behind a tag")).run();
        outcome.quiet().released(0, 1.ms(), "pass");
    }
}
