//! The diverged file: what the witnesses saw, as pcapng with a comment on each frame. Control plane: it opens, writes
//! and rotates files. What the comments mean to people is said by `explain`.

use std::io;
use std::path::{Path, PathBuf};

use pmd_tap::{CaptureError, CommentedFrame, PcapngWriter};
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
    /// When to go on in a new file, bytes.
    pub max_bytes: u64,
    /// Files that are kept, the one being written included.
    pub files: usize,
}

impl Default for DivergedSettings {
    fn default() -> Self {
        Self { path: None, max_bytes: 64 << 20, files: 4 }
    }
}

/// What becomes of files that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// They belong to a service that ran before: they move on, as at a rotation.
    Keep,
    /// They are replaced, so that what is there afterwards is of this run alone.
    Replace,
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
    writer: PcapngWriter,
    path: PathBuf,
    max_bytes: u64,
    files: usize,
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
        let failed = |source| CaptureError::Create { path: path.to_owned(), source };
        let is_old = path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0);
        match former {
            Former::Keep if is_old => shift(path, settings.files).map_err(failed)?,
            Former::Keep => {}
            Former::Replace => remove_numbered(path, settings.files),
        }
        let mut writer = open(path)?;
        writer.reserve(GROUP_BYTES);
        Ok(Self {
            writer,
            path: path.to_owned(),
            max_bytes: settings.max_bytes,
            files: settings.files,
            zero_unix_ns,
            records: 0,
            comment: Vec::with_capacity(4096),
        })
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
        let over = self.writer.len().saturating_add(self.writer.pending()) > self.max_bytes;
        if over && !self.writer.is_empty() && self.writer.is_regular().unwrap_or(false) {
            self.rotate()?;
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

    fn rotate(&mut self) -> Result<(), CaptureError> {
        let (path, frames) = (self.path.clone(), self.records);
        let moved =
            shift(&self.path, self.files).map_err(|source| CaptureError::Write { path, frames, source });
        let next = moved.and_then(|()| open(&self.path));
        match next {
            Ok(mut next) => {
                next.reserve(GROUP_BYTES);
                next.take_group(&mut self.writer);
                self.writer = next;
                Ok(())
            }
            Err(error) => {
                self.writer.forget_group();
                Err(error)
            }
        }
    }
}

fn open(path: &Path) -> Result<PcapngWriter, CaptureError> {
    let application = concat!("colo ", env!("CARGO_PKG_VERSION"));
    PcapngWriter::create(path, application, &Side::BOTH.map(Side::label))
}

/// `d.pcapng` → `d.1.pcapng`: the name of the `age`th file before the current one.
fn numbered(path: &Path, age: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    match path.extension() {
        Some(extension) => path.with_file_name(format!("{stem}.{age}.{}", extension.to_string_lossy())),
        None => path.with_file_name(format!("{stem}.{age}")),
    }
}

/// Every file becomes one older; the oldest goes. With one file, that is the one.
fn shift(path: &Path, files: usize) -> io::Result<()> {
    for age in (1..files).rev() {
        let from = if age == 1 { path.to_owned() } else { numbered(path, age - 1) };
        match std::fs::rename(&from, numbered(path, age)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes what an earlier run left under the names of older files, if it is of the same kind.
fn remove_numbered(path: &Path, files: usize) {
    for age in 1..files {
        let old = numbered(path, age);
        if is_ours(&old) {
            // What cannot be removed is replaced, or stays.
            let _ = std::fs::remove_file(&old);
        }
    }
}

/// Whether a file begins as ours do.
fn is_ours(path: &Path) -> bool {
    use std::io::Read;
    let mut start = [0; 64];
    let mut file = match std::fs::File::open(path) {
        Ok(file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => file,
        _ => return false,
    };
    let got = file.read(&mut start).unwrap_or(0);
    start.get(..got).is_some_and(|start| start.windows(5).any(|word| word == b"colo "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_files_have_a_number_in_front_of_the_ending() {
        let name = |path: &str, age| numbered(Path::new(path), age).to_string_lossy().into_owned();
        assert_eq!(name("/tmp/d.pcapng", 1), "/tmp/d.1.pcapng");
        assert_eq!(name("d", 2), "d.2");
        assert_eq!(name("a.b/c.d.pcapng", 3), "a.b/c.d.3.pcapng");
    }

    #[test]
    fn only_files_of_ours_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.pcapng");
        std::fs::write(numbered(&path, 1), b"somebody's letter").unwrap();
        drop(open(&numbered(&path, 2)).unwrap());
        drop(DivergedFile::create(&path, &DivergedSettings::default(), Former::Replace, 0).unwrap());
        assert!(numbered(&path, 1).exists() && !numbered(&path, 2).exists());
    }

    #[test]
    fn what_a_service_left_moves_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.pcapng");
        let settings = DivergedSettings { files: 3, ..DivergedSettings::default() };
        for text in ["one", "two", "three", "four"] {
            std::fs::write(&path, text).unwrap();
            drop(DivergedFile::create(&path, &settings, Former::Keep, 0).unwrap());
        }
        let text = |age| std::fs::read_to_string(numbered(&path, age)).ok();
        assert_eq!([text(1), text(2), text(3)], [Some("four".to_owned()), Some("three".to_owned()), None]);
    }
}
