//! Where the corpora began: real frames of the catalogue's cases, put as each target wants its bytes.

use colo_engine::config::{Purpose, Sources};
use etherparse::{Ipv4Header, PacketBuilder};

use crate::case::{Case, Format, IpVersion, Record, Side, Time, ack, encode, fin, rst, seg, udp};

/// Seeds of a target, each with a name; none for a name that is no target.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "captures" => captures(),
        "chardev" => chardev(),
        "comparer" => comparer(),
        "config" => config(),
        "fragments" => fragments(),
        "wire" => frames(),
        _ => Vec::new(),
    }
}

/// One frame of each kind that the parser tells apart.
pub(super) fn frames() -> Vec<(String, Vec<u8>)> {
    let mut frames = Vec::new();
    for (name, ip) in [("v4", IpVersion::V4), ("v6", IpVersion::V6)] {
        let case = Case::new(ip).handshake(0.ms()).p(1.ms(), seg(0..40)).p(2.ms(), ack(10).pad_to(64));
        let case = case.p(3.ms(), udp(b"datagram")).p(4.ms(), fin()).p(5.ms(), rst());
        for (number, sent) in case.sent(Side::Primary).iter().enumerate() {
            frames.push((format!("{name}-{number}"), sent.bytes.clone()));
        }
    }
    let plain = frames[1].1.clone();
    let tagged = |tags: &[u8]| [&plain[..12], tags, &plain[12..]].concat();
    frames.push(("vlan".to_owned(), tagged(&[0x81, 0, 0x20, 7])));
    frames.push(("qinq".to_owned(), tagged(&[0x88, 0xa8, 0, 3, 0x81, 0, 0, 9])));
    frames.push(("arp".to_owned(), [&plain[..12], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[0; 20]].concat()));
    frames.extend(ip_frames());
    frames.extend(tunnels());
    frames
}

/// Packets in each kind of tunnel; one tunnel in the other.
fn tunnels() -> Vec<(String, Vec<u8>)> {
    let mut frames = Vec::new();
    for (name, ip) in [("v4", IpVersion::V4), ("v6", IpVersion::V6)] {
        let case =
            Case::new(ip).handshake(0.ms()).p(1.ms(), seg(0..9).in_vxlan(42)).p(2.ms(), seg(0..9).in_gre());
        let case =
            case.p(3.ms(), udp(b"datagram").in_gre_ethernet()).p(4.ms(), udp(b"x").in_vxlan(7).vlan(5));
        for (number, sent) in case.sent(Side::Primary).iter().enumerate().skip(1) {
            frames.push((format!("tunnel-{name}-{number}"), sent.bytes.clone()));
        }
    }
    // Checksum, key and sequence number.
    let (mut gre, carried) = (frames[1].1.clone(), frames[1].1[38..].to_vec());
    gre.truncate(34);
    gre[17] += 12;
    gre.extend([0xb0, 0, 8, 0, 1, 2, 0, 0, 0, 0, 0, 42, 0, 0, 0, 1]);
    frames.push(("tunnel-gre-fields".to_owned(), [gre, carried].concat()));
    frames
}

fn ip_frames() -> Vec<(String, Vec<u8>)> {
    let link = || PacketBuilder::ethernet2([2; 6], [4; 6]);
    let v4 = || link().ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64);
    let v6 = || link().ipv6([1; 16], [9; 16], 64);
    let mut frames = Vec::new();
    let mut add = |name: &str, write: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = Vec::new();
        write(&mut frame);
        frames.push((name.to_owned(), frame));
    };
    add("echo", &|out| v4().icmpv4_echo_reply(7, 1).write(out, b"ping").expect("a frame"));
    add("echo6", &|out| v6().icmpv6_echo_reply(7, 1).write(out, b"ping").expect("a frame"));
    add("neighbour", &|out| v6().icmpv6_raw(135, 0, [0; 4]).write(out, &[9; 16]).expect("a frame"));
    for protocol in [2, 47, 132, 136] {
        let mut header =
            Ipv4Header::new(12, 64, etherparse::IpNumber(protocol), [10, 0, 0, 1], [10, 0, 0, 9])
                .expect("short");
        header.more_fragments = protocol == 132;
        header.options = [7, 4, 4, 0].into();
        let header = etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default());
        add(&format!("v4-protocol-{protocol}"), &|out| {
            let step = link().ip(header.clone());
            step.write(out, etherparse::IpNumber(protocol), &[0, 80, 16, 146, 0, 12, 0, 0, 1, 2, 3, 4])
                .expect("a frame");
        });
    }
    // Hop-by-hop options and a fragment header in front of UDP.
    let mut chained = Vec::new();
    v6().udp(53, 5353).write(&mut chained, b"answer").expect("a frame");
    chained[14 + 6] = 0;
    chained[14 + 5] += 16;
    chained.splice(54..54, [44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9]);
    frames.push(("v6-chain".to_owned(), chained));
    frames
}

/// Streams of frames in both framings, in several sizes of pieces, and endings that must be noticed.
fn chardev() -> Vec<(String, Vec<u8>)> {
    let frames: Vec<_> = frames().into_iter().map(|(_, frame)| frame).collect();
    let stream = |words: &dyn Fn(usize) -> Vec<u8>| -> Vec<u8> {
        frames.iter().take(7).flat_map(|frame| [words(frame.len()), frame.clone()].concat()).collect()
    };
    let word = |number: usize| u32::try_from(number).expect("short").to_be_bytes();
    let plain = stream(&|len| word(len).to_vec());
    let vnet = stream(&|len| [&word(len + 12)[..], &word(12), &[0; 12]].concat());
    let cut = |stream: &[u8]| stream[..stream.len() - 5].to_vec();
    let with = |head: &[u8], stream: &[u8]| [head, stream].concat();
    vec![
        ("plain".to_owned(), with(&[0, 0, 10, 200, 255], &plain)),
        ("plain-by-bytes".to_owned(), with(&[4, 0, 0, 0, 0], &plain)),
        ("plain-cut".to_owned(), with(&[0, 50, 50, 50, 50], &cut(&plain))),
        ("plain-too-long".to_owned(), with(&[2, 60, 9, 9, 9, 9], &plain)),
        ("plain-empty-frame".to_owned(), with(&[0, 5, 5, 5, 5], &[&plain[..64], &[0; 8]].concat())),
        ("vnet".to_owned(), with(&[1, 3, 90, 129, 0], &vnet)),
        ("vnet-cut".to_owned(), with(&[5, 255, 255, 255, 255], &cut(&vnet))),
        ("vnet-read-as-plain".to_owned(), with(&[0, 30, 30, 30, 30], &vnet)),
        ("plain-read-as-vnet".to_owned(), with(&[1, 30, 30, 30, 30], &plain)),
    ]
}

/// Captures in each format, whole, cut and in pieces.
fn captures() -> Vec<(String, Vec<u8>)> {
    let frames = frames();
    let times = [0.ms(), 1.ms(), 1.ms(), 1_500.ms()];
    let records: Vec<Record> = times.into_iter().zip(frames).map(|(at, (_, frame))| (at, frame)).collect();
    let formats = [
        ("pcap-ns", Format::PcapNs),
        ("pcap-us", Format::PcapUs),
        ("pcap-be", Format::PcapNsBigEndian),
        ("pcapng-ns", Format::PcapNgNs),
        ("pcapng-us", Format::PcapNgUs),
    ];
    let mut seeds = Vec::new();
    for (name, format) in formats {
        let file = encode(format, &records);
        seeds.push((name.to_owned(), [&[255, 40], &file[..]].concat()));
        seeds.push((format!("{name}-cut"), [&[9, 90], &file[..file.len() - 30]].concat()));
        seeds.push((format!("{name}-header"), [&[0, 0], &file[..40.min(file.len())]].concat()));
    }
    seeds
}

/// The dump of each command's defaults, and every key with its example.
fn config() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let purposes =
        [("compare", 0, Purpose::Compare), ("replay", 1, Purpose::Replay), ("demo", 2, Purpose::Demo)];
    for (name, kind, purpose) in purposes {
        let dump = Sources::new(purpose).dump_toml().expect("defaults");
        let lines: Vec<_> = dump
            .lines()
            .map(|line| line.strip_prefix("# ").unwrap_or(line))
            .filter(|line| line.contains(" = "))
            .collect();
        seeds.push((format!("{name}-keys"), [&[kind], lines.join("\n").as_bytes()].concat()));
        for (number, pair) in lines.chunks(4).enumerate() {
            let set = pair.join("\n").replace(" = ", "=");
            seeds.push((format!("{name}-set-{number}"), [&[kind | 0x80], set.as_bytes()].concat()));
        }
    }
    let pairs = "checkpoint = \"none\"\n[[rule]]\n[[pair]]\nname = \"a\"\nprimary_in = \"unix:/p\"\nsecondary_in = \"unix:/s\"\n\
                 outdev = \"unix:/o\"\ncompare_timeout = 5\n[pair.class]\narp = \"hold\"\n[[pair]]\nname = \"b\"\n\
                 primary_in = \"unix:/q\"\nsecondary_in = \"unix:/t\"\nout = \"unix:/u\"\nrule = []\n[[pair.rule]]\n";
    // The second pair has its rules twice: a mistake, in one of the two.
    seeds.push(("pairs-twice".to_owned(), [&[0], pairs.as_bytes()].concat()));
    seeds.push(("pairs".to_owned(), [&[0], pairs.replace("[[pair.rule]]\n", "").as_bytes()].concat()));
    seeds.push(("table".to_owned(), b"\0[primary]\nin = 1\nx = [1, 2.5, {a = 1979-05-27}]\n".to_vec()));
    seeds
}

/// Conversations in the comparer target's own bytes: both say the same, one side is late, one differs, a commit.
fn comparer() -> Vec<(String, Vec<u8>)> {
    // kind and place and shape of a frame; then flags and acknowledgment, if it is a segment.
    let both = |flow: u8, at: u8, len: u8| vec![0x02, flow, at, len, 0, at];
    let alone = |side: u8, flow: u8, at: u8, len: u8| vec![side, flow, at, len, 0, 9];
    let (primary, secondary, commit, time) = (0x50, 0x80, 0xf3, 0xdf);
    let opening = |flow: u8| vec![0x00, flow, 20, 0, 4, 9];
    let seeds = [
        ("equal", [opening(0), both(0, 21, 10), both(0, 31, 24)].concat()),
        (
            "late",
            [opening(1), alone(primary, 1, 21, 20), alone(secondary, 1, 21, 10), alone(secondary, 1, 31, 10)]
                .concat(),
        ),
        ("alone", [opening(2), alone(primary, 2, 21, 9), vec![time, commit], both(2, 30, 9)].concat()),
        (
            "differs",
            [opening(3), alone(primary, 3, 21, 9), vec![secondary, 3, 21, 9, 0x38, 9, 1], vec![commit]]
                .concat(),
        ),
        (
            "datagrams",
            [0_u8, 1, 2, 3]
                .map(|content| {
                    [primary, 4, 0, content << 4 | 2, secondary, 4, 0, (3 - content) << 4 | 2].to_vec()
                })
                .concat(),
        ),
        ("full", (0..40).flat_map(|at| alone(primary, at & 3, at * 5, 5)).collect()),
        (
            "reset",
            [opening(0), vec![primary, 0, 21, 0, 5, 9, secondary, 0, 21, 0, 5, 9, primary, 0, 60, 0, 6, 0]]
                .concat(),
        ),
        (
            "wild",
            [opening(0), vec![secondary, 0, 21, 8, 0xc0, 9, 0x37, primary, 0xe0, 21, 8, 0, 9, 47, 2]]
                .concat(),
        ),
    ];
    let settings = [[0, 0xff], [0, 0], [2, 0x15], [3, 0xff], [0x40, 0x2a]];
    let cases = settings.iter().flat_map(|settings| {
        seeds.iter().map(move |(name, operations)| {
            (format!("{name}-{:02x}{:02x}", settings[0], settings[1]), [&settings[..], operations].concat())
        })
    });
    cases.collect()
}

/// Operations of the fragments target: whole datagrams in pieces, what does not fit, time, commits, too many.
fn fragments() -> Vec<(String, Vec<u8>)> {
    let piece = |which: u8, more: u8, at: u8, eights: u8| vec![0, which | more << 7, at, 0, eights];
    let cut = |which: u8, pieces: u8| vec![0x60, which, 40, 3, pieces << 3 | 3, 5, 12, 30];
    let [again, change, later, much_later, due, commit] = [0x80, 0x81, 0xa5, 0xb8, 0xc0, 0xe0];
    let seeds: [(&str, Vec<u8>); 8] = [
        ("cut", (0..8).flat_map(|which| cut(which, which)).collect()),
        ("backwards", (0..8).flat_map(|which| cut(which | 0x80, 1)).collect()),
        ("overlap", [piece(0, 1, 0, 10), piece(0, 1, 9, 4), piece(0, 0, 13, 2)].concat()),
        (
            "twice",
            [piece(5, 1, 0, 10), vec![again], piece(5, 1, 10, 4), vec![much_later], cut(5, 0)].concat(),
        ),
        ("two-ends", [piece(2, 0, 20, 4), piece(2, 0, 30, 4), vec![change, 20, 8, 0]].concat()),
        ("late", [piece(1, 1, 0, 9), vec![later, due, commit], piece(1, 0, 9, 9), cut(1, 2)].concat()),
        ("too-long", vec![0, 0x80, 0, 3, 250, 0, 0, 0xff, 5, 200, 0, 4, 0xfe, 4, 9]),
        ("full", (0..40).flat_map(|at| piece(at & 7, 1, at, 1)).chain(vec![commit]).collect()),
    ];
    let bounds = [1, 3, 7];
    let cases = bounds.iter().flat_map(|most| {
        seeds
            .iter()
            .map(move |(name, operations)| (format!("{name}-{most}"), [&[*most], &operations[..]].concat()))
    });
    cases.collect()
}
