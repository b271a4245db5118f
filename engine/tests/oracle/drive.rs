//! Runs the engine in virtual time over made-up frames, and puts its events into the reference's words.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use colo_engine::checkpoint::LifecycleSettings;
use colo_engine::compare::CompareSettings;
use colo_engine::shard::ShardSettings;
use colo_engine::side::{BySide, Side};
use colo_engine::verdict::{Cause, Detail, MismatchKind};
use colo_engine::virtual_time::{Event, Input, Recorder, VirtualSettings, VirtualTime};
use etherparse::PacketHeaders;
use pmd_tap::{Frame, Nanos};

/// What happened, in words that the engine and the reference share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Commit,
    Release {
        frame: usize,
        why: &'static str,
    },
    /// It left with this window instead of its own, and nothing else of it was changed.
    Clamped {
        frame: usize,
        window: u16,
    },
    Drop {
        frame: usize,
        why: &'static str,
    },
    Request(Why),
    Held {
        side: Side,
        frame: usize,
    },
}

/// Why a checkpoint was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    Mismatch { kind: &'static str, offset: i64, primary: Option<usize>, secondary: Option<usize> },
    Timeout { side: Side, frame: usize },
    Bound(&'static str),
}

pub(crate) type Log = Vec<(u64, Verdict)>;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const COMPARE_TIMEOUT_NS: u64 = 400 * MS;
pub(crate) const WINDOW_GRACE_NS: u64 = 20 * MS;
pub(crate) const REORDER_GRACE_NS: u64 = 20 * MS;
pub(crate) const COMMIT_AFTER_NS: u64 = 5 * MS;

/// Settings with room for everything that is made up here.
pub(crate) fn settings(min_interval_ms: u64) -> VirtualSettings {
    VirtualSettings {
        shards: 1,
        shard: ShardSettings {
            compare: CompareSettings::default(),
            max_connections: 64,
            max_held_frames: 256,
            tick: Duration::from_millis(10),
        },
        lifecycle: LifecycleSettings {
            min_interval: Duration::from_millis(min_interval_ms),
            delay: Duration::ZERO,
            max_interval: None,
        },
        modes: colo_engine::modes::ModeSettings::default(),
        commit_after: Some(Duration::from_nanos(COMMIT_AFTER_NS)),
        max_gso_frames: 0,
        max_fragments: 64,
        checksums: colo_engine::rx::VerifyChecksums::Off,
    }
}

/// One side's frames, in order of time.
pub(crate) type Frames = VecDeque<(u64, Vec<u8>)>;

struct Made(Frames);

impl Input for Made {
    type Error = Infallible;

    fn next_time(&mut self) -> Result<Option<Nanos>, Infallible> {
        Ok(self.0.front().map(|(at_ns, _)| Nanos(*at_ns)))
    }

    fn take(&mut self) -> Result<Vec<u8>, Infallible> {
        Ok(self.0.pop_front().unwrap().1)
    }
}

struct Recorded {
    log: Log,
    /// The primary's frames as they came.
    primary: Vec<Vec<u8>>,
}

impl Recorded {
    /// The window that a frame left with, if it is another one than it came with. Its checksum must be right then.
    fn clamped(&self, frame: usize, left: &Frame) -> Option<u16> {
        let (before, after) = (&self.primary[frame], left.ethernet());
        if before == after {
            return None;
        }
        let at = window_at(before);
        let end = at + 4;
        assert_eq!((&before[..at], &before[end..]), (&after[..at], &after[end..]), "frame {frame}");
        assert_eq!(sum(&before[at..end]), sum(&after[at..end]), "frame {frame} left with a wrong checksum");
        Some(u16::from_be_bytes([after[at], after[at + 1]]))
    }
}

/// Where the window field of a segment or of its first fragment stands; the checksum is behind it.
fn window_at(ethernet: &[u8]) -> usize {
    let headers = PacketHeaders::from_ethernet_slice(ethernet).unwrap();
    let tags: usize = headers.link_exts.iter().map(etherparse::LinkExtHeader::header_len).sum();
    14 + tags + headers.net.unwrap().header_len() + 14
}

/// Bytes as the checksum counts them: a field may change if the checksum takes it back (RFC 1624 section 2).
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>() % 0xffff
}

impl Recorder for Recorded {
    type Error = Infallible;

    fn record(&mut self, at: Nanos, event: Event, left: Option<&Frame>) -> Result<(), Infallible> {
        let index = |ordinal: u64| usize::try_from(ordinal).unwrap();
        let verdict = match event {
            Event::Release { frame, why, .. } => {
                let frame = index(frame);
                if let Some(window) = self.clamped(frame, left.unwrap()) {
                    self.log.push((at.0, Verdict::Clamped { frame, window }));
                }
                Verdict::Release { frame, why: why.label() }
            }
            Event::Drop { frame, why } => Verdict::Drop { frame: index(frame), why: why.label() },
            Event::Request(cause) => Verdict::Request(why(&cause)),
            Event::Commit => Verdict::Commit,
            Event::Held { side, frame } => Verdict::Held { side, frame: index(frame) },
        };
        self.log.push((at.0, verdict));
        Ok(())
    }
}

fn why(cause: &Cause) -> Why {
    let index = |ordinal: u64| usize::try_from(ordinal).unwrap();
    match cause.detail {
        Detail::Mismatch { kind, offset, primary, secondary, .. } => Why::Mismatch {
            kind: MismatchKind::label(kind),
            offset,
            primary: primary.map(index),
            secondary: secondary.map(index),
        },
        Detail::Timeout { side, frame, .. } => Why::Timeout { side, frame: index(frame) },
        Detail::Bound { limit } => Why::Bound(limit),
        Detail::None => Why::Bound("none"),
    }
}

/// Runs the engine over both sides' frames.
pub(crate) fn engine(settings: VirtualSettings, frames: BySide<Frames>) -> Log {
    let mut engine = VirtualTime::new(settings).unwrap();
    let originals = frames.primary.iter().map(|(_, bytes)| bytes.clone()).collect();
    let mut recorded = Recorded { log: Log::new(), primary: originals };
    let inputs = BySide { primary: Made(frames.primary), secondary: Made(frames.secondary) };
    let Ok(()) = engine.run(inputs, &mut recorded);
    recorded.log
}
