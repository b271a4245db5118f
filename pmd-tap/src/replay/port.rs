//! `pcap:FILE` as a port: a capture to receive from, or one to transmit to.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::{Capture, CaptureError, CaptureWriter};
use crate::{Burst, Caps, Frame, FramePool, LinkEvent, Nanos, Port, RxState};

/// A capture file as a port.
///
/// An input gives its frames as fast as they are asked for, stamped with `now` and not with the file's time, and is
/// down at the end; it takes nothing. An output writes what it takes with `now` as time since the epoch, and never
/// receives. Files block: this port is for tests and experiments, not for a data plane, and it allocates per frame.
#[derive(Debug)]
pub struct ReplayPort {
    file: Direction,
    received: u64,
    events: VecDeque<LinkEvent>,
}

#[derive(Debug)]
enum Direction {
    /// With the bytes of a frame for which the pool had no slot.
    Input(Capture, Option<Vec<u8>>),
    Output(CaptureWriter),
    Over,
}

impl ReplayPort {
    /// A port that receives the frames of the capture at `path`.
    ///
    /// # Errors
    /// Those of [`Capture::open`]. What is wrong further on is a [`LinkEvent::Refused`] when it is reached.
    pub fn input(path: impl AsRef<Path>) -> Result<Self, CaptureError> {
        let capture = Capture::open(path)?;
        let peer = format!("pcap:{}", capture.path().display());
        Ok(Self::with(Direction::Input(capture, None), peer))
    }

    /// A port that writes what it takes to a new pcap file at `path`.
    ///
    /// # Errors
    /// Those of [`CaptureWriter::create`]. A failure to write later takes the port down; the frame that was not
    /// written stays with the caller.
    pub fn output(path: impl AsRef<Path>) -> Result<Self, CaptureError> {
        let writer = CaptureWriter::create(path)?;
        let peer = format!("pcap:{}", writer.path().display());
        Ok(Self::with(Direction::Output(writer), peer))
    }

    fn with(file: Direction, peer: String) -> Self {
        Self { file, received: 0, events: VecDeque::from([LinkEvent::Up { peer }]) }
    }

    fn end(&mut self, event: LinkEvent) {
        self.file = Direction::Over;
        self.events.push_back(event);
    }
}

impl Port for ReplayPort {
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        while !burst.is_full() {
            let (capture, waiting) = match &mut self.file {
                Direction::Input(capture, waiting) => (capture, waiting),
                Direction::Output(_) => return RxState::Empty,
                Direction::Over => return RxState::Down,
            };
            let bytes = match waiting.take().map_or_else(|| next_bytes(capture), Ok) {
                Ok(bytes) => bytes,
                Err(event) => {
                    self.end(event);
                    return RxState::Down;
                }
            };
            let Some(mut frame) = pool.frame_from(&bytes) else {
                *waiting = Some(bytes);
                return RxState::PoolEmpty;
            };
            frame.stamp(now, self.received);
            self.received += 1;
            burst.push(frame);
        }
        RxState::More
    }

    fn tx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) {
        let Direction::Output(writer) = &mut self.file else {
            return;
        };
        let mut write = |frame: &Frame| writer.write(now.0, frame.ethernet());
        let failed = burst.iter().enumerate().find_map(|(number, frame)| Some((number, write(frame).err()?)));
        let taken = failed.as_ref().map_or(burst.len(), |(number, _)| *number);
        for frame in burst.drain(..taken) {
            pool.recycle(frame);
        }
        if let Some((_, error)) = failed {
            self.end(LinkEvent::Down { reason: error.to_string() });
        }
    }

    fn flush(&mut self) -> bool {
        if let Direction::Output(writer) = &mut self.file
            && let Err(error) = writer.flush()
        {
            self.end(LinkEvent::Down { reason: error.to_string() });
        }
        true
    }

    fn is_up(&self) -> bool {
        !matches!(self.file, Direction::Over)
    }

    fn is_over(&self) -> bool {
        !self.is_up()
    }

    fn poll_link(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn caps(&self) -> Caps {
        Caps::default()
    }
}

/// The next frame's bytes, or how the capture ended.
fn next_bytes(capture: &mut Capture) -> Result<Vec<u8>, LinkEvent> {
    match capture.next_frame() {
        Ok(Some(frame)) => Ok(frame.bytes),
        Ok(None) => {
            let reason = format!("the end of {} after frame {}", capture.path().display(), capture.frames());
            Err(LinkEvent::Down { reason })
        }
        Err(error) => Err(LinkEvent::Refused { reason: error.to_string() }),
    }
}
