//! Where frames land whose length nobody knows before: one read into a slot that has room for any.
//!
//! Where no frame is longer than an MTU it lands where it stays. Where super-frames may come everything lands in a large
//! slot, and what is short is copied on into a slot that suits it: that costs less than a read into two pieces. Tiny frames
//! are copied in either case.

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

/// The slot that waits for the next frame, and what that looks like.
#[derive(Debug)]
pub(super) struct Landing {
    header: VirtioHeader,
    expected: Expect,
    slot: Option<Frame>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    MtuOnly,
    SuperFrames,
}

impl Landing {
    pub(super) fn new(header: VirtioHeader) -> Self {
        Self { header, expected: Expect::SuperFrames, slot: None }
    }

    /// The device's MTU. Without header, which is what makes super-frames, no frame is longer than that.
    pub(super) fn expect(&mut self, mtu: u32) {
        let longest = usize::try_from(mtu).unwrap_or(usize::MAX).saturating_add(ETHERNET_BYTES);
        let short = self.header.is_empty() && longest <= MTU_BYTES;
        let expected = if short { Expect::MtuOnly } else { Expect::SuperFrames };
        if self.expected != expected {
            self.expected = expected;
            self.slot = None;
        }
    }

    /// One read.
    #[inline]
    pub(super) fn read(&mut self, queue: BorrowedFd<'_>, pool: &mut FramePool) -> Landed {
        let slot = match self.slot.take() {
            Some(slot) => Some(slot),
            None => pool.frame_for(match self.expected {
                Expect::MtuOnly => MTU_BYTES,
                Expect::SuperFrames => MAX_FRAME_BYTES,
            }),
        };
        let Some(mut slot) = slot else { return Landed::NoSlot };
        let len = match rustix::io::read(queue, slot.space_mut()) {
            Ok(len) if len > 0 => len,
            nothing => {
                self.slot = Some(slot);
                return match nothing {
                    Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::IO) => Landed::Nothing,
                    Err(error) => Landed::Failed(error),
                };
            }
        };
        let mut frame = self.settle(slot, len, pool);
        // One shorter than its header has no Ethernet part, and goes as malformed.
        frame.set_virtio_header(self.header);
        clear_rest(&mut frame);
        Landed::Frame(frame)
    }

    /// The frame of `len` bytes that has landed, in the slot that suits it.
    #[inline]
    fn settle(&mut self, mut slot: Frame, len: usize, pool: &mut FramePool) -> Frame {
        let is_large = slot.capacity() > JUMBO_BYTES;
        if (len <= SMALL_BYTES || (is_large && len <= JUMBO_BYTES))
            && let Some(frame) = pool.frame_from(&slot.space_mut()[..len])
        {
            self.slot = Some(slot);
            return frame;
        }
        // The kernel wrote no more than there was room for.
        let _ = slot.set_len(len);
        slot
    }
}
