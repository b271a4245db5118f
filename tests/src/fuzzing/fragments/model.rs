//! What a reassembly should do, with lists instead of bits, buckets and chains: which fragments wait, which are put
//! together, which go on uncompared and as what. It knows no bytes; offsets and lengths are enough.

use std::time::Duration;

use colo_engine::flow::FlowKey;
use colo_engine::fragments::FragmentCounts;
use colo_engine::shard::Budget;
use colo_engine::wire::{Fragment, Place};
use pmd_tap::Nanos;

/// How long the fate of a datagram is remembered.
const MEMORY: Duration = Duration::from_secs(30);
/// What a length field can say.
const LONGEST: u32 = 65_535;

/// What comes of a fragment; frames are named by their place in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Waits.
    Waits,
    /// These make a datagram of this length, unless there is no slot for it.
    Whole(Vec<u64>, u32),
    /// These are malformed frames.
    Malformed(Vec<u64>),
    /// There is no room for these.
    Refused(Vec<u64>),
    /// Its siblings were flushed at the end of this epoch.
    Late(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Malformed,
    Refused,
    Flushed(u32),
}

/// A fragment that comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming<'a> {
    pub(super) fragment: &'a Fragment,
    pub(super) ordinal: u64,
    pub(super) bytes: u64,
    /// It is a first fragment without all of the transport header.
    pub(super) hides: bool,
    pub(super) budget: Budget,
}

#[derive(Debug)]
struct Datagram {
    key: FlowKey,
    identification: u32,
    state: State,
    /// From where to where, and whether that is the end.
    places: Vec<(u32, u32, Place)>,
    waiting: Vec<u64>,
    waiting_bytes: u64,
    first_arrival: Nanos,
    since: Nanos,
    /// Its first fragment: the whole has its headers.
    first: Option<Fragment>,
    /// Grows with each datagram that begins and each that is remembered.
    age: u64,
}

impl Datagram {
    fn add(&mut self, fragment: &Fragment) -> bool {
        let (from, to) = (fragment.offset, fragment.offset + fragment.payload.len);
        let end = self.places.iter().find(|(_, _, place)| *place == Place::Last).map(|(_, to, _)| *to);
        let fits = match fragment.place {
            Place::Inner => (to - from).is_multiple_of(8) && end.is_none_or(|end| to <= end),
            Place::Last => end.is_none() && self.places.iter().all(|(_, other, _)| *other <= to),
        };
        let apart = self.places.iter().all(|(start, end, _)| to <= *start || *end <= from);
        if from == to || to > LONGEST || !fits || !apart {
            return false;
        }
        self.places.push((from, to, fragment.place));
        true
    }

    fn whole(&self) -> Option<u32> {
        let end = self.places.iter().find(|(_, _, place)| *place == Place::Last)?.1;
        let sum: u32 = self.places.iter().map(|(from, to, _)| to - from).sum();
        (sum == end).then_some(end)
    }
}

/// All datagrams of an input.
#[derive(Debug)]
pub(super) struct Model {
    most: usize,
    timeout: Duration,
    datagrams: Vec<Datagram>,
    ages: u64,
    pub(super) counts: FragmentCounts,
    /// Whether room was asked for, and time, in this epoch.
    asked_room: bool,
    asked_time: bool,
    /// Room is asked for by what came last.
    pub(super) asks: bool,
}

impl Model {
    pub(super) fn new(most: usize, timeout: Duration) -> Self {
        Self {
            most,
            timeout,
            datagrams: Vec::new(),
            ages: 0,
            counts: FragmentCounts::default(),
            asked_room: false,
            asked_time: false,
            asks: false,
        }
    }

    fn age(&mut self) -> u64 {
        self.ages += 1;
        self.ages
    }

    fn ask_for_room(&mut self) {
        self.asks = !self.asked_room;
        self.asked_room = true;
    }

    fn begin(&mut self, coming: &Coming<'_>, now: Nanos) -> Option<usize> {
        if self.datagrams.len() == self.most {
            let remembered = |(_, datagram): &(usize, &Datagram)| datagram.state != State::Waiting;
            let oldest =
                self.datagrams.iter().enumerate().filter(remembered).min_by_key(|(_, other)| other.age)?.0;
            self.datagrams.remove(oldest);
        }
        let age = self.age();
        self.datagrams.push(Datagram {
            key: coming.fragment.key(),
            identification: coming.fragment.identification,
            state: State::Waiting,
            places: Vec::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            first_arrival: now,
            since: now,
            first: None,
            age,
        });
        Some(self.datagrams.len() - 1)
    }

    pub(super) fn receive(&mut self, coming: &Coming<'_>, now: Nanos) -> Fate {
        let Coming { fragment, ordinal, .. } = *coming;
        let same =
            |other: &Datagram| other.key == fragment.key() && other.identification == fragment.identification;
        let old = |other: &Datagram| other.state != State::Waiting && now.since(other.since) > MEMORY;
        self.datagrams.retain(|datagram| !(same(datagram) && old(datagram)));
        let found = self.datagrams.iter().position(same).or_else(|| self.begin(coming, now));
        let Some(at) = found else { return self.refuse_lone(ordinal) };
        let datagram = &mut self.datagrams[at];
        match datagram.state {
            State::Waiting => self.wait(at, coming, now),
            State::Malformed => Fate::Malformed(vec![ordinal]),
            State::Refused => {
                datagram.add(fragment);
                self.refuse_lone(ordinal)
            }
            State::Flushed(epoch) => {
                if datagram.add(fragment) {
                    if datagram.whole().is_some() {
                        self.datagrams.remove(at);
                    }
                    return Fate::Late(epoch);
                }
                self.datagrams.remove(at);
                let at = self.begin(coming, now).expect("there is room for one now");
                self.wait(at, coming, now)
            }
        }
    }

    fn refuse_lone(&mut self, ordinal: u64) -> Fate {
        self.ask_for_room();
        self.counts.refused += 1;
        Fate::Refused(vec![ordinal])
    }

    fn wait(&mut self, at: usize, coming: &Coming<'_>, now: Nanos) -> Fate {
        let full = self.counts.held >= u64::try_from(self.most).expect("few");
        let datagram = &mut self.datagrams[at];
        if full || coming.budget == Budget::Exhausted {
            // It counts: after the commit it is known to have come.
            datagram.add(coming.fragment);
            self.join(at, coming);
            return self.refuse(at, now);
        }
        let fits = !coming.hides && datagram.add(coming.fragment);
        self.join(at, coming);
        if !fits {
            return self.spoil(at, now);
        }
        let datagram = &mut self.datagrams[at];
        if coming.fragment.offset == 0 {
            datagram.first = Some(*coming.fragment);
        }
        let Some(len) = datagram.whole() else { return Fate::Waits };
        if datagram.first.is_none_or(|first| !first.can_carry(len)) {
            return self.spoil(at, now);
        }
        Fate::Whole(datagram.waiting.clone(), len)
    }

    fn join(&mut self, at: usize, coming: &Coming<'_>) {
        let datagram = &mut self.datagrams[at];
        datagram.waiting.push(coming.ordinal);
        datagram.waiting_bytes += coming.bytes;
        self.counts.held += 1;
        self.counts.held_bytes += coming.bytes;
    }

    /// The datagram of which this was the last fragment was put together.
    pub(super) fn assembled(&mut self, ordinals: &[u64], is_malformed: bool) {
        let at = self.place_of(ordinals);
        self.leave(at);
        self.datagrams.remove(at);
        self.counts.reassembled += 1;
        self.counts.malformed += u64::from(is_malformed);
    }

    /// It was not, for want of a slot.
    pub(super) fn found_no_slot(&mut self, ordinals: &[u64], now: Nanos) {
        let at = self.place_of(ordinals);
        self.refuse(at, now);
    }

    fn place_of(&self, ordinals: &[u64]) -> usize {
        self.datagrams.iter().position(|datagram| datagram.waiting == ordinals).expect("they wait")
    }

    fn leave(&mut self, at: usize) -> Vec<u64> {
        let datagram = &mut self.datagrams[at];
        let waiting = std::mem::take(&mut datagram.waiting);
        self.counts.held -= u64::try_from(waiting.len()).expect("few");
        self.counts.held_bytes -= std::mem::take(&mut datagram.waiting_bytes);
        waiting
    }

    fn remember(&mut self, at: usize, state: State, now: Nanos) {
        let age = self.age();
        let datagram = &mut self.datagrams[at];
        (datagram.state, datagram.since, datagram.age) = (state, now, age);
    }

    fn refuse(&mut self, at: usize, now: Nanos) -> Fate {
        let waiting = self.leave(at);
        self.remember(at, State::Refused, now);
        self.counts.refused += u64::try_from(waiting.len()).expect("few");
        self.ask_for_room();
        Fate::Refused(waiting)
    }

    fn spoil(&mut self, at: usize, now: Nanos) -> Fate {
        let waiting = self.leave(at);
        self.remember(at, State::Malformed, now);
        self.counts.malformed += 1;
        Fate::Malformed(waiting)
    }

    /// The end of an epoch: what waited, in no order.
    pub(super) fn close(&mut self, epoch: u32, now: Nanos) -> Vec<u64> {
        (self.asked_room, self.asked_time, self.asks) = (false, false, false);
        for datagram in self.datagrams.iter_mut().filter(|datagram| datagram.state == State::Refused) {
            (datagram.state, datagram.since) = (State::Flushed(epoch), now);
        }
        let mut flushed = Vec::new();
        while let Some((at, _)) = self.oldest() {
            flushed.extend(self.leave(at));
            self.remember(at, State::Flushed(epoch), now);
        }
        flushed
    }

    fn oldest(&self) -> Option<(usize, Nanos)> {
        let waits = |(_, datagram): &(usize, &Datagram)| datagram.state == State::Waiting;
        let oldest =
            self.datagrams.iter().enumerate().filter(waits).min_by_key(|(_, datagram)| datagram.age)?;
        Some((oldest.0, oldest.1.first_arrival))
    }

    /// When somebody has waited long enough.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        if self.asked_time { None } else { self.oldest().map(|(_, arrival)| arrival + self.timeout) }
    }

    /// The fragment that has: the first of the oldest datagram.
    pub(super) fn expire(&mut self, now: Nanos) -> Option<u64> {
        self.deadline().filter(|due| *due <= now)?;
        self.asked_time = true;
        self.datagrams[self.oldest()?.0].waiting.first().copied()
    }

    /// Everything that waits.
    pub(super) fn held(&self) -> Vec<u64> {
        let mut held: Vec<u64> =
            self.datagrams.iter().flat_map(|datagram| datagram.waiting.clone()).collect();
        held.sort_unstable();
        held
    }
}
