//! Floods: cases 89 and 90. More flows than the table holds harm no flow that lives, and flows chosen to collide cost
//! no more than others.

use std::process::Command;
use std::time::Duration;

use colo_tests::case::{Case, Ns, Outcome, Time, Verdict, ack, frame, seg};
use colo_tests::frame::{Tcp4, flag};
use colo_tests::process;

/// The guest's answer to a SYN from this address and port.
fn answer(client: u32, port: u16) -> Vec<u8> {
    let tcp = Tcp4 {
        source: ([10, 0, 0, 1], 80),
        destination: (client.to_be_bytes(), port),
        sequence: client ^ 0x5A5A_5A5A,
        ack: 1,
        flags: flag::SYN | flag::ACK,
        identification: 0,
    };
    tcp.frame(&[]).expect("a SYN/ACK is short")
}

/// Address number `n` of an attacker's network, 172.16.0.0/12.
fn attacker(n: u32) -> u32 {
    0xAC10_0000 + n
}

/// One connection lives while `flows` SYNs are answered, one each `pace`: every `every` of them it sends ten bytes, and
/// right after that an ACK that is known to be covered only as long as the connection is known.
fn flood(case: Case, flows: u32, pace: Ns, every: u32) -> (Case, Vec<(usize, Ns, &'static str)>) {
    let mut case = case.handshake(0.ms());
    let (mut lives, mut index, mut sent) = (Vec::new(), 1, 0);
    for n in 0..flows {
        let at = Ns(1_000_000 + u64::from(n) * pace.0);
        let bytes = answer(attacker(n), 40_000);
        case = case.p(at, frame(&bytes, "SYN/ACK")).s(at, frame(&bytes, "SYN/ACK"));
        index += 1;
        if n % every == 0 {
            let at = at + Ns(pace.0 / 2);
            case = case.p(at, seg(sent..sent + 10)).s(at, seg(sent..sent + 10)).p(at, ack(0));
            lives.extend([(index, at, "matched"), (index + 1, at, "ack")]);
            (index, sent) = (index + 2, sent + 10);
        }
    }
    (case, lives)
}

/// Nothing but a full table was a reason to ask, and the live connection felt nothing.
fn unharmed(outcome: &Outcome, lives: &[(usize, Ns, &str)]) {
    let reasons = outcome.verdicts().iter().filter_map(|verdict| match verdict {
        Verdict::Request { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    let others: Vec<_> = reasons.filter(|reason| *reason != "table_full").collect();
    assert!(others.is_empty(), "asked for {others:?} as well");
    for (frame, at, why) in lives {
        outcome.released(*frame, *at, why);
    }
}

#[test]
fn case_89_syn_flood_of_a_small_table() {
    for workers in [1, 2] {
        let case = Case::v4().workers(workers).set("max_connections", "64");
        let (case, lives) = flood(case, 400, 1.ms(), 5);
        unharmed(&case.run(), &lives);
    }
}

#[test]
fn case_89_more_than_65536_flows() {
    for workers in [1, 2] {
        let (case, lives) = flood(Case::v4().workers(workers), 70_000, 10.us(), 500);
        unharmed(&case.run(), &lives);
    }
}

#[test]
fn case_89_a_table_just_full_asks_for_nothing() {
    // 63 others and the live connection; one more is one too many, and waits for its checkpoint.
    let full = flood(Case::v4().set("max_connections", "64").workers(1), 63, 100.us(), 7).0;
    full.run().quiet();
}

/// The addresses and ports of one way to collide.
type Flows = fn(u32) -> (u32, u16);

/// Processor time of a replay of so many answered SYNs, at best of three: other work on the machine does not count.
fn cost(flows: Flows, count: u32) -> Duration {
    let directory = tempfile::tempdir().expect("a temp dir");
    let mut case = Case::v4();
    for n in 0..count {
        let (client, port) = flows(n);
        let (at, bytes) = (Ns(u64::from(n) * 10_000), answer(client, port));
        case = case.p(at, frame(&bytes, "SYN/ACK")).s(at, frame(&bytes, "SYN/ACK"));
    }
    case.write(directory.path());
    let runs = (0..3).map(|_| {
        // The shell's `times` says what its children have used, on its second line.
        let output = Command::new("sh")
            .args(["-c", "\"$0\" replay --json --primary p.pcap --secondary s.pcap; times"])
            .arg(process::colo_binary().expect("the binary under test"))
            .current_dir(directory.path())
            .output()
            .expect("a shell");
        let text = String::from_utf8(output.stdout).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        let summary: serde_json::Value = serde_json::from_str(lines[0]).expect("one object");
        assert_eq!(
            summary["released_by"]["matched"], count,
            "every flow is told from every other: {summary}"
        );
        lines.last().expect("the times").split_whitespace().map(shell_time).sum()
    });
    runs.min().expect("three runs")
}

/// `0m1.230s`, as shells write times.
fn shell_time(text: &str) -> Duration {
    let (minutes, seconds) = text.strip_suffix('s').and_then(|text| text.split_once('m')).expect("a time");
    let seconds: f64 = seconds.parse().expect("seconds");
    Duration::from_mins(minutes.parse().expect("minutes")) + Duration::from_secs_f64(seconds)
}

#[test]
fn case_90_hash_collision_flood() {
    const COUNT: u32 = 20_000;
    // What collides under weak hashes: exclusive-or or sum of the words is constant, or only high bits differ.
    let colliding: [(&str, Flows); 4] = [
        ("the exclusive-or of address and port is constant", |n| (attacker(n), low_bits(n) ^ 0x5555)),
        ("the sum of address and port is constant", |n| (attacker(n), 0xFFFF - low_bits(n))),
        ("multiples of 4,096", |n| (n << 12, 40_000)),
        ("addresses in sequence", |n| (attacker(n), 40_000)),
    ];
    let scattered = cost(|n| (n.wrapping_mul(0x9E37_79B1).rotate_left(7) | 1, low_bits(n * 7_919)), COUNT);
    for (what, flows) in colliding {
        let took = cost(flows, COUNT);
        // Chains would be thousands long: hundreds of times the work, not a few.
        let bound = scattered * 5 + Duration::from_millis(300);
        assert!(took < bound, "{what}: {took:?}, scattered flows take {scattered:?}");
    }
}

#[test]
fn case_90_work_grows_with_flows_not_with_their_square() {
    let flows: Flows = |n| (attacker(n), low_bits(n) ^ 0x5555);
    let (few, many) = (cost(flows, 5_000), cost(flows, 40_000));
    assert!(many < few * 24 + Duration::from_millis(300), "8 times the flows: {few:?}, then {many:?}");
}

fn low_bits(n: u32) -> u16 {
    u16::try_from(n & 0xFFFF).expect("sixteen bits")
}
