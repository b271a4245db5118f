//! A network interface as a port, by `AF_PACKET`: what comes in there is received, what is sent goes out there.
//!
//! Received through a ring that the kernel fills (`TPACKET_V3`), sent a burst at a time. Others have the interface, too: this
//! port looks on, and takes nothing away from them. It knows nothing of what frames say.

mod address;
mod queue;

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::interface::Watch;
use crate::interface::queues::Queues;
use crate::sys;
use crate::{Burst, Caps, FramePool, LinkEvent, Losses, Nanos, Port, PortError, RxState};
use queue::{Queue, Read};

pub use address::{PacketSettings, Reach, Sharing};

/// A port on a network interface.
///
/// All queues are polled by whoever has the port, in turn, each until the burst is full; frames are sent by the first.
/// What this machine sends on the interface is not received, so an output's frames do not come back. When the interface
/// was deleted and somebody makes another of the same name, the port goes on with that.
#[derive(Debug)]
pub struct PacketPort {
    settings: PacketSettings,
    queues: Queues<Queue>,
    watch: Watch,
    received: u64,
    losses: Losses,
}

impl PacketPort {
    /// Opens the sockets; frames are kept for the port from here on.
    ///
    /// # Errors
    /// [`PortError::Os`], with the capability that is missing if one is.
    pub fn new(settings: &PacketSettings) -> Result<Self, PortError> {
        let watch = Watch::new(settings.name, settings.to_string()).map_err(|source| {
            failure(settings, ("look at", Errno::from_io_error(&source).unwrap_or(Errno::IO)))
        })?;
        let queues = open(settings, watch.index())?;
        Ok(Self { settings: *settings, queues, watch, received: 0, losses: Losses::default() })
    }

    /// Looks at the interface and its losses, if that is due.
    #[inline]
    fn keep(&mut self, now: Nanos) {
        if self.watch.keep(now) {
            let lost: u64 = self.queues.iter_mut().map(Queue::take_losses).sum();
            self.losses.received += lost;
            if let Some(index) = self.watch.successor() {
                self.open_again(index);
            }
        }
    }

    /// Goes on with the interface of that number. What the rings of the deleted one have left is lost with it.
    #[cold]
    fn open_again(&mut self, index: i32) {
        let opened = open(&self.settings, index).map(|queues| self.queues = queues);
        self.watch.succeed(opened.map(|()| index).map_err(|error| error.to_string()));
    }
}

fn open(settings: &PacketSettings, index: i32) -> Result<Queues<Queue>, PortError> {
    let failed = |failed| failure(settings, failed);
    let mut queues: Vec<Queue> = Vec::with_capacity(settings.queues);
    let mut group = 0;
    for _ in 0..settings.queues {
        let queue = Queue::open(settings, index).map_err(failed)?;
        if settings.queues > 1 {
            group = sys::packet::join(queue.socket(), group, settings.sharing.fanout())
                .map_err(|error| failed(("share out the frames of", error)))?;
        }
        queues.push(queue);
    }
    Queues::new(queues).map_err(|error| failed(("wait on", error)))
}

fn failure(settings: &PacketSettings, (action, source): queue::Failure) -> PortError {
    PortError::Os {
        action,
        address: settings.to_string(),
        source: source.into(),
        hint: hint(source, settings),
    }
}

fn hint(error: Errno, settings: &PacketSettings) -> String {
    match error {
        Errno::PERM | Errno::ACCESS => {
            "; that takes the capability CAP_NET_RAW: run as root, or `setcap cap_net_raw+ep` the colo binary"
                .to_owned()
        }
        Errno::NODEV => {
            format!(
                "; there is no interface {} in this network namespace: ip link shows what there is",
                settings.name
            )
        }
        Errno::NOMEM => {
            format!("; the kernel has no room for rings of {} MiB: lower ring=", settings.ring_mib)
        }
        Errno::NOPROTOOPT => "; that takes Linux 4.20 or later".to_owned(),
        _ => String::new(),
    }
}

impl Port for PacketPort {
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        self.keep(now);
        for _ in 0..self.queues.len() {
            let received = &mut self.received;
            let Some(queue) = self.queues.next() else { break };
            let stamped = queue.read(pool, burst, |frame| {
                frame.stamp(now, *received);
                *received += 1;
            });
            match stamped {
                Read::BurstFull => return RxState::More,
                Read::NoSlot => return RxState::PoolEmpty,
                Read::Empty => {}
            }
        }
        // What the ring has is read, whatever became of the interface.
        if self.watch.is_up() { RxState::Empty } else { RxState::Down }
    }

    fn tx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) {
        self.keep(now);
        while !burst.is_empty() && self.watch.is_up() {
            let Some(queue) = self.queues.first() else { return };
            let taken = match queue.send(burst) {
                Ok(sent) => sent,
                Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => return,
                Err(Errno::NETDOWN | Errno::NXIO | Errno::NODEV) => return self.watch.hurry(),
                Err(_) => {
                    // Too long, or a header that makes no sense: nobody will ever take it.
                    self.losses.sent += 1;
                    1
                }
            };
            burst.drain(..taken).for_each(|frame| pool.recycle(frame));
            if taken == 0 {
                return;
            }
        }
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
        // An interface that is down reports errors without end.
        self.queues.readiness().filter(|_| self.watch.is_up())
    }

    fn caps(&self) -> Caps {
        self.watch.caps(self.settings.header)
    }

    fn losses(&self) -> Losses {
        self.losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_refuses_is_said_with_the_way_to_mend_it() {
        let none: PacketSettings = "packet:no-such-device".parse().unwrap();
        let sentence = PacketPort::new(&none).unwrap_err().to_string();
        assert!(
            sentence.contains("there is no interface no-such-device in this network namespace"),
            "{sentence}"
        );
        let sentence = hint(Errno::PERM, &none);
        assert!(sentence.contains("CAP_NET_RAW"), "{sentence}");
    }
}
