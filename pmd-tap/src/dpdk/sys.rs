//! The unsafe half of the DPDK port: devices by number, packets by pointer, and frames that borrow a packet's memory.
//!
//! Nothing here decides anything. A [`Packet`] is the only handle to its mbuf. A frame that borrows one has its slot
//! header in the mbuf's headroom, right in front of the data, where a slot of a pool has it too; so a frame is a frame, and
//! only its way home differs.

use std::ffi::{CStr, CString, c_int};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use capsule_ffi as ffi;

use crate::sys::{Home, SLOT_HEADER_BYTES, SlotHeader};
use crate::{Frame, FramePool, Losses};

/// Packets that one call receives or sends at most.
pub(super) const BURST_PACKETS: usize = 32;

/// From a mbuf to its buffer, in `capsule`'s pools: no private area lies between.
const BUFFER_AT: usize = size_of::<ffi::rte_mbuf>();
/// From a mbuf to the header of a frame that borrows it.
const HEADER_AT: usize = BUFFER_AT + HEADROOM - SLOT_HEADER_BYTES;
/// Bytes in front of a packet's data.
const HEADROOM: usize = 128;
const _: () = assert!(ffi::HEADROOM_BYTES == 128 && HEADROOM >= SLOT_HEADER_BYTES);
const _: () =
    assert!(HEADER_AT.is_multiple_of(align_of::<SlotHeader>()) && align_of::<ffi::rte_mbuf>() == 64);

/// Mbufs that are frames now. The memory of DPDK stays mapped while there are any.
static LENT: AtomicUsize = AtomicUsize::new(0);

/// Mbufs that are frames now.
pub(super) fn lent() -> usize {
    LENT.load(Ordering::Acquire)
}

fn home() -> &'static Home {
    static HOME: OnceLock<&'static Home> = OnceLock::new();
    HOME.get_or_init(|| Home::of_lent(give_back))
}

/// # Safety
/// `header` is that of a frame made by [`Packet::into_frame`] whose handle is gone.
unsafe fn give_back(header: NonNull<SlotHeader>) {
    // SAFETY: as the caller says; the packet is the only handle again.
    drop(unsafe { Packet::behind(header) });
    // Afterwards: who sees none lent may take DPDK's memory away.
    LENT.fetch_sub(1, Ordering::Release);
}

/// A device by its name.
pub(super) fn find(device: &str) -> Result<u16, String> {
    let name = CString::new(device).map_err(|error| error.to_string())?;
    let mut port = 0;
    // SAFETY: the name is a C string and the port a place to write to.
    explain(unsafe { ffi::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut port) })?;
    Ok(port)
}

/// Starts a configured device.
pub(super) fn start(port: u16) -> Result<(), String> {
    // SAFETY: an unknown port is an error, not undefined.
    explain(unsafe { ffi::rte_eth_dev_start(port) })
}

/// Stops a device; nobody may be in a burst of it.
pub(super) fn stop(port: u16) {
    // SAFETY: as for `start`; the callers have given up their handles.
    unsafe { ffi::rte_eth_dev_stop(port) };
}

/// Closes a stopped device that its owner is not going to close.
pub(super) fn close(port: u16) {
    // SAFETY: as for `stop`.
    unsafe { ffi::rte_eth_dev_close(port) };
}

/// Whether the calling thread has a cache in the pools now.
pub(super) fn register_thread() -> bool {
    // SAFETY: DPDK is running; a thread may be registered once, and the shim sees to that.
    unsafe { ffi::cffi_thread_register() == 0 }
}

/// What DPDK answers, as a sentence's end if it is an error.
fn explain(answer: c_int) -> Result<(), String> {
    if answer >= 0 {
        return Ok(());
    }
    // SAFETY: DPDK has a string for every number, in memory of the thread.
    let text = unsafe { CStr::from_ptr(ffi::rte_strerror(-answer)) };
    Err(text.to_string_lossy().into_owned())
}

/// A started device and the pool that packets to it come from.
#[derive(Debug)]
pub(super) struct Device {
    port: u16,
    queues: u16,
    pool: NonNull<ffi::rte_mempool>,
}

// SAFETY: a pool may be used by all threads, a queue by one at a time: `receive` and `send` take `&mut self`, and `Device` is
// made once for a port.
unsafe impl Send for Device {}

impl Device {
    /// The device of this number; `None` if `pool` does not exist.
    pub(super) fn new(port: u16, queues: u16, pool: &CStr) -> Option<Self> {
        // SAFETY: the name is a C string. `capsule` frees its pools only when all devices are given back.
        let pool = NonNull::new(unsafe { ffi::rte_mempool_lookup(pool.as_ptr()) })?;
        Some(Self { port, queues, pool })
    }

    /// Queues each way.
    pub(super) fn queues(&self) -> u16 {
        self.queues
    }

    /// Whether its link is up.
    pub(super) fn is_linked(&self) -> bool {
        // SAFETY: the port is a number; an unknown one is an error.
        unsafe { ffi::cffi_eth_link(self.port) == 1 }
    }

    /// Frames that it lost: nobody fetched them in time, no mbuf was free; or it could not send them.
    pub(super) fn losses(&self) -> Losses {
        let mut stats = ffi::rte_eth_stats::default();
        // SAFETY: the stats are a place to write to; an error leaves them 0.
        unsafe { ffi::rte_eth_stats_get(self.port, &raw mut stats) };
        Losses { received: stats.imissed + stats.rx_nombuf + stats.ierrors, sent: stats.oerrors }
    }

    /// Appends at most `room` packets of a queue; how many.
    #[inline]
    pub(super) fn receive(
        &mut self,
        queue: u16,
        room: usize,
        packets: &mut ArrayVec<Packet, BURST_PACKETS>,
    ) -> usize {
        let mut pointers = [std::ptr::null_mut(); BURST_PACKETS];
        let room = u16::try_from(room.min(packets.remaining_capacity())).unwrap_or(0);
        // SAFETY: `pointers` has room for `room`, as `packets` has no more than BURST_PACKETS; the queue was set up.
        let count =
            unsafe { ffi::_rte_eth_rx_burst(self.port, queue % self.queues, pointers.as_mut_ptr(), room) };
        let got = pointers.into_iter().take(usize::from(count)).filter_map(NonNull::new);
        packets.extend(got.map(|mbuf| Packet { mbuf }));
        usize::from(count)
    }

    /// Sends packets from the front, as many as the device takes; how many.
    #[inline]
    pub(super) fn send<const N: usize>(&mut self, packets: &mut ArrayVec<Packet, N>) -> usize {
        let count = u16::try_from(packets.len()).unwrap_or(u16::MAX);
        // SAFETY: a packet is a pointer to a mbuf and nothing else, and the slice has `count` of them. The device owns what
        // it takes: those handles are forgotten.
        let sent = unsafe {
            let first = packets.as_mut_ptr().cast::<*mut ffi::rte_mbuf>();
            ffi::_rte_eth_tx_burst(self.port, 0, first, count)
        };
        let sent = usize::from(sent).min(packets.len());
        packets.drain(..sent).for_each(std::mem::forget);
        sent
    }

    /// A packet with these bytes; `None` when the pool has too few mbufs.
    #[inline]
    pub(super) fn packet_from(&self, bytes: &[u8]) -> Option<Packet> {
        let len = u32::try_from(bytes.len()).ok()?;
        // SAFETY: the pool is alive as long as the device, and the bytes are `len`.
        let mbuf = unsafe { ffi::cffi_pktmbuf_from(self.pool.as_ptr(), bytes.as_ptr(), len) };
        NonNull::new(mbuf).map(|mbuf| Packet { mbuf })
    }
}

/// The only handle to a mbuf. Dropping it gives the mbuf back.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Packet {
    mbuf: NonNull<ffi::rte_mbuf>,
}

// SAFETY: the handle is unique; pools take mbufs back from any thread.
unsafe impl Send for Packet {}

impl Packet {
    /// # Safety
    /// `header` lies in the headroom of a mbuf, put there by `into_frame`, and nobody else has a handle to that.
    #[inline(always)]
    unsafe fn behind(header: NonNull<SlotHeader>) -> Self {
        // SAFETY: as the caller says.
        Self { mbuf: unsafe { header.cast::<u8>().sub(HEADER_AT) }.cast() }
    }

    fn raw(&self) -> &ffi::rte_mbuf {
        // SAFETY: the handle is unique and the mbuf initialised by DPDK.
        unsafe { self.mbuf.as_ref() }
    }

    /// Bytes in it, of all segments.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.raw().pkt_len).unwrap_or(0)
    }

    /// Whether a frame can borrow it: one segment, nobody else's, its data behind a whole headroom in its own buffer.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        let raw = self.raw();
        raw.nb_segs == 1
            && raw.refcnt == 1
            && usize::from(raw.data_off) == HEADROOM
            && usize::from(raw.buf_len) >= HEADROOM + usize::from(raw.data_len)
            && raw.pkt_len == u32::from(raw.data_len)
            && raw.buf_addr.addr() == self.mbuf.addr().get() + BUFFER_AT
    }

    /// Makes a plain packet a frame where it lies; the caller counts it with [`count_lent`].
    #[inline(always)]
    pub(super) fn into_frame(self) -> Frame {
        let (capacity, len) = (u32::from(self.raw().buf_len) - ffi::HEADROOM_BYTES, self.raw().pkt_len);
        // SAFETY: a plain packet's buffer starts at BUFFER_AT, so the header is the end of its headroom and the data comes
        // right behind; the packet, and so the memory, is given to the frame.
        let slot = unsafe {
            let header = self.mbuf.cast::<u8>().add(HEADER_AT).cast::<SlotHeader>();
            crate::sys::RawSlot::lent(header, home(), capacity, len)
        };
        std::mem::forget(self);
        Frame::from_slot(slot)
    }

    /// Asks for the packet's first bytes and the place of its frame's header.
    #[inline(always)]
    pub(super) fn prefetch(&self) {
        let mbuf: *const i8 = self.mbuf.as_ptr().cast();
        crate::sys::prefetch(mbuf.wrapping_add(HEADER_AT));
        crate::sys::prefetch(mbuf.wrapping_add(BUFFER_AT + HEADROOM));
    }

    /// A copy in a pool's slot; `None` when none is free.
    #[inline]
    pub(super) fn copy_to(&self, pool: &mut FramePool) -> Option<Frame> {
        let mut frame = pool.frame_for(self.len())?;
        let fits = frame.set_len(self.len());
        debug_assert!(fits, "frame_for gives room");
        // SAFETY: the packet is DPDK's, and the frame has room for its `pkt_len` bytes.
        unsafe { ffi::cffi_pktmbuf_copy_out(self.mbuf.as_ptr(), frame.bytes_mut().as_mut_ptr()) };
        Some(frame)
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: the handle was the only one.
        unsafe { ffi::_rte_pktmbuf_free(self.mbuf.as_ptr()) };
    }
}

/// Counts frames that borrow a mbuf, a burst at once.
#[inline(always)]
pub(super) fn count_lent(frames: usize) {
    if frames > 0 {
        LENT.fetch_add(frames, Ordering::Relaxed);
    }
}

/// Counts those that are packets again.
#[inline(always)]
pub(super) fn count_returned(frames: usize) {
    if frames > 0 {
        LENT.fetch_sub(frames, Ordering::Release);
    }
}

/// The packet that a frame borrows, as the frame is now; the frame if it borrows none. The caller counts it with
/// [`count_returned`].
#[inline(always)]
pub(super) fn packet_of(frame: Frame) -> Result<Packet, Frame> {
    let slot = frame.into_slot();
    if !slot.is_lent_by(home()) {
        return Err(Frame::from_slot(slot));
    }
    let len = slot.header().len;
    let header = slot.into_lent();
    // SAFETY: only `into_frame` lends by this home, and the frame was the only handle.
    let mut packet = unsafe { Packet::behind(header) };
    // SAFETY: the handle is unique.
    let raw = unsafe { packet.mbuf.as_mut() };
    raw.pkt_len = len;
    // A plain packet has room for 2,048 bytes, and a frame no longer than its room.
    raw.data_len = u16::try_from(len).unwrap_or(0);
    raw.ol_flags = 0;
    Ok(packet)
}

/// Whether a frame borrows a mbuf.
#[inline(always)]
pub(super) fn is_packet(frame: &Frame) -> bool {
    frame.is_lent_by(home())
}
