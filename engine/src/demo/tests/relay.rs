//! Stand-ins for the engine: a relay that reads both guests without ever waiting for anything else, and policies for
//! what it lets through. [`Colo`] is the release rule in its simplest form, slow and unbounded.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use smoltcp::wire::{Ipv4Packet, Ipv6Packet, TcpPacket};

use super::super::address::{ConnectionKey, ETHERNET_HEADER, parse};
use super::super::codec::{Filled, FrameReader, FrameWriter, Padding};
use super::super::random::Draws;
use super::super::{CheckpointReport, Checkpointer, Paused};
use super::EngineLinks;

/// What a stand-in does with what it reads.
pub(super) trait Policy {
    /// A packet of the primary: what leaves now goes to `out`.
    fn primary(&mut self, packet: &[u8], out: &mut dyn FnMut(&[u8]));
    /// A packet of the secondary.
    fn secondary(&mut self, packet: &[u8], out: &mut dyn FnMut(&[u8]));
    /// Whether a checkpoint is wanted.
    fn wants_checkpoint(&mut self) -> bool;
    /// The boundary: everything held leaves.
    fn commit(&mut self, out: &mut dyn FnMut(&[u8]));
}

/// Relays until the world closes the primary's link; returns the checkpoints taken.
pub(super) fn relay(
    links: EngineLinks,
    checkpointer: &Checkpointer,
    policy: &mut dyn Policy,
) -> Vec<CheckpointReport> {
    let mut primary = FrameReader::new(links.primary_in).expect("reader");
    let mut secondary = FrameReader::new(links.secondary_in).expect("reader");
    let mut out = FrameWriter::new(links.out, Padding::None).expect("writer");
    let mut pausing: Option<Receiver<Paused>> = None;
    let mut taken = Vec::new();
    loop {
        let mut busy = false;
        match drain(&mut primary, &mut secondary, policy, &mut out) {
            Filled::End => return taken,
            Filled::Some => busy = true,
            Filled::Nothing => {}
        }
        match pausing.as_ref().map(Receiver::try_recv) {
            Some(Ok(paused)) => {
                // All of the old epoch is in the sockets: read until they would block.
                while drain(&mut primary, &mut secondary, policy, &mut out) == Filled::Some {}
                // And there it ends: no part of a frame, and nothing more until the resumption.
                assert!(primary.is_empty() && secondary.is_empty());
                std::thread::sleep(Duration::from_millis(2));
                assert_eq!(drain(&mut primary, &mut secondary, policy, &mut out), Filled::Nothing);
                policy.commit(&mut |packet| out.push(packet));
                taken.push(paused.report());
                paused.resume();
                pausing = None;
            }
            Some(Err(TryRecvError::Disconnected)) => pausing = None,
            None if policy.wants_checkpoint() => pausing = Some(pause(checkpointer)),
            Some(Err(TryRecvError::Empty)) | None => {}
        }
        if out.flush().is_err() {
            return taken;
        }
        if !busy {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// The pause blocks and we must go on reading, so it gets a thread.
fn pause(checkpointer: &Checkpointer) -> Receiver<Paused> {
    let (done, paused) = sync_channel(1);
    let checkpointer = checkpointer.clone();
    std::thread::spawn(move || checkpointer.pause().map(|paused| done.send(paused)));
    paused
}

fn drain(
    primary: &mut FrameReader,
    secondary: &mut FrameReader,
    policy: &mut dyn Policy,
    out: &mut FrameWriter,
) -> Filled {
    let mut emit = |packet: &[u8]| out.push(packet);
    let from_primary = primary.fill().expect("fill");
    while let Some(frame) = primary.next_frame().expect("frame") {
        policy.primary(&frame[ETHERNET_HEADER..], &mut emit);
    }
    let from_secondary = secondary.fill().expect("fill");
    while let Some(frame) = secondary.next_frame().expect("frame") {
        policy.secondary(&frame[ETHERNET_HEADER..], &mut emit);
    }
    match (from_primary, from_secondary) {
        (Filled::End, _) => Filled::End,
        (Filled::Some, _) | (_, Filled::Some) => Filled::Some,
        _ => Filled::Nothing,
    }
}

/// Lets all of the primary through, with checkpoints by the clock.
pub(super) struct Forward {
    every: Duration,
    last: Instant,
}

impl Forward {
    pub(super) fn every(every: Duration) -> Self {
        Self { every, last: Instant::now() }
    }

    pub(super) fn never() -> Self {
        Self::every(Duration::MAX)
    }
}

impl Policy for Forward {
    fn primary(&mut self, packet: &[u8], out: &mut dyn FnMut(&[u8])) {
        out(packet);
    }

    fn secondary(&mut self, _: &[u8], _: &mut dyn FnMut(&[u8])) {}

    fn wants_checkpoint(&mut self) -> bool {
        self.last.elapsed() >= self.every
    }

    fn commit(&mut self, _: &mut dyn FnMut(&[u8])) {
        self.last = Instant::now();
    }
}

/// Lets all of the primary through and takes its time, so that the sockets are full.
pub(super) struct Slow;

impl Policy for Slow {
    fn primary(&mut self, packet: &[u8], out: &mut dyn FnMut(&[u8])) {
        out(packet);
    }

    fn secondary(&mut self, _: &[u8], _: &mut dyn FnMut(&[u8])) {}

    fn wants_checkpoint(&mut self) -> bool {
        std::thread::sleep(Duration::from_millis(30));
        false
    }

    fn commit(&mut self, _: &mut dyn FnMut(&[u8])) {}
}

/// Lets nothing through.
pub(super) struct Silent;

impl Policy for Silent {
    fn primary(&mut self, _: &[u8], _: &mut dyn FnMut(&[u8])) {}

    fn secondary(&mut self, _: &[u8], _: &mut dyn FnMut(&[u8])) {}

    fn wants_checkpoint(&mut self) -> bool {
        false
    }

    fn commit(&mut self, _: &mut dyn FnMut(&[u8])) {}
}

/// Loses one of the primary's frames in a hundred.
pub(super) struct Lossy {
    draws: Draws,
    pub(super) lost: usize,
}

impl Lossy {
    pub(super) fn new(seed: u64) -> Self {
        Self { draws: Draws::new(seed), lost: 0 }
    }
}

impl Policy for Lossy {
    fn primary(&mut self, packet: &[u8], out: &mut dyn FnMut(&[u8])) {
        if self.draws.chance(0.01) {
            self.lost += 1;
        } else {
            out(packet);
        }
    }

    fn secondary(&mut self, _: &[u8], _: &mut dyn FnMut(&[u8])) {}

    fn wants_checkpoint(&mut self) -> bool {
        false
    }

    fn commit(&mut self, _: &mut dyn FnMut(&[u8])) {}
}

/// What one guest has sent on one connection.
#[derive(Default, Clone)]
struct Stream {
    /// Sequence number of the first byte.
    origin: u32,
    bytes: Vec<u8>,
    ahead: BTreeMap<usize, Vec<u8>>,
    /// Position of the FIN.
    fin: Option<usize>,
    syn: bool,
    ack: Option<u32>,
    cuts: Vec<usize>,
}

struct Segment {
    end: usize,
    fin: bool,
    ack: u32,
}

impl Stream {
    fn take(&mut self, packet: &[u8]) -> Segment {
        let v6;
        let v4;
        let payload = if packet[0] >> 4 == 6 {
            v6 = Ipv6Packet::new_checked(packet).expect("IPv6");
            v6.payload()
        } else {
            v4 = Ipv4Packet::new_checked(packet).expect("IPv4");
            v4.payload()
        };
        let tcp = TcpPacket::new_checked(payload).expect("TCP");
        let seq = u32::from_ne_bytes(tcp.seq_number().0.to_ne_bytes());
        let ack = u32::from_ne_bytes(tcp.ack_number().0.to_ne_bytes());
        assert!(!tcp.rst(), "no guest has a reason to reset");
        if tcp.syn() {
            self.syn = true;
            self.origin = seq.wrapping_add(1);
        }
        self.ack = Some(self.ack.map_or(ack, |old| if ack.wrapping_sub(old) < 1 << 31 { ack } else { old }));
        let start = if tcp.syn() { 0 } else { usize::try_from(seq.wrapping_sub(self.origin)).unwrap() };
        let end = start + tcp.payload().len();
        if start > 1 << 30 {
            return Segment { end: 0, fin: false, ack }; // A keep-alive, below the origin.
        }
        self.ahead.insert(start, tcp.payload().to_vec());
        while let Some((&start, bytes)) = self.ahead.iter().next() {
            if start > self.bytes.len() {
                break;
            }
            if start + bytes.len() > self.bytes.len() {
                self.bytes.extend_from_slice(&bytes[self.bytes.len() - start..]);
                self.cuts.push(self.bytes.len());
            }
            self.ahead.pop_first();
        }
        if tcp.fin() {
            self.fin = Some(end);
        }
        Segment { end, fin: tcp.fin(), ack }
    }
}

#[derive(Default)]
struct Pair {
    primary: Stream,
    secondary: Stream,
    held: VecDeque<(Instant, Vec<u8>, Segment)>,
    compared: usize,
    cuts_differ: bool,
}

impl Pair {
    /// True if the streams agree as far as both go; does not look twice.
    fn agrees(&mut self) -> bool {
        let to = self.primary.bytes.len().min(self.secondary.bytes.len());
        let range = self.compared.min(to)..to;
        let same = self.primary.bytes[range.clone()] == self.secondary.bytes[range];
        if same {
            self.compared = to;
        }
        same
    }

    fn release(&mut self, out: &mut dyn FnMut(&[u8])) {
        while let Some((_, packet, segment)) = self.held.front() {
            let other = &self.secondary;
            let acked = other.ack.is_some_and(|ack| ack.wrapping_sub(segment.ack) < 1 << 31);
            let covered = other.syn && segment.end <= other.bytes.len() && segment.end <= self.compared;
            let finished = !segment.fin || other.fin == Some(segment.end);
            if !(acked && covered && finished) {
                return;
            }
            out(packet);
            self.held.pop_front();
        }
    }
}

/// The release rule: bytes, events and acknowledgements; checkpoints on mismatch and after 400 ms.
#[derive(Default)]
pub(super) struct Colo {
    pairs: HashMap<ConnectionKey, Pair>,
    pub(super) mismatches: usize,
    wanted: bool,
}

impl Colo {
    pub(super) fn compared_bytes(&self) -> usize {
        self.pairs.values().map(|pair| pair.compared).sum()
    }

    pub(super) fn segmentation_differs(&self) -> bool {
        self.pairs.values().any(|pair| pair.cuts_differ || pair.primary.cuts != pair.secondary.cuts)
    }

    fn judge(&mut self, key: ConnectionKey, out: &mut dyn FnMut(&[u8])) {
        let pair = self.pairs.entry(key).or_default();
        if pair.agrees() {
            pair.release(out);
        } else if !self.wanted {
            self.mismatches += 1;
            self.wanted = true;
        }
    }
}

impl Policy for Colo {
    fn primary(&mut self, packet: &[u8], out: &mut dyn FnMut(&[u8])) {
        let key = ConnectionKey(parse(packet).expect("TCP").destination);
        let pair = self.pairs.entry(key).or_default();
        let segment = pair.primary.take(packet);
        pair.held.push_back((Instant::now(), packet.to_vec(), segment));
        self.judge(key, out);
    }

    fn secondary(&mut self, packet: &[u8], out: &mut dyn FnMut(&[u8])) {
        let key = ConnectionKey(parse(packet).expect("TCP").destination);
        self.pairs.entry(key).or_default().secondary.take(packet);
        self.judge(key, out);
    }

    fn wants_checkpoint(&mut self) -> bool {
        let late = |pair: &Pair| pair.held.front().is_some_and(|held| held.0.elapsed().as_millis() >= 400);
        self.wanted || self.pairs.values().any(late)
    }

    fn commit(&mut self, out: &mut dyn FnMut(&[u8])) {
        self.wanted = false;
        for pair in self.pairs.values_mut() {
            pair.held.drain(..).for_each(|(_, packet, _)| out(&packet));
            pair.cuts_differ |= pair.primary.cuts != pair.secondary.cuts;
            pair.secondary = pair.primary.clone();
            pair.compared = pair.primary.bytes.len();
        }
    }
}
