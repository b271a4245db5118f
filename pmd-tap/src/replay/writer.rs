//! A pcap file being written: nanoseconds, Ethernet, little-endian.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{CaptureError, LINK_TYPE_ETHERNET, NANOS_PER_SECOND};
use crate::MAX_FRAME_BYTES;

/// Bytes collected before they are written.
const WRITE_BYTES: usize = 128 * 1024;
/// Magic number of nanosecond pcap (draft-ietf-opsawg-pcap, section 4).
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
const SNAP_LEN: u32 = 262_144;

/// Writes frames to a new pcap file, replacing what is there.
///
/// Dropping it writes the rest too, but only [`finish`](Self::finish) can say that it failed.
#[derive(Debug)]
pub struct CaptureWriter {
    file: BufWriter<File>,
    path: PathBuf,
    frames: u64,
}

impl CaptureWriter {
    /// Makes the file and writes its header.
    ///
    /// # Errors
    /// [`CaptureError::Create`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, CaptureError> {
        let path = path.as_ref().to_owned();
        let mut header = Vec::with_capacity(24);
        header.extend(MAGIC_NANOS.to_le_bytes());
        header.extend([2, 0, 4, 0]);
        header.extend([0; 8]);
        header.extend(SNAP_LEN.to_le_bytes());
        header.extend(u32::from(LINK_TYPE_ETHERNET).to_le_bytes());
        let made = File::create(&path).and_then(|file| {
            let mut file = BufWriter::with_capacity(WRITE_BYTES, file);
            file.write_all(&header)?;
            file.flush()?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Self { file, path, frames: 0 }),
            Err(source) => Err(CaptureError::Create { path, source }),
        }
    }

    /// Appends a frame with its time, nanoseconds since the epoch.
    ///
    /// # Errors
    /// [`CaptureError::Write`]: the system's, or the frame is longer than [`MAX_FRAME_BYTES`], or the time is one
    /// that pcap cannot say (2106 and later).
    pub fn write(&mut self, timestamp_ns: u64, frame: &[u8]) -> Result<(), CaptureError> {
        let result = record_header(timestamp_ns, frame.len()).and_then(|header| {
            self.file.write_all(&header)?;
            self.file.write_all(frame)
        });
        result.map_err(|source| self.failed(source))?;
        self.frames += 1;
        Ok(())
    }

    /// Hands what was collected to the system.
    ///
    /// # Errors
    /// [`CaptureError::Write`].
    pub fn flush(&mut self) -> Result<(), CaptureError> {
        self.file.flush().map_err(|source| self.failed(source))
    }

    /// Writes the rest and closes the file.
    ///
    /// # Errors
    /// [`CaptureError::Write`].
    pub fn finish(mut self) -> Result<(), CaptureError> {
        self.flush()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Frames written.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    #[cold]
    fn failed(&self, source: io::Error) -> CaptureError {
        CaptureError::Write { path: self.path.clone(), frames: self.frames, source }
    }
}

/// Seconds, nanoseconds, captured length, original length.
fn record_header(timestamp_ns: u64, len: usize) -> io::Result<[u8; 16]> {
    let too_late = |_| io::Error::other(format!("pcap cannot say a time of {timestamp_ns} ns"));
    let seconds = u32::try_from(timestamp_ns / NANOS_PER_SECOND).map_err(too_late)?;
    let nanos = u32::try_from(timestamp_ns % NANOS_PER_SECOND).map_err(too_late)?;
    let len = u32::try_from(len).ok().filter(|_| len <= MAX_FRAME_BYTES);
    let len = len.ok_or_else(|| io::Error::other("the frame is longer than any port carries"))?;
    let mut header = [0; 16];
    for (place, word) in header.chunks_exact_mut(4).zip([seconds, nanos, len, len]) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    Ok(header)
}
