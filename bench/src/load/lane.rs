//! One side's frames on their way to its socket: a buffer that holds whole frames from the start, of which only the
//! names are written.

use anyhow::Result;

use super::mould::{Content, Mould, Name};
use super::shape::Writes;
use super::socket::Stream;

/// Bytes of the buffer, roughly: a write of everything is as large as a comparer reads at once, and stays in the cache.
const LANE_BYTES: usize = 192 * 1024;

/// The frames of one side.
#[derive(Debug)]
pub struct Lane {
    bytes: Vec<u8>,
    stride: usize,
    /// End of the frames that have a name, and of what the socket has taken.
    named: usize,
    sent: usize,
    writes: Writes,
    /// System calls that took something.
    pub calls: u64,
}

impl Lane {
    /// An empty lane.
    pub fn new(mould: &Mould, writes: Writes) -> Self {
        let stride = mould.wire().len();
        let frames = (LANE_BYTES / stride).max(2);
        Self { bytes: mould.wire().repeat(frames), stride, named: 0, sent: 0, writes, calls: 0 }
    }

    /// Frames that there is room for.
    pub fn room(&self) -> usize {
        (self.bytes.len() - self.named) / self.stride
    }

    /// Frames that there is room for when it is empty.
    pub fn frames(&self) -> usize {
        self.bytes.len() / self.stride
    }

    /// Whether the socket has everything.
    pub fn is_empty(&self) -> bool {
        self.sent == self.named
    }

    /// Puts a frame behind the others; there must be room.
    pub fn put(&mut self, mould: &Mould, name: Name, content: Content) {
        mould.name(&mut self.bytes[self.named..self.named + self.stride], name, content);
        self.named += self.stride;
    }

    /// Writes what the socket takes; whether it took anything.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn push(&mut self, stream: &Stream) -> Result<bool> {
        let before = self.sent;
        while self.sent < self.named {
            let end = match self.writes {
                Writes::Coalesced => self.named,
                Writes::Single => (self.sent / self.stride + 1) * self.stride,
            };
            let took = stream.send(&self.bytes[self.sent..end])?;
            if took == 0 {
                break;
            }
            self.calls += 1;
            self.sent += took;
        }
        let moved = self.sent > before;
        if self.is_empty() {
            (self.named, self.sent) = (0, 0);
        }
        Ok(moved)
    }
}
