//! Frames on their way to the socket: one buffer, one coalesced write, and from where to send again when a peer
//! goes in the middle of a frame.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::{Framing, MAX_FRAME_BYTES, MAX_PREFIX_BYTES};
use crate::Frame;
use crate::copy::copy;

/// Bytes of the buffer.
const OUTBOX_BYTES: usize = 256 * 1024;
/// Bytes written before what is left moves to the front: moving costs as much as the buffer is full, so it must
/// not happen for every few bytes that a slow peer takes.
const MOVE_BYTES: usize = OUTBOX_BYTES / 4;
const _: () = assert!(OUTBOX_BYTES >= MAX_FRAME_BYTES + MAX_PREFIX_BYTES, "an empty buffer takes any frame");

/// Frames with their prefixes, back to back. `bytes[0]` always begins a frame.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: Box<[u8]>,
    /// Bytes that the current peer's socket took.
    written: usize,
    end: usize,
    framing: Framing,
}

impl Outbox {
    pub(super) fn new(framing: Framing) -> Self {
        Self { bytes: vec![0; OUTBOX_BYTES].into(), written: 0, end: 0, framing }
    }

    /// Forgets everything. Only between two peers: the current one may have got half a frame.
    pub(super) fn clear(&mut self) {
        (self.written, self.end) = (0, 0);
    }

    /// Copies the frame behind the others. False: there is no room, nothing happened.
    #[inline]
    pub(super) fn put(&mut self, frame: &Frame) -> bool {
        let content = frame.bytes();
        debug_assert!(!content.is_empty(), "a frame without a byte breaks the protocol");
        debug_assert!(
            self.framing == Framing::VnetHeader || frame.virtio_header().is_empty(),
            "the engine refuses a plain output for frames with a virtio header"
        );
        let prefix_bytes = self.framing.prefix_bytes();
        let Some(space) = self.bytes.get_mut(self.end..self.end + prefix_bytes + content.len()) else {
            return false;
        };
        let (prefix, body) = space.split_at_mut(prefix_bytes);
        prefix[..4].copy_from_slice(&word(content.len()));
        if self.framing == Framing::VnetHeader {
            prefix[4..].copy_from_slice(&word(frame.virtio_header().len()));
        }
        copy(body, content);
        self.end += prefix_bytes + content.len();
        true
    }

    /// What the current peer has not got.
    #[inline]
    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.written..self.end]
    }

    /// One `send` of everything unsent. A socket that takes only a part, or nothing, is no error.
    pub(super) fn send(&mut self, socket: impl AsFd) -> Result<(), Errno> {
        match rustix::net::send(socket, self.unsent(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.written += sent;
                if self.written == self.end {
                    (self.written, self.end) = (0, 0);
                }
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Moves what is unsent to the front, once that is worth its cost.
    pub(super) fn make_room(&mut self) {
        if self.written < MOVE_BYTES {
            return;
        }
        let begun = self.begun();
        self.bytes.copy_within(begun..self.end, 0);
        self.end -= begun;
        self.written -= begun;
    }

    /// The peer is gone: the next one gets everything from the first frame that was not completely written.
    pub(super) fn rewind(&mut self) {
        self.written = self.begun();
    }

    /// Where the first frame begins that is not completely written. Walks the prefixes, so that the way of an
    /// ordinary frame does not pay for it.
    fn begun(&self) -> usize {
        let mut begin = 0;
        while begin < self.written {
            let next = self.bytes[begin..].first_chunk().map_or(usize::MAX, |length| {
                let content = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
                begin.saturating_add(self.framing.prefix_bytes()).saturating_add(content)
            });
            if next > self.written {
                break;
            }
            begin = next;
        }
        begin
    }
}

/// A length as the wire has it. Lengths here are at most [`MAX_FRAME_BYTES`].
fn word(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes()
}
