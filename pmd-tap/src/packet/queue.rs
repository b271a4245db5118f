//! One socket of a port with its ring: opened, read, sent to.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use arrayvec::ArrayVec;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, sendmmsg, sockopt,
};

use super::PacketSettings;
use super::address::Reach;
use crate::interface::header;
use crate::sys::packet::{self as sys, HEADER_BYTES, Received, Ring};
use crate::{BURST_FRAMES, Burst, Frame, FramePool, VirtioHeader};

/// Bytes of a block of the ring: several super-frames.
const BLOCK_BYTES: usize = 512 * 1024;
const BLOCKS_A_MIB: usize = (1 << 20) / BLOCK_BYTES;
/// Bytes that may be on their way out: a few dozen super-frames.
const SEND_BYTES: usize = 4 << 20;
/// Both addresses of an Ethernet frame; a VLAN tag stands behind them.
const ADDRESS_BYTES: usize = 12;
const TAG_BYTES: u16 = 4;

/// A socket and its ring.
#[derive(Debug)]
pub(super) struct Queue {
    socket: OwnedFd,
    ring: Ring,
    header: VirtioHeader,
    /// Frames that the ring had no room for in full.
    cut: u64,
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket()
    }
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    BurstFull,
    Empty,
    NoSlot,
}

/// Which step failed.
pub(super) type Failure = (&'static str, Errno);

impl Queue {
    /// Opens a socket on the interface of that number. It receives from then on.
    pub(super) fn open(settings: &PacketSettings, index: i32) -> Result<Self, Failure> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
            .map_err(|error| ("open a packet socket on", error))?;
        sys::set_headers(&socket).map_err(|error| ("ask for virtio-net headers on", error))?;
        sys::ignore_outgoing(&socket).map_err(|error| ("leave out what is sent on", error))?;
        let ring = Ring::new(&socket, BLOCK_BYTES, settings.ring_mib * BLOCKS_A_MIB)
            .map_err(|error| ("get a ring for", error))?;
        // As much as the system lets this user have will do, too.
        let _ = sockopt::set_socket_send_buffer_size(&socket, SEND_BYTES);
        sys::bind(&socket, index).map_err(|error| ("receive from", error))?;
        if settings.reach == Reach::Promiscuous {
            sys::set_promiscuous(&socket, index).map_err(|error| ("make promiscuous", error))?;
        }
        Ok(Self { socket, ring, header: settings.header, cut: 0 })
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Frames dropped since this was last asked, by the kernel or for want of room.
    pub(super) fn take_losses(&mut self) -> u64 {
        let dropped = sys::take_drops(&self.socket).unwrap_or(0);
        u64::from(dropped) + std::mem::take(&mut self.cut)
    }

    /// Copies what is in the ring into frames; `each` gets every one.
    pub(super) fn read(
        &mut self,
        pool: &mut FramePool,
        burst: &mut Burst,
        mut each: impl FnMut(&mut Frame),
    ) -> Read {
        while !burst.is_full() {
            let Some(received) = self.ring.peek() else { return Read::Empty };
            if received.bytes.len() < received.original_len + HEADER_BYTES {
                self.cut += 1;
                self.ring.advance();
                continue;
            }
            let Some(mut frame) = copied(&received, self.header, pool) else { return Read::NoSlot };
            self.ring.advance();
            each(&mut frame);
            burst.push(frame);
        }
        Read::BurstFull
    }

    /// Sends frames of the front with one system call; how many, or why not the first.
    pub(super) fn send(&self, burst: &Burst) -> Result<usize, Errno> {
        let common = VirtioHeader::from_len(HEADER_BYTES).unwrap_or_default();
        let parts: ArrayVec<ArrayVec<IoSlice<'_>, 3>, BURST_FRAMES> =
            burst.iter().map(|frame| header::parts(frame, common)).collect();
        let mut controls: [SendAncillaryBuffer<'_, '_, '_>; BURST_FRAMES] =
            std::array::from_fn(|_| SendAncillaryBuffer::default());
        let mut messages: ArrayVec<MMsgHdr<'_>, BURST_FRAMES> =
            parts.iter().zip(&mut controls).map(|(parts, control)| MMsgHdr::new(parts, control)).collect();
        sendmmsg(&self.socket, &mut messages, SendFlags::DONTWAIT)
    }
}

/// The frame as the wire has it: with its VLAN tag, with the header that is wanted, or else with its checksum complete.
fn copied(received: &Received<'_>, wanted: VirtioHeader, pool: &mut FramePool) -> Option<Frame> {
    let (common, ethernet) = received.bytes.split_at_checked(HEADER_BYTES)?;
    let addresses = ethernet.len().min(ADDRESS_BYTES);
    let tag = received.vlan.map(|(protocol, tag)| {
        let ([a, b], [c, d]) = (protocol.to_be_bytes(), tag.to_be_bytes());
        [a, b, c, d]
    });
    let tag = tag.as_ref().map_or(&[][..], |tag| &tag[..]);
    let mut frame = pool.frame_for(wanted.len() + ethernet.len() + tag.len())?;
    // It was asked for with that length.
    let _ = frame.set_len(wanted.len() + ethernet.len() + tag.len());
    frame.set_virtio_header(wanted);
    let mut asked = [0; HEADER_BYTES];
    asked.copy_from_slice(common);
    if !tag.is_empty() {
        header::shift(&mut asked, TAG_BYTES);
    }
    let (head, body) = frame.bytes_mut().split_at_mut(wanted.len());
    body[..addresses].copy_from_slice(&ethernet[..addresses]);
    body[addresses..addresses + tag.len()].copy_from_slice(tag);
    body[addresses + tag.len()..].copy_from_slice(&ethernet[addresses..]);
    if head.is_empty() {
        header::complete_checksum(&asked, body);
    } else {
        head.fill(0);
        head[..HEADER_BYTES].copy_from_slice(&asked);
    }
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PoolSettings;

    #[test]
    fn a_frame_comes_out_of_the_ring_as_the_wire_had_it() {
        let mut pool = FramePool::new(PoolSettings { small: 8, mtu: 0, jumbo: 0, gso: 0 }).unwrap();
        let header = [1, 0, 0, 0, 0, 0, 14, 0, 8, 0];
        let ethernet: Vec<u8> = (0..12).chain([8, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 0]).collect();
        let bytes = [&header[..], &ethernet].concat();
        let received = |vlan| Received { bytes: &bytes, original_len: ethernet.len(), vlan };
        let tag = [0x88, 0xa8, 0x20, 0x07];
        let tagged = [&ethernet[..12], &tag, &ethernet[12..]].concat();

        let kept = copied(&received(None), VirtioHeader::MERGEABLE, &mut pool).unwrap();
        assert_eq!(kept.bytes(), [&header[..], &[0, 0], &ethernet].concat());
        let kept = copied(&received(Some((0x88a8, 0x2007))), VirtioHeader::MERGEABLE, &mut pool).unwrap();
        assert_eq!(kept.bytes()[..12], [1, 0, 0, 0, 0, 0, 18, 0, 8, 0, 0, 0]);
        assert_eq!(kept.ethernet(), tagged);

        // Without header the checksum over 1, 2, 3 and 4 is complete, wherever it stands.
        let sum = (!10_u16).to_be_bytes();
        for (vlan, before) in [(None, &ethernet), (Some((0x88a8, 0x2007)), &tagged)] {
            let plain = copied(&received(vlan), VirtioHeader::NONE, &mut pool).unwrap();
            let split = before.len() - 2;
            assert_eq!(plain.bytes()[..split], before[..split]);
            assert_eq!(plain.bytes()[split..], sum);
        }
        let short = Received { bytes: &bytes[..13], original_len: 3, vlan: Some((1, 2)) };
        assert_eq!(copied(&short, VirtioHeader::NONE, &mut pool).unwrap().len(), 7);
    }
}
