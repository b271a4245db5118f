//! A capture as a stream of frames, and the classic pcap format.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::pcapng::Sections;
use super::{CaptureError, LINK_TYPE_ETHERNET, NANOS_PER_SECOND};
use crate::MAX_FRAME_BYTES;

/// Bytes of a file read at once.
const READ_BYTES: usize = 128 * 1024;
/// The longest length that a sane writer gives a record (libpcap's `MAXIMUM_SNAPLEN`): above it the file is corrupt.
const SANE_FRAME_BYTES: u32 = 262_144;

/// One frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFrame {
    /// When, nanoseconds since the epoch. A pcapng simple packet block has no time: it gets its predecessor's.
    pub timestamp_ns: u64,
    /// The bytes that were captured.
    pub bytes: Vec<u8>,
    /// How long it was on the wire, bytes: more than `bytes` when the capture was snapped.
    pub original_len: u32,
    /// The packet's first comment (pcapng `opt_comment`).
    pub comment: Option<String>,
}

/// A pcap or pcapng file, read frame by frame; never more than one frame and one buffer of it are in memory.
///
/// pcap: micro- and nanoseconds, both byte orders. pcapng: any number of sections and interfaces, each with its own
/// byte order, resolution and offset; enhanced, simple and obsolete packet blocks; other blocks are passed over.
#[derive(Debug)]
pub struct Capture {
    source: Source,
    format: Format,
    over: bool,
}

#[derive(Debug)]
enum Format {
    Pcap { order: Order, nanos_per_unit: u64 },
    Pcapng(Sections),
}

/// How a file has its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    pub(super) fn i64(self, bytes: [u8; 8]) -> i64 {
        match self {
            Self::Little => i64::from_le_bytes(bytes),
            Self::Big => i64::from_be_bytes(bytes),
        }
    }

    /// The 32-bit word of that number.
    pub(super) fn word<const N: usize>(self, bytes: &[u8; N], number: usize) -> u32 {
        let word = bytes.get(number * 4..).and_then(|rest| rest.first_chunk());
        self.u32(*word.unwrap_or(&[0; 4]))
    }
}

/// pcapng's section header block type, the same in both byte orders.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

impl Capture {
    /// Opens a capture and judges its first bytes.
    ///
    /// # Errors
    /// Every [`CaptureError`] of reading but `TooLong`; a pcapng file's link type is judged with its first frame.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CaptureError> {
        let path = path.as_ref().to_owned();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(source) => return Err(CaptureError::Open { path, source }),
        };
        let mut source = Source { file: BufReader::with_capacity(READ_BYTES, file), path, frames: 0 };
        let mut magic = [0; 4];
        let got = source.read_up_to(&mut magic)?;
        let (order, nanos_per_unit) = match magic {
            SECTION_HEADER => {
                let sections = Sections::open(&mut source)?;
                return Ok(Self { source, format: Format::Pcapng(sections), over: false });
            }
            [0xd4, 0xc3, 0xb2, 0xa1] => (Order::Little, 1_000),
            [0xa1, 0xb2, 0xc3, 0xd4] => (Order::Big, 1_000),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Order::Little, 1),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Order::Big, 1),
            _ => return Err(source.not_a_capture(magic.get(..got).unwrap_or_default())),
        };
        // Version, time zone, accuracy, snap length, link type.
        let mut header = [0_u8; 20];
        source.read(&mut header, "its header")?;
        // The upper half says how long the frame check sequences are.
        let [.., high, low] = order.word(&header, 4).to_be_bytes();
        source.judge_link_type(u16::from_be_bytes([high, low]))?;
        Ok(Self { source, format: Format::Pcap { order, nanos_per_unit }, over: false })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Complete frames read so far.
    pub fn frames(&self) -> u64 {
        self.source.frames
    }

    /// The next frame; `None` at the end of the file. After an error there is nothing more.
    ///
    /// # Errors
    /// [`CaptureError::Truncated`], [`Corrupt`](CaptureError::Corrupt), [`TooLong`](CaptureError::TooLong),
    /// [`Read`](CaptureError::Read) and, pcapng only, [`LinkType`](CaptureError::LinkType).
    pub fn next_frame(&mut self) -> Result<Option<CapturedFrame>, CaptureError> {
        if self.over {
            return Ok(None);
        }
        let result = match &mut self.format {
            Format::Pcap { order, nanos_per_unit } => next_record(&mut self.source, *order, *nanos_per_unit),
            Format::Pcapng(sections) => sections.next_frame(&mut self.source),
        };
        match result {
            Ok(Some(_)) => self.source.frames += 1,
            _ => self.over = true,
        }
        result
    }
}

impl Iterator for Capture {
    type Item = Result<CapturedFrame, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_frame().transpose()
    }
}

/// A pcap record: seconds, fraction, captured length, original length, bytes.
fn next_record(
    source: &mut Source,
    order: Order,
    nanos_per_unit: u64,
) -> Result<Option<CapturedFrame>, CaptureError> {
    let mut header = [0_u8; 16];
    if !source.read_or_end(&mut header, "a record's header")? {
        return Ok(None);
    }
    let word = |number| order.word(&header, number);
    let captured_len = word(2);
    source.judge_len(captured_len)?;
    let mut bytes = vec![0; index(captured_len)];
    source.read(&mut bytes, "a frame")?;
    let timestamp_ns = u64::from(word(0)) * NANOS_PER_SECOND + u64::from(word(1)) * nanos_per_unit;
    Ok(Some(CapturedFrame { timestamp_ns, bytes, original_len: word(3), comment: None }))
}

/// A 32-bit length as an index.
pub(super) fn index(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// The file, and how far it has been read: every error is made here.
#[derive(Debug)]
pub(super) struct Source {
    file: BufReader<File>,
    path: PathBuf,
    frames: u64,
}

impl Source {
    /// As many bytes as there are, up to all of `bytes`.
    fn read_up_to(&mut self, bytes: &mut [u8]) -> Result<usize, CaptureError> {
        let mut got = 0;
        while got < bytes.len() {
            match self.file.read(&mut bytes[got..]) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.read_error(error)),
            }
        }
        Ok(got)
    }

    /// All of `bytes`, which are part of what `inside` says.
    pub(super) fn read(&mut self, bytes: &mut [u8], inside: &'static str) -> Result<(), CaptureError> {
        if self.read_up_to(bytes)? == bytes.len() { Ok(()) } else { Err(self.truncated(inside)) }
    }

    /// All of `bytes`; false when the file ends in front of them.
    pub(super) fn read_or_end(
        &mut self,
        bytes: &mut [u8],
        inside: &'static str,
    ) -> Result<bool, CaptureError> {
        match self.read_up_to(bytes)? {
            0 => Ok(false),
            got if got == bytes.len() => Ok(true),
            _ => Err(self.truncated(inside)),
        }
    }

    /// Passes over so many bytes.
    pub(super) fn skip(&mut self, count: u64, inside: &'static str) -> Result<(), CaptureError> {
        let skipped = io::copy(&mut (&mut self.file).take(count), &mut io::sink());
        match skipped.map_err(|error| self.read_error(error))? {
            skipped if skipped == count => Ok(()),
            _ => Err(self.truncated(inside)),
        }
    }

    pub(super) fn judge_link_type(&self, link_type: u16) -> Result<(), CaptureError> {
        match link_type {
            LINK_TYPE_ETHERNET => Ok(()),
            _ => Err(CaptureError::LinkType { path: self.path.clone(), link_type }),
        }
    }

    pub(super) fn judge_len(&self, bytes: u32) -> Result<(), CaptureError> {
        if bytes > SANE_FRAME_BYTES {
            return Err(self.corrupt(format!("its next frame would have {bytes} bytes")));
        }
        if index(bytes) > MAX_FRAME_BYTES {
            let (path, frame) = (self.path.clone(), self.frames + 1);
            return Err(CaptureError::TooLong { path, frame, bytes });
        }
        Ok(())
    }

    pub(super) fn corrupt(&self, problem: impl Into<String>) -> CaptureError {
        CaptureError::Corrupt { path: self.path.clone(), frames: self.frames, problem: problem.into() }
    }

    fn truncated(&self, inside: &'static str) -> CaptureError {
        CaptureError::Truncated { path: self.path.clone(), frames: self.frames, inside }
    }

    fn read_error(&self, source: io::Error) -> CaptureError {
        CaptureError::Read { path: self.path.clone(), frames: self.frames, source }
    }

    /// Says what a file that is no capture starts with.
    pub(super) fn not_a_capture(&self, start: &[u8]) -> CaptureError {
        let hex: Vec<_> = start.iter().map(|byte| format!("{byte:02x}")).collect();
        let hex = hex.join(" ");
        let found = match start {
            [] => "it is empty".to_owned(),
            [0x1f, 0x8b, ..] => format!("it starts with {hex}, which is gzip; unpack it first"),
            [0x28, 0xb5, 0x2f, 0xfd] => format!("it starts with {hex}, which is zstd; unpack it first"),
            [0x34 | 0xa1, 0xcd | 0xb2, 0xb2 | 0xcd, 0xa1 | 0x34] => {
                format!("it starts with {hex}, which is Kuznetzov's modified pcap; convert it with editcap")
            }
            [_, _, _, _] => format!("it starts with {hex}"),
            _ => format!("it starts with {hex} and ends there"),
        };
        CaptureError::NotACapture { path: self.path.clone(), found }
    }
}
