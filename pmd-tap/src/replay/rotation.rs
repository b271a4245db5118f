//! A pcapng file that goes on in a new one when it is full: the full one gets a number, and the oldest goes. What is in the
//! frames, and when a group of them is whole, is the caller's business.

use std::io;
use std::path::{Path, PathBuf};

use super::{CaptureError, CommentedFrame, PcapngWriter};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// When to go on in a new file, bytes.
    pub max_bytes: u64,
    /// Files that are kept, the one being written included.
    pub files: usize,
}

/// What becomes of files that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// They belong to a service that ran before: they move on, as at a rotation.
    Keep,
    /// They are replaced, so that what is there afterwards is of this run alone.
    Replace,
}

/// The file being written, and those before it: `d.1.pcapng` is younger than `d.2.pcapng`.
#[derive(Debug)]
pub struct RotatingWriter {
    writer: PcapngWriter,
    path: PathBuf,
    application: String,
    interfaces: Vec<String>,
    rotation: Rotation,
    /// Memory for a group, bytes.
    group: usize,
}

impl RotatingWriter {
    /// Makes the file; see [`PcapngWriter::create`]. `application` begins with a word and a space, by which files of former
    /// runs are known.
    ///
    /// # Errors
    /// [`CaptureError::Create`].
    pub fn create(
        path: impl AsRef<Path>,
        application: &str,
        interfaces: &[&str],
        rotation: Rotation,
        former: Former,
    ) -> Result<Self, CaptureError> {
        let path = path.as_ref().to_owned();
        let failed = |source| CaptureError::Create { path: path.clone(), source };
        let is_old = path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0);
        match former {
            Former::Keep if is_old => shift(&path, rotation.files).map_err(failed)?,
            Former::Keep => {}
            Former::Replace => remove_numbered(&path, rotation.files, application),
        }
        let writer = PcapngWriter::create(&path, application, interfaces)?;
        let interfaces = interfaces.iter().map(|&name| name.to_owned()).collect();
        Ok(Self { writer, path, application: application.to_owned(), interfaces, rotation, group: 0 })
    }

    /// Takes the memory for groups of so many bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.group = bytes;
        self.writer.reserve(bytes);
    }

    /// Collects a frame.
    pub fn add(&mut self, frame: &CommentedFrame<'_>) {
        self.writer.add(frame);
    }

    /// Bytes of the group so far.
    pub fn pending(&self) -> u64 {
        self.writer.pending()
    }

    /// The file being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the group, in a new file if this one is full. Devices and pipes are never full.
    ///
    /// # Errors
    /// [`CaptureError::Write`], [`CaptureError::Create`]: the group is lost, the file is whole, and the next one may be
    /// tried.
    pub fn commit(&mut self) -> Result<(), CaptureError> {
        let over = self.writer.len().saturating_add(self.writer.pending()) > self.rotation.max_bytes;
        if over && !self.writer.is_empty() && self.writer.is_regular().unwrap_or(false) {
            self.rotate()?;
        }
        self.writer.commit()
    }

    fn rotate(&mut self) -> Result<(), CaptureError> {
        let moved = shift(&self.path, self.rotation.files).map_err(|source| CaptureError::Write {
            path: self.path.clone(),
            frames: self.writer.frames(),
            source,
        });
        let interfaces: Vec<_> = self.interfaces.iter().map(String::as_str).collect();
        let next = moved.and_then(|()| PcapngWriter::create(&self.path, &self.application, &interfaces));
        match next {
            Ok(mut next) => {
                next.reserve(self.group);
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
fn remove_numbered(path: &Path, files: usize, application: &str) {
    for age in 1..files {
        let old = numbered(path, age);
        if is_of(&old, application) {
            // What cannot be removed is replaced, or stays.
            let _ = std::fs::remove_file(&old);
        }
    }
}

/// Whether a file begins as those of this application do, whatever its version.
fn is_of(path: &Path, application: &str) -> bool {
    use std::io::Read;
    let name = application.split_inclusive(' ').next().unwrap_or_default().as_bytes();
    let mut start = [0; 64];
    let mut file = match std::fs::File::open(path) {
        Ok(file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => file,
        _ => return false,
    };
    let got = file.read(&mut start).unwrap_or(0);
    !name.is_empty()
        && start.get(..got).is_some_and(|start| start.windows(name.len()).any(|word| word == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Capture;

    const ROTATION: Rotation = Rotation { max_bytes: 1_000, files: 3 };

    fn create(path: &Path, former: Former) -> RotatingWriter {
        RotatingWriter::create(path, "colo 1", &["a"], ROTATION, former).unwrap()
    }

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
        drop(PcapngWriter::create(numbered(&path, 2), "colo 0.1", &[]).unwrap());
        drop(create(&path, Former::Replace));
        assert!(numbered(&path, 1).exists() && !numbered(&path, 2).exists());
    }

    #[test]
    fn what_a_service_left_moves_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.pcapng");
        for text in ["one", "two", "three", "four"] {
            std::fs::write(&path, text).unwrap();
            drop(create(&path, Former::Keep));
        }
        let text = |age| std::fs::read_to_string(numbered(&path, age)).ok();
        assert_eq!([text(1), text(2), text(3)], [Some("four".to_owned()), Some("three".to_owned()), None]);
    }

    #[test]
    fn a_full_file_is_followed_by_another_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.pcapng");
        let mut writer = create(&path, Former::Keep);
        for number in 0..10 {
            let bytes = [number; 300];
            for interface in [0, 0] {
                let timestamp_ns = number.into();
                let original_len = bytes.len();
                writer.add(&CommentedFrame {
                    interface,
                    timestamp_ns,
                    bytes: &bytes,
                    original_len,
                    comment: "",
                });
            }
            writer.commit().unwrap();
        }
        let first_bytes = |path: &Path| -> Vec<u8> {
            Capture::open(path).unwrap().map(|frame| frame.unwrap().bytes[0]).collect()
        };
        // One group a file: two would be more than 1,000 bytes, and a group is never cut.
        let kept = [path.clone(), numbered(&path, 1), numbered(&path, 2)].map(|path| first_bytes(&path));
        assert_eq!(kept, [[9, 9], [8, 8], [7, 7]]);
        assert!(!numbered(&path, 3).exists());
        assert!(path.metadata().unwrap().len() <= ROTATION.max_bytes);
    }
}
