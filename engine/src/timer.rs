//! One timer a connection, in a hashed wheel (Varghese and Lauck 1987, scheme 6).
//!
//! Arming is O(1); frames of the hot path never move a timer: a connection's deadline is a lower bound, and when it
//! comes up the connection says whether anything is due or when to ask again. Deadlines are exact; how often the wheel
//! is asked is the caller's tick.

use std::time::Duration;

use pmd_tap::Nanos;

const BUCKETS: usize = 1024;
const NONE: u32 = u32::MAX;

/// A connection's place in the wheel.
#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Nanos,
    next: u32,
    previous: u32,
}

impl Entry {
    const DISARMED: Self = Self { deadline: Nanos::NEVER, next: NONE, previous: NONE };
}

/// Timers of one shard's connections, by connection index.
#[derive(Debug)]
pub struct TimerWheel {
    entries: Vec<Entry>,
    buckets: Vec<u32>,
    occupied: [u64; BUCKETS / 64],
    bucket_nanos: u64,
    /// No armed deadline is before this bucket's start.
    cursor: u64,
    armed: usize,
}

impl TimerWheel {
    /// Timers for `connections` connections, buckets of one `tick`.
    pub fn new(connections: usize, tick: Duration) -> Self {
        Self {
            entries: vec![Entry::DISARMED; connections],
            buckets: vec![NONE; BUCKETS],
            occupied: [0; BUCKETS / 64],
            bucket_nanos: u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX).max(1),
            cursor: 0,
            armed: 0,
        }
    }

    fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// When a connection's timer comes up; [`Nanos::NEVER`] when it is not armed.
    #[inline(always)]
    pub fn deadline(&self, connection: u32) -> Nanos {
        self.entry(connection).map_or(Nanos::NEVER, |entry| entry.deadline)
    }

    fn bucket_of(&self, deadline: Nanos) -> usize {
        let bucket = (deadline.0 / self.bucket_nanos).max(self.cursor);
        usize::try_from(bucket).unwrap_or(0) % BUCKETS
    }

    /// Arms a connection's timer unless it comes up earlier anyway.
    #[inline(always)]
    pub fn arm_by(&mut self, connection: u32, deadline: Nanos) {
        if deadline < self.deadline(connection) {
            self.arm(connection, deadline);
        }
    }

    #[cold]
    fn arm(&mut self, connection: u32, deadline: Nanos) {
        self.disarm(connection);
        let bucket = self.bucket_of(deadline);
        let first = self.buckets[bucket];
        self.buckets[bucket] = connection;
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        self.set(connection, Entry { deadline, next: first, previous: NONE });
        if let Some(mut entry) = self.entry(first).copied() {
            entry.previous = connection;
            self.set(first, entry);
        }
        self.armed += 1;
    }

    fn set(&mut self, index: u32, entry: Entry) {
        if let Some(place) = usize::try_from(index).ok().and_then(|index| self.entries.get_mut(index)) {
            *place = entry;
        }
    }

    /// Takes a connection's timer out.
    pub fn disarm(&mut self, connection: u32) {
        let Some(entry) = self.entry(connection).copied() else { return };
        if entry.deadline == Nanos::NEVER {
            return;
        }
        if let Some(mut next) = self.entry(entry.next).copied() {
            next.previous = entry.previous;
            self.set(entry.next, next);
        }
        if let Some(mut previous) = self.entry(entry.previous).copied() {
            previous.next = entry.next;
            self.set(entry.previous, previous);
        } else if let Some(bucket) = self.bucket_headed_by(connection, entry.deadline) {
            self.buckets[bucket] = entry.next;
            if entry.next == NONE {
                self.occupied[bucket / 64] &= !(1 << (bucket % 64));
            }
        }
        self.set(connection, Entry::DISARMED);
        self.armed -= 1;
    }

    /// The bucket may be a later one than the deadline's own: a deadline in the past goes where the cursor is.
    fn bucket_headed_by(&self, connection: u32, deadline: Nanos) -> Option<usize> {
        let own = self.bucket_of(deadline);
        let others = (0..BUCKETS).map(|step| (own + step) % BUCKETS);
        others.into_iter().find(|&bucket| self.buckets[bucket] == connection)
    }

    /// Takes out one connection whose deadline is at or before `now`; `None` when there is none (left).
    pub fn pop_due(&mut self, now: Nanos) -> Option<u32> {
        let last = now.0 / self.bucket_nanos;
        if self.armed == 0 {
            self.cursor = self.cursor.max(last);
            return None;
        }
        // One turn of the wheel visits every bucket.
        self.cursor = self.cursor.max(last.saturating_sub(u64::try_from(BUCKETS).unwrap_or(0)));
        loop {
            let bucket = usize::try_from(self.cursor).unwrap_or(0) % BUCKETS;
            let mut at = self.buckets[bucket];
            while let Some(entry) = self.entry(at) {
                if entry.deadline <= now {
                    self.disarm(at);
                    return Some(at);
                }
                at = entry.next;
            }
            if self.cursor >= last {
                return None;
            }
            self.cursor += 1;
        }
    }

    /// The earliest armed deadline.
    pub fn next_deadline(&self) -> Option<Nanos> {
        if self.armed == 0 {
            return None;
        }
        let mut earliest = Nanos::NEVER;
        for step in 0..BUCKETS {
            let turn = self.cursor + u64::try_from(step).unwrap_or(0);
            let bucket = usize::try_from(turn).unwrap_or(0) % BUCKETS;
            if self.occupied[bucket / 64] & (1 << (bucket % 64)) == 0 {
                continue;
            }
            let mut at = self.buckets[bucket];
            while let Some(entry) = self.entry(at) {
                earliest = earliest.min(entry.deadline);
                at = entry.next;
            }
            if earliest.0 / self.bucket_nanos <= turn {
                break;
            }
        }
        Some(earliest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(10);

    #[test]
    fn deadlines_are_exact() {
        let mut wheel = TimerWheel::new(2, TICK);
        wheel.arm_by(0, Nanos(400_000_001));
        wheel.arm_by(0, Nanos(500_000_000));
        assert_eq!(wheel.next_deadline(), Some(Nanos(400_000_001)));
        assert_eq!(wheel.pop_due(Nanos(400_000_000)), None);
        assert_eq!(wheel.pop_due(Nanos(400_000_001)), Some(0));
        assert_eq!(wheel.pop_due(Nanos(900_000_000)), None);
        assert_eq!(wheel.next_deadline(), None);
    }

    proptest! {
        /// Against a plain list of deadlines, over several turns of the wheel.
        #[test]
        fn wheel_agrees_with_a_list(ops in prop::collection::vec((0_u32..20, 0_u64..40_000, 0_u64..9_000), 1..200)) {
            let mut wheel = TimerWheel::new(20, TICK);
            let mut model = [u64::MAX; 20];
            let mut now = 0;
            for (connection, after_ms, step_ms) in ops {
                let deadline = now + after_ms * 1_000_000;
                wheel.arm_by(connection, Nanos(deadline));
                let place = &mut model[usize::try_from(connection).unwrap()];
                *place = deadline.min(*place);
                let earliest = *model.iter().min().unwrap();
                prop_assert_eq!(wheel.next_deadline(), (earliest != u64::MAX).then_some(Nanos(earliest)));
                now += step_ms * 1_000_000;
                let mut due = Vec::new();
                while let Some(connection) = wheel.pop_due(Nanos(now)) {
                    due.push(usize::try_from(connection).unwrap());
                }
                due.sort_unstable();
                let expected: Vec<_> = (0..20).filter(|&index| model[index] <= now).collect();
                prop_assert_eq!(&due, &expected);
                for index in due {
                    model[index] = u64::MAX;
                }
            }
        }
    }
}
