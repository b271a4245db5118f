//! One connection of one guest: a stack, the application, what has arrived but not been seen yet – and, for
//! the primary, the log from which a checkpoint makes the secondary's copy.
//!
//! A guest's state is a function of its [`Birth`] and its log: the packets it took in and the times and time
//! slices of its steps. smoltcp's objects cannot be cloned; replaying the log into a fresh instance of the same
//! birth gives the same state, its output so far being discarded. Both guests have the same birth, hence the
//! same initial sequence number.

use std::collections::VecDeque;

use smoltcp::socket::tcp;

use super::address::{ConnectionKey, SERVER_PORT};
use super::app::{Divergence, Server};
use super::stack::{Micros, Packet, PacketBatch, Stack, StackPlan, duration};

/// Receive buffer of a guest's connection, bytes: above 64 KiB, so that windows are scaled.
const RECEIVE_BUFFER: usize = 72_000;

/// Send buffer of a guest's connection, bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// Longest log, entries. Sixteen answers of 64 KiB take some 3,000; a connection that needs more is retransmitting
/// for ever and gets reset, which ends its log.
const LOG_MAX: usize = 32_768;

/// Whether the stack waits with short segments while others are unacknowledged (RFC 896).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nagle {
    /// It waits.
    On,
    /// It sends at once.
    Off,
}

/// How a guest's stack is tuned. A copy gets the secondary's tuning only after it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Personality {
    /// Delayed-ACK time, µs.
    pub(super) ack_delay: Option<Micros>,
    /// Nagle's algorithm.
    pub(super) nagle: Nagle,
}

/// How a connection came to be: with the log, all that determines its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Birth {
    /// Whose connection.
    pub(super) key: ConnectionKey,
    /// Decides the initial sequence number.
    pub(super) seed: u64,
    /// When its SYN arrived.
    pub(super) at: Micros,
    /// Tuning from the first packet on.
    pub(super) personality: Personality,
}

#[derive(Debug, Clone)]
enum Entry {
    Input(Packet),
    Step { at: Micros, budget: usize },
}

/// Whether a connection keeps a log. The secondary's is never read, so it keeps none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logging {
    /// The primary.
    On,
    /// The secondary.
    Off,
}

/// One connection of one guest.
pub(super) struct ConnectionGuest {
    birth: Birth,
    stack: Stack,
    server: Server,
    inbox: VecDeque<Packet>,
    log: Option<Vec<Entry>>,
    wake_at: Micros,
}

impl ConnectionGuest {
    /// A connection that listens for its SYN.
    pub(super) fn new(birth: Birth, logging: Logging) -> Self {
        let mut stack = Stack::new(&StackPlan {
            address: birth.key.family().server(),
            seed: birth.seed,
            born: birth.at,
            receive_buffer: RECEIVE_BUFFER,
            send_buffer: SEND_BUFFER,
        });
        stack.socket().listen(SERVER_PORT).expect("a new socket can listen on a port that is not 0");
        let log = (logging == Logging::On).then(Vec::new);
        let (server, inbox, wake_at) = (Server::default(), VecDeque::new(), Micros::MAX);
        let mut guest = Self { birth, stack, server, inbox, log, wake_at };
        guest.tune(birth.personality);
        guest
    }

    /// A copy in the same state, made from the log: same stack, same application, same unread input. It keeps no
    /// log itself. `None` when this connection keeps none.
    pub(super) fn copy(&self) -> Option<Self> {
        let log = self.log.as_ref()?;
        let mut copy = Self::new(self.birth, Logging::Off);
        let mut discarded = PacketBatch::default();
        for entry in log {
            match entry {
                Entry::Input(packet) => copy.inbox.push_back(packet.clone()),
                Entry::Step { at, budget } => copy.advance(*at, *budget, &mut discarded),
            }
            discarded.clear();
        }
        copy.inbox.clone_from(&self.inbox);
        copy.wake_at = self.wake_at;
        Some(copy)
    }

    /// Whose connection.
    pub(super) fn key(&self) -> ConnectionKey {
        self.birth.key
    }

    /// Tunes the stack from now on.
    pub(super) fn tune(&mut self, personality: Personality) {
        let socket = self.stack.socket();
        socket.set_ack_delay(personality.ack_delay.map(duration));
        socket.set_nagle_enabled(personality.nagle == Nagle::On);
    }

    /// Lets some answers differ from now on.
    pub(super) fn set_divergence(&mut self, divergence: Divergence) {
        self.server.set_divergence(divergence);
    }

    /// Answers that were drawn to differ, since the last call.
    pub(super) fn take_diverged(&mut self) -> u64 {
        self.server.take_diverged()
    }

    /// Puts a packet before the guest, which will look at it at `at` or before.
    pub(super) fn deliver(&mut self, packet: Packet, at: Micros) {
        self.inbox.push_back(packet);
        self.wake_at = self.wake_at.min(at);
    }

    /// Packets not seen yet.
    pub(super) fn unread(&self) -> usize {
        self.inbox.len()
    }

    /// When the next step is due.
    pub(super) fn wake_at(&self) -> Micros {
        self.wake_at
    }

    /// True when the connection is over and nothing will ever come of it again.
    pub(super) fn is_over(&mut self) -> bool {
        self.stack.socket().state() == tcp::State::Closed && self.wake_at == Micros::MAX
    }

    /// Looks at all that has arrived, runs the application for a slice of `budget` bytes, sends.
    pub(super) fn step(&mut self, now: Micros, budget: usize, output: &mut PacketBatch) {
        if let Some(log) = &mut self.log {
            log.extend(self.inbox.iter().cloned().map(Entry::Input));
            log.push(Entry::Step { at: now, budget });
            if log.len() > LOG_MAX {
                self.stack.socket().abort();
            }
        }
        self.advance(now, budget, output);
    }

    fn advance(&mut self, now: Micros, budget: usize, output: &mut PacketBatch) {
        self.stack.poll(now, &mut self.inbox, output);
        let again = self.server.run(self.stack.socket(), now, budget);
        self.stack.poll(now, &mut self.inbox, output);
        let timer = self.stack.due(now);
        self.wake_at = [again, timer].into_iter().flatten().min().unwrap_or(Micros::MAX).max(now);
    }
}
