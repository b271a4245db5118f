//! The application of a guest: reads requests from its socket, writes the answers, closes when the client has.
//! It sees time and its socket only, so a replay of both brings it into the same state.

use smoltcp::socket::tcp;

use super::content::{Parsed, REQUEST_MAX, Response, parse_request, think_us};
use super::random::Draws;
use super::stack::Micros;

/// Randomness a guest lets out: some answers get one wrong byte. Only secondaries have it, because the
/// primary's answer is the true one by definition.
#[derive(Debug, Clone)]
pub(super) struct Divergence {
    /// Where the draws come from.
    pub(super) draws: Draws,
    /// Probability per answer, 0–1.
    pub(super) probability: f64,
}

#[derive(Debug)]
struct Answer {
    response: Response,
    sent: usize,
    flipped: Option<usize>,
    ready_at: Micros,
}

/// The application's state.
#[derive(Debug, Default)]
pub(super) struct Server {
    input: Vec<u8>,
    answer: Option<Answer>,
    divergence: Option<Divergence>,
    diverged: u64,
}

impl Server {
    /// From the next answer on, let some differ.
    pub(super) fn set_divergence(&mut self, divergence: Divergence) {
        self.divergence = Some(divergence);
    }

    /// Answers that were drawn to differ, since the last call.
    pub(super) fn take_diverged(&mut self) -> u64 {
        std::mem::take(&mut self.diverged)
    }

    /// Does what can be done at `now`, writing at most `budget` bytes (the time slice of this run). Returns
    /// when to run again if no packet comes before.
    pub(super) fn run(&mut self, socket: &mut tcp::Socket<'_>, now: Micros, budget: usize) -> Option<Micros> {
        let mut left = budget;
        loop {
            if self.answer.is_none() && !self.begin(socket, now) {
                break;
            }
            let answer = self.answer.as_mut()?;
            if now < answer.ready_at {
                return Some(answer.ready_at);
            }
            while left > 0 && answer.sent < answer.response.len() {
                let sent = answer.send(socket, left);
                if sent == 0 {
                    return None; // The send buffer is full: the next ACK wakes us.
                }
                left -= sent;
            }
            if answer.sent < answer.response.len() {
                return Some(now);
            }
            self.answer = None;
        }
        if !socket.may_recv() && socket.may_send() {
            socket.close();
        }
        None
    }

    /// Starts the answer to the next request, if a whole one is there.
    fn begin(&mut self, socket: &mut tcp::Socket<'_>, now: Micros) -> bool {
        let input = &mut self.input;
        while socket.can_recv() && input.len() <= REQUEST_MAX {
            let took = socket.recv(|bytes| {
                input.extend_from_slice(bytes);
                (bytes.len(), bytes.len())
            });
            if took.is_err() {
                break;
            }
        }
        match parse_request(input) {
            Parsed::Partial => false,
            Parsed::Bad => {
                socket.abort();
                false
            }
            Parsed::Request(key, len) => {
                input.drain(..len);
                let response = Response::of(key);
                let flipped = self.divergence.as_mut().and_then(|divergence| {
                    let draws = &mut divergence.draws;
                    draws.chance(divergence.probability).then(|| response.body_offset(draws.bits()))
                });
                self.diverged += u64::from(flipped.is_some());
                self.answer = Some(Answer { response, sent: 0, flipped, ready_at: now + think_us(key) });
                true
            }
        }
    }
}

impl Answer {
    /// Writes some of the answer, at most `budget` bytes; returns how many.
    fn send(&mut self, socket: &mut tcp::Socket<'_>, budget: usize) -> usize {
        let rest = self.response.rest(self.sent);
        let piece = &rest[..rest.len().min(budget)];
        let wrong = self.flipped.and_then(|at| at.checked_sub(self.sent)).filter(|&at| at < piece.len());
        let sent = match wrong {
            None => socket.send_slice(piece),
            Some(at) => {
                let mut piece = piece.to_vec();
                piece[at] ^= 0x20;
                socket.send_slice(&piece)
            }
        };
        let sent = sent.unwrap_or(0);
        self.sent += sent;
        sent
    }
}
