//! `AF_PACKET`: the socket options that rustix does not have, and the ring that the kernel fills (`TPACKET_V3`,
//! `linux/if_packet.h`). Decides nothing about frames.
//!
//! The ring is blocks. A block is the kernel's or ours, by the word in its header; while it is ours the kernel leaves it
//! alone. Everything the kernel says of places in a block is held against the block's bounds.

use std::ffi::{c_int, c_uint, c_ushort};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::{Errno, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use super::Mapping;

/// Bytes of the virtio-net header in front of every frame (`PACKET_VNET_HDR`).
pub(crate) const HEADER_BYTES: usize = 10;
/// `TPACKET_V3` as the option wants it.
const TPACKET_V3: c_int = 2;
/// Every kind of frame, in network order (`ETH_P_ALL`).
const ALL_PROTOCOLS: u16 = 3_u16.to_be();
/// Milliseconds after which a block is handed over that is not full: less there is not.
const RETIRE_MS: c_uint = 1;
/// Bytes by which the kernel divides blocks in its books; nothing else depends on it with this version.
const FRAME_BYTES: usize = 2_048;

/// How a group's frames are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fanout {
    /// By the kernel's hash of the flow.
    Hash,
    /// By the queue of the card.
    Queue,
}

fn set<T>(socket: impl AsFd, option: c_int, value: &T) -> Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel reads `len` bytes of a plain value that outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            len,
        )
    };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

fn get<T>(socket: impl AsFd, option: c_int, value: &mut T) -> Result<()> {
    let mut len = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel writes at most `len` bytes of a plain value, for which any bytes are valid: callers pass
    // integers, and structures of them.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_mut(value).cast(),
            &raw mut len,
        )
    };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Frames carry a virtio-net header, both ways.
pub(crate) fn set_headers(socket: impl AsFd) -> Result<()> {
    set::<c_int>(socket, libc::PACKET_VNET_HDR, &1)
}

/// What this machine sends on the interface, the socket itself included, is not received.
pub(crate) fn ignore_outgoing(socket: impl AsFd) -> Result<()> {
    set::<c_int>(socket, libc::PACKET_IGNORE_OUTGOING, &1)
}

/// Frames for other stations are received, too, as long as the socket lives.
pub(crate) fn set_promiscuous(socket: impl AsFd, index: i32) -> Result<()> {
    let wish = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: c_ushort::try_from(libc::PACKET_MR_PROMISC).unwrap_or(0),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(socket, libc::PACKET_ADD_MEMBERSHIP, &wish)
}

/// Receives from the interface from now on, and sends there.
pub(crate) fn bind(socket: impl AsFd, index: i32) -> Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: c_ushort::try_from(libc::AF_PACKET).unwrap_or(0),
        sll_protocol: ALL_PROTOCOLS,
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel reads `len` bytes of an address of that length.
    let done =
        unsafe { libc::bind(socket.as_fd().as_raw_fd(), (&raw const address).cast::<libc::sockaddr>(), len) };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

/// Joins the group of that number, or with 0 a new one; the group's number.
pub(crate) fn join(socket: impl AsFd, group: u16, fanout: Fanout) -> Result<u16> {
    let kind = match fanout {
        Fanout::Hash => libc::PACKET_FANOUT_HASH,
        Fanout::Queue => libc::PACKET_FANOUT_QM,
    };
    let unique = if group == 0 { libc::PACKET_FANOUT_FLAG_UNIQUEID } else { 0 };
    let word = u32::from(group) | (kind | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING | unique) << 16;
    set(&socket, libc::PACKET_FANOUT, &word)?;
    let mut joined: u32 = 0;
    get(&socket, libc::PACKET_FANOUT, &mut joined)?;
    Ok(u16::try_from(joined & 0xffff).unwrap_or(0))
}

/// Frames dropped since this was last asked.
pub(crate) fn take_drops(socket: impl AsFd) -> Result<u32> {
    let mut statistics = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
    get(socket, libc::PACKET_STATISTICS, &mut statistics)?;
    Ok(statistics.tp_drops)
}

/// A frame in the ring.
pub(crate) struct Received<'a> {
    /// Virtio-net header, then the frame.
    pub(crate) bytes: &'a [u8],
    /// Bytes that the frame had.
    pub(crate) original_len: usize,
    /// The tag that the kernel took out: protocol identifier and tag.
    pub(crate) vlan: Option<(u16, u16)>,
}

/// The kernel's ring of received frames.
#[derive(Debug)]
pub(crate) struct Ring {
    mapping: Mapping,
    block_bytes: usize,
    blocks: usize,
    /// The block that comes next, or is being read.
    current: usize,
    /// Frames of it that were not taken yet.
    left: u32,
    /// Where the first of them is, in the block.
    next: usize,
}

// SAFETY: the ring is memory that the kernel shares with whoever has this one handle, on whatever thread that is.
unsafe impl Send for Ring {}

impl Ring {
    /// Gives the socket a ring. Before it is bound.
    pub(crate) fn new(socket: impl AsFd, block_bytes: usize, blocks: usize) -> Result<Self> {
        let narrow = |bytes: usize| c_uint::try_from(bytes).map_err(|_| Errno::INVAL);
        let bytes = block_bytes.checked_mul(blocks).ok_or(Errno::INVAL)?;
        set::<c_int>(&socket, libc::PACKET_VERSION, &TPACKET_V3)?;
        let request = libc::tpacket_req3 {
            tp_block_size: narrow(block_bytes)?,
            tp_block_nr: narrow(blocks)?,
            tp_frame_size: narrow(FRAME_BYTES)?,
            tp_frame_nr: narrow(bytes / FRAME_BYTES)?,
            tp_retire_blk_tov: RETIRE_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::PACKET_RX_RING, &request)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a mapping of the socket's ring, at an address of the kernel's choice, overlaps nothing.
        let base = unsafe { mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, socket, 0)? };
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { mapping: Mapping { base, bytes }, block_bytes, blocks, current: 0, left: 0, next: 0 })
    }

    /// Whose the current block is.
    fn status(&self) -> &AtomicU32 {
        let at = self.current * self.block_bytes + std::mem::offset_of!(libc::tpacket_block_desc, hdr);
        // SAFETY: `current` is below `blocks`, so the word, the first of the block's header proper, lies in the mapping;
        // it is aligned, as blocks are pages, and only ever accessed as an atomic here.
        unsafe { AtomicU32::from_ptr(self.mapping.base.add(at).cast().as_ptr()) }
    }

    /// A plain structure at a place in the current block, if it fits there.
    fn read<T: Copy>(&self, at: usize) -> Option<T> {
        let end = at.checked_add(size_of::<T>())?;
        if end > self.block_bytes {
            return None;
        }
        // SAFETY: the place lies in the current block, which is ours; callers read structures of integers.
        Some(unsafe {
            self.mapping.base.add(self.current * self.block_bytes + at).cast::<T>().read_unaligned()
        })
    }

    /// The next frame; it stays until [`advance`](Self::advance).
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<Received<'_>> {
        if self.left == 0 && !self.open() {
            return None;
        }
        let header: libc::tpacket3_hdr = self.read(self.next)?;
        let start = self.next.checked_add(usize::from(header.tp_mac))?.checked_sub(HEADER_BYTES)?;
        let len = usize::try_from(header.tp_snaplen).ok()?.checked_add(HEADER_BYTES)?;
        if start.checked_add(len)? > self.block_bytes {
            return None;
        }
        let tag = (header.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
            let named = header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let protocol = if named { header.hv1.tp_vlan_tpid } else { 0x8100 };
            (protocol, u16::try_from(header.hv1.tp_vlan_tci & 0xffff).unwrap_or(0))
        });
        // SAFETY: the range lies in the current block, which is ours until `advance` gives it back, for which it takes the
        // ring mutably: not while the slice lives.
        let bytes = unsafe {
            let start = self.mapping.base.add(self.current * self.block_bytes + start);
            std::slice::from_raw_parts(start.as_ptr(), len)
        };
        Some(Received { bytes, original_len: usize::try_from(header.tp_len).ok()?, vlan: tag })
    }

    /// Looks whether the kernel has handed the current block over.
    fn open(&mut self) -> bool {
        for _ in 0..self.blocks {
            if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                return false;
            }
            let at = std::mem::offset_of!(libc::tpacket_block_desc, hdr);
            if let Some(header) = self.read::<libc::tpacket_hdr_v1>(at)
                && header.num_pkts > 0
            {
                self.left = header.num_pkts;
                self.next = usize::try_from(header.offset_to_first_pkt).unwrap_or(usize::MAX);
                return true;
            }
            self.give_back();
        }
        false
    }

    /// The frame that `peek` showed is done with.
    #[inline]
    pub(crate) fn advance(&mut self) {
        let step = self.read::<libc::tpacket3_hdr>(self.next).map_or(0, |header| header.tp_next_offset);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || step == 0 {
            self.left = 0;
            self.give_back();
        } else {
            self.next = self.next.saturating_add(usize::try_from(step).unwrap_or(usize::MAX));
        }
    }

    fn give_back(&mut self) {
        self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.current = if self.current + 1 < self.blocks { self.current + 1 } else { 0 };
    }
}
