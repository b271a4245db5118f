//! QEMU's `notify_dev` protocol, the comparer's side: a request is one message, the commit is another.
//!
//! Messages are ASCII without a final zero in the framing of QEMU's data sockets, so the socket itself is a
//! [`ChardevPort`]; under `vnet_hdr_support` messages to the comparer have the second word and messages from it have
//! not. The protocol tells no pause and acknowledges no request: what was asked for is asked for again until a commit
//! comes. Deciding when to ask is not done here.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use pmd_tap::{
    BURST_FRAMES, Burst, ChardevPort, ChardevSettings, FramePool, Framing, LinkEvent, Nanos, PoolError,
    PoolSettings, Port, PortError, RxState,
};

use super::{Backend, BackendEvent, BackendLink, Request};
use crate::config::SocketAddress;
use crate::metrics::LinkState;

/// From us: take a checkpoint.
const DO_CHECKPOINT: &[u8] = b"DO_CHECKPOINT";
/// From us, as the answer to [`PROXY_INIT`].
const GET_XEN_INIT: &[u8] = b"COLO_COMPARE_GET_XEN_INIT";
/// To us: is anybody there?
const PROXY_INIT: &[u8] = b"COLO_USERSPACE_PROXY_INIT";
/// To us: a checkpoint was committed. It has no answer.
const CHECKPOINT: &[u8] = b"COLO_CHECKPOINT";

/// Longest message that is still read as one, bytes. QEMU's longest has 25; more than this is another protocol.
const MAX_MESSAGE_BYTES: usize = 1_024;
/// An unanswered request is repeated that long after it went out: a lost one would hold every frame for ever.
const REPEAT_AFTER: Duration = Duration::from_secs(1);
/// How soon a peer that has not taken what we sent is tried again.
const FLUSH_EVERY: Duration = Duration::from_millis(10);
/// Room for the received burst and one message of ours, however long the received ones are.
const POOL: PoolSettings = PoolSettings { small: BURST_FRAMES, mtu: BURST_FRAMES + 1, jumbo: 0, gso: 0 };
const _: () = assert!(MAX_MESSAGE_BYTES <= 1_600, "any message fits the pool's MTU slots");

/// Why there can be no notifier.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The socket could not be made.
    #[error(transparent)]
    Socket(#[from] PortError),
    /// The kernel gave no memory for its messages.
    #[error("cannot map {bytes} bytes for the checkpoint notifier's messages: {source}")]
    Memory {
        /// Bytes asked for.
        bytes: usize,
        /// The kernel's answer.
        source: rustix::io::Errno,
    },
}

impl From<PoolError> for NotifyError {
    fn from(error: PoolError) -> Self {
        let PoolError::Map { bytes, source } = error;
        Self::Memory { bytes, source }
    }
}

/// Takes checkpoints through QEMU's `notify_dev`.
///
/// Reads one burst of messages per reading of the clock, so that a peer that never stops talking cannot hold who
/// polls. What one link was to get and did not dies with it; a request outstanding then is made on the next link.
#[derive(Debug)]
pub struct NotifyBackend {
    port: ChardevPort,
    pool: FramePool,
    /// When the outstanding request goes out, again or for the first time; `None`: nothing is asked for.
    due: Option<Nanos>,
    /// Told by `poll` before anything else happens.
    events: VecDeque<BackendEvent>,
    /// What stood in the way of the link when it was last told.
    obstacle: Option<String>,
    /// The last reading of the clock at which the port was read.
    read_at: Option<Nanos>,
    /// What that left behind.
    read_state: RxState,
}

impl NotifyBackend {
    /// Listens at `address` at once, or connects from the first [`poll`](Backend::poll) on. `framing`:
    /// [`Framing::VnetHeader`] under `vnet_hdr_support`.
    ///
    /// # Errors
    /// One sentence when the address cannot be listened on or its host has no address.
    pub fn new(address: &SocketAddress, framing: Framing) -> Result<Self, NotifyError> {
        let socket: ChardevSettings = address.as_str().parse()?;
        Self::on(ChardevPort::new(&ChardevSettings { framing, ..socket })?)
    }

    fn on(port: ChardevPort) -> Result<Self, NotifyError> {
        Ok(Self {
            port: port.sending(Framing::Plain).receiving_at_most(MAX_MESSAGE_BYTES),
            pool: FramePool::new(POOL)?,
            due: None,
            events: VecDeque::new(),
            obstacle: None,
            read_at: None,
            read_state: RxState::Empty,
        })
    }

    /// The next event, in order. A commit answers what was asked for until it is told, not until it was read: only
    /// then does anybody know of it.
    fn next_event(&mut self) -> Option<BackendEvent> {
        let event = self.events.pop_front()?;
        if event == BackendEvent::Committed {
            self.due = None;
        }
        Some(event)
    }

    fn read(&mut self, now: Nanos) {
        let mut burst = Burst::new();
        self.read_state = self.port.rx_burst(&mut self.pool, now, &mut burst);
        // A link may come, speak and go within one read.
        let mut link = self.port.poll_link();
        if let Some(LinkEvent::Up { peer }) = link {
            self.handle_up(&peer, now);
            link = self.port.poll_link();
        }
        for frame in burst {
            self.handle_message(frame.bytes());
            self.pool.recycle(frame);
        }
        if let Some(LinkEvent::Down { reason } | LinkEvent::Refused { reason }) = link {
            self.port.forget_unsent();
            self.alarm(format!("link down: {reason}"));
        }
        self.tell_obstacle();
    }

    fn handle_up(&mut self, peer: &str, now: Nanos) {
        self.obstacle = None;
        self.note(format!("link up: {peer}"));
        // Whoever was asked before may have gone before it did anything.
        self.due = self.due.map(|_| now);
    }

    fn handle_message(&mut self, text: &[u8]) {
        match text {
            CHECKPOINT => self.events.push_back(BackendEvent::Committed),
            PROXY_INIT => self.send(GET_XEN_INIT),
            unknown => {
                let hint = match unknown {
                    [0, 0, 0, 0, ..] => "; check that both ends agree on vnet_hdr_support",
                    _ => "",
                };
                self.alarm(format!("unknown message \"{}\"{hint}", unknown.escape_ascii()));
            }
        }
    }

    /// Why there is no link yet, once until the reason changes.
    fn tell_obstacle(&mut self) {
        if self.port.is_up() {
            return;
        }
        let obstacle = self.port.obstacle();
        if let Some(news) = obstacle.as_ref().filter(|_| obstacle != self.obstacle) {
            self.note(format!("{news}; it is tried again and again"));
            self.obstacle = obstacle;
        }
    }

    fn alarm(&mut self, text: String) {
        self.events.push_back(BackendEvent::Alarm(text));
    }

    fn note(&mut self, text: String) {
        self.events.push_back(BackendEvent::Note(text));
    }

    /// Hands a message to the port. Without room (a peer that asks and does not read) it is lost: requests repeat.
    fn send(&mut self, text: &[u8]) {
        let mut burst: Burst = self.pool.frame_from(text).into_iter().collect();
        self.port.tx_burst(&mut self.pool, Nanos::ZERO, &mut burst);
        for refused in burst {
            self.pool.recycle(refused);
        }
    }

    /// When the request can go out: not without a link, and not while an older message has not gone out.
    fn sendable(&self) -> Option<Nanos> {
        self.due.filter(|_| self.port.is_up() && self.port.unsent_bytes() == 0)
    }

    fn write(&mut self, now: Nanos) {
        if !self.port.is_up() {
            return;
        }
        self.port.flush();
        if self.sendable().is_some_and(|due| due <= now) {
            self.send(DO_CHECKPOINT);
            self.port.flush();
            self.due = Some(now + REPEAT_AFTER);
        }
    }
}

impl Backend for NotifyBackend {
    /// Goes out at once when there is a link. Absorbed while another is outstanding.
    fn request(&mut self, request: &Request) {
        if self.due.is_some() {
            return;
        }
        self.due = Some(request.at);
        if self.events.is_empty() {
            self.write(request.at);
        }
    }

    fn poll(&mut self, now: Nanos) -> Option<BackendEvent> {
        if self.events.is_empty() && self.read_at != Some(now) {
            self.read_at = Some(now);
            self.read(now);
        }
        if let Some(event) = self.next_event() {
            return Some(event);
        }
        self.write(now);
        None
    }

    fn link(&self) -> Option<BackendLink> {
        let state = if self.port.is_up() { LinkState::Up } else { LinkState::Down };
        Some(BackendLink { name: "notify", state })
    }

    fn readiness(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [self.port.readiness(), None]
    }

    fn next_deadline(&self) -> Option<Nanos> {
        let last = self.read_at.unwrap_or(Nanos::ZERO);
        let unread = matches!(self.read_state, RxState::More | RxState::PoolEmpty);
        let unsent = self.port.is_up() && self.port.unsent_bytes() > 0;
        [
            (!self.events.is_empty()).then_some(last),
            // The next reading of the clock, whichever that is.
            unread.then(|| last + Duration::from_nanos(1)),
            unsent.then(|| last + FLUSH_EVERY),
            self.sendable(),
            self.port.next_attempt(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
