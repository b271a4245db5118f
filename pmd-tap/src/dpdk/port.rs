//! A started device of DPDK as a port: bursts in, bursts out, and the books.
//!
//! Frames longer than [`COPY_BREAK`] borrow their mbuf and are sent as that mbuf again, if they leave through DPDK: nothing
//! is copied. Shorter ones are copied into the pool, where they lie close together, and their mbuf goes back at once. So
//! are those that a mbuf cannot carry (several segments), and all of them while [`LENT_AT_MOST`] mbufs for each port are
//! out: a device must never starve for what the engine holds.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;

use super::eal::Life;
use super::sys::{self, BURST_PACKETS, Device, Packet};
use crate::{BURST_FRAMES, Burst, Caps, FramePool, LinkEvent, Losses, Nanos, Port, RxState};

/// Frames up to so many bytes are copied, because that costs less than a mbuf that is away for long.
const COPY_BREAK: usize = 128;
/// Mbufs that frames may have, for each port.
pub(super) const LENT_AT_MOST: usize = 4_096;
/// How often the link is looked at.
const LINK_PERIOD: Duration = Duration::from_millis(10);
/// How often the device is asked what it lost.
const LOSSES_PERIOD: Duration = Duration::from_millis(200);
/// How long a core may sleep that has such a port: DPDK's devices have nothing to wait on, and queues of 512.
const LONGEST_NAP: Duration = Duration::from_micros(200);
/// Packets that wait to be sent.
const OUTBOX_PACKETS: usize = 4 * BURST_PACKETS;
const _: () = assert!(BURST_PACKETS == BURST_FRAMES && OUTBOX_PACKETS >= 2 * BURST_FRAMES);

/// A port on a device of DPDK.
#[derive(Debug)]
pub(super) struct DpdkPort {
    device: Device,
    name: String,
    /// Received, and not a frame yet for want of a slot.
    inbox: ArrayVec<Packet, BURST_PACKETS>,
    outbox: ArrayVec<Packet, OUTBOX_PACKETS>,
    /// The queue to ask next.
    queue: u16,
    received: u64,
    is_up: bool,
    link_due: Nanos,
    events: VecDeque<LinkEvent>,
    is_registered: bool,
    losses: Losses,
    losses_due: Nanos,
    // The last field: what it closes is used by those above.
    _life: Arc<Life>,
}

impl DpdkPort {
    pub(super) fn new(device: Device, name: String, life: Arc<Life>) -> Self {
        Self {
            device,
            name,
            inbox: ArrayVec::new(),
            outbox: ArrayVec::new(),
            queue: 0,
            received: 0,
            is_up: false,
            link_due: Nanos::ZERO,
            events: VecDeque::with_capacity(4),
            is_registered: false,
            losses: Losses::default(),
            losses_due: Nanos::ZERO,
            _life: life,
        }
    }

    /// What is not done with every burst.
    #[cold]
    fn look_at_link(&mut self, now: Nanos) {
        if !self.is_registered {
            // On the thread that polls; refused when too many threads have one, and then only slower.
            sys::register_thread();
            self.is_registered = true;
        }
        self.link_due = now + LINK_PERIOD;
        if now >= self.losses_due {
            self.losses_due = now + LOSSES_PERIOD;
            self.losses = self.device.losses();
        }
        let is_up = self.device.is_linked();
        if is_up != self.is_up {
            self.is_up = is_up;
            self.events.push_back(if is_up {
                LinkEvent::Up { peer: self.name.clone() }
            } else {
                LinkEvent::Down { reason: "the device says that its link is down".to_owned() }
            });
        }
    }

    /// Makes frames of received packets; those that find no slot stay.
    #[inline]
    fn unpack(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        let may_lend = sys::lent() < LENT_AT_MOST;
        self.inbox.iter().take(4).for_each(Packet::prefetch);
        let (mut taken, mut lent) = (0, 0);
        let mut kept: ArrayVec<Packet, BURST_PACKETS> = ArrayVec::new();
        for packet in self.inbox.drain(..) {
            if !kept.is_empty() || burst.is_full() {
                kept.push(packet);
                continue;
            }
            let frame = if may_lend && packet.len() > COPY_BREAK && packet.is_plain() {
                lent += 1;
                Some(packet.into_frame())
            } else if let Some(frame) = packet.copy_to(pool) {
                Some(frame)
            } else {
                kept.push(packet);
                None
            };
            if let Some(mut frame) = frame {
                frame.stamp(now, self.received + taken);
                taken += 1;
                burst.push(frame);
            }
        }
        sys::count_lent(lent);
        self.received += taken;
        self.inbox = kept;
        match (self.inbox.is_empty(), burst.is_full()) {
            (true, _) => RxState::Empty,
            (false, true) => RxState::More,
            (false, false) => RxState::PoolEmpty,
        }
    }

    fn push(&mut self) {
        while self.is_up && !self.outbox.is_empty() {
            if self.device.send(&mut self.outbox) == 0 {
                return;
            }
        }
    }
}

impl Port for DpdkPort {
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        if now >= self.link_due {
            self.look_at_link(now);
        }
        let mut state = self.unpack(pool, now, burst);
        for _ in 0..self.device.queues() {
            if state != RxState::Empty || burst.is_full() {
                return if state == RxState::Empty { RxState::More } else { state };
            }
            let room = burst.remaining_capacity();
            let queue = self.queue;
            self.queue = (queue + 1) % self.device.queues();
            if self.device.receive(queue, room, &mut self.inbox) > 0 {
                state = self.unpack(pool, now, burst);
            }
        }
        match state {
            RxState::Empty if burst.is_full() => RxState::More,
            RxState::Empty if !self.is_up && burst.is_empty() => RxState::Down,
            other => other,
        }
    }

    fn tx_burst(&mut self, pool: &mut FramePool, _now: Nanos, burst: &mut Burst) {
        if self.outbox.remaining_capacity() < burst.len() {
            self.push();
        }
        let room = self.outbox.remaining_capacity();
        let mut copies: ArrayVec<Option<Packet>, BURST_FRAMES> = ArrayVec::new();
        for frame in burst.iter().take(room) {
            // The device wants no virtio header in front, so what has one is copied from behind it.
            let copy = if sys::is_packet(frame) {
                None
            } else {
                match self.device.packet_from(frame.ethernet()) {
                    Some(packet) => Some(packet),
                    None => break,
                }
            };
            copies.push(copy);
        }
        let mut returned = 0;
        for (frame, copy) in burst.drain(..copies.len()).zip(copies) {
            let packet = match copy {
                Some(packet) => {
                    pool.recycle(frame);
                    packet
                }
                None => match sys::packet_of(frame) {
                    Ok(packet) => {
                        returned += 1;
                        packet
                    }
                    Err(frame) => {
                        pool.recycle(frame);
                        continue;
                    }
                },
            };
            self.outbox.push(packet);
        }
        sys::count_returned(returned);
        if self.outbox.len() >= BURST_PACKETS {
            self.push();
        }
    }

    fn flush(&mut self) -> bool {
        self.push();
        self.outbox.is_empty()
    }

    fn is_up(&self) -> bool {
        self.is_up
    }

    fn poll_link(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn longest_nap(&self) -> Option<Duration> {
        Some(LONGEST_NAP)
    }

    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn losses(&self) -> Losses {
        self.losses
    }
}
