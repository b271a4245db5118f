//! The reassembly against any fragments: pieces of known datagrams in any order, twice, too long, too many, changed, with
//! time and ends of epochs in between. [`model`] says what should come of each; the bytes are judged here. What a
//! fragment's headers say is the business of the target `wire`.

mod made;
mod model;

use std::cell::RefCell;
use std::time::Duration;

use colo_engine::flow::FlowHasher;
use colo_engine::fragments::{FragmentSettings, Reassembly};
use colo_engine::shard::Budget;
use colo_engine::side::Side;
use colo_engine::verdict::{Detail, Reason, WaitsFor};
use colo_engine::wire::{Class, Fragment, Packet, Stray};
use pmd_tap::{Frame, FramePool, Nanos, PoolSettings};

use super::bytes::Bytes;
use made::Datagram;
use model::{Coming, Fate, Model};

/// Longest case.
const MOST_OPERATIONS: usize = 400;
const TIMEOUT: Duration = Duration::from_millis(400);

thread_local! {
    static POOL: RefCell<FramePool> = RefCell::new(
        FramePool::new(PoolSettings { small: 48, mtu: 48, jumbo: 4, gso: 3 }).expect("memory for a few frames"),
    );
}

/// A case: a byte of settings, then operations until the bytes are over.
pub fn fragments(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let max_fragments = [1, 2, 3, 4, 8, 16, 32, 64][usize::from(bytes.u8() & 7)];
    POOL.with_borrow_mut(|pool| {
        let settings = FragmentSettings { max_fragments, compare_timeout: TIMEOUT };
        let mut bench = Bench {
            reassembly: Reassembly::new(Side::Primary, settings, FlowHasher::fixed()),
            model: Model::new(max_fragments, TIMEOUT),
            pool,
            now: Nanos(1),
            epoch: 0,
            sent: Vec::new(),
            last: Vec::new(),
        };
        for _ in 0..MOST_OPERATIONS {
            if bytes.is_empty() {
                break;
            }
            bench.operate(&mut bytes);
            bench.balances(max_fragments);
        }
        bench.close();
        bench.balances(max_fragments);
        assert!(bench.sent.iter().all(|sent| sent.left), "a frame is lost");
        bench.pool.collect();
        assert_eq!(bench.pool.frames_out(), 0, "slots are lost");
    });
}

/// A frame that came.
struct Sent {
    bytes: Vec<u8>,
    at: Nanos,
    /// The datagram of which it is a piece, as it was made.
    datagram: Option<Datagram>,
    fragment: Fragment,
    left: bool,
}

struct Bench<'a> {
    reassembly: Reassembly,
    model: Model,
    pool: &'a mut FramePool,
    now: Nanos,
    epoch: u32,
    sent: Vec<Sent>,
    /// The last frame made, to be sent again or changed.
    last: Vec<u8>,
}

impl Bench<'_> {
    fn operate(&mut self, bytes: &mut Bytes<'_>) {
        let what = bytes.u8();
        let budget = if what & 0x1f == 0x1f { Budget::Exhausted } else { Budget::Room };
        match what >> 5 {
            0..3 => {
                let (datagram, piece) = made::piece(bytes);
                self.send(&piece, Some(datagram), budget);
                self.last = piece;
            }
            3 => {
                let (datagram, pieces) = made::cut(bytes);
                for piece in pieces {
                    self.send(&piece, Some(datagram), budget);
                    self.last = piece;
                }
            }
            4 => {
                let mut changed = self.last.clone();
                if what & 1 == 1 {
                    made::change(&mut changed, bytes);
                    self.last.clone_from(&changed);
                }
                self.send(&changed, None, budget);
            }
            5 => {
                let step = u64::from(what & 0xf);
                self.now = self.now
                    + if what & 0x10 == 0 {
                        Duration::from_millis(step * 40)
                    } else {
                        Duration::from_secs(step * 4)
                    };
            }
            6 => self.expire(),
            _ => self.close(),
        }
    }

    fn send(&mut self, bytes: &[u8], datagram: Option<Datagram>, budget: Budget) {
        let Packet::Fragment(fragment) = Packet::parse(bytes) else { return };
        let Some(mut frame) = self.pool.frame_from(bytes) else { return };
        let ordinal = u64::try_from(self.sent.len()).expect("few frames");
        frame.stamp(self.now, ordinal);
        self.sent.push(Sent { bytes: bytes.to_vec(), at: self.now, datagram, fragment, left: false });
        let coming = Coming {
            fragment: &fragment,
            ordinal,
            bytes: u64::try_from(bytes.len()).expect("short"),
            hides: fragment.hides_its_header(bytes),
            budget,
        };
        self.model.asks = false;
        let expected = self.model.receive(&coming, self.now);
        let found = self.reassembly.receive(frame, &fragment, budget, self.pool);
        self.judge(expected, found);
        let cause = self.reassembly.take_cause();
        assert_eq!(cause.is_some(), self.model.asks, "{cause:?}");
        if let Some(cause) = cause {
            assert_eq!((cause.reason, cause.at, cause.flow), (Reason::QueueFull, self.now, None));
        }
    }

    fn judge(&mut self, expected: Fate, found: Option<(Frame, Packet)>) {
        let (frames, packet) = match (expected, found) {
            (Fate::Waits, None) => return,
            (Fate::Whole(ordinals, len), Some((whole, packet))) if whole.is_assembled() => {
                let is_malformed = packet == Packet::Class(Class::Malformed);
                self.model.assembled(&ordinals, is_malformed);
                return self.judge_whole(&ordinals, len, whole, &packet);
            }
            (Fate::Whole(ordinals, len), Some((chain, packet))) => {
                self.model.found_no_slot(&ordinals, self.now);
                let first = &self.sent[index(ordinals[0])];
                let headers =
                    self.headers_of(&ordinals).unwrap_or_else(|| index(first.fragment.headers_len()));
                let slot = self.pool.frame_for(headers + index(len));
                assert!(slot.is_none(), "there is a slot for {len} bytes");
                assert_eq!(packet, Packet::Stray(Stray::OverBudget));
                return self.leave(&ordinals, chain);
            }
            (_, Some((whole, _))) if whole.is_assembled() => panic!("not all of it has come"),
            (Fate::Malformed(ordinals), Some((chain, packet))) => {
                assert_eq!(packet, Packet::Class(Class::Malformed));
                return self.leave(&ordinals, chain);
            }
            (Fate::Refused(ordinals), Some((chain, packet))) => ((ordinals, chain), packet),
            (Fate::Late(epoch), Some((chain, packet))) => {
                assert_eq!(packet, Packet::Stray(Stray::Late { epoch }));
                let newest = u64::try_from(self.sent.len() - 1).expect("few frames");
                return self.leave(&[newest], chain);
            }
            (expected, found) => panic!("{expected:?}, but {found:?}"),
        };
        assert_eq!(packet, Packet::Stray(Stray::OverBudget));
        self.leave(&frames.0, frames.1);
    }

    /// Frames leave as they came, once, in this order.
    fn leave(&mut self, ordinals: &[u64], chain: Frame) {
        assert_eq!(chain.stands_for(), ordinals.len());
        for (frame, ordinal) in chain.into_originals().zip(ordinals) {
            assert_eq!(frame.ordinal(), *ordinal);
            let sent = &mut self.sent[index(*ordinal)];
            assert!(!std::mem::replace(&mut sent.left, true), "frame {ordinal} leaves twice");
            assert_eq!((frame.ethernet(), frame.arrival()), (&sent.bytes[..], sent.at));
            self.pool.recycle(frame);
        }
    }

    /// Bytes of headers that the whole has in front: those of its first fragment.
    fn headers_of(&self, ordinals: &[u64]) -> Option<usize> {
        let pieces = || ordinals.iter().map(|ordinal| &self.sent[index(*ordinal)].fragment);
        pieces().find(|fragment| fragment.offset == 0).map(|first| index(first.headers_len()))
    }

    /// A datagram that was put together: every byte of it is one of its fragments' at that place.
    fn judge_whole(&mut self, ordinals: &[u64], len: u32, whole: Frame, packet: &Packet) {
        let pieces = || ordinals.iter().map(|ordinal| &self.sent[index(*ordinal)]);
        let headers = self.headers_of(ordinals).expect("it has a first fragment");
        let bytes = whole.ethernet();
        assert_eq!(bytes.len(), headers + index(len));
        let mut covered = 0;
        for piece in pieces() {
            let at = headers + index(piece.fragment.offset);
            let content = piece.fragment.payload.of(&piece.bytes);
            assert_eq!(&bytes[at..at + content.len()], content, "bytes at {at}");
            covered += content.len();
        }
        assert_eq!(covered, index(len), "not all bytes have come");
        match Packet::parse(bytes) {
            Packet::Fragment(_) => assert_eq!(*packet, Packet::Class(Class::Malformed)),
            parsed => assert_eq!(*packet, parsed),
        }
        let first = pieces().next().expect("it has fragments");
        assert_eq!((whole.arrival(), whole.ordinal()), (first.at, ordinals[0]), "stamped as its first");
        assert_eq!(whole.completed(), self.now);
        if let Some(datagram) = first.datagram
            && pieces().all(|piece| piece.datagram == Some(datagram))
        {
            let uncut = datagram.whole(index(len));
            assert_eq!(bytes.len(), uncut.len());
            let differs = |at: &usize| bytes[*at] != uncut[*at] && !datagram.is_volatile(*at);
            assert_eq!((0..uncut.len()).find(differs), None, "not as if it was never cut");
            let flows = [*packet, Packet::parse(&uncut)].map(|packet| packet.flow().copied());
            assert!(flows[0].is_some() && flows[0] == flows[1], "{flows:?}");
        }
        self.leave(ordinals, whole);
    }

    fn expire(&mut self) {
        if let Some(deadline) = self.reassembly.next_deadline() {
            self.now = self.now.max(deadline);
        }
        let expected = self.model.expire(self.now);
        let cause = self.reassembly.expire(self.now);
        let found = cause.map(|cause| match cause.detail {
            Detail::Timeout { side: Side::Primary, frame, waits_for: WaitsFor::Fragments, .. } => {
                assert_eq!((cause.reason, cause.at), (Reason::Timeout, self.now));
                frame
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(found, expected);
    }

    fn close(&mut self) {
        self.epoch += 1;
        let mut expected = self.model.close(self.epoch, self.now);
        let Some((chain, packet)) = self.reassembly.close(self.epoch, self.now) else {
            return assert!(expected.is_empty(), "{expected:?} are not flushed");
        };
        assert_eq!(packet, Packet::Stray(Stray::Incomplete));
        let order: Vec<u64> = chain.originals().map(Frame::ordinal).collect();
        self.leave(&order, chain);
        expected.sort_unstable();
        let mut flushed = order;
        flushed.sort_unstable();
        assert_eq!(flushed, expected, "flushed");
    }

    /// The books agree, and no bound is passed.
    fn balances(&mut self, max_fragments: usize) {
        assert_eq!(self.reassembly.counts(), self.model.counts);
        assert!(self.reassembly.held() <= max_fragments);
        let mut held: Vec<u64> = self.reassembly.held_ordinals().collect();
        held.sort_unstable();
        assert_eq!(held, self.model.held());
        assert_eq!(self.reassembly.next_deadline(), self.model.deadline());
        self.pool.collect();
        assert_eq!(self.pool.frames_out(), held.len(), "slots are out");
        let inside: Vec<usize> = (0..self.sent.len()).filter(|at| !self.sent[*at].left).collect();
        assert!(held.iter().map(|ordinal| index(*ordinal)).eq(inside), "a frame is lost");
    }
}

fn index(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or_else(|_| panic!("an index"))
}
