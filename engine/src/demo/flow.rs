//! One connection as the client sees it: a stack, the request under way, and the check of every byte of its
//! answer. It decides nothing about pace or number of connections; that is the client's.

use std::collections::VecDeque;

use smoltcp::socket::tcp;

use super::address::{ConnectionKey, SERVER_PORT};
use super::content::{Response, request};
use super::stack::{Micros, Packet, PacketBatch, Stack, StackPlan, duration};
use super::totals::Totals;

/// Receive buffer, bytes: two of the longest answers, so that windows are scaled.
const RECEIVE_BUFFER: usize = 128 * 1024;

/// Send buffer, bytes.
const SEND_BUFFER: usize = 2 * 1024;

/// The client's delayed-ACK time, µs.
const ACK_DELAY: Micros = 3_000;

/// A connection on which nothing moves for so long is stuck, µs. It covers three retransmission timeouts in a row
/// (1 + 2 + 4 s) and what the engine may hold meanwhile.
const STUCK_AFTER: Micros = 15_000_000;

/// What the client may do next on a connection with nothing outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Send the request for this key.
    Request(u64),
    /// Nothing yet: wait to be woken.
    Wait,
    /// Close.
    Close,
}

/// How a connection stands after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Going on.
    Open,
    /// Closed by both sides, in order.
    Done,
    /// Over because of an error, which was counted.
    Failed,
}

#[derive(Debug)]
struct Outstanding {
    key: u64,
    response: Response,
    received: usize,
}

/// One connection of the client.
pub(super) struct Flow {
    key: ConnectionKey,
    stack: Stack,
    inbox: VecDeque<Packet>,
    outstanding: Option<Outstanding>,
    closing: bool,
    moved_at: Micros,
    wake_at: Micros,
}

impl Flow {
    /// A connection that sends its SYN in the first step.
    pub(super) fn connect(key: ConnectionKey, seed: u64, now: Micros) -> Self {
        let mut stack = Stack::new(&StackPlan {
            address: key.0.addr,
            seed,
            born: now,
            receive_buffer: RECEIVE_BUFFER,
            send_buffer: SEND_BUFFER,
        });
        stack.socket().set_ack_delay(Some(duration(ACK_DELAY)));
        let server = (key.family().server(), SERVER_PORT);
        let connected = stack.connect(server, (key.0.addr, key.0.port));
        debug_assert!(connected, "a new socket can connect");
        Self {
            key,
            stack,
            inbox: VecDeque::new(),
            outstanding: None,
            closing: false,
            moved_at: now,
            wake_at: now,
        }
    }

    /// Whose connection.
    pub(super) fn key(&self) -> ConnectionKey {
        self.key
    }

    /// When the next step is due.
    pub(super) fn wake_at(&self) -> Micros {
        self.wake_at
    }

    /// Makes a step due now.
    pub(super) fn wake(&mut self, now: Micros) {
        self.wake_at = self.wake_at.min(now);
    }

    /// Puts a packet from the engine before the connection.
    pub(super) fn deliver(&mut self, packet: Packet, now: Micros) {
        self.inbox.push_back(packet);
        self.wake(now);
    }

    /// Says how far the connection has come, for an error.
    pub(super) fn describe(&mut self) -> String {
        let state = self.stack.socket().state();
        self.outstanding.as_ref().map_or_else(
            || format!("{}: {state}, nothing outstanding", self.key),
            |o| {
                format!("{}: {state}, {} of {} bytes of /k/{}", self.key, o.received, o.response.len(), o.key)
            },
        )
    }

    /// Takes in what has arrived, checks it, does its turn, sends.
    pub(super) fn step(
        &mut self,
        now: Micros,
        totals: &Totals,
        output: &mut PacketBatch,
        turn: &mut dyn FnMut() -> Turn,
    ) -> Standing {
        if !self.inbox.is_empty() {
            self.moved_at = now;
        }
        self.stack.poll(now, &mut self.inbox, output);
        let mut standing = self.check(now, totals);
        if standing == Standing::Open && self.outstanding.is_none() && !self.closing {
            self.take_turn(now, totals, turn);
        }
        if standing == Standing::Failed {
            self.stack.socket().abort();
        }
        self.stack.poll(now, &mut self.inbox, output);
        let due = self.stack.due(now).unwrap_or(Micros::MAX);
        // In TIME-WAIT a timer that is not the long one is an ACK still to be sent.
        let state = self.stack.socket().state();
        if self.closing && state == tcp::State::TimeWait && due > now + ACK_DELAY {
            standing = Standing::Done;
        }
        self.wake_at = due.min(self.stuck_at()).max(now);
        standing
    }

    fn stuck_at(&mut self) -> Micros {
        let idle = self.outstanding.is_none() && !self.closing && self.stack.socket().may_send();
        if idle { Micros::MAX } else { self.moved_at + STUCK_AFTER }
    }

    fn take_turn(&mut self, now: Micros, totals: &Totals, turn: &mut dyn FnMut() -> Turn) {
        let socket = self.stack.socket();
        if !socket.may_send() {
            return;
        }
        match turn() {
            Turn::Wait => {}
            Turn::Close => {
                socket.close();
                self.closing = true;
                self.moved_at = now;
            }
            Turn::Request(key) => {
                let text = request(key);
                let sent = socket.send_slice(text.as_bytes()).unwrap_or(0);
                debug_assert_eq!(sent, text.len(), "an idle connection has room for a request");
                totals.requests.add(1);
                self.moved_at = now;
                self.outstanding = Some(Outstanding { key, response: Response::of(key), received: 0 });
            }
        }
    }

    /// Reads what the stack has put in order and compares it with what it should be.
    fn check(&mut self, now: Micros, totals: &Totals) -> Standing {
        let (key, outstanding) = (self.key, &mut self.outstanding);
        let socket = self.stack.socket();
        let mut wrong = None;
        while socket.can_recv() && wrong.is_none() {
            let read = socket.recv(|bytes| {
                wrong = match outstanding.as_ref() {
                    Some(current) => current.first_wrong(bytes),
                    None => Some("bytes nobody asked for".into()),
                };
                if let (Some(current), None) = (outstanding.as_mut(), &wrong) {
                    current.received += bytes.len();
                    totals.bytes.add(u64::try_from(bytes.len()).unwrap_or(0));
                }
                (bytes.len(), ())
            });
            if read.is_err() {
                break;
            }
        }
        let state = socket.state();
        let ended = matches!(state, tcp::State::Closed | tcp::State::CloseWait | tcp::State::LastAck);
        if wrong.is_none() && outstanding.as_ref().is_some_and(Outstanding::is_whole) {
            *outstanding = None;
            totals.responses.add(1);
        }
        if let Some(what) = wrong {
            totals.error(|| format!("{key}: {what}"));
            Standing::Failed
        } else if ended {
            let how = if state == tcp::State::Closed { "reset" } else { "closed by the guest" };
            let missing = self.describe();
            totals.error(|| format!("{missing} ({how})"));
            Standing::Failed
        } else if now >= self.stuck_at() {
            let missing = self.describe();
            totals.error(|| format!("{missing} (stuck)"));
            Standing::Failed
        } else {
            Standing::Open
        }
    }
}

impl Outstanding {
    fn is_whole(&self) -> bool {
        self.received == self.response.len()
    }

    fn first_wrong(&self, bytes: &[u8]) -> Option<String> {
        let at = self.response.first_wrong(self.received, bytes)? + self.received;
        Some(format!("wrong byte at {at} of {} of /k/{}", self.response.len(), self.key))
    }
}
