//! QEMU's `notify_dev` as QEMU itself speaks it: its colo-compare object (without a guest) and `colo compare` are driven by
//! the same script, and what each puts on the notify link, and lets out, is the same to the byte.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Context, Result};
use colo_tests::frame::{Tcp4, flag};
use colo_tests::peer::comparer::Secondary;
use colo_tests::peer::{Comparer, Kind, Options};
use colo_tests::qemu_link::Framing;

/// Ends what hangs.
const STEP_LIMIT: Duration = Duration::from_secs(15);
/// How long nothing may come for it to count as nothing.
const QUIET: Duration = Duration::from_millis(300);
/// Nobody is late in these scripts: a request is a mismatch's.
const PATIENT: Duration = Duration::from_mins(1);
/// Between the two sides' frames, so that both comparers see them in one order.
const GAP: Duration = Duration::from_millis(20);

const DO_CHECKPOINT: &[u8] = b"\0\0\0\x0dDO_CHECKPOINT";
const GET_XEN_INIT: &[u8] = b"\0\0\0\x19COLO_COMPARE_GET_XEN_INIT";

/// What the outside got of one comparer.
#[derive(Debug, PartialEq, Eq)]
struct Transcript {
    /// Bytes on the notify link, by the step that they answer.
    notify: Vec<(&'static str, Vec<u8>)>,
    /// Frames on the output, likewise.
    out: Vec<(&'static str, Vec<Vec<u8>>)>,
}

/// A segment of the connection; the mark says whose it is.
fn segment(mark: u16, sequence: u32, flags: u8, text: &[u8]) -> Result<Vec<u8>> {
    let tcp = Tcp4 {
        source: ([10, 0, 0, 1], 80),
        destination: ([10, 0, 0, 9], 4_242),
        sequence,
        ack: 500,
        flags,
        identification: mark,
    };
    tcp.frame(text)
}

/// The same frame of both, the primary's first; or two that differ.
fn pair(comparer: &mut Comparer, frames: [&[u8]; 2]) -> Result<()> {
    comparer.primary.send([frames[0]])?;
    std::thread::sleep(GAP);
    comparer.secondary.as_mut().context("a secondary")?.send([frames[1]])
}

/// Two SYN/ACKs, an equal segment, INIT, a text nobody knows, a segment that differs, the commit, an equal segment.
fn script(kind: Kind, framing: Framing) -> Result<Transcript> {
    let options =
        Options { framing, compare_timeout: PATIENT, scan_cycle: PATIENT, secondary: Secondary::Connected };
    let mut comparer = Comparer::start(kind, &options)?;
    let mut heard = Transcript { notify: Vec::new(), out: Vec::new() };
    let same = |mark, sequence, flags, text: &[u8]| -> Result<[Vec<u8>; 2]> {
        Ok([segment(mark, sequence, flags, text)?, segment(mark | 0x8000, sequence, flags, text)?])
    };

    let [ours, theirs] = same(1, 1_000, flag::SYN | flag::ACK, b"")?;
    pair(&mut comparer, [&ours, &theirs])?;
    let [ours, theirs] = same(2, 1_001, flag::ACK, b"first ten ")?;
    pair(&mut comparer, [&ours, &theirs])?;
    heard.out.push(("equal", comparer.out.receive_all(2, STEP_LIMIT)?));

    comparer.tell("COLO_USERSPACE_PROXY_INIT")?;
    let answer = comparer.notify.receive_raw(GET_XEN_INIT.len(), STEP_LIMIT).context("the answer to INIT")?;
    heard.notify.push(("init", answer));
    comparer.tell("WHAT_IS_THIS")?;
    heard.notify.push(("unknown", comparer.notify.drain_raw(QUIET)?));

    let (ours, theirs) =
        (segment(3, 1_011, flag::ACK, b"next ten 1")?, segment(0x8003, 1_011, flag::ACK, b"next ten 2")?);
    pair(&mut comparer, [&ours, &theirs])?;
    let request = comparer.notify.receive_raw(DO_CHECKPOINT.len(), STEP_LIMIT).context("the request")?;
    heard.notify.push(("mismatch", [request, comparer.notify.drain_raw(QUIET)?].concat()));
    comparer.out.expect_silence(QUIET).context("between request and commit")?;

    comparer.tell("COLO_CHECKPOINT")?;
    heard.out.push(("commit", comparer.out.receive_all(1, STEP_LIMIT).context("the flush")?));
    heard.notify.push(("commit", comparer.notify.drain_raw(QUIET)?));

    let [ours, theirs] = same(4, 1_021, flag::ACK, b"and so on.")?;
    pair(&mut comparer, [&ours, &theirs])?;
    heard.out.push(("new epoch", comparer.out.receive_all(1, STEP_LIMIT).context("the new epoch")?));
    comparer.out.expect_silence(QUIET)?;
    heard.notify.push(("end", comparer.notify.drain_raw(QUIET)?));
    comparer.check_alive()?;
    Ok(heard)
}

fn expected() -> Result<Transcript> {
    let notify = [
        ("init", GET_XEN_INIT),
        ("unknown", b""),
        ("mismatch", DO_CHECKPOINT),
        ("commit", b""),
        ("end", b""),
    ];
    let out = vec![
        (
            "equal",
            vec![
                segment(1, 1_000, flag::SYN | flag::ACK, b"")?,
                segment(2, 1_001, flag::ACK, b"first ten ")?,
            ],
        ),
        ("commit", vec![segment(3, 1_011, flag::ACK, b"next ten 1")?]),
        ("new epoch", vec![segment(4, 1_021, flag::ACK, b"and so on.")?]),
    ];
    Ok(Transcript { notify: notify.map(|(step, bytes)| (step, bytes.to_vec())).to_vec(), out })
}

#[test]
fn both_say_the_documented_bytes() -> Result<()> {
    for kind in [Kind::Qemu, Kind::Colo] {
        assert_eq!(script(kind, Framing::Plain)?, expected()?, "{kind:?}");
    }
    Ok(())
}

#[test]
fn both_say_the_documented_bytes_under_virtio_framing() -> Result<()> {
    for kind in [Kind::Qemu, Kind::Colo] {
        assert_eq!(script(kind, Framing::Vnet)?, expected()?, "{kind:?}");
    }
    Ok(())
}

/// Requests that come while the secondary is silent, in the time of several of QEMU's scans.
fn overdue(kind: Kind) -> Result<usize> {
    let (compare_timeout, scan_cycle) = (Duration::from_millis(200), Duration::from_millis(100));
    let framing = Framing::Plain;
    let options = Options { framing, compare_timeout, scan_cycle, secondary: Secondary::Connected };
    let mut comparer = Comparer::start(kind, &options)?;
    comparer.primary.send([segment(1, 1_000, flag::SYN | flag::ACK, b"")?.as_slice()])?;
    let mut requests = 0;
    while let Some(text) = comparer.notify.receive(if requests == 0 { STEP_LIMIT } else { 3 * scan_cycle })? {
        assert_eq!(text, b"DO_CHECKPOINT");
        requests += 1;
        if requests == 3 {
            break;
        }
    }
    Ok(requests)
}

/// The one difference on this link: QEMU asks at each scan for as long as something is overdue, `colo` once, and again
/// when a second has passed without an answer.
#[test]
fn what_is_overdue_is_asked_for_by_qemu_at_each_scan() -> Result<()> {
    assert_eq!(overdue(Kind::Qemu)?, 3, "QEMU");
    assert_eq!(overdue(Kind::Colo)?, 1, "colo");
    Ok(())
}
