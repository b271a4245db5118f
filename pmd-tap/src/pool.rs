//! Fixed memory for frames: mapped once, recycled for ever.

use crate::sys::{FreeSlot, SLOT_HEADER_BYTES, Slots};
use crate::{Frame, MAX_FRAME_BYTES, VirtioHeader};

/// How many frames of each size a pool has room for.
///
/// Slots come in four sizes, because most frames are either tiny (ACKs) or one MTU, and small slots keep the
/// working set in the cache. A frame takes the smallest free slot it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Slots of 128 bytes: ACKs and tiny requests.
    pub small: usize,
    /// Slots of 1,600 bytes: one Ethernet MTU.
    pub mtu: usize,
    /// Slots of 9,280 bytes: jumbo frames.
    pub jumbo: usize,
    /// Slots of 69,632 bytes: GSO frames, and whatever finds no smaller slot free.
    pub gso: usize,
}

/// Room in a small slot, bytes: with its header three cache lines.
pub(crate) const SMALL_BYTES: usize = 128;
/// Room in an MTU slot, bytes: 1514, VLAN tags, the longest virtio header, on an odd number of cache lines.
pub(crate) const MTU_BYTES: usize = 1600;
/// Room in a jumbo slot, bytes.
pub(crate) const JUMBO_BYTES: usize = 9_280;

const CLASSES: usize = 4;
const CLASS_BYTES: [usize; CLASSES] = [SMALL_BYTES, MTU_BYTES, JUMBO_BYTES, MAX_FRAME_BYTES];

impl PoolSettings {
    /// Room for `frames` frames of any mix up to the MTU, an eighth of them jumbo, and `gso` of any size.
    pub fn for_frames(frames: usize, gso: usize) -> Self {
        Self { small: frames, mtu: frames, jumbo: frames / 8, gso: gso.max(2) }
    }

    fn counts(self) -> [usize; CLASSES] {
        [self.small, self.mtu, self.jumbo, self.gso]
    }

    /// Frames that a pool of these settings has room for, small ones at best.
    pub fn frames(self) -> usize {
        self.counts().iter().sum()
    }

    /// Bytes of memory that a pool of these settings maps.
    pub fn bytes(self) -> usize {
        self.counts()
            .iter()
            .zip(CLASS_BYTES)
            .map(|(count, bytes)| count * (bytes.next_multiple_of(64) + SLOT_HEADER_BYTES))
            .sum()
    }
}

/// Why a pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The kernel gave no memory.
    #[error("cannot map {bytes} bytes for frames: {source}; lower max_held_frames")]
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// The kernel's answer.
        source: rustix::io::Errno,
    },
}

/// One core's frames. Only this core allocates from it; frames may be dropped anywhere.
#[derive(Debug)]
pub struct FramePool {
    slots: Slots,
    free: [Vec<FreeSlot>; CLASSES],
    free_count: usize,
}

impl FramePool {
    /// Maps the memory for a pool.
    pub fn new(settings: PoolSettings) -> Result<Self, PoolError> {
        let counts = settings.counts();
        let capacities = (0..CLASSES)
            .flat_map(move |class| std::iter::repeat_n((class, CLASS_BYTES[class]), counts[class]));
        let (slots, all) =
            Slots::new(capacities).map_err(|source| PoolError::Map { bytes: settings.bytes(), source })?;
        let mut pool = Self { slots, free: counts.map(Vec::with_capacity), free_count: 0 };
        // The lists are stacks: the first slot goes on last, so that memory is touched from its start.
        for slot in all.into_iter().rev() {
            pool.put(slot);
        }
        Ok(pool)
    }

    /// A frame filled with `bytes`; `None` when no slot that fits is free.
    #[inline]
    pub fn frame_from(&mut self, bytes: &[u8]) -> Option<Frame> {
        let mut frame = self.frame_for(bytes.len())?;
        let filled = frame.fill(bytes);
        debug_assert!(filled, "frame_for gives room");
        Some(frame)
    }

    /// A frame with room for `len` bytes and stale content; `None` when no slot that fits is free.
    #[inline]
    pub fn frame_for(&mut self, len: usize) -> Option<Frame> {
        let class = CLASS_BYTES.iter().position(|&bytes| len <= bytes)?;
        let slot = match self.free[class].pop() {
            Some(slot) => slot,
            None => self.scavenge(class)?,
        };
        self.free_count -= 1;
        let mut frame = Frame::from_slot(slot.issue());
        frame.set_virtio_header(VirtioHeader::NONE);
        frame.header_mut().completed = None;
        Some(frame)
    }

    /// Fetches what came home, then looks in this class and the larger ones.
    #[cold]
    fn scavenge(&mut self, class: usize) -> Option<FreeSlot> {
        self.collect();
        self.free[class..].iter_mut().find_map(Vec::pop)
    }

    /// Takes back the slots of frames that were dropped elsewhere.
    pub fn collect(&mut self) {
        while let Some(slot) = self.slots.returned() {
            self.put(slot);
        }
    }

    #[inline]
    fn put(&mut self, slot: FreeSlot) {
        self.free[slot.class() % CLASSES].push(slot);
        self.free_count += 1;
    }

    /// Takes a frame back, the fast way if it is this pool's own.
    #[inline]
    pub fn recycle(&mut self, frame: Frame) {
        if let Some(slot) = self.slots.retire(frame.into_slot()) {
            self.put(slot);
        }
    }

    /// Frames that are out, at most: those that came home since the last [`collect`](Self::collect) still count.
    pub fn frames_out(&self) -> usize {
        self.slots.count() - self.free_count
    }
}

impl Drop for FramePool {
    fn drop(&mut self) {
        self.collect();
        let free = self.free.iter_mut().flat_map(std::mem::take);
        self.slots.end(free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> FramePool {
        FramePool::new(PoolSettings { small: 2, mtu: 1, jumbo: 1, gso: 1 }).unwrap()
    }

    #[test]
    fn a_frame_takes_the_smallest_slot_and_falls_back_to_larger_ones() {
        let mut pool = tiny();
        let frames: Vec<_> = (0..5).map(|_| pool.frame_from(&[7; 60]).unwrap()).collect();
        let capacities: Vec<_> = frames.iter().map(Frame::capacity).collect();
        assert_eq!(capacities, [SMALL_BYTES, SMALL_BYTES, MTU_BYTES, JUMBO_BYTES, MAX_FRAME_BYTES]);
        assert!(pool.frame_from(&[7; 60]).is_none(), "a pool never grows");
        assert_eq!(pool.frames_out(), 5);
        for frame in frames {
            assert_eq!(frame.bytes(), [7; 60]);
            pool.recycle(frame);
        }
        assert_eq!(pool.frames_out(), 0);
    }

    #[test]
    fn frames_come_home_from_other_threads() {
        let mut pool = tiny();
        let frame = pool.frame_from(&[1; 1500]).unwrap();
        std::thread::spawn(move || drop(frame)).join().unwrap();
        assert_eq!(pool.frames_out(), 1);
        pool.collect();
        assert_eq!(pool.frames_out(), 0);
    }

    #[test]
    fn a_foreign_frame_goes_to_its_own_pool() {
        let (mut one, mut other) = (tiny(), tiny());
        let frame = one.frame_from(&[1; 10]).unwrap();
        other.recycle(frame);
        assert_eq!((one.frames_out(), other.frames_out()), (1, 0));
        one.collect();
        assert_eq!(one.frames_out(), 0);
    }

    #[test]
    fn a_frame_outlives_its_pool() {
        let mut pool = tiny();
        let frame = pool.frame_from(&[9; 64]).unwrap();
        drop(pool);
        assert_eq!(frame.bytes(), [9; 64]);
    }

    #[test]
    fn too_long_is_refused() {
        let mut pool = tiny();
        assert!(pool.frame_for(MAX_FRAME_BYTES + 1).is_none());
        let mut frame = pool.frame_for(10).unwrap();
        assert!(!frame.fill(&[0; SMALL_BYTES + 1]));
    }
}
