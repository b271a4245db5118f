//! `colo compare` from captures into a capture: it compares what they hold and ends by itself.
#![forbid(unsafe_code)]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use colo_tests::process::Colo;
use colo_tests::traffic::{Flow, Shape, identify};
use pmd_tap::{Capture, CaptureWriter};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const SHAPE: Shape = Shape { flows: 50, frames_per_flow: 20, seed: 3 };

/// Which of the secondary's frames are in its capture.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secondary {
    Whole,
    /// Nothing of the last flow.
    WithoutOne,
}

fn write_captures(directory: &Path, secondary: Secondary) -> Result<usize> {
    let mut primary = CaptureWriter::create(directory.join("p.pcap"))?;
    let mut theirs = CaptureWriter::create(directory.join("s.pcap"))?;
    let mut flows: Vec<_> = (0..SHAPE.flows).map(|index| Flow::new(&SHAPE, index)).collect();
    for round in 0..SHAPE.frames_per_flow {
        for (index, flow) in flows.iter_mut().enumerate() {
            let step = flow.step()?.context("a flow ended early")?;
            let at = u64::try_from(round)? * 1_000_000;
            primary.write(at, &step.primary)?;
            if secondary == Secondary::Whole || index + 1 < SHAPE.flows {
                step.secondary.iter().try_for_each(|frame| theirs.write(at, frame))?;
            }
        }
    }
    primary.finish()?;
    theirs.finish()?;
    Ok(SHAPE.flows * SHAPE.frames_per_flow)
}

/// The summary, and how long the run took.
fn compare(directory: &Path, more: &[&str]) -> Result<(Value, Duration)> {
    let port = |name: &str| format!("pcap:{}", directory.join(name).display());
    let (primary, secondary, out) = (port("p.pcap"), port("s.pcap"), port("o.pcap"));
    let mut arguments = vec![
        "compare",
        "--primary-in",
        &primary,
        "--secondary-in",
        &secondary,
        "--out",
        &out,
        "--checkpoint",
        "none",
        "--metrics",
        "off",
        "--json",
    ];
    arguments.extend(more);
    let started = Instant::now();
    let finished = Colo::run(&arguments, LIMIT)?;
    finished.expect_code(0)?;
    Ok((serde_json::from_str(&finished.stdout)?, started.elapsed()))
}

/// Frames in the output, each flow's in order.
fn came_out(directory: &Path) -> Result<usize> {
    let mut capture = Capture::open(directory.join("o.pcap"))?;
    let mut next = vec![0; SHAPE.flows];
    let mut count = 0;
    while let Some(frame) = capture.next_frame()? {
        let (flow, place) = identify(&frame.bytes)?;
        ensure!(place == next[flow], "flow {flow}: frame {place} after {}", next[flow]);
        next[flow] += 1;
        count += 1;
    }
    Ok(count)
}

#[test]
fn equal_captures_end_with_everything_released() -> Result<()> {
    for layout in [["1", "workers"], ["2", "workers"], ["2", "pipeline"]] {
        let directory = tempfile::tempdir()?;
        let frames = write_captures(directory.path(), Secondary::Whole)?;
        let (summary, _) = compare(directory.path(), &["--workers", layout[0], "--run-mode", layout[1]])?;
        assert_eq!(came_out(directory.path())?, frames, "{layout:?}: {summary}");
        assert_eq!(summary["invariant_violations"], 0, "{layout:?}");
    }
    Ok(())
}

#[test]
fn what_has_no_partner_is_waited_for_until_its_checkpoint() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let frames = write_captures(directory.path(), Secondary::WithoutOne)?;
    let (summary, took) = compare(directory.path(), &["--compare-timeout", "300"])?;
    assert_eq!(came_out(directory.path())?, frames, "{summary}");
    assert!(summary["checkpoints"]["timeout"].as_u64() >= Some(1), "{summary}");
    assert!(took >= Duration::from_millis(300), "{took:?}");
    Ok(())
}

#[test]
fn a_command_takes_the_checkpoint() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let frames = write_captures(directory.path(), Secondary::WithoutOne)?;
    let asked = directory.path().join("asked");
    let command = format!(
        "checkpoint=exec:echo \"$COLO_REASON\" >> {}; echo paused; read word; test \"$word\" = go",
        asked.display()
    );
    let (summary, _) = compare(directory.path(), &["--compare-timeout", "300", "--set", &command])?;
    assert_eq!(came_out(directory.path())?, frames, "{summary}");
    let asked = std::fs::read_to_string(asked)?;
    assert!(asked.lines().all(|reason| reason == "timeout") && !asked.is_empty(), "{asked:?}");
    assert_eq!(summary["checkpoints_completed"].as_u64(), u64::try_from(asked.lines().count()).ok());
    Ok(())
}

#[test]
fn without_commits_it_ends_when_nothing_can_change() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let frames = write_captures(directory.path(), Secondary::WithoutOne)?;
    let more = ["--compare-timeout", "300", "--checkpoint-ms", "never"];
    let (summary, took) = compare(directory.path(), &more)?;
    assert_eq!(came_out(directory.path())?, frames - SHAPE.frames_per_flow, "{summary}");
    assert!(took >= Duration::from_millis(300), "{took:?}");
    Ok(())
}

#[test]
fn an_empty_capture_is_an_end_too() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for name in ["p.pcap", "s.pcap"] {
        CaptureWriter::create(directory.path().join(name))?.finish()?;
    }
    compare(directory.path(), &[])?;
    assert_eq!(came_out(directory.path())?, 0);
    Ok(())
}

#[test]
fn a_capture_has_what_crosses_and_faults_happen_as_asked() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let frames = write_captures(directory.path(), Secondary::Whole)?;
    let (plain, _) = compare(directory.path(), &[])?;
    let file = directory.path().join("c.pcapng");
    let capture = file.to_str().context("a strange path")?;
    let (twice, _) =
        compare(directory.path(), &["--capture", capture, "--fault", "secondary:duplicate=1,seed=7"])?;
    let count = |summary: &Value, side: &str| summary["frames"][side].as_u64().unwrap_or(0);
    assert_eq!(count(&twice, "secondary"), 2 * count(&plain, "secondary"), "{twice}");
    assert_eq!(count(&twice, "primary"), count(&plain, "primary"), "{twice}");
    assert_eq!(came_out(directory.path())?, frames, "{twice}");
    let crossed = count(&twice, "primary") + count(&twice, "secondary") + u64::try_from(frames)?;
    let mut captured = 0;
    let mut reader = Capture::open(&file)?;
    while reader.next_frame()?.is_some() {
        captured += 1;
    }
    assert_eq!(captured, crossed, "each frame once, where it crossed: {twice}");

    let (lossy, _) =
        compare(directory.path(), &["--fault", "primary:drop=1", "--fault", "secondary:drop=1"])?;
    assert_eq!((count(&lossy, "primary"), count(&lossy, "secondary")), (0, 0), "{lossy}");
    Ok(())
}

#[test]
fn a_mistake_in_a_fault_is_one_sentence() -> Result<()> {
    let arguments = ["compare", "--fault", "primary:drop=2", "--checkpoint", "none"];
    let finished = Colo::run(arguments, LIMIT)?;
    finished.expect_code(2)?;
    ensure!(finished.stderr.contains("drop=2 is no share from 0 to 1"), "{}", finished.stderr);
    ensure!(finished.stderr.trim().lines().count() == 1, "{}", finished.stderr);
    Ok(())
}
