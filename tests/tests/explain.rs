//! `--diverged` and `colo explain` through the binary: what is written down is what differed, and a reader is told why.
#![forbid(unsafe_code)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use colo_tests::case::{Case, Time, ack, fin, rst, seg, syn_ack, udp};
use colo_tests::frame::{Tcp4, flag};
use colo_tests::metrics::Scrape;
use colo_tests::process::{self, Finished};
use colo_tests::qemu_link::Framing;
use colo_tests::rig::{Checkpoint, Dial, Rig, STEP_LIMIT, Setup, Transport};
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::Value;
use tempfile::TempDir;

/// A replayed case with its diverged file.
struct Replayed {
    directory: TempDir,
}

impl Replayed {
    fn new(case: &Case) -> Self {
        Self::with(case, &[])
    }

    fn with(case: &Case, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temp dir");
        case.write(directory.path());
        let replayed = Self { directory };
        let finished = replayed.replay(case, more);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        replayed
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_string_lossy().into_owned()
    }

    fn replay(&self, case: &Case, more: &[&str]) -> Finished {
        let mut arguments = vec!["replay".to_owned()];
        for (flag, file) in [("--primary", "p.pcap"), ("--secondary", "s.pcap"), ("--diverged", "d.pcapng")] {
            arguments.extend([flag.to_owned(), self.path(file)]);
        }
        arguments.extend(case.arguments());
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        process::run(&arguments)
    }

    fn explain(&self, more: &[&str]) -> Finished {
        explain(&self.path("d.pcapng"), more)
    }

    fn text(&self) -> String {
        let finished = self.explain(&[]);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let too_wide = finished.stdout.lines().find(|line| line.chars().count() > 120);
        assert_eq!(too_wide, None, "{}", finished.stdout);
        finished.stdout
    }

    fn records(&self) -> Vec<Value> {
        records(&self.path("d.pcapng"))
    }

    /// The only record.
    fn record(&self) -> Value {
        let mut records = self.records();
        assert_eq!(records.len(), 1, "{records:#?}");
        records.remove(0)
    }
}

fn explain(path: &str, more: &[&str]) -> Finished {
    let mut arguments = vec!["explain", path];
    arguments.extend(more);
    process::run(&arguments)
}

fn records(path: &str) -> Vec<Value> {
    let finished = explain(path, &["--json"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let answer: Value = serde_json::from_str(&finished.stdout).expect("one JSON value");
    answer["records"].as_array().expect("records").clone()
}

/// Side, number and role of each frame.
fn frames(record: &Value) -> Vec<(String, u64, String)> {
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    let frames = record["frames"].as_array().expect("frames").iter();
    let frame =
        |one: &Value| (word(&one["side"]), one["frame"].as_u64().expect("a number"), word(&one["role"]));
    frames.map(frame).collect()
}

#[track_caller]
fn has_frames(record: &Value, expected: &[(&str, u64, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|(side, frame, role)| ((*side).to_owned(), *frame, (*role).to_owned())).collect();
    assert_eq!(frames(record), expected, "{record:#}");
}

#[track_caller]
fn says(record: &Value, sentence: &str) {
    assert_eq!(record["sentence"], sentence, "{record:#}");
}

/// The byte at 47 of the second answer differs; further frames follow on both sides.
fn payload() -> Case {
    let case = Case::v4().isns(1_000, 700_000).handshake(0.ms());
    let case = case.p(1.ms(), seg(0..40)).s(2.ms(), seg(0..40));
    let case =
        case.p(3.ms(), seg(40..100)).p(4.ms(), seg(100..160)).s(5.ms(), seg(40..60).with_byte(47, 0x5a));
    case.s(6.ms(), seg(60..100)).p(7.ms(), ack(10)).p(60.ms(), seg(160..170)).s(61.ms(), seg(160..170))
}

#[test]
fn a_payload_byte_that_differs_is_marked() {
    let replayed = Replayed::new(&payload());
    let record = replayed.record();
    has_frames(
        &record,
        &[
            ("primary", 2, "differs"),
            ("primary", 3, "held"),
            ("secondary", 2, "differs"),
            ("secondary", 3, "after"),
            ("primary", 4, "after"),
        ],
    );
    assert_eq!(record["detail"]["offset"], 47);
    assert_eq!((&record["bytes"]["offset"], &record["bytes"]["secondary"]), (&47.into(), &0x5a.into()));
    let ours = record["bytes"]["primary"].as_u64().expect("the primary's byte is in the record");
    let sentence = record["sentence"].as_str().unwrap();
    let start = format!("The sides sent different bytes at stream offset 47: the primary 0x{ours:02x}");
    assert!(sentence.starts_with(&start) && sentence.ends_with("the secondary 0x5a 'Z'."), "{sentence}");
    // Both streams by their own numbers.
    let detail = &record["detail"];
    assert_eq!((&detail["primary"]["zero"], &detail["secondary"]["zero"]), (&1_001.into(), &700_001.into()));
    assert_eq!((&detail["primary"]["next"], &detail["secondary"]["next"]), (&160.into(), &40.into()));
    assert_eq!(record["frames"][2]["offset"], 40);
    let text = replayed.text();
    assert!(text.contains(&format!(">{ours:02x}<")) && text.contains(">5a<"), "{text}");
    assert!(text.contains("record 1: mismatch, payload, at 5 ms"), "{text}");
}

#[test]
fn a_stream_in_a_tunnel_is_explained_by_its_own_header() {
    let case = Case::v4()
        .set("tunnels", "inner")
        .p(0.ms(), syn_ack().in_vxlan(42))
        .s(0.ms(), syn_ack().in_vxlan(42));
    let case = case.p(1.ms(), seg(0..40).in_vxlan(42)).s(2.ms(), seg(0..40).with_byte(7, 0x5a).in_vxlan(42));
    let record = Replayed::new(&case).record();
    let name = "vxlan 42 tcp 10.0.0.1:80 > 10.0.0.9:4242";
    assert_eq!((&record["flow"], &record["frames"][0]["flow"]), (&name.into(), &name.into()));
    assert_eq!((&record["bytes"]["offset"], &record["bytes"]["secondary"]), (&7.into(), &0x5a.into()));
    let frame = &record["frames"][0];
    assert_eq!((&frame["offset"], &frame["payload_length"]), (&0.into(), &40.into()), "{frame}");
    // Who did not look into the tunnel sees what was compared: the datagram.
    let record = Replayed::new(&case.set("tunnels", "opaque")).record();
    let frame = &record["frames"][0];
    assert_eq!(record["detail"]["kind"], "datagram");
    assert!(frame["sequence"].is_null() && frame["payload_length"].as_u64() > Some(80), "{frame}");
}

#[test]
fn verdict_lines_say_where_both_sides_stood() {
    let directory = tempfile::tempdir().unwrap();
    payload().write(directory.path());
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let (primary, secondary, verdicts) = (path("p.pcap"), path("s.pcap"), path("v.jsonl"));
    let arguments = ["replay", "--primary", &primary, "--secondary", &secondary, "--verdicts", &verdicts];
    assert_eq!(process::run(&arguments).code, Some(0));
    let lines = std::fs::read_to_string(&verdicts).unwrap();
    let request = lines.lines().find(|line| line.contains("\"request\"")).expect("a request");
    let request: Value = serde_json::from_str(request).unwrap();
    let detail = &request["detail"];
    assert_eq!((&detail["primary_frame"], &detail["secondary_frame"]), (&2.into(), &2.into()));
    assert_eq!((&detail["primary"]["held"], &detail["secondary"]["held"]), (&2.into(), &0.into()));
    assert_eq!(detail["primary"]["oldest_held_ns"], 2_000_000);
}

#[test]
fn a_fin_at_another_place() {
    let case = Case::v4().handshake(0.ms()).p(1.ms(), seg(0..100)).p(1.ms(), fin());
    let record = Replayed::new(&case.s(2.ms(), seg(0..90)).s(3.ms(), fin())).record();
    says(&record, "The secondary's stream ends at offset 90 (FIN), where the primary's goes on.");
    assert_eq!(record["detail"]["kind"], "fin");
}

#[test]
fn a_reset_of_one_side() {
    let case = Case::v4().handshake(0.ms()).p(1.ms(), seg(0..10)).s(1.ms(), seg(0..10));
    let record = Replayed::new(&case.p(2.ms(), seg(10..30)).s(3.ms(), rst())).record();
    let sentence = "The secondary reset the connection at stream offset 10 (RST), where the primary goes on.";
    says(&record, sentence);
    // The reset leaves no frame behind that is held: it was seen when it came.
    assert!(frames(&record).contains(&("secondary".to_owned(), 2, "differs".to_owned())), "{record:#}");
}

#[test]
fn datagrams_that_differ() {
    let case = Case::v4().p(0.ms(), udp(b"answer 1")).s(1.ms(), udp(b"answer 2"));
    let replayed = Replayed::new(&case);
    let record = replayed.record();
    let sentence =
        "The oldest datagrams of both sides differ at byte 7: the primary 0x31 '1', the secondary 0x32 '2'.";
    says(&record, sentence);
    has_frames(&record, &[("primary", 0, "differs"), ("secondary", 0, "differs")]);
    let text = replayed.text();
    assert!(text.contains(">31<") && text.contains(">32<"), "{text}");

    let case = Case::v4().p(0.ms(), udp(b"long answer")).s(1.ms(), udp(b"long"));
    let sentence =
        "The oldest datagrams of both sides differ in length: the primary's has 11 bytes, the secondary's 4.";
    says(&Replayed::new(&case).record(), sentence);
}

#[test]
fn what_a_side_never_sent() {
    let case = Case::v4().handshake(0.ms()).p(1.ms(), seg(0..1024)).s(2.ms(), seg(0..512));
    let replayed = Replayed::new(&case);
    let record = replayed.record();
    let sentence = "The secondary never sent bytes 512–1023 of the stream within 400 ms; its stream ended at offset 512.";
    says(&record, sentence);
    has_frames(&record, &[("primary", 1, "waits")]);
    assert!(replayed.text().contains("waits"));

    let case = Case::v4().handshake(0.ms()).p(1.ms(), ack(100)).s(2.ms(), ack(60));
    let record = Replayed::new(&case).record();
    let sentence = record["sentence"].as_str().unwrap();
    assert!(sentence.contains("the secondary only") && sentence.contains("(40 less)"), "{sentence}");

    let case = Case::v4().handshake(0.ms()).s(1.ms(), seg(0..10));
    let sentence =
        "The primary never sent bytes 0–9 of the stream within 400 ms; its stream ended at offset 0.";
    says(&Replayed::new(&case).record(), sentence);

    let case = Case::v4().p(0.ms(), udp(b"alone"));
    let sentence = "The secondary sent no datagram equal to primary frame 0 within 400 ms.";
    says(&Replayed::new(&case).record(), sentence);
}

#[test]
fn a_side_that_contradicts_itself() {
    let case = Case::v4().handshake(0.ms()).s(1.ms(), seg(0..20)).s(2.ms(), seg(10..30).with_byte(15, 0xee));
    let replayed = Replayed::new(&case);
    let record = replayed.record();
    let sentence = record["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("The secondary contradicts itself at stream offset 15: it sent 0x"),
        "{sentence}"
    );
    assert!(sentence.ends_with("before and 0xee now."), "{sentence}");
    has_frames(&record, &[("secondary", 1, "differs"), ("secondary", 2, "differs")]);
    let text = replayed.text();
    assert!(text.contains(">ee<") && text.contains("secondary, frame 1"), "{text}");
}

/// Several flows that differ at once, and late ones.
fn storm(flows: u16) -> Case {
    let case = (0..flows).fold(Case::v4(), |case, flow| case.handshake_of(flow, 0.ms()));
    let case = (0..flows).fold(case, |case, flow| case.p(1.ms(), seg(0..1_000).flow(flow)));
    let case = (0..flows)
        .fold(case, |case, flow| case.s(2.ms(), seg(0..1_000).with_byte(i64::from(flow), 0).flow(flow)));
    (0..flows).fold(case, |case, flow| case.p(100.ms(), seg(1_000..1_010).flow(flow)))
}

#[test]
fn the_file_is_the_same_for_any_number_of_workers() {
    let case = storm(9).p(101.ms(), udp(b"x")).s(102.ms(), udp(b"y"));
    let read = |replayed: &Replayed| std::fs::read(replayed.path("d.pcapng")).unwrap();
    let one = Replayed::with(&case, &["--workers", "1"]);
    assert!(one.records().len() > 9, "mismatches, then timeouts");
    for workers in ["1", "2", "5"] {
        assert_eq!(read(&one), read(&Replayed::with(&case, &["--workers", workers])), "{workers} workers");
    }
}

#[test]
fn another_reader_finds_interfaces_and_comments() -> Result<()> {
    let replayed = Replayed::new(&payload());
    let mut reader = PcapNgReader::new(std::fs::File::open(replayed.path("d.pcapng"))?)?;
    let (mut interfaces, mut reasons) = (0, 0);
    while let Some(block) = reader.next_block() {
        match block? {
            Block::InterfaceDescription(_) => interfaces += 1,
            Block::EnhancedPacket(packet) => {
                reasons += usize::from(format!("{packet:?}").contains("left_out"));
            }
            _ => {}
        }
    }
    assert_eq!((interfaces, reasons), (2, 1));
    Ok(())
}

#[test]
fn files_rotate_and_old_ones_go() {
    // About 2.5 MB of frames in records of a few KB.
    let case = (0..120_i64).fold(Case::v4().handshake(0.ms()), |case, round| {
        let at = u64::try_from(round).unwrap() * 200;
        let bytes = round * 10_000..(round + 1) * 10_000;
        let twisted = seg(bytes.clone()).with_byte(bytes.start + 5, 0xff);
        case.p((at + 1).ms(), seg(bytes)).s((at + 2).ms(), twisted)
    });
    let more = ["--set", "diverged_max_bytes=1048576", "--set", "diverged_files=2"];
    let replayed = Replayed::with(&case, &more);
    let (current, former) = (replayed.path("d.pcapng"), replayed.path("d.1.pcapng"));
    let numbers = |path: &str| -> Vec<u64> {
        records(path).iter().map(|record| record["record"].as_u64().unwrap()).collect()
    };
    let [older, newer] = [numbers(&former), numbers(&current)];
    assert_eq!(newer.last(), Some(&120));
    assert_eq!(older.last().map(|last| last + 1), newer.first().copied(), "no record is lost in between");
    assert!(older[0] > 1, "what came first has gone");
    assert!(!Path::new(&replayed.path("d.2.pcapng")).exists());
    for path in [&current, &former] {
        assert!(std::fs::metadata(path).unwrap().len() <= 1_048_576, "{path}");
    }
    // The same again leaves the same, whatever was there before.
    let before = [std::fs::read(&current).unwrap(), std::fs::read(&former).unwrap()];
    replayed.replay(&case, &more).expect_code(0).unwrap();
    assert_eq!(before, [std::fs::read(&current).unwrap(), std::fs::read(&former).unwrap()]);
}

#[test]
fn a_file_that_is_not_ours_is_refused_in_a_sentence() {
    let replayed = Replayed::new(&payload());
    let refused = |name: &str, words: &str| {
        let finished = explain(&replayed.path(name), &[]);
        assert_eq!(finished.code, Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    };
    refused("p.pcap", "is a capture without colo's comments");
    refused("nothing.pcapng", "cannot open");
    std::fs::write(replayed.path("text"), "hello").unwrap();
    refused("text", "is neither pcap nor pcapng");
    let whole = std::fs::read(replayed.path("d.pcapng")).unwrap();
    std::fs::write(replayed.path("short.pcapng"), &whole[..200]).unwrap();
    refused("short.pcapng", "is truncated after frame 0");
    let finished = replayed.explain(&["--record", "7"]);
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("has no record 7; it has 1 to 1"), "{}", finished.stderr);
    let quiet = Case::v4().handshake(0.ms()).p(1.ms(), seg(0..10)).s(2.ms(), seg(0..10));
    let finished = Replayed::new(&quiet).explain(&[]);
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("has no record: the sides did not differ"), "{}", finished.stderr);
}

#[test]
fn a_cut_file_is_explained_as_far_as_it_is_whole() {
    let replayed = Replayed::new(&payload());
    let whole = std::fs::read(replayed.path("d.pcapng")).unwrap();
    let cut = replayed.path("cut.pcapng");
    std::fs::write(&cut, &whole[..whole.len() - 10]).unwrap();
    let finished = explain(&cut, &[]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    for words in ["stream offset 47", "1 more frames of this record are missing", "The file's end is missing"]
    {
        assert!(finished.stdout.contains(words), "{words}: {}", finished.stdout);
    }
}

#[test]
fn a_place_where_nothing_can_be_written_is_a_mistake_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    payload().write(directory.path());
    let locked = directory.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    // Root may write everywhere, but not into a file as if it were a directory.
    for place in ["locked/d.pcapng", "p.pcap/d.pcapng"] {
        if place.starts_with("locked") && rustix::process::geteuid().is_root() {
            continue;
        }
        let (primary, secondary, diverged) = (path("p.pcap"), path("s.pcap"), path(place));
        let replayed = ["replay", "--primary", &primary, "--secondary", &secondary, "--diverged", &diverged];
        let (socket, other, out) = (
            format!("unix:{},listen", path("a")),
            format!("unix:{},listen", path("b")),
            format!("unix:{}", path("c")),
        );
        let compared = [
            "compare",
            "--primary-in",
            &socket,
            "--secondary-in",
            &other,
            "--out",
            &out,
            "--checkpoint",
            "none",
            "--metrics",
            "off",
            "--diverged",
            &diverged,
        ];
        for arguments in [&replayed[..], &compared[..]] {
            let finished = process::run(arguments);
            assert_eq!(finished.code, Some(2), "{}", finished.stderr);
            assert!(finished.stderr.contains("cannot create"), "{}", finished.stderr);
        }
    }
    let (primary, secondary) = (path("p.pcap"), path("s.pcap"));
    let finished =
        process::run(&["replay", "--primary", &primary, "--secondary", &secondary, "--diverged", &primary]);
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("is the file of --primary"), "{}", finished.stderr);
}

fn tcp(sequence: u32) -> Tcp4 {
    Tcp4 {
        source: ([10, 0, 0, 1], 80),
        destination: ([10, 0, 0, 9], 4_242),
        sequence,
        ack: 500,
        flags: flag::ACK,
        identification: 0,
    }
}

/// When the engine is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// While the flow is still being watched.
    AtOnce,
    /// When the record was written.
    Later,
}

/// Three frames over sockets, the third differing at stream offset 16, and what `colo explain` then says.
fn compare_live(arguments: &str, end: End) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("d.pcapng").to_string_lossy().into_owned();
    let arguments = &format!("{arguments} --compare-timeout 60000 --diverged {path}");
    let mut rig = Rig::start(&Setup {
        transport: Transport::Unix,
        dial: Dial::EngineListens,
        framing: Framing::Plain,
        checkpoint: Checkpoint::Notify,
        arguments,
    })?;
    let side = |third: &[u8]| -> Result<Vec<Vec<u8>>> {
        let syn = Tcp4 { flags: flag::SYN | flag::ACK, ..tcp(1_000) };
        Ok(vec![syn.frame(&[])?, tcp(1_001).frame(b"first ten ")?, tcp(1_011).frame(third)?])
    };
    let (primary, secondary) = (side(b"third ten ")?, side(b"third TEN ")?);
    rig.primary.send(primary.iter().map(Vec::as_slice))?;
    rig.secondary.send(secondary.iter().map(Vec::as_slice))?;
    let books = rig.settled(|books| books.requested == 1 && books.released == 2)?;
    if end == End::Later {
        // The watch is over after a second; the record is in the file without an end or a commit.
        let deadline = Instant::now() + STEP_LIMIT;
        while Scrape::get(rig.metrics)?.sum("colo_diverged_records_total", &[])? == 0 {
            ensure!(Instant::now() < deadline, "no record; stderr: {}", rig.colo.stderr_so_far());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(records(&path).len(), 1);
        let page = Scrape::get(rig.metrics)?;
        assert_eq!(page.sum("colo_diverged_skipped_total", &[])?, 0);
        assert_eq!(page.sum("colo_diverged_write_errors_total", &[])?, 0);
    }
    // What is held stays held: nobody committed.
    assert_eq!(books.held, 2, "{books:?}");
    rig.colo.terminate(STEP_LIMIT)?.expect_code(0)?;
    let found = records(&path);
    let [record] = &found[..] else { anyhow::bail!("{found:#?}") };
    let sentence = record["sentence"].as_str().context("a sentence")?;
    let expected =
        "The sides sent different bytes at stream offset 16: the primary 0x74 't', the secondary 0x54 'T'.";
    assert_eq!(sentence, expected);
    let mut named: Vec<_> = frames(record).into_iter().filter(|(.., role)| role == "differs").collect();
    named.sort();
    let differs = |side: &str| (side.to_owned(), 2, "differs".to_owned());
    assert_eq!(named, [differs("primary"), differs("secondary")]);
    Ok(())
}

#[test]
fn a_running_engine_writes_it_down() -> Result<()> {
    compare_live("--workers 1", End::Later)
}

#[test]
fn two_workers_write_it_down() -> Result<()> {
    compare_live("--workers 2 --run-mode pipeline", End::Later)
}

#[test]
fn nothing_is_lost_at_the_end() -> Result<()> {
    compare_live("--workers 2", End::AtOnce)
}
