//! Modes, policies and quarantine in virtual time, through `colo replay`: what leaves when, and which checkpoints are asked
//! for. In a running engine: `running_engine::modes`; with real guests: `qemu_pair`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use colo_tests::case::{Case, Packet, Time, content, seg, udp};
use colo_tests::process::Colo;
use serde_json::Value;

const LIMIT: Duration = Duration::from_mins(1);

/// One line of the verdicts: milliseconds, event, reason or why, frame.
type Line = (u64, String, String, Option<u64>);

fn replay(case: &Case) -> Result<Vec<Line>> {
    let directory = tempfile::tempdir()?;
    case.write(directory.path());
    let file = |name: &str| directory.path().join(name).display().to_string();
    let mut arguments = vec!["replay".to_owned(), "--primary".to_owned(), file("p.pcap")];
    arguments.extend(["--secondary".to_owned(), file("s.pcap"), "--verdicts".to_owned(), file("v.jsonl")]);
    arguments.extend(case.arguments());
    Colo::run(arguments, LIMIT)?.expect_code(0)?;
    let verdicts = std::fs::read_to_string(directory.path().join("v.jsonl"))?;
    let line = |line: &str| -> Result<Line> {
        let line: Value = serde_json::from_str(line)?;
        let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let reason = if line["reason"].is_null() { word("why") } else { word("reason") };
        Ok((line["t_ns"].as_u64().unwrap_or(0) / 1_000_000, word("event"), reason, line["frame"].as_u64()))
    };
    verdicts.lines().map(line).collect()
}

fn times(lines: &[Line], event: &str) -> Vec<u64> {
    lines.iter().filter(|line| line.1 == event).map(|line| line.0).collect()
}

/// The reasons of requests, with how many of each stand in a row.
fn requests(lines: &[Line]) -> Vec<(String, usize)> {
    let mut rows: Vec<(String, usize)> = Vec::new();
    for (_, _, reason, _) in lines.iter().filter(|line| line.1 == "request") {
        match rows.last_mut() {
            Some((last, count)) if last == reason => *count += 1,
            _ => rows.push((reason.clone(), 1)),
        }
    }
    rows
}

fn rows(rows: &[(&str, usize)]) -> Vec<(String, usize)> {
    rows.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
}

/// The n-th four bytes of the stream.
fn same(n: u64) -> Packet {
    let position = 4 * i64::try_from(n).expect("few");
    seg(position..position + 4)
}

/// The same four, the first of them another.
fn other(n: u64) -> Packet {
    let position = 4 * i64::try_from(n).expect("few");
    same(n).with_byte(position, content(0, position) ^ 1)
}

#[test]
fn passive_holds_everything_to_a_checkpoint_every_passive_interval() -> Result<()> {
    let mut case = Case::v4().handshake(0.ms()).set("mode", "passive").set("passive_interval", "250");
    for step in 0..60 {
        // Equal or not: nobody looks.
        let secondary = if step % 2 == 0 { same(step) } else { other(step) };
        case = case.p((10 + 10 * step).ms(), same(step)).s((10 + 10 * step).ms(), secondary);
    }
    let lines = replay(&case)?;
    assert_eq!(requests(&lines), rows(&[("periodic", 3)]));
    assert_eq!(times(&lines, "commit"), [255, 510, 765], "the last one for what came after the one before");
    let why: Vec<_> = lines.iter().filter(|line| line.1 == "release").map(|line| line.2.as_str()).collect();
    assert_eq!((why.len(), why.iter().all(|why| *why == "flush")), (61, true));
    let commits = times(&lines, "commit");
    assert!(times(&lines, "release").iter().all(|at| commits.contains(at)));
    let dropped: Vec<_> = lines.iter().filter(|line| line.1 == "drop").map(|line| line.2.as_str()).collect();
    assert_eq!((dropped.len(), dropped.iter().all(|why| *why == "pass")), (61, true));
    Ok(())
}

#[test]
fn off_lets_everything_out_at_once_and_asks_for_nothing() -> Result<()> {
    let case = Case::v4().set("mode", "off").handshake(0.ms()).p(10.ms(), same(0));
    let lines = replay(&case.p(20.ms(), udp(b"a datagram")).p(900.ms(), same(1)))?;
    assert_eq!(times(&lines, "release"), [0, 10, 20, 900]);
    assert!(lines.iter().filter(|line| line.1 == "release").all(|line| line.2 == "pass"));
    assert_eq!(requests(&lines), []);
    Ok(())
}

/// Guests that differ every 20 ms until `until_ms`, and agree from there on, to `end_ms`.
fn noisy(until_ms: u64, end_ms: u64) -> Case {
    let mut case = Case::v4().handshake(0.ms());
    for step in 0..end_ms / 20 {
        let at_ms = 20 + 20 * step;
        let secondary = if at_ms < until_ms { other(step) } else { same(step) };
        case = case.p(at_ms.ms(), same(step)).s(at_ms.ms(), secondary);
    }
    case.set("max_checkpoint_interval", "10000")
}

#[test]
fn classic_does_what_was_published() -> Result<()> {
    // Five bad epochs, a hundred passive ones of 250 ms, five bad ones again, for ever.
    let case = noisy(60_000, 60_000).set("mode", "hybrid").set("policy", "classic");
    let lines = replay(&case)?;
    let [one, two] = [("mismatch", 5), ("periodic", 100)];
    let found = requests(&lines);
    assert_eq!(found[..4], rows(&[one, two, one, two])[..4]);
    let passive: Vec<u64> =
        times(&lines, "commit")[5..105].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(passive.iter().all(|gap| *gap == 255), "{passive:?}");
    Ok(())
}

#[test]
fn hybrid_goes_passive_under_random_load_and_comes_back_after_it() -> Result<()> {
    let case = noisy(4_000, 12_000).set("mode", "hybrid").set("passive_count", "10");
    let lines = replay(&case)?;
    // Five bad epochs, ten passive ones, a trial of three that fails, twice as many passive ones, and all is well.
    let found = requests(&lines);
    assert_eq!(found, rows(&[("mismatch", 5), ("periodic", 10), ("mismatch", 3), ("periodic", 20)]));
    let back = *times(&lines, "commit").last().expect("one at least");
    let after: BTreeMap<&str, usize> = lines.iter().filter(|line| line.1 == "release" && line.0 > back).fold(
        BTreeMap::new(),
        |mut counts, line| {
            *counts.entry(line.2.as_str()).or_default() += 1;
            counts
        },
    );
    assert_eq!(after.keys().collect::<Vec<_>>(), [&"matched"], "compared again, at once: {after:?}");
    let late = lines.iter().filter(|line| line.1 == "release" && line.0 > back + 20);
    assert!(late.clone().count() > 100 && late.into_iter().all(|line| line.2 == "matched"));
    Ok(())
}

#[test]
fn in_colo_the_same_load_asks_for_a_checkpoint_all_the_time() -> Result<()> {
    let lines = replay(&noisy(4_000, 12_000))?;
    let found = requests(&lines);
    assert_eq!((found.len(), found[0].0.as_str()), (1, "mismatch"));
    assert!(found[0].1 > 30, "{found:?}");
    Ok(())
}

#[test]
fn a_flow_in_quarantine_disturbs_no_other() -> Result<()> {
    let run = |quarantine: &str| -> Result<(usize, usize)> {
        let mut case = Case::v4().handshake(0.ms()).handshake_of(1, 0.ms());
        case =
            case.set("quarantine", quarantine).set("quarantine_after", "2").set("quarantine_epochs", "200");
        for step in 0..400 {
            let at = (20 + 10 * step).ms();
            case = case.p(at, same(step)).s(at, other(step));
            case = case.p(at, same(step).flow(1)).s(at, same(step).flow(1));
        }
        let lines = replay(&case)?;
        // Frames of the quiet flow that had to wait for a checkpoint: primary frames with odd numbers from 3 on.
        let waited = lines.iter().filter(|line| {
            line.1 == "release" && line.2 == "flush" && line.3.is_some_and(|frame| frame % 2 == 1)
        });
        Ok((times(&lines, "commit").len(), waited.count()))
    };
    let (checkpoints, waited) = run("false")?;
    let (fewer, still_waited) = run("true")?;
    assert!(checkpoints >= 35, "{checkpoints}: one each min_checkpoint_interval");
    assert!(fewer <= 13, "{fewer}: one each compare_timeout, for what is in quarantine");
    assert_eq!((waited, still_waited), (0, 0), "the other flow is matched all the time");
    Ok(())
}
