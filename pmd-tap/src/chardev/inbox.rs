//! Bytes that came from the socket, cut into frames. Large reads, partial frames kept, never more than one buffer.

use std::fmt;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::{Framing, MAX_FRAME_BYTES, MAX_PREFIX_BYTES};
use crate::{Burst, FramePool, Nanos, VirtioHeader};

/// Bytes of the buffer.
const INBOX_BYTES: usize = 256 * 1024;
/// Bytes asked of one `recv`, at most. What is left moves to the front before a read, so this and one frame is what
/// the cache sees of the buffer.
const READ_BYTES: usize = 128 * 1024;
const _: () = assert!(
    INBOX_BYTES >= MAX_FRAME_BYTES + MAX_PREFIX_BYTES + READ_BYTES,
    "behind an unfinished frame there is always room for a whole read"
);

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// As much as was asked for: there may be more.
    Full,
    /// Less: the socket was empty then.
    Part,
    /// The socket is empty.
    Nothing,
    /// The end of the stream.
    End,
}

/// Why no more frames were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The burst is full.
    BurstFull,
    /// What is left is no complete frame.
    NeedBytes,
    /// The pool has no slot for the next frame.
    PoolEmpty,
    /// What is next cannot be a frame.
    Illegal(Illegal),
}

/// How a prefix breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Illegal {
    /// No byte, or more than the longest frame.
    Length { sent: u32, longest: usize },
    /// No virtio-net header has this length.
    HeaderLength(u32),
    /// A header longer than the frame that holds it.
    HeaderBeyondFrame { header: u32, frame: u32 },
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HINT: &str = "check that both ends agree on vnet (QEMU's vnet_hdr_support)";
        match self {
            Self::Length { sent, longest } => {
                write!(f, "sent a frame length of {sent}, legal are 1 to {longest} bytes; {HINT}")
            }
            Self::HeaderLength(len) => {
                write!(
                    f,
                    "sent a virtio-net header length of {len}, legal are 0, 10, 12 and 20 bytes; {HINT}"
                )
            }
            Self::HeaderBeyondFrame { header, frame } => {
                write!(
                    f,
                    "sent a virtio-net header of {header} bytes in a frame of {frame}, which is the limit; {HINT}"
                )
            }
        }
    }
}

/// A complete prefix, checked.
#[derive(Clone, Copy)]
struct Prefix {
    frame_bytes: usize,
    header: VirtioHeader,
}

/// Bytes received and not yet taken.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    framing: Framing,
    longest: usize,
    received: u64,
}

impl Inbox {
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            bytes: vec![0; INBOX_BYTES].into(),
            start: 0,
            end: 0,
            framing,
            longest: MAX_FRAME_BYTES,
            received: 0,
        }
    }

    /// Frames longer than that are illegal from now on; [`MAX_FRAME_BYTES`] at most.
    pub(super) fn set_longest(&mut self, bytes: usize) {
        self.longest = bytes.min(MAX_FRAME_BYTES);
    }

    /// Forgets the bytes, not the count of frames.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Frames taken since the start.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Moves complete frames into `burst`, in order.
    pub(super) fn take_frames(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> Stop {
        let prefix_bytes = self.framing.prefix_bytes();
        while !burst.is_full() {
            let waiting = &self.bytes[self.start..self.end];
            let prefix = match prefix(self.framing, self.longest, waiting) {
                Ok(Some(prefix)) => prefix,
                Ok(None) => return Stop::NeedBytes,
                Err(illegal) => return Stop::Illegal(illegal),
            };
            let Some(content) = waiting.get(prefix_bytes..prefix_bytes + prefix.frame_bytes) else {
                return Stop::NeedBytes;
            };
            let Some(mut frame) = pool.frame_from(content) else {
                return Stop::PoolEmpty;
            };
            frame.set_virtio_header(prefix.header);
            frame.stamp(now, self.received);
            self.received += 1;
            self.start += prefix_bytes + prefix.frame_bytes;
            burst.push(frame);
        }
        Stop::BurstFull
    }

    /// One `recv` behind what is there.
    pub(super) fn fill(&mut self, socket: impl AsFd) -> Result<Fill, Errno> {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let space = &mut self.bytes[self.end..][..READ_BYTES];
        match rustix::net::recv(socket, space, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Ok(Fill::End),
            Ok((got, _)) => {
                self.end += got;
                Ok(if got == READ_BYTES { Fill::Full } else { Fill::Part })
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Fill::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Bytes there are and bytes there should be of a frame that has begun; of its prefix while that is incomplete.
    pub(super) fn unfinished(&self) -> Option<(usize, usize)> {
        let waiting = &self.bytes[self.start..self.end];
        let prefix_bytes = self.framing.prefix_bytes();
        let whole = match prefix(self.framing, self.longest, waiting) {
            Ok(Some(prefix)) => prefix_bytes + prefix.frame_bytes,
            _ => prefix_bytes,
        };
        (!waiting.is_empty()).then_some((waiting.len(), whole))
    }
}

/// The prefix at the front of `bytes`: `None` while it is incomplete. Each word is judged as soon as it is there.
#[inline]
fn prefix(framing: Framing, longest: usize, bytes: &[u8]) -> Result<Option<Prefix>, Illegal> {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length);
    let frame_bytes = usize::try_from(length).unwrap_or(usize::MAX);
    if frame_bytes == 0 || frame_bytes > longest {
        return Err(Illegal::Length { sent: length, longest });
    }
    if framing == Framing::Plain {
        return Ok(Some(Prefix { frame_bytes, header: VirtioHeader::NONE }));
    }
    let Some((header_len, _)) = rest.split_first_chunk() else {
        return Ok(None);
    };
    let header_len = u32::from_be_bytes(*header_len);
    let header = usize::try_from(header_len).ok().and_then(VirtioHeader::from_len);
    let header = header.ok_or(Illegal::HeaderLength(header_len))?;
    if header.len() > frame_bytes {
        return Err(Illegal::HeaderBeyondFrame { header: header_len, frame: length });
    }
    Ok(Some(Prefix { frame_bytes, header }))
}
