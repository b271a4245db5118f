//! The seam between the engine and whatever carries frames.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::{Burst, FramePool, LossMeter, Nanos, VirtioHeader};

/// What a receive left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxState {
    /// There may be more: ask again.
    More,
    /// The port is empty: asking again before it is readable is a waste.
    Empty,
    /// The pool has no room for the next frame, which stays in the port.
    PoolEmpty,
    /// Nobody is at the other end, or the capture is over.
    Down,
}

/// What happened to a port's link since it was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Somebody is at the other end.
    Up {
        /// Who, for people.
        peer: String,
    },
    /// The other end is gone in the ordinary way: end of stream, reset.
    Down {
        /// How, for people.
        reason: String,
    },
    /// We closed the link, because the other end broke the protocol.
    Refused {
        /// What it sent, for people.
        reason: String,
    },
}

/// What a port can do, and what its frames look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Whether frames may carry a virtio-net header, each announcing its length.
    pub virtio_header: bool,
    /// The header that every frame carries, when it is always the same one.
    pub fixed_virtio_header: VirtioHeader,
    /// Longest IP packet that fits into a frame without offloads, bytes, where the other end has such a limit.
    pub mtu: Option<u32>,
}

/// Frames that a port could not carry, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Dropped by the kernel before they were read: the engine did not keep up.
    pub received: u64,
    /// Taken to be sent, and refused for good by who should carry them: too long, or with a virtio header that makes no
    /// sense.
    pub sent: u64,
}

/// Why a port could not be made. What happens to a link later is a [`LinkEvent`].
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The address is not one.
    #[error("{address:?} is no address: {problem}; write {usage}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        problem: String,
        /// What would be right.
        usage: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {action} {address}: {source}{hint}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// On what.
        address: String,
        /// The answer.
        source: std::io::Error,
        /// What may help; empty, or starting with `; `.
        hint: String,
    },
}

/// Moves frames in bursts; never blocks, never allocates once it is made.
pub trait Port: Send {
    /// Appends received frames to `burst` until it is full or there is nothing more; stamps each with `now` and its
    /// place in this input. Also keeps the link (accepts, connects, reconnects), so an output needs it called too.
    /// Whatever the state says, `burst` may have got frames.
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState;

    /// Takes frames from the front of `burst`, in order, as many as it has room for; what stays could not be taken
    /// now. Frames taken are given back to `pool`.
    fn tx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst);

    /// Pushes out what [`tx_burst`](Self::tx_burst) took. Returns whether nothing is left to push; while the link is
    /// down what was taken waits, and goes with the first flush after it came back.
    fn flush(&mut self) -> bool;

    /// Whether somebody is at the other end.
    fn is_up(&self) -> bool;

    /// Whether it is down for good: the capture is over, the only peer it could have is gone.
    fn is_over(&self) -> bool {
        false
    }

    /// The next thing that happened to the link.
    fn poll_link(&mut self) -> Option<LinkEvent>;

    /// What keeps the link from coming up, for people; `None`: nothing is known.
    fn obstacle(&self) -> Option<String> {
        None
    }

    /// What to wait on (readable, and writable too while [`flush`](Self::flush) returns false); `None`: poll by time.
    fn readiness(&self) -> Option<BorrowedFd<'_>>;

    /// How long a core that has it may sleep although it has nothing to wait on; `None`: as long as it likes.
    fn longest_nap(&self) -> Option<Duration> {
        None
    }

    /// What it can do.
    fn caps(&self) -> Caps;

    /// Frames that it could not carry, as of a quarter of a second ago at worst.
    fn losses(&self) -> Losses {
        Losses::default()
    }

    /// Frames dropped on their way in that only the kernel counts, and that [`losses`](Self::losses) has not: to be read
    /// by a thread that may wait. `None`: there are none.
    fn loss_meter(&self) -> Option<LossMeter> {
        None
    }
}

/// In `impl Port` of something around a port: what it has no part in is the inner port's answer. A method that is new in
/// [`Port`] belongs here, or ports in boxes and behind faults lose it.
macro_rules! as_inside {
    ($self:ident => $inner:expr) => {
        fn is_up(&$self) -> bool {
            $inner.is_up()
        }

        fn poll_link(&mut $self) -> Option<$crate::LinkEvent> {
            $inner.poll_link()
        }

        fn obstacle(&$self) -> Option<String> {
            $inner.obstacle()
        }

        fn readiness(&$self) -> Option<std::os::fd::BorrowedFd<'_>> {
            $inner.readiness()
        }

        fn longest_nap(&$self) -> Option<std::time::Duration> {
            $inner.longest_nap()
        }

        fn caps(&$self) -> $crate::Caps {
            $inner.caps()
        }

        fn losses(&$self) -> $crate::Losses {
            $inner.losses()
        }

        fn loss_meter(&$self) -> Option<$crate::LossMeter> {
            $inner.loss_meter()
        }
    };
}
pub(crate) use as_inside;

impl Port for Box<dyn Port> {
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        (**self).rx_burst(pool, now, burst)
    }

    fn tx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) {
        (**self).tx_burst(pool, now, burst);
    }

    fn flush(&mut self) -> bool {
        (**self).flush()
    }

    fn is_over(&self) -> bool {
        (**self).is_over()
    }

    as_inside!(self => (**self));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CaptureFile, FaultPort, FaultSettings, Rotation};

    /// A port with an answer of its own to everything.
    struct Odd;

    impl Port for Odd {
        fn rx_burst(&mut self, _: &mut FramePool, _: Nanos, _: &mut Burst) -> RxState {
            RxState::Down
        }

        fn tx_burst(&mut self, _: &mut FramePool, _: Nanos, _: &mut Burst) {}

        fn flush(&mut self) -> bool {
            true
        }

        fn is_up(&self) -> bool {
            true
        }

        fn is_over(&self) -> bool {
            true
        }

        fn poll_link(&mut self) -> Option<LinkEvent> {
            Some(LinkEvent::Up { peer: "odd".to_owned() })
        }

        fn obstacle(&self) -> Option<String> {
            Some("oddity".to_owned())
        }

        fn readiness(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        fn longest_nap(&self) -> Option<Duration> {
            Some(Duration::from_micros(7))
        }

        fn caps(&self) -> Caps {
            Caps { mtu: Some(7), ..Caps::default() }
        }

        fn losses(&self) -> Losses {
            Losses { received: 7, sent: 8 }
        }

        fn loss_meter(&self) -> Option<LossMeter> {
            LossMeter::new("lo".parse().ok()?)
        }
    }

    /// By a generic function, which sees the box and not what is in it.
    fn ask(port: &mut impl Port) {
        assert!(port.is_up() && port.is_over() && port.flush() && port.readiness().is_none());
        assert_eq!(port.poll_link(), Some(LinkEvent::Up { peer: "odd".to_owned() }));
        assert_eq!(port.obstacle().as_deref(), Some("oddity"));
        assert_eq!(port.longest_nap(), Some(Duration::from_micros(7)));
        assert_eq!(port.caps().mtu, Some(7));
        assert_eq!(port.losses(), Losses { received: 7, sent: 8 });
        assert!(port.loss_meter().is_some());
    }

    #[test]
    fn what_is_around_a_port_says_what_the_port_says() {
        let directory = tempfile::tempdir().unwrap();
        let rotation = Rotation { max_bytes: 1 << 20, files: 1 };
        let mut file =
            CaptureFile::create(directory.path().join("c.pcapng"), "colo", &["odd"], rotation).unwrap();
        let boxed: Box<dyn Port> = Box::new(Odd);
        let faulty: Box<dyn Port> = Box::new(FaultPort::new(boxed, &FaultSettings::default()));
        let mut port: Box<dyn Port> = Box::new(file.wrap(faulty).unwrap());
        ask(&mut port);
    }
}
