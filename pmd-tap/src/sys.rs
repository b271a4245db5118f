//! The unsafe half of the crate: one mapping cut into slots, raw handles to them, and hints about memory. What is asked of
//! network interfaces is in the files beside it.
//!
//! Nothing here decides anything. [`Slots`] owns the memory. A slot has exactly one handle at any time, and neither
//! kind of handle is `Clone`: a [`FreeSlot`] while it waits in its pool, a [`RawSlot`] while it is a frame. So
//! borrowing through the handle is borrowing the slot.

pub(crate) mod interface;
pub(crate) mod packet;

use std::ops::Range;
use std::ptr::NonNull;

use crossbeam_queue::ArrayQueue;

use crate::{Frame, Nanos, Pages};

/// What stands in front of every slot's bytes: one cache line.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct SlotHeader {
    home: NonNull<Home>,
    pub(crate) capacity: u32,
    pub(crate) len: u32,
    pub(crate) virtio_len: u32,
    /// Which of its pool's sizes it is.
    class: u32,
    pub(crate) arrival: Nanos,
    pub(crate) ordinal: u64,
    /// The first of the frames that stand behind this one; each has the next.
    pub(crate) next: Option<Frame>,
    /// When the last of what an assembled frame was made from arrived; `None`: it is a frame as it came.
    pub(crate) completed: Option<Nanos>,
}

/// Bytes of a slot that its header takes.
pub(crate) const SLOT_HEADER_BYTES: usize = size_of::<SlotHeader>();
const _: () = assert!(SLOT_HEADER_BYTES == 64, "the header is one cache line");

/// Where the frames of one pool go when they are dropped anywhere. Outlives all of them.
#[derive(Debug)]
pub(crate) struct Home {
    /// Slots given back by `Drop`, from any thread. As long as the pool has slots, so never full.
    returned: ArrayQueue<FreeSlot>,
    /// What is done with a dropped slot instead, where the memory is not ours but lent.
    give_back: Option<GiveBack>,
    /// Unmapped with the home.
    _mapping: Option<Mapping>,
}

/// Gives lent memory back, from whatever thread. It is called once for each slot, with the slot's header.
pub(crate) type GiveBack = unsafe fn(NonNull<SlotHeader>);

/// One anonymous mapping, fixed for life.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is plain memory; access to its parts is handed out slot by slot, through unique handles.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` alone reads and writes nothing.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(bytes: usize) -> rustix::io::Result<Self> {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
        // SAFETY: an anonymous private mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        // SAFETY: the range is the mapping just made. Huge pages are a wish; refusal changes nothing.
        let _ = unsafe { madvise(base, bytes, Advice::LinuxHugepage) };
        let base = NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { base, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and bytes are those of the mapping, and `Slots::end` drops it only when no slot is out.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// The memory of one pool.
#[derive(Debug)]
pub(crate) struct Slots {
    home: NonNull<Home>,
    count: usize,
}

// SAFETY: `Home` is `Send` and `Sync` (a mapping and a lock-free queue of `Send` handles).
unsafe impl Send for Slots {}

impl Slots {
    /// Maps slots of the given classes and payload capacities (bytes), each behind its header, headers on cache lines.
    /// The handles come in the order of the capacities.
    pub(crate) fn new(
        capacities: impl Iterator<Item = (usize, usize)> + Clone,
    ) -> rustix::io::Result<(Self, Vec<FreeSlot>)> {
        let stride = |capacity: usize| SLOT_HEADER_BYTES + capacity.next_multiple_of(64);
        let bytes = capacities.clone().map(|(_, capacity)| stride(capacity)).sum::<usize>().max(1);
        let count = capacities.clone().count();
        let mapping = Mapping::new(bytes)?;
        let base = mapping.base;
        let returned = ArrayQueue::new(count.max(1));
        let home = Box::new(Home { returned, give_back: None, _mapping: Some(mapping) });
        let home = NonNull::from(Box::leak(home));
        let mut start = 0;
        let free = capacities
            .map(|(class, capacity)| {
                // SAFETY: the starts add up to `bytes`, so header and capacity lie inside the mapping.
                let header: NonNull<SlotHeader> = unsafe { base.add(start) }.cast();
                start += stride(capacity);
                // SAFETY: as above; strides are multiples of 64 on a page-aligned base, and nobody has a handle yet.
                unsafe {
                    header.write(SlotHeader {
                        home,
                        capacity: u32::try_from(capacity).expect("a slot is smaller than 4 GiB"),
                        len: 0,
                        virtio_len: 0,
                        class: u32::try_from(class).expect("there are few classes"),
                        arrival: Nanos::ZERO,
                        ordinal: 0,
                        next: None,
                        completed: None,
                    });
                }
                FreeSlot { header }
            })
            .collect();
        Ok((Self { home, count }, free))
    }

    fn home(&self) -> &Home {
        // SAFETY: the home lives until `end`, which takes `self`.
        unsafe { self.home.as_ref() }
    }

    /// Slots in the memory.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// One slot that was dropped somewhere and came home.
    pub(crate) fn returned(&self) -> Option<FreeSlot> {
        self.home().returned.pop()
    }

    /// Turns a frame's slot into a free one if it belongs here; otherwise drops it, which sends it to its own home.
    #[inline(always)]
    pub(crate) fn retire(&self, mut slot: RawSlot) -> Option<FreeSlot> {
        if slot.header().next.is_some() {
            slot.send_followers_home();
        }
        if slot.header().home == self.home {
            let header = slot.header;
            std::mem::forget(slot);
            Some(FreeSlot { header })
        } else {
            None
        }
    }

    /// Unmaps the memory if all its slots are among `free`; otherwise leaves it to the frames that are still out,
    /// for ever: only a teardown that lost frames leaks.
    pub(crate) fn end(&mut self, free: impl Iterator<Item = FreeSlot>) {
        // SAFETY: the handles are ours and alive as long as the home is.
        let own = free.filter(|slot| unsafe { slot.header.as_ref() }.home == self.home).count();
        if own == self.count {
            // SAFETY: every handle to the memory was just consumed, and the caller is the pool's `Drop`.
            drop(unsafe { Box::from_raw(self.home.as_ptr()) });
            self.count = usize::MAX;
        }
    }
}

/// The only handle to a slot that is not in use.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct FreeSlot {
    header: NonNull<SlotHeader>,
}

// SAFETY: the handle is unique, and what it points to is plain memory plus a pointer to a `Sync` home.
unsafe impl Send for FreeSlot {}

impl FreeSlot {
    /// Takes it into use.
    #[inline(always)]
    pub(crate) fn issue(self) -> RawSlot {
        RawSlot { header: self.header }
    }

    /// Which of its pool's sizes it is.
    #[inline(always)]
    pub(crate) fn class(&self) -> usize {
        // SAFETY: the header was initialised by `Slots::new` and this handle is its only one.
        usize::try_from(unsafe { self.header.as_ref() }.class).unwrap_or(0)
    }
}

/// The only handle to a slot that is a frame. Dropping it sends the slot home, from whatever thread.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct RawSlot {
    header: NonNull<SlotHeader>,
}

// SAFETY: the handle is unique, and what it points to is plain memory plus a pointer to a `Sync` home.
unsafe impl Send for RawSlot {}
// SAFETY: `&RawSlot` only reads.
unsafe impl Sync for RawSlot {}

impl RawSlot {
    #[inline(always)]
    pub(crate) fn header(&self) -> &SlotHeader {
        // SAFETY: the header was initialised by `Slots::new` and this handle is its only one.
        unsafe { self.header.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn header_mut(&mut self) -> &mut SlotHeader {
        // SAFETY: as in `header`, and `&mut self` makes the borrow exclusive.
        unsafe { self.header.as_mut() }
    }

    /// The first `len` bytes, `len` clamped to the slot's capacity.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        let header = self.header();
        let len = usize::try_from(header.len.min(header.capacity)).unwrap_or(0);
        // SAFETY: `capacity` bytes follow the header inside the mapping, zeroed by the kernel or written since.
        unsafe { std::slice::from_raw_parts(self.header.cast::<u8>().add(SLOT_HEADER_BYTES).as_ptr(), len) }
    }

    /// The same without the virtio-net header; nothing, if that is longer.
    #[inline(always)]
    pub(crate) fn bytes_behind_header(&self) -> &[u8] {
        let header = self.header();
        let len = usize::try_from(header.len.min(header.capacity)).unwrap_or(0);
        let skip = usize::try_from(header.virtio_len).unwrap_or(0).min(len);
        // SAFETY: as in `bytes`, and `skip` is at most `len`.
        unsafe {
            let start = self.header.cast::<u8>().add(SLOT_HEADER_BYTES + skip).as_ptr();
            std::slice::from_raw_parts(start, len - skip)
        }
    }

    /// Asks for the cache lines of its header and of the first bytes behind it.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        let start = self.header.cast::<i8>().as_ptr().cast_const();
        prefetch(start);
        prefetch(start.wrapping_add(SLOT_HEADER_BYTES));
    }

    /// The whole slot, `capacity` bytes.
    #[inline(always)]
    pub(crate) fn space_mut(&mut self) -> &mut [u8] {
        let capacity = usize::try_from(self.header().capacity).unwrap_or(0);
        // SAFETY: as in `bytes`; `&mut self` makes the borrow exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(self.header.cast::<u8>().add(SLOT_HEADER_BYTES).as_ptr(), capacity)
        }
    }
}

impl RawSlot {
    /// Sends home what stands behind it: one after the other, as a chain may be longer than a stack is deep.
    #[cold]
    fn send_followers_home(&mut self) {
        let mut next = self.header_mut().next.take();
        while let Some(frame) = next {
            let mut slot = frame.into_slot();
            next = slot.header_mut().next.take();
        }
    }
}

#[cfg(feature = "dpdk")]
impl Home {
    /// A home for slots in memory that is lent, made once and for good.
    pub(crate) fn of_lent(give_back: GiveBack) -> &'static Self {
        let returned = ArrayQueue::new(1);
        Box::leak(Box::new(Self { returned, give_back: Some(give_back), _mapping: None }))
    }
}

#[cfg(feature = "dpdk")]
impl RawSlot {
    /// Makes a slot of lent memory that has `len` bytes behind the header and room for `capacity`.
    ///
    /// # Safety
    /// `header` is aligned for a [`SlotHeader`], with `capacity` bytes behind it, initialised up to `len` at least, and
    /// nobody else touches any of that before `home` gets it back.
    #[inline(always)]
    pub(crate) unsafe fn lent(
        header: NonNull<SlotHeader>,
        home: &'static Home,
        capacity: u32,
        len: u32,
    ) -> Self {
        // SAFETY: the caller says that the place is good, and ours.
        unsafe {
            header.write(SlotHeader {
                home: NonNull::from(home),
                capacity,
                len,
                virtio_len: 0,
                class: 0,
                arrival: Nanos::ZERO,
                ordinal: 0,
                next: None,
                completed: None,
            });
        }
        Self { header }
    }

    /// Whether it was lent by `home`.
    #[inline(always)]
    pub(crate) fn is_lent_by(&self, home: &'static Home) -> bool {
        self.header().home == NonNull::from(home)
    }

    /// Gives up the handle of a lent slot; what stood behind it goes home.
    #[inline(always)]
    pub(crate) fn into_lent(mut self) -> NonNull<SlotHeader> {
        if self.header().next.is_some() {
            self.send_followers_home();
        }
        let header = self.header;
        std::mem::forget(self);
        header
    }
}

impl Drop for RawSlot {
    fn drop(&mut self) {
        if self.header().next.is_some() {
            self.send_followers_home();
        }
        // SAFETY: a home is unmapped only when all its slots are free, and this one is not.
        let home = unsafe { self.header().home.as_ref() };
        if let Some(give_back) = home.give_back {
            // SAFETY: this is the slot's only handle, and it is gone after this.
            return unsafe { give_back(self.header) };
        }
        // The queue is as long as there are slots, and this is the slot's only handle: there is room.
        let pushed = home.returned.push(FreeSlot { header: self.header });
        debug_assert!(pushed.is_ok(), "a slot came home twice");
    }
}

/// Asks for the cache line at `address`.
#[inline(always)]
pub(crate) fn prefetch(address: *const i8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is allowed and touches no memory in the language's sense.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Makes a range of the process's memory resident without changing what it holds. False: the system cannot, or the range
/// is not all memory any more.
pub(crate) fn populate(range: &Range<usize>, pages: Pages) -> bool {
    use rustix::mm::{Advice, madvise};
    let base = std::ptr::without_provenance_mut(range.start);
    if pages == Pages::Huge {
        // SAFETY: what pages a range is made of changes nothing that a program can see of its contents. Refusal is fine.
        let _ = unsafe { madvise(base, range.len(), Advice::LinuxHugepage) };
    }
    // SAFETY: as if every page were read and written back: contents stay, whoever they belong to. Addresses that are not
    // mapped, or not writable, are an error and stay as they are.
    unsafe { madvise(base, range.len(), Advice::LinuxPopulateWrite) }.is_ok()
}
