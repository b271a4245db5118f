//! Fragments of one input → whole datagrams, before anybody asks which flow they belong to.
//!
//! A datagram that is whole goes on as one frame, put together, with the fragments that came behind it
//! ([`Frame::is_assembled`]): the comparer reads the whole, what leaves are the fragments. Until then they wait here,
//! bounded, and count as held. Nothing here compares, and nothing allocates after the start; time comes with the frames.

mod cover;
mod table;

use std::time::Duration;

use pmd_tap::{Frame, FramePool, Nanos};

use crate::flow::FlowHasher;
use crate::shard::Budget;
use crate::side::Side;
use crate::verdict::{Cause, Detail, Reason, Scene, WaitsFor};
use crate::wire::{Class, Fragment, Packet, Stray, put};

use cover::Fit;
use table::{Index, State, Table};

/// How long fragments that cannot be compared are remembered for the sake of their siblings: half of what RFC 8200
/// section 4.5 gives a reassembly, so that an identification is not in use again.
const MEMORY: Duration = Duration::from_secs(30);

/// Bounds and pace of a reassembly.
#[derive(Clone, Copy, Debug)]
pub struct FragmentSettings {
    /// Most fragments of an input that wait for the rest of their datagram, and most datagrams remembered.
    pub max_fragments: usize,
    /// How long a fragment may wait.
    pub compare_timeout: Duration,
}

/// What a reassembly counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentCounts {
    /// Fragments that wait now.
    pub held: u64,
    /// Their bytes.
    pub held_bytes: u64,
    /// Datagrams put together.
    pub reassembled: u64,
    /// Datagrams whose fragments do not fit together.
    pub malformed: u64,
    /// Fragments that found no room.
    pub refused: u64,
}

/// Whether something was asked for in this epoch; it is asked for once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    No,
    Yes,
}

/// The reassembly of one input.
#[derive(Debug)]
pub struct Reassembly {
    side: Side,
    settings: FragmentSettings,
    hasher: FlowHasher,
    table: Table,
    counts: FragmentCounts,
    overdue: Asked,
    full: Asked,
    cause: Option<Cause>,
}

impl Reassembly {
    /// With all the memory it will ever use: 1 KiB for each of `max_fragments`.
    pub fn new(side: Side, settings: FragmentSettings, hasher: FlowHasher) -> Self {
        Self {
            side,
            settings,
            hasher,
            table: Table::new(settings.max_fragments.max(1)),
            counts: FragmentCounts::default(),
            overdue: Asked::No,
            full: Asked::No,
            cause: None,
        }
    }

    /// What it counts.
    pub fn counts(&self) -> FragmentCounts {
        self.counts
    }

    /// Fragments that wait.
    pub fn held(&self) -> usize {
        usize::try_from(self.counts.held).unwrap_or(usize::MAX)
    }

    /// A fragment, stamped. What can go on now: the whole datagram, or fragments that are not compared; `None` while the
    /// rest of the datagram is missing. What goes on is at most as much as came.
    pub fn receive(
        &mut self,
        frame: Frame,
        fragment: &Fragment,
        budget: Budget,
        pool: &mut FramePool,
    ) -> Option<(Frame, Packet)> {
        let now = frame.arrival();
        let hash = self.hasher.hash_fragment(&fragment.key(), fragment.identification);
        let known = self.table.find(fragment, hash).filter(|index| self.is_fresh(*index, now));
        let Some(index) = known.or_else(|| self.table.begin(fragment, hash, now, frame.ordinal())) else {
            return Some(self.refuse_lone(frame, "max_fragments"));
        };
        match self.table.state(index) {
            State::Waiting => self.wait(index, frame, fragment, budget, pool),
            State::Malformed => Some((frame, Packet::Class(Class::Malformed))),
            State::Refused => {
                // Its place counts all the same: at the commit the datagram is known to have come so far.
                self.table.add(index, fragment);
                Some(self.refuse_lone(frame, "max_fragments"))
            }
            State::Flushed { epoch } => match self.table.add(index, fragment) {
                Fit::Fits => {
                    if self.table.whole(index).is_some() {
                        self.table.forget(index);
                    }
                    Some((frame, Packet::Stray(Stray::Late { epoch })))
                }
                // It is no sibling: the identification is in use again.
                Fit::Misfit => {
                    self.table.forget(index);
                    let Some(index) = self.table.begin(fragment, hash, now, frame.ordinal()) else {
                        return Some(self.refuse_lone(frame, "max_fragments"));
                    };
                    self.wait(index, frame, fragment, budget, pool)
                }
            },
        }
    }

    /// Whether what is remembered is not too old; otherwise it is forgotten.
    fn is_fresh(&mut self, index: Index, now: Nanos) -> bool {
        let fresh = match self.table.remembered_since(index) {
            Some(since) => now.since(since) <= MEMORY,
            None => true,
        };
        if !fresh {
            self.table.forget(index);
        }
        fresh
    }

    /// The fragment joins those that wait.
    fn wait(
        &mut self,
        index: Index,
        frame: Frame,
        fragment: &Fragment,
        budget: Budget,
        pool: &mut FramePool,
    ) -> Option<(Frame, Packet)> {
        let short_of = match budget {
            Budget::Exhausted => Some("max_held_frames"),
            Budget::Room => (self.held() >= self.settings.max_fragments).then_some("max_fragments"),
        };
        if let Some(limit) = short_of {
            // Its place counts, too, or after the commit another datagram's fragment would be taken for a sibling.
            self.table.add(index, fragment);
            return self.refuse(index, frame, limit);
        }
        if fragment.hides_its_header(frame.ethernet()) || self.table.add(index, fragment) == Fit::Misfit {
            return self.give_up(index, frame);
        }
        self.counts.held += 1;
        self.counts.held_bytes += bytes_of(&frame);
        self.table.push(index, frame);
        let len = self.table.whole(index)?;
        self.assemble(index, len, pool)
    }

    /// All fragments of a datagram are here: its content is written once, behind the headers of its first.
    fn assemble(&mut self, index: Index, len: u32, pool: &mut FramePool) -> Option<(Frame, Packet)> {
        let (first_arrival, first_ordinal) = self.table.began(index);
        let newest = self.take(index)?;
        let completed = newest.arrival();
        let pieces = || newest.originals().filter_map(|frame| Some((frame, fragment_of(frame)?)));
        let first = pieces().find(|(_, piece)| piece.offset == 0);
        let Some((first_frame, first)) = first.filter(|(_, first)| first.can_carry(len)) else {
            return self.set_aside(index, newest, State::Malformed);
        };
        let headers = first.headers_len();
        let size = usize::try_from(headers + len).unwrap_or(usize::MAX);
        let Some(mut whole) = pool.frame_for(size).filter(|frame| frame.capacity() >= size) else {
            self.ask_for_room(room_for(size), completed);
            return self.set_aside(index, newest, State::Refused);
        };
        let fits = whole.set_len(size);
        debug_assert!(fits, "frame_for gives room");
        first.write_headers(first_frame.ethernet(), len, whole.bytes_mut());
        for (frame, piece) in pieces() {
            let at = usize::try_from(headers + piece.offset).unwrap_or(usize::MAX);
            put(whole.bytes_mut(), at, piece.payload.of(frame.ethernet()));
        }
        whole.stamp(first_arrival, first_ordinal);
        whole.mark_assembled(completed);
        // The newest comes first, so the oldest ends up in front.
        newest.into_originals().for_each(|frame| whole.attach(frame));
        self.table.forget(index);
        self.counts.reassembled += 1;
        let packet = match Packet::parse(whole.ethernet()).in_tunnel(whole.ethernet(), &self.hasher) {
            // A fragment cut up once more: nobody sends that.
            Packet::Fragment(_) | Packet::Stray(_) => Packet::Class(Class::Malformed),
            packet => packet,
        };
        self.counts.malformed += u64::from(packet == Packet::Class(Class::Malformed));
        Some((whole, packet))
    }

    /// The fragments do not fit together: all of them, and those that follow, are malformed frames.
    fn give_up(&mut self, index: Index, frame: Frame) -> Option<(Frame, Packet)> {
        let newest = self.join(index, frame);
        self.set_aside(index, newest, State::Malformed)
    }

    /// There is no room to wait for the rest.
    fn refuse(&mut self, index: Index, frame: Frame, limit: &'static str) -> Option<(Frame, Packet)> {
        self.ask_for_room(limit, frame.arrival());
        let newest = self.join(index, frame);
        self.set_aside(index, newest, State::Refused)
    }

    fn refuse_lone(&mut self, frame: Frame, limit: &'static str) -> (Frame, Packet) {
        self.ask_for_room(limit, frame.arrival());
        self.counts.refused += 1;
        (frame, Packet::Stray(Stray::OverBudget))
    }

    /// The fragments that waited, this one in front.
    fn join(&mut self, index: Index, mut frame: Frame) -> Frame {
        if let Some(others) = self.take(index) {
            frame.attach(others);
        }
        frame
    }

    /// Lets fragments, the newest in front, go on uncompared, and remembers that.
    fn set_aside(&mut self, index: Index, newest: Frame, state: State) -> Option<(Frame, Packet)> {
        self.table.remember(index, state, newest.arrival());
        let packet = if state == State::Malformed {
            self.counts.malformed += 1;
            Packet::Class(Class::Malformed)
        } else {
            self.counts.refused += u64::try_from(newest.stands_for()).unwrap_or(0);
            Packet::Stray(Stray::OverBudget)
        };
        Some((turned_round(newest)?, packet))
    }

    /// The fragments of a datagram, the newest in front; they no longer wait here.
    fn take(&mut self, index: Index) -> Option<Frame> {
        let newest = self.table.take(index)?;
        self.counts.held -= u64::try_from(newest.stands_for()).unwrap_or(0);
        self.counts.held_bytes -= newest.originals().map(bytes_of).sum::<u64>();
        Some(newest)
    }

    fn ask_for_room(&mut self, limit: &'static str, at: Nanos) {
        if self.full == Asked::No {
            self.full = Asked::Yes;
            let detail = Detail::Bound { limit };
            self.cause = Some(Cause { reason: Reason::QueueFull, at, flow: None, detail });
        }
    }

    /// What the last fragment gave cause for.
    #[inline(always)]
    pub fn take_cause(&mut self) -> Option<Cause> {
        self.cause.take()
    }

    /// When the oldest fragment has waited long enough.
    pub fn next_deadline(&self) -> Option<Nanos> {
        if self.overdue == Asked::Yes {
            return None;
        }
        let (arrival, _) = self.table.began(self.table.oldest()?);
        Some(arrival + self.settings.compare_timeout)
    }

    /// Says which fragment has waited long enough, once an epoch.
    pub fn expire(&mut self, now: Nanos) -> Option<Cause> {
        self.next_deadline().filter(|due| *due <= now)?;
        self.overdue = Asked::Yes;
        let oldest = self.table.oldest()?;
        let (_, frame) = self.table.began(oldest);
        let scene = Scene::default();
        let detail = Detail::Timeout { side: self.side, frame, waits_for: WaitsFor::Fragments, scene };
        Some(Cause { reason: Reason::Timeout, at: now, flow: Some(*self.table.flow(oldest)), detail })
    }

    /// The epoch ends: whatever waits goes to the shard as one chain, to be flushed, and what comes of those datagrams
    /// from now on is [`Stray::Late`].
    pub fn close(&mut self, epoch: u32, now: Nanos) -> Option<(Frame, Packet)> {
        (self.overdue, self.full, self.cause) = (Asked::No, Asked::No, None);
        self.table.refused_are_flushed(epoch, now);
        let mut chain: Option<Frame> = None;
        // The shard flushes by arrival, so their order in the chain does not matter.
        while let Some(index) = self.table.oldest() {
            let newest = self.take(index);
            self.table.remember(index, State::Flushed { epoch }, now);
            for mut frame in newest.into_iter().flat_map(Frame::into_originals) {
                if let Some(others) = chain.take() {
                    frame.attach(others);
                }
                chain = Some(frame);
            }
        }
        Some((chain?, Packet::Stray(Stray::Incomplete)))
    }

    /// The fragments that wait, by their place in their input.
    pub fn held_ordinals(&self) -> impl Iterator<Item = u64> {
        self.table.waiting().flat_map(|newest| newest.originals().map(Frame::ordinal))
    }
}

/// The bound that a frame of this size is short of.
fn room_for(size: usize) -> &'static str {
    // A jumbo frame's slot: what is longer is a super-frame to the pool.
    const JUMBO: usize = 9_280;
    if size > JUMBO { "max_gso_frames" } else { "max_held_frames" }
}

fn bytes_of(frame: &Frame) -> u64 {
    u64::try_from(frame.len()).unwrap_or(0)
}

fn fragment_of(frame: &Frame) -> Option<Fragment> {
    match Packet::parse(frame.ethernet()) {
        Packet::Fragment(fragment) => Some(fragment),
        _ => None,
    }
}

/// The same chain with its last frame in front.
fn turned_round(chain: Frame) -> Option<Frame> {
    chain.into_originals().fold(None, |behind, mut frame| {
        if let Some(behind) = behind {
            frame.attach(behind);
        }
        Some(frame)
    })
}

#[cfg(test)]
mod tests;
