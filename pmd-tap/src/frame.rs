//! One frame: an owning handle to a slot of a pool.

use crate::Nanos;
use crate::copy::copy;
#[cfg(feature = "dpdk")]
use crate::sys::Home;
use crate::sys::{RawSlot, SlotHeader};

/// Length of the virtio-net header in front of a frame, as its port announced it.
///
/// Legal are 0 (none), 10, 12 (mergeable receive buffers) and 20 (hash report): virtio 1.2, section 5.1.6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VirtioHeader(u8);

impl VirtioHeader {
    /// No header.
    pub const NONE: Self = Self(0);
    /// That of a guest with mergeable receive buffers, as nearly all have.
    pub const MERGEABLE: Self = Self(12);

    /// The header of that many bytes, if it is a legal one.
    pub fn from_len(len: usize) -> Option<Self> {
        match len {
            0 | 10 | 12 | 20 => u8::try_from(len).ok().map(Self),
            _ => None,
        }
    }

    /// Its length in bytes.
    pub fn len(self) -> usize {
        usize::from(self.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// An Ethernet frame in a slot of a [`FramePool`](crate::FramePool), with the virtio-net header its port put in front.
///
/// Eight bytes, owning, `Send`, not `Clone`: wherever it goes there is one of it. Dropping it sends the slot home;
/// the core that owns the pool does the same faster with [`FramePool::recycle`](crate::FramePool::recycle).
///
/// A frame may have others behind it, a chain of *followers*, which go where it goes and home when it does. An
/// *assembled* frame was made from its followers: it is there to be read and never leaves itself.
#[derive(Debug)]
pub struct Frame {
    slot: RawSlot,
}

const _: () = assert!(size_of::<Option<Frame>>() == 8, "bursts are arrays of 8-byte handles");

impl Frame {
    pub(crate) fn from_slot(slot: RawSlot) -> Self {
        Self { slot }
    }

    pub(crate) fn into_slot(self) -> RawSlot {
        self.slot
    }

    /// Whether its memory was lent by `home`.
    #[cfg(feature = "dpdk")]
    #[inline(always)]
    pub(crate) fn is_lent_by(&self, home: &'static Home) -> bool {
        self.slot.is_lent_by(home)
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &SlotHeader {
        self.slot.header()
    }

    #[inline(always)]
    pub(crate) fn header_mut(&mut self) -> &mut SlotHeader {
        self.slot.header_mut()
    }

    /// Everything, virtio header included.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        self.slot.bytes()
    }

    /// Everything, writable.
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        &mut self.slot.space_mut()[..len]
    }

    /// The Ethernet frame, without virtio header.
    #[inline(always)]
    pub fn ethernet(&self) -> &[u8] {
        self.slot.bytes_behind_header()
    }

    /// Asks for the memory of its first bytes ahead of their use: as many as a header without options and a little more.
    #[inline(always)]
    pub fn prefetch(&self) {
        self.slot.prefetch();
    }

    /// Bytes in it, virtio header included.
    #[inline(always)]
    pub fn len(&self) -> usize {
        usize::try_from(self.slot.header().len).unwrap_or(0)
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it could have.
    pub fn capacity(&self) -> usize {
        usize::try_from(self.slot.header().capacity).unwrap_or(0)
    }

    /// Replaces the content. Returns false, leaving the frame alone, if `bytes` are more than the capacity.
    #[must_use]
    pub fn fill(&mut self, bytes: &[u8]) -> bool {
        let Some(space) = self.slot.space_mut().get_mut(..bytes.len()) else {
            return false;
        };
        copy(space, bytes);
        self.slot.header_mut().len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        true
    }

    /// All the room it has, whatever its length: for a port that reads into it.
    pub(crate) fn space_mut(&mut self) -> &mut [u8] {
        self.slot.space_mut()
    }

    /// Makes it so many bytes long; what is new is stale content. Returns false, leaving the frame alone, if that is more
    /// than the capacity.
    #[must_use]
    pub fn set_len(&mut self, len: usize) -> bool {
        if len > self.capacity() {
            return false;
        }
        self.slot.header_mut().len = u32::try_from(len).unwrap_or(u32::MAX);
        true
    }

    /// The virtio-net header it carries in front.
    #[inline(always)]
    pub fn virtio_header(&self) -> VirtioHeader {
        VirtioHeader(u8::try_from(self.slot.header().virtio_len).unwrap_or(0))
    }

    /// Sets the virtio-net header's length.
    pub fn set_virtio_header(&mut self, header: VirtioHeader) {
        self.slot.header_mut().virtio_len = u32::from(header.0);
    }

    /// When its port received it.
    #[inline(always)]
    pub fn arrival(&self) -> Nanos {
        self.slot.header().arrival
    }

    /// Its place in its input: 0 for the first frame the input received.
    #[inline(always)]
    pub fn ordinal(&self) -> u64 {
        self.slot.header().ordinal
    }

    /// Stamps arrival time and place in the input.
    #[inline(always)]
    pub fn stamp(&mut self, arrival: Nanos, ordinal: u64) {
        let header = self.slot.header_mut();
        header.arrival = arrival;
        header.ordinal = ordinal;
    }
}
