//! A TAP device opened: made or attached, with its queues, header and offloads. What the kernel refuses becomes a sentence
//! that says how to mend it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::TapSettings;
use super::address::Lifetime;
use crate::PortError;
use crate::interface::queues::Queues;
use crate::interface::{Watch, exists};
use crate::sys::interface as sys;

const TAP: u16 = 0x0002;
const NO_PACKET_INFORMATION: u16 = 0x1000;
const VIRTIO_HEADER: u16 = 0x4000;
const MULTI_QUEUE: u16 = 0x0100;

/// Open checksums, TCP super-frames of both versions (with ECN), then UDP's.
const OFFLOADS: u32 = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
const UDP_OFFLOADS: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// Whether the device is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    There,
    ToBeMade,
}

/// Opens the queues, and sets up a device that was made here.
pub(super) fn open(settings: &TapSettings) -> Result<(Queues<OwnedFd>, Watch), PortError> {
    let failed = |action, source: io::Error| failure(settings, action, source, String::new());
    let there = exists(settings.name).map_err(|source| failed("look for", source))?;
    let queues = attach(settings, if there { Device::There } else { Device::ToBeMade })?;
    let mut watch =
        Watch::new(settings.name, settings.to_string()).map_err(|source| failed("look at", source))?;
    if !there {
        watch.set_up().map_err(|source| failed("set up", source))?;
    }
    Ok((queues, watch))
}

/// Opens the queues of a device that has come in the place of one that was deleted. It is left as it is.
pub(super) fn attach_again(settings: &TapSettings) -> Result<Queues<OwnedFd>, PortError> {
    attach(settings, Device::There)
}

fn failure(settings: &TapSettings, action: &'static str, source: io::Error, hint: String) -> PortError {
    PortError::Os { action, address: settings.to_string(), source, hint }
}

fn attach(settings: &TapSettings, device: Device) -> Result<Queues<OwnedFd>, PortError> {
    let failed = |action, source: Errno, hint| failure(settings, action, source.into(), hint);
    let action = if device == Device::There { "attach to" } else { "make" };
    let mut queues = Vec::with_capacity(settings.queues);
    let mut flags = TAP | NO_PACKET_INFORMATION;
    if settings.queues > 1 {
        flags |= MULTI_QUEUE;
    }
    if !settings.header.is_empty() {
        flags |= VIRTIO_HEADER;
    }
    for _ in 0..settings.queues {
        let opened =
            open_tun().map_err(|source| failed("open /dev/net/tun for", source, tun_hint(source)))?;
        let mut attached = sys::attach(&opened, settings.name.raw(), flags);
        if attached == Err(Errno::INVAL) && device == Device::There && settings.queues == 1 {
            // One queue of a device that can have several.
            attached = sys::attach(&opened, settings.name.raw(), flags | MULTI_QUEUE);
        }
        attached.map_err(|source| failed(action, source, attach_hint(source, settings)))?;
        queues.push(opened);
    }
    for queue in &queues {
        prepare(queue, settings).map_err(|source| failed("set offloads of", source, String::new()))?;
    }
    if let (Lifetime::Persistent, Some(queue)) = (settings.lifetime, queues.first()) {
        sys::set_persistent(queue).map_err(|source| failed("keep", source, String::new()))?;
    }
    Queues::new(queues).map_err(|source| failed("wait on", source, String::new()))
}

fn open_tun() -> Result<OwnedFd, Errno> {
    rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// Header and offloads. Without a header there are none: the kernel completes checksums and cuts super-frames.
fn prepare(queue: &OwnedFd, settings: &TapSettings) -> Result<(), Errno> {
    if settings.header.is_empty() {
        return sys::set_offloads(queue, 0);
    }
    sys::set_header_bytes(queue, i32::try_from(settings.header.len()).unwrap_or(0))?;
    // Kernels before 6.2 know no offloads of UDP.
    sys::set_offloads(queue, OFFLOADS | UDP_OFFLOADS).or_else(|_| sys::set_offloads(queue, OFFLOADS))
}

fn tun_hint(error: Errno) -> String {
    match error {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => {
            "; this kernel offers no TAP devices here: modprobe tun, and in a container pass /dev/net/tun in".to_owned()
        }
        Errno::ACCESS | Errno::PERM => {
            "; this user may not open it: chmod 666 /dev/net/tun, as most distributions have it, or run as root"
                .to_owned()
        }
        _ => String::new(),
    }
}

fn attach_hint(error: Errno, settings: &TapSettings) -> String {
    let name = settings.name;
    match error {
        Errno::PERM | Errno::ACCESS => {
            let multi = if settings.queues > 1 { " multi_queue" } else { "" };
            format!(
                "; that takes the capability CAP_NET_ADMIN: run as root, or `setcap cap_net_admin+ep` the colo binary, or \
                 have root make the device for this user: ip tuntap add dev {name} mode tap user $USER{multi} && \
                 ip link set {name} up"
            )
        }
        Errno::BUSY => {
            "; another process has it: end that one, or give the device more queues (ip tuntap add ... \
                        multi_queue, and ,queues=N here)"
                .to_owned()
        }
        Errno::INVAL => format!(
            "; {name} is there and is no TAP device, or has one queue only: ip link del {name}, or ip tuntap add dev {name} \
             mode tap multi_queue"
        ),
        Errno::TOOBIG => "; it has as many queues as it can have, or all are taken".to_owned(),
        _ => String::new(),
    }
}
