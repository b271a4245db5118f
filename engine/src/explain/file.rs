//! A diverged file back into records: comments parsed, frames decoded, what belongs together put together.

use std::path::{Path, PathBuf};

use pmd_tap::{Capture, CaptureError, CapturedFrame};
use serde::Deserialize;
use serde_json::Value;

use super::decode::Decoded;
use crate::diverged::{COMMENT_KIND, COMMENT_VERSION};
use crate::side::{BySide, Side};

/// Why a file cannot be explained. Each message is the sentence that the user reads.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// It is no capture, or one that cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A capture of somebody else.
    #[error(
        "{} is a capture without colo's comments; give colo explain a file that --diverged has written",
        path.display()
    )]
    NotOurs {
        /// Which file.
        path: PathBuf,
    },
    /// Written by another version.
    #[error("{} has comments of version {version}, this colo reads {COMMENT_VERSION}; use the colo that wrote it", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// Nothing happened.
    #[error("{} has no record: the sides did not differ while it was written", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
}

/// What a file says.
#[derive(Debug)]
pub struct Explained {
    /// The file.
    pub path: PathBuf,
    /// Its records, in the order of the file.
    pub records: Vec<Entry>,
    /// What is wrong with its end, if anything.
    pub cut: Option<String>,
}

/// One record.
#[derive(Debug)]
pub struct Entry {
    pub(super) number: u64,
    pub(super) reason: Opening,
    pub(super) detail: Known,
    pub(super) frames: Vec<Frame>,
}

impl Entry {
    /// Its number: 1 for the first that was ever written in that run.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The frames of a side, those that differ first.
    pub(super) fn of(&self, side: Side) -> impl Iterator<Item = &Frame> {
        let differing = self.frames.iter().filter(move |one| one.side == side && one.role.is_named());
        differing.chain(self.frames.iter().filter(move |one| one.side == side && !one.role.is_named()))
    }

    /// The frame of a side that the reason names.
    pub(super) fn named(&self, side: Side) -> Option<&Frame> {
        let number = match side {
            Side::Primary => self.detail.primary_frame,
            Side::Secondary => self.detail.secondary_frame,
        }?;
        self.frames.iter().find(|one| one.side == side && one.number == number)
    }

    /// Where a side stood.
    pub(super) fn state(&self, side: Side) -> State {
        let state = match side {
            Side::Primary => &self.detail.primary,
            Side::Secondary => &self.detail.secondary,
        };
        state.clone().unwrap_or_default()
    }

    /// Whether the flow is compared by stream position.
    pub(super) fn is_stream(&self) -> bool {
        Side::BOTH.iter().any(|side| self.state(*side).zero.is_some())
            || self.frames.iter().any(|one| one.decoded.tcp.is_some())
    }

    /// The stream offset of a frame's first payload byte, or 0 for a datagram.
    pub(super) fn offset_of(&self, frame: &Frame) -> Option<i64> {
        let Some(tcp) = &frame.decoded.tcp else { return Some(0) };
        if tcp.is_syn() {
            // Whatever space the side counts in, the stream begins behind it.
            return Some(0);
        }
        let state = self.state(frame.side);
        let (zero, next) = (state.zero?, state.next?);
        let low = u32::try_from(next.rem_euclid(1 << 32)).unwrap_or(0);
        let past = tcp.seq.wrapping_sub(zero).wrapping_sub(low).cast_signed();
        Some(next + i64::from(past))
    }

    /// The byte of a frame at an offset.
    pub(super) fn byte_at(&self, frame: &Frame, offset: i64) -> Option<u8> {
        let place = usize::try_from(offset.checked_sub(self.offset_of(frame)?)?).ok()?;
        frame.payload().get(place).copied()
    }

    /// A side's byte at an offset, in whichever of its frames it is.
    pub(super) fn byte_of(&self, side: Side, offset: i64) -> Option<u8> {
        if !self.is_stream() {
            return self.named(side).and_then(|frame| self.byte_at(frame, offset));
        }
        self.of(side).find_map(|frame| self.byte_at(frame, offset))
    }
}

/// A frame of a record.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) side: Side,
    pub(super) role: Role,
    pub(super) number: u64,
    pub(super) arrival_ns: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) len: u32,
    pub(super) decoded: Decoded,
}

impl Frame {
    /// What is compared of it.
    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(self.decoded.payload.clone()).unwrap_or(&[])
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    Held,
    Differs,
    Waits,
    After,
}

impl Role {
    pub(super) fn is_named(self) -> bool {
        matches!(self, Self::Differs | Self::Waits)
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Differs => "differs",
            Self::Waits => "waits",
            Self::After => "after",
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sender {
    Primary,
    Secondary,
}

#[derive(Debug, Deserialize)]
struct Comment {
    record: u64,
    role: Role,
    side: Sender,
    frame: u64,
    arrival_ns: u64,
    reason: Option<Opening>,
}

/// Why a record was made: what its first frame says.
#[derive(Debug, Deserialize)]
pub(super) struct Opening {
    pub(super) t_ns: u64,
    pub(super) reason: String,
    pub(super) flow: Option<String>,
    pub(super) frames: usize,
    pub(super) left_out: LeftOut,
    pub(super) detail: Value,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct LeftOut {
    pub(super) primary: u32,
    pub(super) secondary: u32,
}

impl From<LeftOut> for BySide<u32> {
    fn from(left_out: LeftOut) -> Self {
        Self { primary: left_out.primary, secondary: left_out.secondary }
    }
}

/// What the detail says, as far as sentences need it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Known {
    pub(super) kind: Option<String>,
    pub(super) offset: Option<i64>,
    pub(super) primary_frame: Option<u64>,
    pub(super) secondary_frame: Option<u64>,
    pub(super) waits_for: Option<String>,
    pub(super) rule: Option<u32>,
    primary: Option<State>,
    secondary: Option<State>,
}

/// Where a side stood.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) zero: Option<u32>,
    pub(super) next: Option<i64>,
    pub(super) top: Option<i64>,
    pub(super) ack: Option<u32>,
    pub(super) edge: Option<u32>,
    pub(super) held: u32,
    pub(super) oldest_held_ns: Option<u64>,
}

/// Reads a diverged file.
///
/// # Errors
/// Every [`ExplainError`]. A file whose end is missing is read as far as it is whole.
pub fn read(path: &Path) -> Result<Explained, ExplainError> {
    let mut capture = Capture::open(path)?;
    let mut records: Vec<Entry> = Vec::new();
    let mut frames = 0_u64;
    let cut = loop {
        match capture.next_frame() {
            Ok(Some(frame)) => {
                frames += 1;
                add(&mut records, path, frame)?;
            }
            Ok(None) => break None,
            Err(error) if records.is_empty() => return Err(error.into()),
            Err(error) => break Some(error.to_string()),
        }
    };
    if frames == 0 {
        return Err(if is_made_by_us(path) {
            ExplainError::Empty { path: path.to_owned() }
        } else {
            ExplainError::NotOurs { path: path.to_owned() }
        });
    }
    Ok(Explained { path: path.to_owned(), records, cut })
}

/// Puts a frame where it belongs.
fn add(records: &mut Vec<Entry>, path: &Path, frame: CapturedFrame) -> Result<(), ExplainError> {
    let not_ours = || ExplainError::NotOurs { path: path.to_owned() };
    let comment: Value =
        frame.comment.as_deref().and_then(|text| serde_json::from_str(text).ok()).ok_or_else(not_ours)?;
    if comment["colo"] != COMMENT_KIND {
        return Err(not_ours());
    }
    match comment["version"].as_u64().and_then(|version| u32::try_from(version).ok()) {
        Some(COMMENT_VERSION) => {}
        Some(version) => return Err(ExplainError::Version { path: path.to_owned(), version }),
        None => return Err(not_ours()),
    }
    let comment: Comment = serde_json::from_value(comment).map_err(|_| not_ours())?;
    // The first frame of a record says what the record is about.
    let record = || records.last().filter(|record| record.number == comment.record);
    let reason = comment.reason.as_ref().or_else(|| record().map(|record| &record.reason));
    let decoded = Decoded::new(&frame.bytes, reason.and_then(|reason| reason.flow.as_deref()));
    let frame = Frame {
        side: match comment.side {
            Sender::Primary => Side::Primary,
            Sender::Secondary => Side::Secondary,
        },
        role: comment.role,
        number: comment.frame,
        arrival_ns: comment.arrival_ns,
        len: frame.original_len,
        decoded,
        bytes: frame.bytes,
    };
    if let Some(reason) = comment.reason {
        let detail = serde_json::from_value(reason.detail.clone()).unwrap_or_default();
        records.push(Entry { number: comment.record, reason, detail, frames: vec![frame] });
    } else {
        let record = records.last_mut().filter(|record| record.number == comment.record);
        record.ok_or_else(not_ours)?.frames.push(frame);
    }
    Ok(())
}

/// Whether a file without frames says that colo wrote it.
fn is_made_by_us(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| {
        bytes.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) && bytes.windows(5).any(|word| word == b"colo ")
    })
}
