//! Where frames land whose length nobody knows before: one read into a slot of an MTU and, behind it, a large one.
//!
//! A tiny frame is copied on into a small slot, an ordinary one stays where it is, and of a super-frame the first piece
//! is moved in front of the rest.

use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::interface::header::clear_rest;
use crate::pool::{JUMBO_BYTES, MTU_BYTES, SMALL_BYTES};
use crate::{Frame, FramePool, MAX_FRAME_BYTES, VirtioHeader};

/// Ethernet header with two VLAN tags.
const ETHERNET_BYTES: usize = 22;

/// What a read came to.
pub(super) enum Landed {
    Frame(Frame),
    /// There is nothing to read.
    Nothing,
    /// The pool has no slot for what may be there.
    NoSlot,
    Failed(Errno),
}

/// The slots that wait for the next frame, and what it looks like.
#[derive(Debug)]
pub(super) struct Landing {
    header: VirtioHeader,
    /// Whether a frame may be longer than an MTU slot.
    long: Expect,
    first: Option<Frame>,
    rest: Option<Frame>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    MtuOnly,
    SuperFrames,
}

impl Landing {
    pub(super) fn new(header: VirtioHeader) -> Self {
        Self { header, long: Expect::SuperFrames, first: None, rest: None }
    }

    /// The device's MTU. Without header, which is what makes super-frames, no frame is longer than that.
    pub(super) fn expect(&mut self, mtu: u32) {
        let longest = usize::try_from(mtu).unwrap_or(usize::MAX).saturating_add(ETHERNET_BYTES);
        let short = self.header.is_empty() && longest <= MTU_BYTES;
        self.long = if short { Expect::MtuOnly } else { Expect::SuperFrames };
    }

    /// One read.
    #[inline]
    pub(super) fn read(&mut self, queue: BorrowedFd<'_>, pool: &mut FramePool) -> Landed {
        if self.first.is_none() {
            self.first = pool.frame_for(MTU_BYTES);
        }
        if self.rest.is_none() && self.long == Expect::SuperFrames {
            self.rest = pool.frame_for(MAX_FRAME_BYTES);
        }
        let Some(first) = &mut self.first else { return Landed::NoSlot };
        let head = &mut first.space_mut()[..MTU_BYTES];
        let got = match (&mut self.rest, self.long) {
            (Some(rest), _) => {
                let tail = &mut rest.space_mut()[MTU_BYTES..];
                rustix::io::readv(queue, &mut [IoSliceMut::new(head), IoSliceMut::new(tail)])
            }
            (None, Expect::MtuOnly) => rustix::io::read(queue, head),
            (None, Expect::SuperFrames) => return Landed::NoSlot,
        };
        let len = match got {
            Ok(0) | Err(Errno::AGAIN | Errno::INTR | Errno::IO) => return Landed::Nothing,
            Ok(len) => len,
            Err(error) => return Landed::Failed(error),
        };
        let Some(mut frame) = self.settle(len, pool) else { return Landed::NoSlot };
        // A frame shorter than its header is none of ours; it has no Ethernet part, and goes as malformed.
        frame.set_virtio_header(self.header);
        clear_rest(&mut frame);
        Landed::Frame(frame)
    }

    /// The frame of `len` bytes that has landed, in the slot that suits it.
    #[inline]
    fn settle(&mut self, len: usize, pool: &mut FramePool) -> Option<Frame> {
        if len > MTU_BYTES {
            return self.settle_long(len, pool);
        }
        if len <= SMALL_BYTES
            && let Some(first) = &mut self.first
            && let Some(small) = pool.frame_from(&first.space_mut()[..len])
        {
            return Some(small);
        }
        self.first.take().and_then(|frame| with_len(frame, len))
    }

    /// The pieces of a long one put together.
    #[inline(never)]
    fn settle_long(&mut self, len: usize, pool: &mut FramePool) -> Option<Frame> {
        let (Some(first), Some(rest)) = (&mut self.first, &mut self.rest) else { return None };
        let space = rest.space_mut();
        space[..MTU_BYTES].copy_from_slice(&first.space_mut()[..MTU_BYTES]);
        if len <= JUMBO_BYTES
            && let Some(jumbo) = pool.frame_from(&space[..len])
        {
            return Some(jumbo);
        }
        self.rest.take().and_then(|frame| with_len(frame, len))
    }
}

fn with_len(mut frame: Frame, len: usize) -> Option<Frame> {
    frame.set_len(len).then_some(frame)
}
