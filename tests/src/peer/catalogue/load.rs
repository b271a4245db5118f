//! Much at once, and links that come and go: what a single frame cannot show.

use std::time::Duration;

use super::{Entry, entry};
use crate::case::{Case, Ns, Packet, Time, arp, seg, syn_ack, udp};
use crate::peer::play::Circumstance;

/// Frames of one write; a script's writes are this far apart.
const PER_WRITE: usize = 256;

/// A side's packets, so many a millisecond.
fn burst(case: Case, side: fn(Case, Ns, Packet) -> Case, from: u64, packets: Vec<Packet>) -> Case {
    let mut packets = packets.into_iter().enumerate();
    packets.by_ref().fold(case, |case, (index, packet)| {
        let later = u64::try_from(index / PER_WRITE).expect("few writes");
        side(case, (from + later).ms(), packet)
    })
}

fn marked(count: u16) -> Vec<Packet> {
    (0..count).map(|mark| udp(&[&mark.to_be_bytes()[..], b"datagram"].concat())).collect()
}

fn stream(count: i64, size: i64) -> Vec<Packet> {
    (0..count).map(|n| seg(n * size..(n + 1) * size)).collect()
}

fn open() -> Case {
    Case::v4().p(0.ms(), syn_ack()).s(5.ms(), syn_ack())
}

/// Each of these shows a bound or a race.
pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry("UDP, 512 of the primary, then the same of the secondary", &["Q1", "D5"], {
            let case = burst(Case::v4(), Case::p, 0, marked(512));
            burst(case, Case::s, 50, marked(512))
        }),
        entry("UDP, 300 pairs, the secondary 200 µs behind, three on the way", &["Q1"], overlapping()),
        entry("TCP, 1,000 segments of the primary, then the same of the secondary", &["Q2", "D5"], {
            let case = burst(open(), Case::p, 10, stream(1_000, 100));
            burst(case, Case::s, 60, stream(1_000, 100))
        }),
        entry("TCP, 1,100 segments of the primary, then the same of the secondary", &["Q2", "Q3", "D5"], {
            let case = burst(open(), Case::p, 10, stream(1_100, 100));
            burst(case, Case::s, 60, stream(1_100, 100))
        }),
        entry("UDP, 1,100 of the primary, then the same of the secondary", &["Q1", "Q3", "D5"], {
            let case = burst(Case::v4(), Case::p, 0, marked(1_100));
            burst(case, Case::s, 50, marked(1_100))
        }),
        entry("100 flows differ", &[], {
            let flows = |byte: &'static [u8]| (0..100).map(|flow| udp(byte).flow(flow)).collect();
            burst(burst(Case::v4(), Case::p, 0, flows(b"one")), Case::s, 50, flows(b"two"))
        }),
        entry("17,000 flows, the secondary behind", &["Q4", "D5"], {
            let flows = || (0..17_000).map(|flow| udp(b"one").flow(flow)).collect();
            burst(burst(Case::v4(), Case::p, 0, flows()), Case::s, 200, flows())
        }),
        entry("the output is not read for 400 ms, 2,000 segments of 1,400 bytes", &["Q2"], {
            let chunks = |from: i64| (from..from + 100).map(|n| seg(n * 1_400..(n + 1) * 1_400));
            (0..20).fold(open(), |case, round| {
                let at = 10 + 10 * u64::try_from(round).expect("few rounds");
                let case = chunks(round * 100).fold(case, |case, packet| case.p(at.ms(), packet));
                chunks(round * 100).fold(case, |case, packet| case.s((at + 5).ms(), packet))
            })
        })
        .with(Circumstance::LateReader(Duration::from_millis(400))),
        entry("the output's reader is away for 500 ms, 20 pairs", &["Q5"], pairs(20))
            .with(Circumstance::ReaderAway(Duration::from_millis(500))),
        entry("no secondary has connected: UDP and ARP", &["Q1"], pairs(3).p(100.ms(), arp(9)))
            .with(Circumstance::NoSecondary),
    ]
}

fn pairs(count: u16) -> Case {
    (0_u64..).zip(marked(count)).fold(Case::v4(), |case, (n, packet)| {
        case.p((n * 20).ms(), packet.clone()).s((n * 20 + 10).ms(), packet)
    })
}

/// One datagram each 80 µs of either side, the secondary's 200 µs later.
fn overlapping() -> Case {
    let packets = marked(300);
    let mut case = Case::v4();
    let mut behind = 0_usize;
    for (n, packet) in (0_u64..).zip(&packets) {
        let now = n * 80;
        while behind < packets.len() && u64::try_from(behind).expect("few") * 80 + 200 < now {
            case = case.s((u64::try_from(behind).expect("few") * 80 + 200).us(), packets[behind].clone());
            behind += 1;
        }
        case = case.p(now.us(), packet.clone());
    }
    for (n, packet) in (0_u64..).zip(&packets).skip(behind) {
        case = case.s((n * 80 + 200).us(), packet.clone());
    }
    case
}
