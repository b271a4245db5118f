//! The diverged file: what the witnesses saw, as pcapng with a comment on each frame. Control plane: it writes files. What
//! the comments mean to people is said by `explain`.

use std::path::{Path, PathBuf};

use pmd_tap::{CaptureError, CommentedFrame, Former, RotatingWriter, Rotation};
use serde::Serialize;

use crate::flow::FlowKey;
use crate::reason::DetailFields;
use crate::side::{BySide, Side};
use crate::verdict::Cause;
use crate::witness::{Note, RECORD_BYTES, Record};

/// What the comments call themselves, and the version of their keys.
pub(crate) const COMMENT_KIND: &str = "diverged";
pub(crate) const COMMENT_VERSION: u32 = 1;

/// The largest record with its comments and block headers.
const GROUP_BYTES: usize = RECORD_BYTES + 32 * 1024;

/// Where diverging frames go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DivergedSettings {
    /// The file; `None`: nowhere.
    pub path: Option<PathBuf>,
    /// How much is kept.
    pub rotation: Rotation,
}

impl Default for DivergedSettings {
    fn default() -> Self {
        Self { path: None, rotation: Rotation { max_bytes: 64 << 20, files: 4 } }
    }
}

/// The comment on a frame.
#[derive(Serialize)]
struct Comment<'a> {
    colo: &'static str,
    version: u32,
    record: u64,
    role: &'static str,
    side: &'static str,
    frame: u64,
    arrival_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a ReasonFields>,
}

/// Why a record was made: on its first frame.
#[derive(Serialize)]
struct ReasonFields {
    t_ns: u64,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    flow: Option<FlowKey>,
    frames: usize,
    left_out: Sides,
    detail: DetailFields,
}

#[derive(Serialize)]
struct Sides {
    primary: u32,
    secondary: u32,
}

/// Writes the text without making a string of it first.
#[expect(clippy::ref_option, reason = "serde calls it so")]
fn as_text<S: serde::Serializer>(flow: &Option<FlowKey>, serializer: S) -> Result<S::Ok, S::Error> {
    match flow {
        Some(flow) => serializer.collect_str(flow),
        None => serializer.serialize_none(),
    }
}

impl ReasonFields {
    fn new(cause: &Cause, record: &Record) -> Self {
        let BySide { primary, secondary } = record.left_out();
        Self {
            t_ns: cause.at.0,
            reason: cause.reason.label(),
            flow: cause.flow,
            frames: record.notes().len(),
            left_out: Sides { primary, secondary },
            detail: (&cause.detail).into(),
        }
    }
}

/// The file being written, and those before it.
#[derive(Debug)]
pub struct DivergedFile {
    writer: RotatingWriter,
    /// Unix time of the engine's time zero, nanoseconds.
    zero_unix_ns: u64,
    records: u64,
    comment: Vec<u8>,
}

impl DivergedFile {
    /// Makes the file.
    ///
    /// # Errors
    /// [`CaptureError::Create`].
    pub fn create(
        path: &Path,
        settings: &DivergedSettings,
        former: Former,
        zero_unix_ns: u64,
    ) -> Result<Self, CaptureError> {
        let application = concat!("colo ", env!("CARGO_PKG_VERSION"));
        let interfaces = Side::BOTH.map(Side::label);
        let mut writer = RotatingWriter::create(path, application, &interfaces, settings.rotation, former)?;
        writer.reserve(GROUP_BYTES);
        Ok(Self { writer, zero_unix_ns, records: 0, comment: Vec::with_capacity(4096) })
    }

    /// Records written.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Appends a record, in a new file if this one is full.
    ///
    /// # Errors
    /// [`CaptureError::Write`], [`CaptureError::Create`]: the record is lost, the file is whole, and the next one may
    /// be tried.
    pub fn write(&mut self, record: &Record) -> Result<(), CaptureError> {
        let Some(cause) = record.cause() else { return Ok(()) };
        let reason = ReasonFields::new(cause, record);
        for (place, note) in record.notes().iter().enumerate() {
            self.add(record, note, (place == 0).then_some(&reason));
        }
        self.writer.commit()?;
        self.records += 1;
        Ok(())
    }

    fn add(&mut self, record: &Record, note: &Note, reason: Option<&ReasonFields>) {
        let comment = Comment {
            colo: COMMENT_KIND,
            version: COMMENT_VERSION,
            record: self.records + 1,
            role: note.role.label(),
            side: note.side.label(),
            frame: note.ordinal,
            arrival_ns: note.arrival.0,
            reason,
        };
        self.comment.clear();
        // Numbers and words into memory: that does not fail.
        let _ = serde_json::to_writer(&mut self.comment, &comment);
        self.writer.add(&CommentedFrame {
            interface: match note.side {
                Side::Primary => 0,
                Side::Secondary => 1,
            },
            timestamp_ns: self.zero_unix_ns.saturating_add(note.arrival.0),
            bytes: record.bytes_of(note),
            original_len: note.len,
            comment: std::str::from_utf8(&self.comment).unwrap_or_default(),
        });
    }
}
