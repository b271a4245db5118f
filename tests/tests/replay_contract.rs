//! The contract of `colo replay` in product.md, which other tools rely on: files in, files and summary out, exit
//! codes. The verdicts themselves are judged in the catalogue; the invariants of every case are checked there too.
#![forbid(unsafe_code)]

use std::path::Path;

use colo_tests::case::{
    Case, FILE_HEADER_LEN, Format, RECORD_HEADER_LEN, Side, Time, ack, decode, fin, seg, udp,
};
use colo_tests::process::{self, Finished};
use serde_json::Value;

/// A case with a bit of everything: matches, splits, a mismatch, a timeout, datagrams, several flows.
fn mixture() -> Case {
    let mut case = (0..6).fold(Case::v4(), |case, flow| case.handshake_of(flow, 0.ms()));
    for flow in 0..6 {
        case = case.p(1.ms(), seg(0..100).flow(flow)).s(2.ms(), seg(0..60).flow(flow));
    }
    for flow in 0..5 {
        case = case.p(3.ms(), ack(10).flow(flow)).s(4.ms(), seg(60..100).ack(10).flow(flow));
    }
    case = case.p(5.ms(), udp(b"one")).p(5.ms(), udp(b"two")).s(6.ms(), udp(b"two")).s(7.ms(), udp(b"one"));
    case = case.p(20.ms(), seg(100..110)).s(21.ms(), seg(100..110).with_byte(105, 0xFF));
    case.p(150.ms(), fin().flow(1)).s(151.ms(), fin().flow(1)).p(900.ms(), seg(100..120).flow(2))
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_string_lossy().into_owned()
}

/// Replays the captures `p.pcap` and `s.pcap` of a directory.
fn replay(directory: &Path, more: &[&str]) -> Finished {
    let mut arguments = vec!["replay".to_owned()];
    for (flag, file) in [
        ("--primary", "p.pcap"),
        ("--secondary", "s.pcap"),
        ("--verdicts", "v.jsonl"),
        ("--released", "out.pcap"),
    ] {
        arguments.extend([flag.to_owned(), path(directory, file)]);
    }
    arguments.extend(more.iter().map(|word| (*word).to_owned()));
    process::run(&arguments)
}

fn outputs(directory: &Path) -> (String, Vec<u8>) {
    let verdicts = std::fs::read_to_string(directory.join("v.jsonl")).expect("--verdicts writes");
    (verdicts, std::fs::read(directory.join("out.pcap")).expect("--released writes"))
}

fn verdicts_of(case: &Case) -> String {
    let directory = tempfile::tempdir().expect("a temp dir");
    case.write(directory.path());
    let finished = replay(directory.path(), &[]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    outputs(directory.path()).0
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect()
}

/// One clear sentence on stderr, exit code 2.
#[track_caller]
fn refused(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.code, Some(2), "stderr: {}", finished.stderr);
    for word in words {
        assert!(finished.stderr.contains(word), "{word:?} is missing in: {}", finished.stderr);
    }
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}

#[test]
fn a_mixture_keeps_the_books() {
    let outcome = mixture().run();
    // Flow 5's tail and flow 2's last frame never get partners; flow 0 differs.
    outcome.released(6, 4.ms(), "matched");
    assert!(outcome.summary().is_object());
}

#[test]
fn repeated_runs_are_equal_to_the_byte_with_any_number_of_workers() {
    let directory = tempfile::tempdir().unwrap();
    mixture().write(directory.path());
    let mut runs = Vec::new();
    for workers in [&[][..], &["--workers", "1"], &["--workers", "2"], &["--workers", "4"], &[]] {
        let finished = replay(directory.path(), &[&["--json"][..], workers].concat());
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        runs.push((workers, outputs(directory.path()), finished.stdout));
    }
    for (workers, files, stdout) in &runs[1..] {
        assert!(*files == runs[0].1, "{workers:?} gives other files");
        assert_eq!(*stdout, runs[0].2, "{workers:?} gives another summary");
    }
}

#[test]
fn captures_of_every_format_give_the_same_verdicts() {
    let expected = verdicts_of(&mixture());
    for format in [Format::PcapUs, Format::PcapNsBigEndian, Format::PcapNgNs, Format::PcapNgUs] {
        assert_eq!(verdicts_of(&mixture().format(format)), expected, "{format:?}");
    }
}

#[test]
fn nanoseconds_are_not_rounded() {
    let at = |ns| colo_tests::case::Ns(ns);
    for format in [Format::PcapNs, Format::PcapNgNs] {
        let case = Case::v4().format(format).p(at(1), udp(b"one")).s(at(778), udp(b"one"));
        case.run().quiet().released(0, at(778), "matched");
    }
}

#[test]
fn time_counts_from_the_first_frame_of_either_file() {
    let text = verdicts_of(&Case::v4().s(5_000.ms(), udp(b"one")).p(5_003.ms(), udp(b"one")));
    let release = &lines(&text)[0];
    assert_eq!(release["event"], "release");
    assert_eq!(release["t_ns"], 3_000_000);
    assert_eq!(release["held_ns"], 0);
}

#[test]
fn a_tie_goes_to_the_primary() {
    let text = verdicts_of(&Case::v4().p(0.ms(), udp(b"one")).s(0.ms(), udp(b"one")));
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 2);
    assert_eq!((&events[0]["event"], &events[1]["event"]), (&"release".into(), &"drop".into()));
}

#[test]
fn held_is_listed_under_never() {
    let case = Case::v4().never().p(0.ms(), udp(b"one")).p(1.ms(), udp(b"two")).s(2.ms(), udp(b"three"));
    let outcome = case.run();
    outcome.mismatch(22.ms(), "datagram").held(&[0, 1]).held_secondary(&[0]).commits(&[]);
}

#[test]
fn checkpoint_ms_defaults_to_five() {
    let directory = tempfile::tempdir().unwrap();
    Case::v4().p(0.ms(), udp(b"one")).write(directory.path());
    assert_eq!(replay(directory.path(), &[]).code, Some(0));
    let (verdicts, released) = outputs(directory.path());
    let release = r#"{"t_ns":405000000,"event":"release","frame":0,"why":"flush","held_ns":405000000}"#;
    assert!(lines(&verdicts).contains(&lines(release)[0]), "{verdicts}");
    let decoded = decode(&released).unwrap();
    assert_eq!(decoded.records.len(), 1);
    assert_eq!(decoded.records[0].0, 405.ms());
}

#[test]
fn checkpoints_may_take_their_time() {
    Case::v4().commit_after(70.ms()).p(0.ms(), udp(b"one")).run().timeout(400.ms()).commits(&[470.ms()]);
}

#[test]
fn lines_have_the_documented_keys() {
    let text = verdicts_of(&Case::v4().p(0.ms(), udp(b"one")).s(1.ms(), udp(b"one")));
    let documented = [
        r#"{"t_ns":1000000,"event":"release","frame":0,"why":"matched","held_ns":1000000}"#,
        r#"{"t_ns":1000000,"event":"drop","frame":0,"why":"matched"}"#,
    ];
    // As objects: the order of keys is nobody's business.
    assert_eq!(lines(&text), lines(&documented.join("\n")));
}

#[test]
fn empty_captures_are_fine() {
    for format in [Format::PcapNs, Format::PcapNgNs] {
        let outcome = Case::v4().format(format).run();
        outcome.quiet();
        assert!(outcome.verdicts().is_empty());
    }
}

#[test]
fn one_empty_capture_is_fine() {
    Case::v4().p(0.ms(), udp(b"one")).run().timeout(400.ms()).released(0, 405.ms(), "flush");
    Case::v4().s(0.ms(), udp(b"one")).run().timeout(400.ms()).dropped(0, 405.ms(), "flush");
}

#[test]
fn exit_code_tells_a_mismatch_only_when_asked() {
    let differs = Case::v4().p(0.ms(), udp(b"one")).s(1.ms(), udp(b"two"));
    let equal = Case::v4().p(0.ms(), udp(b"one")).s(1.ms(), udp(b"one"));
    let silent = Case::v4().p(0.ms(), udp(b"one"));
    // Reading: a timeout is a request of its own name, so the flag leaves it at 0.
    for (case, flags, code) in [
        (&differs, &[][..], 0),
        (&differs, &["--fail-on-mismatch"], 3),
        (&differs, &["--fail-on-mismatch", "--checkpoint-ms", "never"], 3),
        (&equal, &["--fail-on-mismatch"], 0),
        (&silent, &["--fail-on-mismatch"], 0),
    ] {
        let directory = tempfile::tempdir().unwrap();
        case.write(directory.path());
        let finished = replay(directory.path(), flags);
        assert_eq!(finished.code, Some(code), "{flags:?}: {}", finished.stderr);
    }
}

#[test]
fn a_mismatch_that_another_request_answers_still_counts() {
    // A timeout is outstanding when the byte differs: one request, but the captures contradict each other.
    let case = Case::v4().handshake(0.ms()).p(1.ms(), seg(0..10)).s(500.ms(), seg(0..10).with_byte(3, 0xee));
    let directory = tempfile::tempdir().unwrap();
    case.write(directory.path());
    let finished = replay(directory.path(), &["--fail-on-mismatch", "--checkpoint-ms", "never", "--json"]);
    assert_eq!(finished.code, Some(3), "{}", finished.stderr);
    let summary: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(summary["checkpoints"]["mismatch"], 0);
    assert_eq!(summary["mismatches"], 1);
}

#[test]
fn verdicts_and_released_are_optional() {
    let directory = tempfile::tempdir().unwrap();
    mixture().write(directory.path());
    let (p, s) = (path(directory.path(), "p.pcap"), path(directory.path(), "s.pcap"));
    let finished = process::run(&["replay", "--primary", &p, "--secondary", &s, "--json"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let summary: Value = serde_json::from_str(&finished.stdout).expect("one object and nothing else");
    for key in ["frames", "released", "dropped", "held", "checkpoints", "release_latency_ns"] {
        assert!(!summary[key].is_null(), "{key} is missing in {summary}");
    }
}

#[test]
fn a_truncated_capture_names_the_frame() {
    // Cut inside the bytes of the frame with index 1, then inside its record header.
    let case = Case::v4().p(0.ms(), udp(b"one")).p(1.ms(), udp(b"two")).p(2.ms(), udp(b"three"));
    let first_len = case.sent(Side::Primary)[0].bytes.len();
    let second_at = FILE_HEADER_LEN + RECORD_HEADER_LEN + first_len;
    for cut in [second_at + RECORD_HEADER_LEN + 9, second_at + 5] {
        let directory = tempfile::tempdir().unwrap();
        case.write(directory.path());
        let file = directory.path().join("p.pcap");
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..cut]).unwrap();
        // Reading: the frame's number is its 0-based index, as everywhere in the contract.
        refused(&replay(directory.path(), &[]), &["p.pcap", "frame 1"]);
    }
}

#[test]
fn a_truncated_pcapng_names_the_frame() {
    let case = Case::v4()
        .format(Format::PcapNgNs)
        .p(0.ms(), udp(b"one"))
        .s(0.ms(), udp(b"one"))
        .s(1.ms(), udp(b"two"));
    let directory = tempfile::tempdir().unwrap();
    case.write(directory.path());
    let file = directory.path().join("s.pcap");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 20]).unwrap();
    refused(&replay(directory.path(), &[]), &["s.pcap", "frame 1"]);
}

#[test]
fn rubbish_is_refused() {
    for rubbish in [&b"this is no capture, it is a sentence that goes on for a while"[..], b"", b"\xD4\xC3"] {
        let directory = tempfile::tempdir().unwrap();
        Case::v4().p(0.ms(), udp(b"one")).write(directory.path());
        std::fs::write(directory.path().join("s.pcap"), rubbish).unwrap();
        refused(&replay(directory.path(), &[]), &["s.pcap"]);
    }
}

#[test]
fn a_capture_of_another_link_type_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    Case::v4().p(0.ms(), udp(b"one")).write(directory.path());
    let file = directory.path().join("p.pcap");
    let mut bytes = std::fs::read(&file).unwrap();
    // 101 is raw IP.
    bytes[20] = 101;
    std::fs::write(&file, bytes).unwrap();
    refused(&replay(directory.path(), &[]), &["p.pcap", "Ethernet"]);
}

#[test]
fn a_missing_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    Case::v4().p(0.ms(), udp(b"one")).write(directory.path());
    std::fs::remove_file(directory.path().join("s.pcap")).unwrap();
    refused(&replay(directory.path(), &[]), &["s.pcap"]);
}

#[test]
fn an_unknown_setting_names_the_nearest_known_one() {
    let directory = tempfile::tempdir().unwrap();
    Case::v4().p(0.ms(), udp(b"one")).write(directory.path());
    refused(
        &replay(directory.path(), &["--set", "compare_timeuot=5"]),
        &["compare_timeuot", "compare_timeout"],
    );
    refused(&replay(directory.path(), &["--set", "compare_timeout=soon"]), &["compare_timeout"]);
    refused(&replay(directory.path(), &["--checkpoint-ms", "sometimes"]), &["checkpoint-ms"]);
}

#[test]
fn missing_arguments_are_a_usage_error() {
    refused(&process::run(&["replay"]), &["--primary"]);
}
