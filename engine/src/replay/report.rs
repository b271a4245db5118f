//! What a replay leaves behind: verdict lines, released frames, a summary.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use pmd_tap::{CaptureWriter, Frame, Nanos};
use serde::Serialize;

use super::ReplayError;
use crate::diverged::DivergedFile;
use crate::reason::DetailFields;
use crate::side::{BySide, Side};
use crate::verdict::{Cause, Discard, Reason, Release};
use crate::virtual_time::{Event, Recorder, VirtualTime};
use crate::witness::Record;

/// Writes down what happens, and counts it.
pub(super) struct Report {
    start_ns: u64,
    released: Option<CaptureWriter>,
    verdicts: Option<(PathBuf, BufWriter<File>)>,
    diverged: Option<DivergedFile>,
    held_ns: Vec<u64>,
    releases: BTreeMap<&'static str, u64>,
    drops: BTreeMap<&'static str, u64>,
    requests: BTreeMap<&'static str, u64>,
    held: BySide<u64>,
}

/// What came of a replay.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Frames in the captures.
    pub frames: Sides,
    /// Primary frames that left.
    pub released: u64,
    /// Why they left.
    pub released_by: BTreeMap<&'static str, u64>,
    /// Secondary frames that were dropped.
    pub dropped: u64,
    /// Why they were dropped.
    pub dropped_by: BTreeMap<&'static str, u64>,
    /// Primary frames that left with a lower window.
    pub window_clamped: u64,
    /// Primary frames still held at the end.
    pub held: u64,
    /// Secondary frames still held at the end.
    pub held_secondary: u64,
    /// Checkpoints asked for, by reason.
    pub checkpoints: BTreeMap<&'static str, u64>,
    /// Contradictions found, those included that another request answered.
    pub mismatches: u64,
    /// Frames with a wrong checksum, which are compared like any other; 0 unless they are counted.
    pub bad_checksums: Sides,
    /// Differences that payload masks forgave.
    pub masked_differences: u64,
    /// How long released frames were held, nanoseconds, nearest rank.
    pub release_latency_ns: Latency,
}

/// A number for each side.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sides {
    /// The primary's.
    pub primary: u64,
    /// The secondary's.
    pub secondary: u64,
}

/// Percentiles, nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half of the frames left at least so soon.
    pub p50: u64,
    /// 99 of 100 frames left at least so soon.
    pub p99: u64,
    /// All frames left at least so soon.
    pub max: u64,
}

#[derive(Serialize)]
struct ReleaseLine {
    t_ns: u64,
    event: &'static str,
    frame: u64,
    why: &'static str,
    held_ns: u64,
}

#[derive(Serialize)]
struct DropLine {
    t_ns: u64,
    event: &'static str,
    frame: u64,
    why: &'static str,
}

#[derive(Serialize)]
struct RequestLine {
    t_ns: u64,
    event: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<String>,
    detail: DetailFields,
}

#[derive(Serialize)]
struct CommitLine {
    t_ns: u64,
    event: &'static str,
}

#[derive(Serialize)]
struct HeldLine {
    event: &'static str,
    frame: u64,
}

/// The word of the replay contract: it has five, and a frame for which there was no room is out of date by the commit
/// that its flow waits for.
fn drop_word(why: Discard) -> &'static str {
    match why {
        Discard::OverBudget => Discard::Stale.label(),
        why => why.label(),
    }
}

impl Report {
    pub(super) fn new(
        start_ns: u64,
        released: Option<CaptureWriter>,
        verdicts: Option<(PathBuf, BufWriter<File>)>,
        diverged: Option<DivergedFile>,
    ) -> Self {
        let words = |words: &[&'static str]| words.iter().map(|word| (*word, 0)).collect();
        Self {
            start_ns,
            released,
            verdicts,
            diverged,
            held_ns: Vec::new(),
            releases: words(&Release::ALL.map(Release::label)),
            drops: words(&Discard::ALL.map(drop_word)),
            requests: words(&Reason::ALL.map(Reason::label)),
            held: BySide::default(),
        }
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), ReplayError> {
        let Some((path, file)) = &mut self.verdicts else { return Ok(()) };
        serde_json::to_writer(&mut *file, line)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(|source| ReplayError::Verdicts { path: path.clone(), source })
    }

    fn request(&mut self, t_ns: u64, cause: Cause) -> Result<(), ReplayError> {
        let reason = cause.reason.label();
        *self.requests.entry(reason).or_default() += 1;
        let flow = cause.flow.map(|flow| flow.to_string());
        self.write(&RequestLine { t_ns, event: "request", reason, flow, detail: (&cause.detail).into() })
    }

    pub(super) fn finish(mut self, engine: &VirtualTime) -> Result<Summary, ReplayError> {
        if let Some(writer) = self.released.take() {
            writer.finish()?;
        }
        if let Some((path, mut file)) = self.verdicts.take() {
            file.flush().map_err(|source| ReplayError::Verdicts { path, source })?;
        }
        let (received, bad) = (engine.received(), engine.bad_checksums());
        self.held_ns.sort_unstable();
        let rank = |percent: usize| {
            let rank = (self.held_ns.len() * percent).div_ceil(100).saturating_sub(1);
            self.held_ns.get(rank).copied().unwrap_or(0)
        };
        Ok(Summary {
            frames: Sides { primary: received.primary, secondary: received.secondary },
            released: self.releases.values().sum(),
            dropped: self.drops.values().sum(),
            window_clamped: engine.window_clamped(),
            held: self.held.primary,
            held_secondary: self.held.secondary,
            release_latency_ns: Latency { p50: rank(50), p99: rank(99), max: rank(100) },
            released_by: self.releases,
            dropped_by: self.drops,
            checkpoints: self.requests,
            mismatches: engine.mismatches(),
            bad_checksums: Sides { primary: bad.primary, secondary: bad.secondary },
            masked_differences: engine.forgiven(),
        })
    }
}

impl Recorder for Report {
    type Error = ReplayError;

    fn record(&mut self, at: Nanos, event: Event, released: Option<&Frame>) -> Result<(), ReplayError> {
        let t_ns = at.0;
        match event {
            Event::Release { frame, why, held } => {
                let held_ns = u64::try_from(held.as_nanos()).unwrap_or(u64::MAX);
                self.held_ns.push(held_ns);
                *self.releases.entry(why.label()).or_default() += 1;
                if let (Some(writer), Some(frame)) = (&mut self.released, released) {
                    writer.write(self.start_ns.saturating_add(t_ns), frame.ethernet())?;
                }
                self.write(&ReleaseLine { t_ns, event: "release", frame, why: why.label(), held_ns })
            }
            Event::Drop { frame, why } => {
                *self.drops.entry(drop_word(why)).or_default() += 1;
                self.write(&DropLine { t_ns, event: "drop", frame, why: drop_word(why) })
            }
            Event::Request(cause) => self.request(t_ns, cause),
            Event::Commit => self.write(&CommitLine { t_ns, event: "commit" }),
            Event::Held { side, frame } => {
                self.held[side] += 1;
                let event = match side {
                    Side::Primary => "held",
                    Side::Secondary => "held_secondary",
                };
                self.write(&HeldLine { event, frame })
            }
        }
    }

    fn witnessed(&mut self, record: &Record) -> Result<(), ReplayError> {
        Ok(self.diverged.as_mut().map_or(Ok(()), |file| file.write(record))?)
    }
}

impl Summary {
    /// For people.
    pub fn to_text(&self) -> String {
        let line = |counts: &BTreeMap<&'static str, u64>| {
            let parts: Vec<_> =
                counts.iter().filter(|(_, n)| **n > 0).map(|(word, n)| format!("{n} {word}")).collect();
            if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
        };
        let Sides { primary, secondary } = self.frames;
        let Latency { p50, p99, max } = self.release_latency_ns;
        let nanos = std::time::Duration::from_nanos;
        format!(
            "frames       {primary} primary, {secondary} secondary\n\
             released     {} ({})\n\
             dropped      {} ({})\n\
             held         {} primary, {} secondary\n\
             checkpoints  {}\n\
             held for     p50 {:?}, p99 {:?}, max {:?}",
            self.released,
            line(&self.released_by),
            self.dropped,
            line(&self.dropped_by),
            self.held,
            self.held_secondary,
            line(&self.checkpoints),
            nanos(p50),
            nanos(p99),
            nanos(max),
        )
    }
}
