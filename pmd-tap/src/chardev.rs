//! QEMU's socket framing as a port: unix and TCP, connect and listen, with one peer at a time that may come back.
//!
//! On the wire, both ways, every frame is `u32 BE length`, with `vnet` also `u32 BE vnet_len`, then `length` bytes of
//! which the first `vnet_len` are a virtio-net header. The link itself is `link.rs` over `socket.rs`, the bytes that
//! came and wait are `inbox.rs`, those that go are `outbox.rs`. It knows nothing of what the frames say.

mod address;
mod inbox;
mod lines;
mod link;
mod outbox;
mod socket;
#[cfg(test)]
mod tests;

pub use address::{ChardevSettings, Endpoint, Role};
pub use lines::LineSocket;

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;

use crate::{Burst, Caps, FramePool, LinkEvent, Nanos, Port, PortError, RxState, VirtioHeader};
use inbox::{Fill, Inbox, Stop};
use link::Link;
use outbox::Outbox;

/// Longest legal frame on a QEMU socket, virtio header included, bytes (4 KiB + 64 KiB).
pub const MAX_FRAME_BYTES: usize = 69_632;

/// Bytes that `tx_burst` writes without being asked to flush: more at once costs no less, and leaves the cache.
const WRITE_BYTES: usize = 32 * 1024;

/// Bytes in front of the longest framing: both words.
const MAX_PREFIX_BYTES: usize = 8;

/// What stands in front of every frame on the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// The length alone.
    #[default]
    Plain,
    /// Length and virtio-net header length: QEMU's `vnet_hdr_support`.
    VnetHeader,
}

impl Framing {
    /// Bytes in front of a frame.
    pub fn prefix_bytes(self) -> usize {
        match self {
            Self::Plain => 4,
            Self::VnetHeader => MAX_PREFIX_BYTES,
        }
    }
}

/// A port on a QEMU character device.
///
/// [`rx_burst`](Port::rx_burst) keeps the link, so an output needs it called too. While nobody is at the other end,
/// [`tx_burst`](Port::tx_burst) takes frames until its buffer (256 KiB) is full and then leaves them to the caller.
/// A frame that was not completely written when the peer went is sent to the next one, whole.
#[derive(Debug)]
pub struct ChardevPort {
    name: String,
    framing: Framing,
    link: Link,
    inbox: Inbox,
    outbox: Outbox,
    write_error: Option<Errno>,
    refused: u64,
}

impl ChardevPort {
    /// A port as `settings` say. Listening starts here; the first connection attempt is the first `rx_burst`.
    /// Resolving a host name blocks, here and only here.
    ///
    /// # Errors
    /// [`PortError::Os`] when the address cannot be listened on or the host has no address.
    pub fn new(settings: &ChardevSettings) -> Result<Self, PortError> {
        Ok(Self::with_link(Link::new(settings)?, settings.framing, settings.to_string()))
    }

    /// A port on one end of a connected pair. When the other end goes it stays down for good.
    pub fn from_stream(stream: UnixStream, framing: Framing, name: &str) -> Self {
        Self::with_link(Link::once(stream.into(), name), framing, name.to_owned())
    }

    fn with_link(link: Link, framing: Framing, name: String) -> Self {
        Self {
            name,
            framing,
            link,
            inbox: Inbox::new(framing),
            outbox: Outbox::new(framing),
            write_error: None,
            refused: 0,
        }
    }

    /// The same port, sending with another framing than it receives: QEMU's `notify_dev` has the second word towards
    /// the comparer only.
    #[must_use]
    pub fn sending(mut self, framing: Framing) -> Self {
        self.outbox = Outbox::new(framing);
        self
    }

    /// The same port, refusing a peer that announces a frame longer than `bytes`, virtio header included.
    #[must_use]
    pub fn receiving_at_most(mut self, bytes: usize) -> Self {
        self.inbox.set_longest(bytes);
        self
    }

    /// What it was made from, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Connections closed because the peer sent what cannot be a frame.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Frames received, over all connections.
    pub fn received(&self) -> u64 {
        self.inbox.received()
    }

    /// Bytes taken by `tx_burst` that no peer has got yet, prefixes included.
    pub fn unsent_bytes(&self) -> usize {
        self.outbox.unsent().len()
    }

    /// Forgets what `tx_burst` took and no peer has got, for who has nothing to say to the next peer that was meant for
    /// the last. Does nothing while somebody is there, who may have got half a frame.
    pub fn forget_unsent(&mut self) {
        if self.link.socket().is_none() {
            self.outbox.clear();
        }
    }

    /// When `rx_burst` has to be called for the link's sake, if [`readiness`](Port::readiness) does not tell: the next
    /// attempt to connect.
    pub fn next_attempt(&self) -> Option<Nanos> {
        self.link.next_attempt()
    }

    /// Where it listens, when that is TCP: tells the port number chosen for port 0.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.local_addr()
    }

    /// What stands in the way of the link, for people: the last failed attempt while it is down, if one failed.
    pub fn obstacle(&self) -> Option<String> {
        self.link.obstacle()
    }

    /// Ends the connection; what was not sent waits for the next one.
    #[cold]
    fn close(&mut self, event: LinkEvent) {
        self.inbox.clear();
        self.outbox.rewind();
        self.write_error = None;
        self.link.close(event);
    }

    #[cold]
    fn refuse(&mut self, reason: String) -> RxState {
        self.refused += 1;
        self.close(LinkEvent::Refused { reason });
        RxState::Down
    }

    #[cold]
    fn gone(&mut self, how: &str) -> RxState {
        let missing = self
            .inbox
            .unfinished()
            .map(|(have, whole)| format!("{how}, in the middle of a frame ({have} of {whole} bytes)"));
        self.close(LinkEvent::Down { reason: missing.unwrap_or_else(|| how.to_owned()) });
        RxState::Down
    }

    /// One `recv`, and whether there may be more behind it.
    fn fill(&mut self) -> Result<RxState, RxState> {
        let Some(socket) = self.link.socket() else {
            return Err(RxState::Down);
        };
        match self.inbox.fill(socket) {
            Ok(Fill::Full) => Ok(RxState::More),
            Ok(Fill::Part) => Ok(RxState::Empty),
            Ok(Fill::Nothing) => match self.write_error {
                // Whatever the peer sent before it went has been read.
                Some(error) => Err(self.gone(&explain(error))),
                None => Err(RxState::Empty),
            },
            Ok(Fill::End) => Err(self.gone("closed by the other end")),
            Err(error) => Err(self.gone(&explain(error))),
        }
    }

    /// One coalesced `send`. An error is kept: what the peer sent before is still to be read, see `fill`.
    fn push(&mut self) {
        if self.write_error.is_some() || self.outbox.unsent().is_empty() {
            return;
        }
        let Some(socket) = self.link.socket() else { return };
        self.write_error = self.outbox.send(socket).err();
    }
}

/// A socket error as people say it.
fn explain(error: Errno) -> String {
    match error {
        Errno::PIPE | Errno::CONNRESET => "reset by the other end".to_owned(),
        Errno::TIMEDOUT => "the other end does not answer any more".to_owned(),
        other => std::io::Error::from(other).to_string(),
    }
}

impl Port for ChardevPort {
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        if !self.link.keep(now) {
            return RxState::Down;
        }
        let mut after = RxState::More;
        // Twice at most: what is buffered, then what one read brings.
        for may_read in [true, false] {
            match self.inbox.take_frames(pool, now, burst) {
                Stop::BurstFull => return RxState::More,
                Stop::PoolEmpty => return RxState::PoolEmpty,
                Stop::Illegal(illegal) => return self.refuse(illegal.to_string()),
                Stop::NeedBytes if may_read => match self.fill() {
                    Ok(state) => after = state,
                    Err(state) => return state,
                },
                Stop::NeedBytes => {}
            }
        }
        after
    }

    fn tx_burst(&mut self, pool: &mut FramePool, _now: Nanos, burst: &mut Burst) {
        let mut taken = 0;
        let mut pushed = false;
        while let Some(frame) = burst.get(taken) {
            if self.outbox.put(frame) {
                taken += 1;
            } else if pushed {
                break;
            } else {
                self.push();
                self.outbox.make_room();
                pushed = true;
            }
        }
        for frame in burst.drain(..taken) {
            pool.recycle(frame);
        }
        if self.outbox.unsent().len() >= WRITE_BYTES && !pushed {
            self.push();
        }
    }

    fn flush(&mut self) -> bool {
        self.push();
        self.outbox.unsent().is_empty()
    }

    fn is_up(&self) -> bool {
        self.link.socket().is_some()
    }

    fn is_over(&self) -> bool {
        self.link.is_over()
    }

    fn poll_link(&mut self) -> Option<LinkEvent> {
        self.link.next_event()
    }

    fn obstacle(&self) -> Option<String> {
        Self::obstacle(self)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.link.readiness()
    }

    fn caps(&self) -> Caps {
        Caps {
            virtio_header: self.framing == Framing::VnetHeader,
            fixed_virtio_header: VirtioHeader::NONE,
            mtu: None,
        }
    }
}
