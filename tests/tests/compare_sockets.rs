//! `colo compare` between plain sockets: everything the primary sends comes out once, unchanged and in its flow's order,
//! nothing of the secondary does, and the engine's books say the same.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use colo_tests::frame::{Tcp4, flag};
use colo_tests::metrics::Scrape;
use colo_tests::netns::join;
use colo_tests::qemu_link::{Framing, Link};
use colo_tests::rig::{Books, Checkpoint, Dial, Rig, STEP_LIMIT, Setup, Transport};
use colo_tests::traffic::{Flow, Shape, identify};

/// 100,000 pairs.
const FULL: Shape = Shape { flows: 1_000, frames_per_flow: 100, seed: 20_260_101 };
/// 10,000 pairs.
const SMALL: Shape = Shape { flows: 200, frames_per_flow: 50, seed: 7 };
/// Primary frames written before the secondary's.
const CHUNK_FRAMES: usize = 256;
/// Primary frames on the way at most: more than a merging secondary keeps back of all flows, less than half of the
/// engine's budget, past which it would ask for a checkpoint.
const WINDOW_FRAMES: usize = 8_192;
/// Bound of one run's traffic, on a machine with other things to do.
const TRAFFIC_LIMIT: Duration = Duration::from_mins(2);
/// Nobody here is ever late on purpose; a slow machine must not look like it.
const PATIENT: &str = "--compare-timeout 60000 --poll adaptive";

/// Frames about to be sent, with their flows.
type Announced = Vec<(usize, Vec<u8>)>;

/// Sends a shape's traffic, alternating which side is first.
fn send(
    shape: &Shape,
    primary: &mut Link,
    secondary: &mut Link,
    released: &AtomicUsize,
    announce: &Sender<Announced>,
) -> Result<u64> {
    let mut flows: Vec<Flow> = (0..shape.flows).map(|index| Flow::new(shape, index)).collect();
    let deadline = Instant::now() + TRAFFIC_LIMIT;
    let (mut sent, mut secondary_frames) = (0, 0);
    for round in 0..shape.frames_per_flow {
        let mut rest = flows.iter_mut().enumerate();
        loop {
            let mut announced = Announced::new();
            let mut theirs = Vec::new();
            for (index, flow) in rest.by_ref().take(CHUNK_FRAMES) {
                let step = flow.step()?.context("a flow ended early")?;
                announced.push((index, step.primary));
                theirs.extend(step.secondary);
            }
            if announced.is_empty() {
                break;
            }
            while sent > released.load(Ordering::Acquire) + WINDOW_FRAMES {
                ensure!(Instant::now() < deadline, "{sent} sent, too few came out in {TRAFFIC_LIMIT:?}");
                std::thread::sleep(Duration::from_micros(200));
            }
            sent += announced.len();
            secondary_frames += theirs.len();
            announce.send(announced.clone()).context("the reader has gone")?;
            let ours = announced.iter().map(|(_, frame)| frame.as_slice());
            if round % 2 == 0 {
                primary.send(ours)?;
                secondary.send(theirs.iter().map(Vec::as_slice))?;
            } else {
                secondary.send(theirs.iter().map(Vec::as_slice))?;
                primary.send(ours)?;
            }
        }
    }
    Ok(u64::try_from(secondary_frames)?)
}

/// Reads what comes out; each frame must be the next one of its flow, to the byte.
fn check(
    total: usize,
    out: &mut Link,
    released: &AtomicUsize,
    announced: &Receiver<Announced>,
) -> Result<()> {
    let deadline = Instant::now() + TRAFFIC_LIMIT;
    let mut expected: HashMap<usize, VecDeque<Vec<u8>>> = HashMap::new();
    for count in 0..total {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(frame) = out.receive(left)? else {
            bail!("{count} of {total} frames came out within {TRAFFIC_LIMIT:?}");
        };
        for (flow, frame) in announced.try_iter().flatten() {
            expected.entry(flow).or_default().push_back(frame);
        }
        let (flow, place) = identify(&frame)?;
        let next = expected.get_mut(&flow).and_then(VecDeque::pop_front);
        let next = next.with_context(|| format!("flow {flow}: frame {place} came out unasked or twice"))?;
        ensure!(next == frame, "flow {flow}: frame {place} came out, due was {:?}", identify(&next)?);
        released.store(count + 1, Ordering::Release);
    }
    out.expect_silence(Duration::from_millis(200))
}

/// Sends a shape through a rig, checks what comes out, the metrics and the summary.
fn run(shape: &Shape, setup: &Setup<'_>) -> Result<()> {
    let mut rig = Rig::start(setup)?;
    let total = shape.flows * shape.frames_per_flow;
    let released = AtomicUsize::new(0);
    let (announce, announced) = channel();
    let (primary, secondary, out) = (&mut rig.primary, &mut rig.secondary, &mut rig.out);
    let (sent, checked) = std::thread::scope(|scope| {
        let released = &released;
        let sending = scope.spawn(move || send(shape, primary, secondary, released, &announce));
        let checked = check(total, out, released, &announced);
        // Lets a sender that still waits go on, to find that nobody listens any more.
        drop(announced);
        released.store(total, Ordering::Release);
        (join(sending), checked)
    });
    checked.with_context(|| format!("stderr: {}", rig.colo.stderr_so_far()))?;
    let secondary_frames = sent?;
    let total = u64::try_from(total)?;
    let books = rig.settled(|books| books.dropped_secondary == secondary_frames)?;
    let expected = Books {
        received_primary: total,
        received_secondary: secondary_frames,
        released: total,
        dropped_primary: 0,
        dropped_secondary: secondary_frames,
        held: 0,
        requested: 0,
        completed: 0,
        violations: 0,
    };
    assert_eq!(books, expected);
    rig.stop(&books)?;
    Ok(())
}

fn unix(arguments: &str) -> Setup<'_> {
    Setup {
        transport: Transport::Unix,
        dial: Dial::EngineListens,
        framing: Framing::Plain,
        checkpoint: Checkpoint::None,
        arguments,
    }
}

#[test]
fn one_worker_on_unix_sockets() -> Result<()> {
    run(&FULL, &unix("--workers 1 --compare-timeout 60000 --poll adaptive"))
}

#[test]
fn two_workers_on_unix_sockets() -> Result<()> {
    run(&FULL, &unix("--workers 2 --run-mode workers --compare-timeout 60000 --poll adaptive"))
}

#[test]
fn a_pipeline_on_unix_sockets() -> Result<()> {
    run(&FULL, &unix("--workers 2 --run-mode pipeline --compare-timeout 60000 --poll adaptive"))
}

#[test]
fn a_busy_worker_on_unix_sockets() -> Result<()> {
    run(&SMALL, &unix("--workers 1 --compare-timeout 60000 --poll busy"))
}

#[test]
fn tcp_sockets_listening() -> Result<()> {
    run(&SMALL, &Setup { transport: Transport::Tcp, ..unix(PATIENT) })
}

#[test]
fn tcp_sockets_connecting() -> Result<()> {
    run(&SMALL, &Setup { transport: Transport::Tcp, dial: Dial::EngineConnects, ..unix(PATIENT) })
}

#[test]
fn virtio_headers_go_through() -> Result<()> {
    run(&SMALL, &Setup { framing: Framing::Vnet, dial: Dial::EngineConnects, ..unix(PATIENT) })
}

/// Frames of one connection whose third segment differs: what both sides send, in order.
struct Differing {
    primary: Vec<Vec<u8>>,
    secondary: Vec<Vec<u8>>,
}

/// Primary's mark counts up, the secondary's has the top bit, so that a frame on the wrong side shows.
fn differing() -> Result<Differing> {
    let tcp = |sequence, flags, identification| Tcp4 {
        source: ([10, 0, 0, 1], 80),
        destination: ([10, 0, 0, 9], 4_242),
        sequence,
        ack: 500,
        flags,
        identification,
    };
    let side = |mark: u16, third: &[u8]| -> Result<Vec<Vec<u8>>> {
        Ok(vec![
            tcp(1_000, flag::SYN | flag::ACK, mark).frame(&[])?,
            tcp(1_001, flag::ACK, mark + 1).frame(b"first ten ")?,
            tcp(1_011, flag::ACK, mark + 2).frame(third)?,
            tcp(1_021, flag::ACK, mark + 3).frame(b"fourth ten")?,
        ])
    };
    Ok(Differing { primary: side(0, b"third ten ")?, secondary: side(0x8000, b"third TEN ")? })
}

fn notify_round_trip(setup: &Setup<'_>) -> Result<()> {
    let mut rig = Rig::start(setup)?;
    let mut notify = rig.notify.take().context("a notifier")?;
    let Differing { primary, secondary } = differing()?;

    notify.send_raw(&setup.framing.message("COLO_USERSPACE_PROXY_INIT")?)?;
    let answer = Framing::Plain.message("COLO_COMPARE_GET_XEN_INIT")?;
    let got = notify.receive_raw(answer.len(), STEP_LIMIT).context("the answer to INIT")?;
    assert_eq!(got, answer);
    notify.send_raw(&setup.framing.message("WHAT_IS_THIS")?)?;

    rig.primary.send(primary.iter().map(Vec::as_slice))?;
    rig.secondary.send(secondary.iter().map(Vec::as_slice))?;
    let request = b"\0\0\0\x0dDO_CHECKPOINT";
    let got = notify.receive_raw(request.len(), STEP_LIMIT).context("the request at the mismatch")?;
    assert_eq!(got, request);
    let equal = rig.out.receive_all(2, STEP_LIMIT).context("the equal frames")?;
    assert_eq!(equal, primary[..2]);
    rig.out.expect_silence(Duration::from_millis(300)).context("between request and commit")?;
    let books = rig.settled(|books| books.received_primary == 4 && books.received_secondary == 4)?;
    assert_eq!((books.released, books.requested, books.completed), (2, 1, 0), "{books:?}");

    notify.send_raw(&setup.framing.message("COLO_CHECKPOINT")?)?;
    let flushed = rig.out.receive_all(2, STEP_LIMIT).context("the flush")?;
    assert_eq!(flushed, primary[2..]);
    let books = rig.settled(|books| books.held == 0)?;
    assert_eq!((books.released, books.dropped_secondary, books.completed), (4, 4, 1), "{books:?}");

    // The secondary is the primary's copy now, so both go on at the same place and are compared again.
    let after = |mark, text: &[u8]| {
        Tcp4 {
            source: ([10, 0, 0, 1], 80),
            destination: ([10, 0, 0, 9], 4_242),
            sequence: 1_031,
            ack: 500,
            flags: flag::ACK,
            identification: mark,
        }
        .frame(text)
    };
    let next = after(4, b"and so on")?;
    rig.primary.send([next.as_slice()])?;
    rig.out.expect_silence(Duration::from_millis(100)).context("the new epoch is compared")?;
    rig.secondary.send([after(0x8004, b"and so on")?.as_slice()])?;
    assert_eq!(rig.out.receive_all(1, STEP_LIMIT)?, [next]);

    let books = rig.settled(|books| books.released == 5 && books.dropped_secondary == 5)?;
    assert_eq!((books.requested, books.completed, books.held), (1, 1, 0), "{books:?}");
    let page = Scrape::get(rig.metrics)?;
    assert_eq!(page.sum("colo_checkpoints_requested_total", &["reason=\"mismatch\""])?, 1);
    rig.stop(&books)?;
    Ok(())
}

#[test]
fn a_planted_difference_is_notified_and_flushed() -> Result<()> {
    notify_round_trip(&Setup { checkpoint: Checkpoint::Notify, ..unix(PATIENT) })
}

#[test]
fn a_planted_difference_under_virtio_framing() -> Result<()> {
    // One property in QEMU: it governs the frames and the messages to the comparer alike.
    notify_round_trip(&Setup {
        checkpoint: Checkpoint::Notify,
        framing: Framing::Vnet,
        dial: Dial::EngineConnects,
        ..unix("--compare-timeout 60000 --poll adaptive --set vnet_hdr_support=true")
    })
}
