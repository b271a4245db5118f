//! What the protocols between threads are made of. [`wake`](super::wake) and [`epochs`](super::epochs) take it from here
//! and from nowhere else, so that `engine/tests/models` can put a model checker's in its place.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

/// Something that a thread waits for in `poll`, and that stays rung until it is silenced.
#[derive(Debug)]
pub(super) struct Bell {
    fd: OwnedFd,
}

impl Bell {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { fd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    pub(super) fn ring(&self) {
        let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
    }

    pub(super) fn silence(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0_u8; 8]);
    }

    /// Readable while it is rung.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
