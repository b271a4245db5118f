//! Two runs of one conversation over the kernel's own TCP, recorded at the server, are the two sides of a pair: `colo
//! replay` must find them equal, frame by frame, and must find the one byte that a test altered.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use colo_tests::conversation::{CONNECTIONS, FLOWS, SERVER_PORT, capture};
use colo_tests::frame::{self, flag, protocol};
use colo_tests::netns::{Pair, Segmentation, require_root};
use colo_tests::recording::{alter, carriers, share_the_client};
use colo_tests::replayed::Replayed;
use colo_tests::sniff::Captured;

/// The recordings are of two moments, so one may lag the other by what the scheduler pleases; how long a frame is held
/// for it is not what these tests are about. A queue must hold one run's frames when the other lags a whole response.
const PATIENT: [&str; 8] = [
    "--set",
    "compare_timeout=60000",
    "--set",
    "max_held_frames=65536",
    "--set",
    "max_gso_frames=4096",
    "--set",
    "max_queue_size=65536",
];

struct Recordings {
    primary: Vec<Captured>,
    secondary: Vec<Captured>,
}

fn record(primary: Segmentation, secondary: Segmentation) -> Result<Recordings> {
    require_root()?;
    let primary = capture(primary).context("first run")?;
    let mut secondary = capture(secondary).context("second run")?;
    let flows = share_the_client(&primary, &mut secondary)?;
    ensure!(flows == FLOWS, "{flows} TCP flows recorded, {FLOWS} held");
    for (run, frames) in [("first", &primary), ("second", &secondary)] {
        let resets = frames.iter().filter(|captured| has_flag(captured, flag::RST)).count();
        ensure!(resets == 0, "{resets} resets in the {run} run: the conversation did not end in peace");
    }
    Ok(Recordings { primary, secondary })
}

fn has_flag(captured: &Captured, wanted: u8) -> bool {
    frame::layout(&captured.bytes)
        .is_some_and(|at| at.protocol == protocol::TCP && at.flags(&captured.bytes) & wanted != 0)
}

fn longest(frames: &[Captured]) -> usize {
    frames.iter().map(|captured| captured.bytes.len()).max().unwrap_or_default()
}

/// Replays an unaltered pair: everything leaves because it matched, and nothing asks for a checkpoint.
fn expect_equal(recordings: &Recordings) -> Result<()> {
    let Recordings { primary, secondary } = recordings;
    let replayed = Replayed::run(primary, secondary, &PATIENT)?;
    ensure!(replayed.requests.is_empty(), "requests: {:#?}", replayed.requests);
    replayed.check_books(primary, secondary)?;
    ensure!(replayed.held.is_empty(), "held at the end: {:?}", replayed.held);
    for (index, captured) in primary.iter().enumerate() {
        let is_ip = frame::layout(&captured.bytes).is_some();
        let why = replayed.released[&index].join(",");
        // What is neither TCP nor UDP here is ARP, ND and MLD: uncompared.
        let expected: &[&str] = if is_ip { &["matched", "ack"] } else { &["pass"] };
        ensure!(expected.contains(&why.as_str()), "primary frame {index} left for {why:?}");
    }
    Ok(())
}

#[test]
fn kernel_tcp_in_wire_segments_matches_itself() -> Result<()> {
    let recordings = record(Segmentation::Mss, Segmentation::Mss)?;
    assert_eq!(longest(&recordings.primary), 1_514, "GSO was to be off");
    expect_equal(&recordings)
}

#[test]
fn kernel_tcp_matches_a_secondary_with_super_frames() -> Result<()> {
    let recordings = record(Segmentation::Mss, Segmentation::Gso)?;
    assert!(longest(&recordings.secondary) > 20_000, "the kernel made no super-frames");
    expect_equal(&recordings)
}

#[test]
fn kernel_tcp_matches_a_primary_with_super_frames() -> Result<()> {
    let recordings = record(Segmentation::Gso, Segmentation::Mss)?;
    assert!(longest(&recordings.primary) > 20_000, "the kernel made no super-frames");
    expect_equal(&recordings)
}

#[test]
fn one_altered_byte_is_found_at_its_offset() -> Result<()> {
    // Inside the 1 MiB response.
    const OFFSET: u32 = 654_321;
    let port = CONNECTIONS[1].client_port;
    let mut recordings = record(Segmentation::Mss, Segmentation::Mss)?;
    let altered = alter(&mut recordings.secondary, port, OFFSET)?;
    let Recordings { primary, secondary } = &recordings;

    // Without a commit nothing hides the contradiction: one request, and the byte never leaves.
    let never = Replayed::run(primary, secondary, &[&PATIENT[..], &["--checkpoint-ms", "never"]].concat())?;
    never.check_books(primary, secondary)?;
    ensure!(never.requests.len() == 1, "one request, please: {:#?}", never.requests);
    let request = &never.requests[0];
    assert_eq!(request["reason"], "mismatch", "{request}");
    assert_eq!(
        request["flow"],
        format!("tcp {}:{SERVER_PORT} > {}:{port}", Pair::SERVER_V4, Pair::CLIENT_V4),
        "{request}"
    );
    let detail = &request["detail"];
    assert_eq!(detail["kind"], "payload", "{request}");
    assert_eq!(detail["offset"], OFFSET, "{request}");
    let frame_of = |name: &str| detail[name].as_u64().and_then(|frame| usize::try_from(frame).ok());
    let secondary_frame = frame_of("secondary_frame").context("no secondary_frame")?;
    ensure!(altered.contains(&secondary_frame), "frame {secondary_frame} is not of {altered:?}");
    let carrying: Vec<_> = carriers(primary, port, OFFSET).into_iter().map(|(index, _)| index).collect();
    let primary_frame = frame_of("primary_frame").context("no primary_frame")?;
    ensure!(carrying.contains(&primary_frame), "frame {primary_frame} is not of {carrying:?}");
    for index in carrying {
        ensure!(never.held.contains_key(&index), "frame {index}, which contains the byte, has left");
    }

    // With commits every primary frame leaves. The secondary is not restored, so what a commit dropped of it may be
    // missed later: that is a timeout, never a second mismatch.
    let commits = Replayed::run(primary, secondary, &PATIENT)?;
    commits.check_books(primary, secondary)?;
    ensure!(commits.held.is_empty(), "held after commits: {:?}", commits.held);
    ensure!(commits.requests_for("mismatch").len() == 1, "one mismatch: {:#?}", commits.requests);
    assert_eq!(commits.requests[0]["detail"]["offset"], OFFSET);
    Ok(())
}
