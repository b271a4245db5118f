//! A Linux TAP device as a port: what the kernel sends to the device is received, what is sent comes into the kernel there.
//!
//! One system call a frame, straight between the kernel and the pool's memory. With a virtio-net header the kernel leaves
//! checksums open and hands over super-frames of up to 64 KiB, and takes both back. It knows nothing of what frames say.

mod address;
mod device;
mod landing;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::interface::queues::Queues;
use crate::interface::{Watch, header};
use crate::{Burst, Caps, Frame, FramePool, LinkEvent, LossMeter, Losses, Nanos, Port, PortError, RxState};
use landing::{Landed, Landing};

pub use address::{Lifetime, TapSettings};

/// A port on a TAP device.
///
/// All queues are polled by whoever has the port, in turn, each until the burst is full; frames are sent by the first.
/// A device that is down keeps what is to be sent. When one was deleted and somebody makes another of the same name, the
/// port attaches to that.
#[derive(Debug)]
pub struct TapPort {
    settings: TapSettings,
    queues: Queues<OwnedFd>,
    watch: Watch,
    landing: Landing,
    received: u64,
    refused: u64,
}

/// What sending a frame came to.
enum Sent {
    Yes,
    /// Nobody will ever take it.
    Refused,
    /// Not now.
    Later,
}

impl TapPort {
    /// Attaches to the device, or makes it and sets it up.
    ///
    /// # Errors
    /// [`PortError::Os`], with the capability that is missing if one is.
    pub fn new(settings: &TapSettings) -> Result<Self, PortError> {
        let (queues, watch) = device::open(settings)?;
        Ok(Self {
            settings: *settings,
            queues,
            watch,
            landing: Landing::new(settings.header),
            received: 0,
            refused: 0,
        })
    }

    /// Looks at the device, if that is due.
    #[inline]
    fn keep(&mut self, now: Nanos) {
        if self.watch.keep(now) {
            if let Some(index) = self.watch.successor() {
                self.attach_again(index);
            }
            self.landing.expect(self.watch.mtu());
        }
    }

    #[cold]
    fn attach_again(&mut self, index: i32) {
        let opened = device::attach_again(&self.settings).map(|queues| self.queues = queues);
        self.watch.succeed(opened.map(|()| index).map_err(|error| error.to_string()));
    }

    /// Reads the next queue until the burst is full or the queue is empty.
    fn drain(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        let Some(queue) = self.queues.next() else { return RxState::Empty };
        while !burst.is_full() {
            match self.landing.read(queue.as_fd(), pool) {
                Landed::Frame(mut frame) => {
                    frame.stamp(now, self.received);
                    self.received += 1;
                    burst.push(frame);
                }
                Landed::Nothing => return RxState::Empty,
                Landed::NoSlot => return RxState::PoolEmpty,
                Landed::Failed(Errno::BADFD | Errno::NODEV) => {
                    self.watch.is_gone();
                    return RxState::Down;
                }
                Landed::Failed(_) => {
                    self.watch.hurry();
                    return RxState::Empty;
                }
            }
        }
        RxState::More
    }

    /// One write. What the kernel cannot make sense of (`EINVAL`) it never will; the rest is a matter of time.
    #[inline]
    fn send(&mut self, frame: &Frame) -> Sent {
        let parts = header::parts(frame, self.settings.header);
        let Some(queue) = self.queues.first() else { return Sent::Later };
        let result = match &parts[..] {
            [whole] => rustix::io::write(queue, whole),
            parts => rustix::io::writev(queue, parts),
        };
        match result {
            Ok(_) => Sent::Yes,
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => Sent::Later,
            Err(Errno::BADFD | Errno::NODEV) => {
                self.watch.is_gone();
                Sent::Later
            }
            Err(Errno::IO) => {
                self.watch.hurry();
                Sent::Later
            }
            Err(_) => Sent::Refused,
        }
    }
}

impl Port for TapPort {
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        self.keep(now);
        if !self.watch.is_up() {
            return RxState::Down;
        }
        for _ in 0..self.queues.len() {
            match self.drain(pool, now, burst) {
                RxState::Empty => {}
                state => return state,
            }
        }
        RxState::Empty
    }

    fn tx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) {
        self.keep(now);
        if !self.watch.is_up() {
            return;
        }
        let mut taken = 0;
        while let Some(frame) = burst.get(taken) {
            match self.send(frame) {
                Sent::Yes => {}
                Sent::Refused => self.refused += 1,
                Sent::Later => break,
            }
            taken += 1;
        }
        burst.drain(..taken).for_each(|frame| pool.recycle(frame));
    }

    fn flush(&mut self) -> bool {
        true
    }

    fn is_up(&self) -> bool {
        self.watch.is_up()
    }

    fn poll_link(&mut self) -> Option<LinkEvent> {
        self.watch.next_event()
    }

    fn obstacle(&self) -> Option<String> {
        self.watch.obstacle()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        // A device that is down reports errors without end.
        self.queues.readiness().filter(|_| self.watch.is_up())
    }

    fn caps(&self) -> Caps {
        self.watch.caps(self.settings.header)
    }

    fn losses(&self) -> Losses {
        Losses { received: 0, sent: self.refused }
    }

    fn loss_meter(&self) -> Option<LossMeter> {
        LossMeter::new(self.settings.name)
    }
}
