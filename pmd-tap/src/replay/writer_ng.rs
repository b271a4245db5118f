//! A pcapng file being written (draft-ietf-opsawg-pcapng): one section, named Ethernet interfaces in nanoseconds,
//! frames with comments. Frames go to the file in groups, a group as a whole or not at all; when to begin another file
//! is the caller's business.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{CaptureError, LINK_TYPE_ETHERNET};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MARK: u32 = 0x1a2b_3c4d;
const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const OPTION_INTERFACE_NAME: u16 = 2;
const OPTION_APPLICATION: u16 = 4;
const OPTION_RESOLUTION: u16 = 9;
/// Nanoseconds, as `if_tsresol` says them.
const NANOSECONDS: u8 = 9;

/// A frame on its way into a file.
#[derive(Clone, Copy, Debug)]
pub struct CommentedFrame<'a> {
    /// Which of the file's interfaces it belongs to, counted from 0.
    pub interface: u32,
    /// When, nanoseconds since the epoch.
    pub timestamp_ns: u64,
    /// The bytes that are there.
    pub bytes: &'a [u8],
    /// How long it was, bytes.
    pub original_len: usize,
    /// What is said of it, if anything; at most 65,535 bytes count.
    pub comment: &'a str,
}

/// Writes a new pcapng file, replacing what is there.
///
/// Frames are collected by [`add`](Self::add) and written by [`commit`](Self::commit) with one call, so that a reader
/// never sees part of a group but for the moment of that call.
#[derive(Debug)]
pub struct PcapngWriter {
    file: File,
    path: PathBuf,
    len: u64,
    frames: u64,
    group: Vec<u8>,
    group_frames: u64,
}

impl PcapngWriter {
    /// Makes the file and writes its section header and the description of its interfaces.
    ///
    /// # Errors
    /// [`CaptureError::Create`].
    pub fn create(
        path: impl AsRef<Path>,
        application: &str,
        interfaces: &[&str],
    ) -> Result<Self, CaptureError> {
        let path = path.as_ref().to_owned();
        let mut head = Vec::new();
        block(&mut head, SECTION_HEADER, |head| {
            head.extend(BYTE_ORDER_MARK.to_le_bytes());
            head.extend([1, 0, 0, 0]);
            // The section's length is not known.
            head.extend(u64::MAX.to_le_bytes());
            option(head, OPTION_APPLICATION, application.as_bytes());
            option(head, OPTION_END, &[]);
        });
        for name in interfaces {
            block(&mut head, INTERFACE, |head| {
                head.extend(LINK_TYPE_ETHERNET.to_le_bytes());
                // Reserved, and no limit of a frame's length.
                head.extend([0; 6]);
                option(head, OPTION_INTERFACE_NAME, name.as_bytes());
                option(head, OPTION_RESOLUTION, &[NANOSECONDS]);
                option(head, OPTION_END, &[]);
            });
        }
        let made = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
        let made = made.and_then(|mut file| file.write_all(&head).map(|()| file));
        match made {
            Ok(file) => {
                let len = u64::try_from(head.len()).unwrap_or(u64::MAX);
                Ok(Self { file, path, len, frames: 0, group: Vec::new(), group_frames: 0 })
            }
            Err(source) => Err(CaptureError::Create { path, source }),
        }
    }

    /// Takes the memory for groups of so many bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.group.reserve(bytes);
    }

    /// Collects a frame.
    pub fn add(&mut self, frame: &CommentedFrame<'_>) {
        let words = [
            frame.interface,
            u32::try_from(frame.timestamp_ns >> 32).unwrap_or(0),
            u32::try_from(frame.timestamp_ns & u64::from(u32::MAX)).unwrap_or(0),
            u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX),
            u32::try_from(frame.original_len).unwrap_or(u32::MAX),
        ];
        block(&mut self.group, ENHANCED_PACKET, |body| {
            for word in words {
                body.extend(word.to_le_bytes());
            }
            body.extend(frame.bytes);
            pad(body);
            if !frame.comment.is_empty() {
                option(body, OPTION_COMMENT, frame.comment.as_bytes());
                option(body, OPTION_END, &[]);
            }
        });
        self.group_frames += 1;
    }

    /// Bytes of the group so far.
    pub fn pending(&self) -> u64 {
        u64::try_from(self.group.len()).unwrap_or(u64::MAX)
    }

    /// Writes the group. If that fails, the group is forgotten and the file is as it was before.
    ///
    /// # Errors
    /// [`CaptureError::Write`].
    pub fn commit(&mut self) -> Result<(), CaptureError> {
        let written = self.file.write_all(&self.group);
        let (bytes, frames) = (self.pending(), std::mem::take(&mut self.group_frames));
        self.group.clear();
        if let Err(source) = written {
            // A device or a pipe has no length to go back to.
            let _ = self.file.set_len(self.len);
            let _ = self.file.seek(SeekFrom::Start(self.len));
            return Err(CaptureError::Write { path: self.path.clone(), frames: self.frames, source });
        }
        self.len += bytes;
        self.frames += frames;
        Ok(())
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Frames written.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Whether no frame was written yet.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Forgets what [`add`](Self::add) has collected.
    pub fn forget_group(&mut self) {
        self.group.clear();
        self.group_frames = 0;
    }

    /// The group that [`add`](Self::add) has collected goes to this file instead.
    pub fn take_group(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.group, &mut other.group);
        std::mem::swap(&mut self.group_frames, &mut other.group_frames);
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it can be renamed and cut: a regular file.
    pub fn is_regular(&self) -> io::Result<bool> {
        self.file.metadata().map(|metadata| metadata.is_file())
    }
}

/// A block around what `body` writes: type, length, content, length again.
fn block(bytes: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend(kind.to_le_bytes());
    bytes.extend([0; 4]);
    body(bytes);
    let len = u32::try_from(bytes.len() - start + 4).unwrap_or(u32::MAX).to_le_bytes();
    bytes.extend(len);
    if let Some(place) = bytes.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&len);
    }
}

/// Code, length, value, padded to 32 bits. All blocks have a multiple of 4 bytes in front of it.
fn option(bytes: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    bytes.extend(code.to_le_bytes());
    bytes.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    bytes.extend(value);
    pad(bytes);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
    use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;
    use crate::Capture;

    fn frame<'a>(interface: u32, bytes: &'a [u8], comment: &'a str) -> CommentedFrame<'a> {
        let original_len = bytes.len() + 5;
        CommentedFrame { interface, timestamp_ns: 1_700_000_000_123_456_789, bytes, original_len, comment }
    }

    #[test]
    fn what_is_written_is_read_by_our_reader_and_by_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.pcapng");
        let mut writer = PcapngWriter::create(&path, "colo", &["primary", "secondary"]).unwrap();
        writer.add(&frame(1, &[7; 61], "{\"a\":1}"));
        writer.add(&frame(0, &[8; 64], "ü"));
        assert!(writer.is_empty());
        writer.commit().unwrap();
        assert_eq!(writer.len(), std::fs::metadata(&path).unwrap().len());
        assert!(!writer.is_empty() && writer.pending() == 0 && writer.is_regular().unwrap());

        let ours: Vec<_> = Capture::open(&path).unwrap().map(Result::unwrap).collect();
        let seen: Vec<_> =
            ours.iter().map(|one| (one.bytes.len(), one.original_len, one.comment.as_deref())).collect();
        assert_eq!(seen, [(61, 66, Some("{\"a\":1}")), (64, 69, Some("ü"))]);
        assert!(ours.iter().all(|one| one.timestamp_ns == 1_700_000_000_123_456_789));

        let mut reader = PcapNgReader::new(File::open(&path).unwrap()).unwrap();
        let (mut names, mut frames) = (Vec::new(), Vec::new());
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(interface) => {
                    names.extend(interface.options.iter().filter_map(|option| match option {
                        InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                        _ => None,
                    }));
                }
                Block::EnhancedPacket(packet) => {
                    let [EnhancedPacketOption::Comment(comment)] = &packet.options[..] else {
                        panic!("{packet:?}")
                    };
                    frames.push((packet.interface_id, packet.data.len(), comment.to_string()));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(names, ["primary", "secondary"]);
        assert_eq!(frames, [(1, 61, "{\"a\":1}".to_owned()), (0, 64, "ü".to_owned())]);
    }

    #[test]
    fn a_full_disk_is_an_error_and_the_group_is_forgotten() {
        let mut writer = match PcapngWriter::create("/dev/full", "colo", &[]) {
            // The header does not fit either: that is the whole point of the device.
            Err(CaptureError::Create { source, .. }) => {
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
                PcapngWriter::create("/dev/null", "colo", &[]).unwrap()
            }
            other => panic!("{other:?}"),
        };
        assert!(!writer.is_regular().unwrap());
        writer.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let before = writer.len();
        writer.add(&frame(0, &[1; 60], ""));
        assert!(matches!(writer.commit(), Err(CaptureError::Write { .. })));
        assert_eq!((writer.len(), writer.pending()), (before, 0));
    }
}
