//! What was sent and what came back: every frame once, unchanged, in its flow's order, and not before its twin was
//! written. Late ones, lost ones and strangers are counted, never an error.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::mould::Name;

/// Longest latency that is told apart, ns.
const LONGEST_NS: u64 = 60_000_000_000;

/// What went wrong, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Sent and never seen again.
    pub lost: u64,
    /// Came back more than once.
    pub duplicates: u64,
    /// Came back behind a later frame of their flow.
    pub out_of_order: u64,
    /// Came back otherwise than they were sent, or were never sent.
    pub altered: u64,
    /// Came back before the secondary's copy was written, with no checkpoint that would explain it.
    pub unmatched: u64,
}

impl Faults {
    /// Whether there is none.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing, or something that is too long ago to be told from a stranger.
    #[default]
    Free,
    /// On its way, its twin not written yet.
    Alone,
    /// On its way.
    Away,
    /// Not waited for any more.
    WrittenOff,
    Back,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// When its twin was written, or was to be, ns.
    at: u64,
    flow: u32,
    place: u32,
    state: State,
}

/// The books of one run.
#[derive(Debug)]
pub struct Books {
    entries: Vec<Entry>,
    mask: u64,
    /// Pairs begun; the next one's number.
    sent: u64,
    /// The first pair that is still waited for, or the next one.
    tail: u64,
    /// Frames that are waited for.
    away: u64,
    back: u64,
    /// The place in its flow of the next frame to be sent.
    next_place: Vec<u32>,
    /// The place behind the last frame that came back.
    next_back: Vec<u32>,
    faults: Faults,
    latency: Histogram<u64>,
    /// Pairs in front of that one are not measured.
    measured_from: u64,
}

impl Books {
    /// For so many flows, and so many pairs that may be on the way at once.
    pub fn new(flows: u32, in_flight: u64) -> Self {
        let entries = usize::try_from(in_flight.clamp(1024, 1 << 22).next_power_of_two()).unwrap_or(1024);
        let flows = usize::try_from(flows).unwrap_or(0);
        Self {
            entries: vec![Entry::default(); entries],
            mask: u64::try_from(entries - 1).unwrap_or(0),
            sent: 0,
            tail: 0,
            away: 0,
            back: 0,
            next_place: vec![0; flows],
            next_back: vec![0; flows],
            faults: Faults::default(),
            latency: Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("these bounds are sound"),
            measured_from: u64::MAX,
        }
    }

    fn index(&self, pair: u64) -> usize {
        usize::try_from(pair & self.mask).unwrap_or(0)
    }

    /// Begins a pair of this flow.
    pub fn send(&mut self, flow: u32) -> Name {
        let pair = self.sent;
        if pair - self.tail > self.mask {
            self.write_off(self.tail);
        }
        let place = {
            let next = &mut self.next_place[usize::try_from(flow).unwrap_or(0)];
            std::mem::replace(next, next.wrapping_add(1))
        };
        let index = self.index(pair);
        self.entries[index] = Entry { at: 0, flow, place, state: State::Alone };
        self.sent += 1;
        self.away += 1;
        Name { flow, place, number: low(pair) }
    }

    /// The secondary's frame of a pair goes out, for which `at` is the time.
    pub fn twin(&mut self, pair: u64, at: u64) -> Name {
        let index = self.index(pair);
        let entry = &mut self.entries[index];
        if entry.state == State::Alone {
            entry.state = State::Away;
        }
        entry.at = at;
        Name { flow: entry.flow, place: entry.place, number: low(pair) }
    }

    /// A frame came back; `name` is `None` when it is no frame of ours.
    pub fn receive(&mut self, name: Option<Name>, now: u64) {
        let Some(name) = name else {
            self.faults.altered += 1;
            return;
        };
        let mut pair = self.sent & !0xffff_ffff | u64::from(name.number);
        if pair >= self.sent {
            // Of the 2^32 pairs before.
            pair = pair.wrapping_sub(1 << 32);
        }
        if pair >= self.sent {
            self.faults.altered += 1;
            return;
        }
        if self.sent - pair > self.mask + 1 {
            // Written off so long ago that its entry is another's. Whether it is there twice cannot be told any more.
            self.back += 1;
            self.faults.out_of_order += 1;
            return;
        }
        let index = self.index(pair);
        let entry = &mut self.entries[index];
        if (entry.flow, entry.place) != (name.flow, name.place) {
            self.faults.altered += 1;
            return;
        }
        match entry.state {
            State::Back | State::Free => {
                self.faults.duplicates += 1;
                return;
            }
            State::Alone => self.faults.unmatched += 1,
            State::Away => {
                if pair >= self.measured_from {
                    self.latency.saturating_record(now.saturating_sub(entry.at).max(1));
                }
            }
            State::WrittenOff => {}
        }
        if entry.state != State::WrittenOff {
            self.away -= 1;
        }
        entry.state = State::Back;
        self.back += 1;
        let next = &mut self.next_back[usize::try_from(name.flow).unwrap_or(0)];
        let ahead = name.place.wrapping_sub(*next);
        if ahead < 1 << 31 {
            *next = name.place.wrapping_add(1);
        } else {
            self.faults.out_of_order += 1;
        }
        self.move_tail();
    }

    /// A checkpoint lets everything out: what comes back alone is no fault, and is not timed.
    pub fn excuse(&mut self, now: u64) {
        for pair in self.tail..self.sent {
            let index = self.index(pair);
            if self.entries[index].state == State::Alone {
                self.entries[index] = Entry { at: now, state: State::Away, ..self.entries[index] };
            }
        }
    }

    /// Nobody waits any more for what is on its way.
    pub fn write_off_all(&mut self) {
        (self.tail..self.sent).for_each(|pair| self.write_off(pair));
    }

    fn write_off(&mut self, pair: u64) {
        let index = self.index(pair);
        if matches!(self.entries[index].state, State::Alone | State::Away) {
            self.entries[index].state = State::WrittenOff;
            self.away -= 1;
        }
        self.move_tail();
    }

    fn move_tail(&mut self) {
        while self.tail < self.sent {
            if !matches!(self.entries[self.index(self.tail)].state, State::Back | State::WrittenOff) {
                break;
            }
            self.tail += 1;
        }
    }

    /// Pairs begun from now on are measured.
    pub fn measure(&mut self) {
        self.measured_from = self.sent;
    }

    /// Pairs begun.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Frames that came back, each counted once.
    pub fn back(&self) -> u64 {
        self.back
    }

    /// Frames that are waited for.
    pub fn away(&self) -> u64 {
        self.away
    }

    /// What went wrong so far; what is on its way is not lost.
    pub fn faults(&self) -> Faults {
        Faults { lost: self.sent.saturating_sub(self.back + self.away), ..self.faults }
    }

    /// From the time of the twin to the return.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }
}

fn low(pair: u64) -> u32 {
    u32::try_from(pair & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let mut books = Books::new(2, 1024);
        books.measure();
        books
    }

    /// Begins pairs of flow 0, twins written at once.
    fn pairs(books: &mut Books, count: u64) -> Vec<Name> {
        let first = books.sent();
        let names = (0..count).map(|_| books.send(0)).collect();
        (first..first + count).for_each(|pair| assert_eq!(books.twin(pair, 100).flow, 0));
        names
    }

    #[test]
    fn what_comes_back_once_in_order_is_no_fault() {
        let mut books = books();
        for name in pairs(&mut books, 500) {
            books.receive(Some(name), 350);
        }
        assert_eq!((books.back(), books.away(), books.faults()), (500, 0, Faults::default()));
        assert_eq!((books.latency().len(), books.latency().max()), (500, 250));
    }

    #[test]
    fn every_fault_is_counted_as_what_it_is() {
        let mut books = books();
        let names = pairs(&mut books, 6);
        for at in [0, 2, 1, 1, 4] {
            books.receive(Some(names[at]), 350);
        }
        books.receive(None, 350);
        books.receive(Some(Name { flow: 1, place: 9, number: 3 }), 350);
        let alone = books.send(1);
        books.receive(Some(alone), 350);
        books.write_off_all();
        let expected = Faults { lost: 2, duplicates: 1, out_of_order: 1, altered: 2, unmatched: 1 };
        assert_eq!(books.faults(), expected);
        books.receive(Some(names[5]), 350);
        assert_eq!(books.faults().lost, 1, "late is not lost");
        assert_eq!(books.away(), 0);
    }

    #[test]
    fn more_than_fit_are_written_off_oldest_first() {
        let mut books = books();
        let names = pairs(&mut books, 1500);
        assert_eq!((books.away(), books.faults().lost), (1024, 476));
        names[476..].iter().for_each(|&name| books.receive(Some(name), 350));
        assert_eq!((books.away(), books.faults().lost, books.faults().duplicates), (0, 476, 0));
        books.receive(Some(names[7]), 350);
        assert_eq!((books.faults().lost, books.faults().out_of_order), (475, 1), "late is not lost");
    }

    #[test]
    fn a_checkpoint_excuses_what_comes_alone() {
        let mut books = books();
        let name = books.send(1);
        books.excuse(300);
        books.receive(Some(name), 350);
        assert!(books.faults().none());
    }
}
