//! Plays a script to one comparer and records its answer. Times are real: a step is as late as the machine is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::comparer::{Comparer, Kind, Options, Secondary};
use super::record::{Record, Seen};
use crate::case::{Case, Ns, Side};
use crate::frame;
use crate::netns::join;
use crate::qemu_link::{Framing, Link};

/// Longest wait of a frame for its partner, in both comparers: the default of `colo`.
pub const COMPARE_TIMEOUT: Duration = Duration::from_millis(400);
/// QEMU's scans, as often as it makes sense.
const SCAN_CYCLE: Duration = Duration::from_millis(50);
/// From the last frame to the checkpoint, when nothing keeps the run.
const SETTLE: Duration = Duration::from_millis(650);
/// A request sooner than this after the last frame is not a timeout.
const LATE: Duration = Duration::from_millis(250);
/// From the checkpoint to the end.
const AFTER: Duration = Duration::from_millis(150);
const LOOK: Duration = Duration::from_millis(10);
/// The locally administered bit of the source address marks the secondary's TCP and UDP: nobody compares it there.
const MARK: (usize, u8) = (6, 0x02);

/// Something beside frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circumstance {
    /// Nothing.
    None,
    /// Nobody reads the output until this much after the start.
    LateReader(Duration),
    /// Nobody has connected as the secondary.
    NoSecondary,
    /// The output's reader goes before the first frame and comes back this much later.
    ReaderAway(Duration),
}

/// What both sides send and what happens around it.
#[derive(Debug, Clone)]
pub struct Script {
    /// The frames and their times.
    pub case: Case,
    /// Beside them.
    pub circumstance: Circumstance,
}

/// Frames of one side that are written at once.
struct Write {
    at: Ns,
    side: Side,
    frames: Vec<Vec<u8>>,
}

impl Script {
    /// Writes in order of time; what one side sends at one instant is one write.
    fn writes(&self) -> Vec<Write> {
        let mut writes: Vec<Write> = Vec::new();
        for side in [Side::Primary, Side::Secondary] {
            for sent in self.case.sent(side) {
                let mut bytes = sent.bytes.clone();
                if side == Side::Secondary && frame::layout(&bytes).is_some() {
                    bytes[MARK.0] ^= MARK.1;
                }
                match writes.last_mut() {
                    Some(write) if write.side == side && write.at == sent.at => write.frames.push(bytes),
                    _ => writes.push(Write { at: sent.at, side, frames: vec![bytes] }),
                }
            }
        }
        writes.sort_by_key(|write| write.at);
        writes
    }
}

/// Plays it to a new comparer of this kind.
///
/// # Errors
/// When the comparer cannot be started, ends, or does not take what it is sent.
pub fn play(kind: Kind, script: &Script) -> Result<Record> {
    let secondary = match script.circumstance {
        Circumstance::NoSecondary => Secondary::Absent,
        _ => Secondary::Connected,
    };
    let options = Options {
        framing: Framing::Plain,
        compare_timeout: COMPARE_TIMEOUT,
        scan_cycle: SCAN_CYCLE,
        secondary,
    };
    let mut comparer = Comparer::start(kind, &options)?;
    comparer.prove().with_context(|| format!("{kind:?}"))?;
    let seen = run(&mut comparer, script).with_context(|| format!("{kind:?}"))?;
    comparer.check_alive()?;
    let primary: Vec<&[u8]> =
        script.case.sent(Side::Primary).iter().map(|sent| sent.bytes.as_slice()).collect();
    let flows: Vec<_> = script.case.sent(Side::Primary).iter().map(|sent| sent.flow).collect();
    Ok(Record::new(&primary, &flows, &seen, LATE))
}

/// What came over a link, and when.
type Log = Vec<(Instant, Vec<u8>)>;

fn listen(link: &mut Link, over: &AtomicBool, from: Instant) -> Result<Log> {
    std::thread::sleep(from.saturating_duration_since(Instant::now()));
    let mut log = Log::new();
    loop {
        match link.receive(LOOK)? {
            Some(frame) => log.push((Instant::now(), frame)),
            None if over.load(Ordering::Acquire) => return Ok(log),
            None => {}
        }
    }
}

fn run(comparer: &mut Comparer, script: &Script) -> Result<Seen> {
    let begin = Instant::now();
    let reader_from = match script.circumstance {
        Circumstance::LateReader(after) => begin + after,
        _ => begin,
    };
    let message = comparer.framing.message("COLO_CHECKPOINT")?;
    if let Circumstance::ReaderAway(_) = script.circumstance {
        comparer.out.close()?;
    }
    let place = comparer.out_place().clone();
    let framing = comparer.framing;
    let Comparer { primary, secondary, out, notify, .. } = comparer;
    let over = AtomicBool::new(false);
    let told = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (over, told) = (&over, &told);
        let reader = scope.spawn(move || {
            if let Circumstance::ReaderAway(time) = script.circumstance {
                std::thread::sleep(time);
                *out = place.connect(framing)?;
            }
            listen(out, over, reader_from)
        });
        // The notifier's thread speaks, too: it alone has the link.
        let notifier = scope.spawn(move || -> Result<(Log, Instant)> {
            let log = listen(notify, told, begin)?;
            let commit = Instant::now();
            notify.send_raw(&message)?;
            Ok((log, commit))
        });
        let sent = send(script, primary, secondary.as_mut(), begin);
        let last = Instant::now();
        std::thread::sleep((reader_from.max(last) + SETTLE).saturating_duration_since(Instant::now()));
        told.store(true, Ordering::Release);
        let requests = join(notifier);
        std::thread::sleep(AFTER);
        over.store(true, Ordering::Release);
        let frames = join(reader)?;
        sent?;
        let (requests, commit) = requests?;
        let asked_after = requests.first().map(|(at, _)| at.saturating_duration_since(last));
        let (before, after) = frames.into_iter().partition::<Vec<_>, _>(|(at, _)| *at < commit);
        let bytes = |log: Log| log.into_iter().map(|(_, frame)| frame).collect();
        Ok(Seen { before: bytes(before), after: bytes(after), asked_after, requests: requests.len() })
    })
}

fn send(script: &Script, primary: &mut Link, mut secondary: Option<&mut Link>, begin: Instant) -> Result<()> {
    for write in script.writes() {
        wait_for(begin + Duration::from_nanos(write.at.0));
        let frames = write.frames.iter().map(Vec::as_slice);
        match (write.side, secondary.as_deref_mut()) {
            (Side::Primary, _) => primary.send(frames)?,
            (Side::Secondary, Some(link)) => link.send(frames)?,
            (Side::Secondary, None) => {}
        }
    }
    Ok(())
}

/// To the microsecond, as far as the machine allows.
fn wait_for(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    std::thread::sleep(left.saturating_sub(Duration::from_millis(1)));
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}
