//! Fuzzed bytes as something with a path, without a file: memory, or a pipe that gives them in pieces.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};

/// Pieces that a fresh pipe takes: one a buffer (pipe(7): 16 pages).
pub(super) const MOST_PIECES: usize = 16;
/// Longest piece, bytes: one page.
pub(super) const MOST_PIECE_BYTES: usize = 4096;

/// Bytes that can be opened by path as long as this lives.
#[derive(Debug)]
pub(super) struct Scratch {
    file: OwnedFd,
}

impl Scratch {
    /// A file in memory.
    pub(super) fn file(content: &[u8]) -> Self {
        let file = memfd_create("fuzzed", MemfdFlags::CLOEXEC).expect("a file in memory");
        let mut file = File::from(file);
        file.write_all(content).expect("memory takes bytes");
        Self { file: file.into() }
    }

    /// A pipe that gives one piece a read. `None`: too many pieces or too long ones.
    pub(super) fn pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let (read, write) = pipe_with(PipeFlags::DIRECT | PipeFlags::CLOEXEC).expect("a pipe");
        let mut write = File::from(write);
        for (number, piece) in pieces.enumerate() {
            if number >= MOST_PIECES || piece.len() > MOST_PIECE_BYTES {
                return None;
            }
            write.write_all(piece).expect("the pipe has room");
        }
        Some(Self { file: read })
    }

    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}
