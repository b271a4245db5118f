//! Ports in memory: the simulated guests put frames in, the world gets what leaves.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pmd_tap::{Burst, Caps, FaultPort, FramePool, LinkEvent, Nanos, Port, RxState};

/// A value that the world and the engine's parts see.
#[derive(Debug, Default)]
pub struct Both<T>(Arc<Mutex<T>>);

impl<T> Clone for Both<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Both<T> {
    /// A value to share.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    /// The value.
    pub fn get(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a link is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkIs {
    /// It is.
    #[default]
    Up,
    /// It is not.
    Down,
}

/// What is on the wire to an input, or from an output.
#[derive(Debug, Default)]
pub struct Wire {
    /// To an input: frames that it has not read.
    pub frames: VecDeque<Vec<u8>>,
    /// From an output: what left, by its place in the primary's input.
    pub left: Vec<(u64, Vec<u8>)>,
    /// The link.
    pub link: LinkIs,
    /// Changes of the link that nobody was told of.
    pub events: VecDeque<LinkEvent>,
}

impl Wire {
    /// Changes the link; what is on the way to an input is lost with it.
    pub fn set_link(&mut self, link: LinkIs) {
        if self.link == link {
            return;
        }
        self.link = link;
        self.frames.clear();
        self.events.push_back(match link {
            LinkIs::Up => LinkEvent::Up { peer: "guest".to_owned() },
            LinkIs::Down => LinkEvent::Down { reason: "simulated".to_owned() },
        });
    }
}

/// A port on a [`Wire`].
#[derive(Debug)]
pub struct MemoryPort {
    wire: Both<Wire>,
    received: u64,
}

impl MemoryPort {
    /// A port on `wire`.
    pub fn new(wire: Both<Wire>) -> Self {
        Self { wire, received: 0 }
    }
}

impl Port for MemoryPort {
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        let mut wire = self.wire.get();
        if wire.link == LinkIs::Down {
            return RxState::Down;
        }
        while !burst.is_full() {
            let Some(bytes) = wire.frames.front() else { return RxState::Empty };
            let Some(mut frame) = pool.frame_from(bytes) else { return RxState::PoolEmpty };
            wire.frames.pop_front();
            frame.stamp(now, self.received);
            self.received += 1;
            burst.push(frame);
        }
        RxState::More
    }

    fn tx_burst(&mut self, pool: &mut FramePool, _now: Nanos, burst: &mut Burst) {
        let mut wire = self.wire.get();
        if wire.link == LinkIs::Down {
            return;
        }
        for frame in burst.drain(..) {
            wire.left.push((frame.ordinal(), frame.bytes().to_vec()));
            pool.recycle(frame);
        }
    }

    fn flush(&mut self) -> bool {
        true
    }

    fn is_up(&self) -> bool {
        self.wire.get().link == LinkIs::Up
    }

    fn poll_link(&mut self) -> Option<LinkEvent> {
        self.wire.get().events.pop_front()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn caps(&self) -> Caps {
        Caps::default()
    }
}

/// A frame as the engine received it.
#[derive(Clone, Debug)]
pub struct Received {
    /// When.
    pub at: Nanos,
    /// Its place in the input.
    pub ordinal: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A faulty input that tells what the engine gets of it.
#[derive(Debug)]
pub struct Tap {
    /// The faulty port.
    pub port: FaultPort<MemoryPort>,
    /// Frames received and not looked at by the world.
    pub seen: Both<Vec<Received>>,
}

impl Port for Tap {
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        let before = burst.len();
        let state = self.port.rx_burst(pool, now, burst);
        if burst.len() > before {
            let mut seen = self.seen.get();
            seen.extend(burst[before..].iter().map(|frame| Received {
                at: frame.arrival(),
                ordinal: frame.ordinal(),
                bytes: frame.bytes().to_vec(),
            }));
        }
        state
    }

    fn tx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) {
        self.port.tx_burst(pool, now, burst);
    }

    fn flush(&mut self) -> bool {
        self.port.flush()
    }

    fn is_up(&self) -> bool {
        self.port.is_up()
    }

    fn poll_link(&mut self) -> Option<LinkEvent> {
        self.port.poll_link()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn caps(&self) -> Caps {
        self.port.caps()
    }
}
