//! What the kernel is asked about network interfaces, and how a TAP device is made: one function a request, each with its
//! own structure and number (`linux/if.h`, `linux/if_tun.h`). Decides nothing.

use std::ffi::{c_int, c_uint};
use std::os::fd::AsFd;

use rustix::io;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};

/// Bytes of an interface's name, its final zero included (`IFNAMSIZ`).
pub(crate) const NAME_BYTES: usize = 16;

/// The name of an interface, padded with zeros; the last byte is one.
pub(crate) type RawName = [u8; NAME_BYTES];

const GET_FLAGS: Opcode = 0x8913;
const SET_FLAGS: Opcode = 0x8914;
const GET_MTU: Opcode = 0x8921;
const GET_INDEX: Opcode = 0x8933;
const TUN_SET_PERSIST: Opcode = opcode::write::<c_int>(b'T', 203);
const TUN_SET_IFF: Opcode = opcode::write::<c_int>(b'T', 202);
const TUN_SET_OFFLOAD: Opcode = opcode::write::<c_uint>(b'T', 208);
const TUN_SET_HEADER_SIZE: Opcode = opcode::write::<c_int>(b'T', 216);

/// `struct ifreq`: the name, and a union of which only the first bytes are used here. The kernel copies all 40 bytes in
/// and out.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct InterfaceRequest {
    name: RawName,
    value: [u8; 24],
}

const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

impl InterfaceRequest {
    fn new(name: RawName) -> Self {
        Self { name, value: [0; 24] }
    }

    fn short(&self) -> u16 {
        u16::from_ne_bytes([self.value[0], self.value[1]])
    }

    fn word(&self) -> i32 {
        i32::from_ne_bytes([self.value[0], self.value[1], self.value[2], self.value[3]])
    }

    fn with_short(mut self, short: u16) -> Self {
        self.value[..2].copy_from_slice(&short.to_ne_bytes());
        self
    }
}

/// Asks with a request that comes back changed.
fn ask<const OPCODE: Opcode>(
    socket: impl AsFd,
    mut request: InterfaceRequest,
) -> io::Result<InterfaceRequest> {
    // SAFETY: only called with numbers of requests that read and write one `struct ifreq`, which this is: the size is
    // asserted above, and each of its bytes is initialised and may have any value.
    let update = unsafe { Updater::<OPCODE, InterfaceRequest>::new(&mut request) };
    // SAFETY: as above; the request lives until the call returns.
    unsafe { ioctl(socket, update)? };
    Ok(request)
}

/// `IFF_UP`, `IFF_RUNNING` and the others.
pub(crate) fn flags(socket: impl AsFd, name: RawName) -> io::Result<u16> {
    ask::<GET_FLAGS>(socket, InterfaceRequest::new(name)).map(|answer| answer.short())
}

/// Sets them.
pub(crate) fn set_flags(socket: impl AsFd, name: RawName, flags: u16) -> io::Result<()> {
    ask::<SET_FLAGS>(socket, InterfaceRequest::new(name).with_short(flags)).map(drop)
}

/// Longest IP packet, bytes.
pub(crate) fn mtu(socket: impl AsFd, name: RawName) -> io::Result<i32> {
    ask::<GET_MTU>(socket, InterfaceRequest::new(name)).map(|answer| answer.word())
}

/// The interface's number.
pub(crate) fn index(socket: impl AsFd, name: RawName) -> io::Result<i32> {
    ask::<GET_INDEX>(socket, InterfaceRequest::new(name)).map(|answer| answer.word())
}

/// Makes an open `/dev/net/tun` a queue of the device, which is made if there is none. Flags are `IFF_TAP` and so on.
pub(crate) fn attach(tun: impl AsFd, name: RawName, flags: u16) -> io::Result<()> {
    ask::<TUN_SET_IFF>(tun, InterfaceRequest::new(name).with_short(flags)).map(drop)
}

/// Which offloads frames may ask of us: `TUN_F_CSUM` and so on.
pub(crate) fn set_offloads(tun: impl AsFd, offloads: u32) -> io::Result<()> {
    let offloads = usize::try_from(offloads).unwrap_or(0);
    // SAFETY: TUNSETOFFLOAD takes an integer, and refuses bits it does not know.
    unsafe { ioctl(tun, IntegerSetter::<TUN_SET_OFFLOAD>::new_usize(offloads)) }
}

/// Bytes of the virtio-net header in front of each frame.
pub(crate) fn set_header_bytes(tun: impl AsFd, bytes: i32) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int.
    unsafe { ioctl(tun, Setter::<TUN_SET_HEADER_SIZE, c_int>::new(bytes)) }
}

/// Leaves the device when the last queue goes.
pub(crate) fn set_persistent(tun: impl AsFd) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes an integer: 0 or not.
    unsafe { ioctl(tun, IntegerSetter::<TUN_SET_PERSIST>::new_usize(1)) }
}
