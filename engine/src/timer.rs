//! One timer a connection, in a heap with four children a node, ordered by exact deadlines.
//!
//! Frames of the hot path never move a timer: a connection's deadline is a lower bound, and when it comes up the
//! connection says whether anything is due or when to ask again. Deadlines that grow with time, the usual ones, are
//! appended without a step; the earliest is read without one; taking it out walks one path down, whatever the number of
//! timers that come up together. A wheel would save that path and then need it again to be exact within a bucket.

use pmd_tap::Nanos;

const NONE: u32 = u32::MAX;
/// Children of a node: two levels of a binary heap in one, and mostly in one or two cache lines.
const CHILDREN: usize = 4;

/// A timer that runs.
#[derive(Clone, Copy, Debug)]
struct Armed {
    deadline: Nanos,
    connection: u32,
}

/// What is known of a connection's timer.
#[derive(Clone, Copy, Debug)]
struct Timer {
    deadline: Nanos,
    /// Its place in the heap.
    place: u32,
}

impl Timer {
    const DISARMED: Self = Self { deadline: Nanos::NEVER, place: NONE };
}

/// Timers of one shard's connections, by connection index.
#[derive(Debug)]
pub struct Timers {
    by_connection: Vec<Timer>,
    heap: Vec<Armed>,
    /// Places looked at, for the test of the bound.
    #[cfg(test)]
    steps: u64,
}

impl Timers {
    /// Timers for `connections` connections.
    pub fn new(connections: usize) -> Self {
        Self {
            by_connection: vec![Timer::DISARMED; connections],
            heap: Vec::with_capacity(connections),
            #[cfg(test)]
            steps: 0,
        }
    }

    /// When a connection's timer comes up; [`Nanos::NEVER`] when it is not armed.
    #[inline(always)]
    pub fn deadline(&self, connection: u32) -> Nanos {
        self.timer(connection).map_or(Nanos::NEVER, |timer| timer.deadline)
    }

    #[inline(always)]
    fn timer(&self, connection: u32) -> Option<&Timer> {
        self.by_connection.get(usize::try_from(connection).ok()?)
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
        let Some(&Timer { place, .. }) = self.timer(connection) else { return };
        let armed = Armed { deadline, connection };
        let place = if place == NONE {
            self.heap.push(armed);
            self.heap.len() - 1
        } else {
            usize::try_from(place).unwrap_or(0)
        };
        // An armed timer only moves to an earlier deadline: upwards.
        self.rise(place, armed);
    }

    /// Takes out one connection whose deadline is at or before `now`, the earliest; `None` when there is none (left).
    pub fn pop_due(&mut self, now: Nanos) -> Option<u32> {
        let due = *self.heap.first()?;
        if due.deadline > now {
            return None;
        }
        if let Some(timer) =
            usize::try_from(due.connection).ok().and_then(|at| self.by_connection.get_mut(at))
        {
            *timer = Timer::DISARMED;
        }
        if let Some(last) = self.heap.pop()
            && !self.heap.is_empty()
        {
            self.sink(last);
        }
        Some(due.connection)
    }

    /// The earliest armed deadline.
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.heap.first().map(|armed| armed.deadline)
    }

    /// Puts `armed` at `place`, or as far above it as its deadline says.
    fn rise(&mut self, mut place: usize, armed: Armed) {
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            let above = self.heap[parent];
            self.count_step();
            if above.deadline <= armed.deadline {
                break;
            }
            self.put(place, above);
            place = parent;
        }
        self.put(place, armed);
    }

    /// Puts `armed` at the top, or as far below it as its deadline says.
    fn sink(&mut self, armed: Armed) {
        let mut place = 0;
        loop {
            let first = place * CHILDREN + 1;
            let children = first.min(self.heap.len())..(first + CHILDREN).min(self.heap.len());
            let Some(earliest) = children.min_by_key(|&child| self.heap[child].deadline) else { break };
            let below = self.heap[earliest];
            self.count_step();
            if armed.deadline <= below.deadline {
                break;
            }
            self.put(place, below);
            place = earliest;
        }
        self.put(place, armed);
    }

    fn put(&mut self, place: usize, armed: Armed) {
        self.heap[place] = armed;
        let timer = Timer { deadline: armed.deadline, place: u32::try_from(place).unwrap_or(NONE) };
        if let Some(at) = usize::try_from(armed.connection).ok().and_then(|at| self.by_connection.get_mut(at))
        {
            *at = timer;
        }
    }

    #[cfg(test)]
    fn count_step(&mut self) {
        self.steps += 1;
    }

    #[cfg(not(test))]
    #[inline(always)]
    #[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "tests count here")]
    fn count_step(&mut self) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Which place in time the n-th connection has.
    type Place = fn(u32) -> u32;

    #[test]
    fn deadlines_are_exact() {
        let mut timers = Timers::new(2);
        timers.arm_by(0, Nanos(400_000_001));
        timers.arm_by(0, Nanos(500_000_000));
        assert_eq!(timers.next_deadline(), Some(Nanos(400_000_001)));
        assert_eq!(timers.pop_due(Nanos(400_000_000)), None);
        assert_eq!(timers.pop_due(Nanos(400_000_001)), Some(0));
        assert_eq!(timers.pop_due(Nanos(900_000_000)), None);
        assert_eq!(timers.next_deadline(), None);
    }

    /// 65,536 flows within 10 ms, each with an instant of its own, taken out one by one as virtual time does, or all
    /// together as a tick does.
    #[test]
    fn many_timers_within_one_tick_cost_a_short_path_each() {
        const FLOWS: u32 = 65_536;
        let start = 400_000_000;
        let orders: [(&str, Place); 3] =
            [("forward", |n| n), ("backward", |n| FLOWS - 1 - n), ("scattered", |n| n * 40_503 % FLOWS)];
        for (order, place) in orders {
            let mut timers = Timers::new(65_536);
            for connection in 0..FLOWS {
                timers.arm_by(connection, Nanos(start + u64::from(place(connection)) * 150));
            }
            // Growing deadlines look at one place each, shrinking ones walk up the whole heap: 8 levels.
            let most = if order == "forward" { 1 } else { 9 };
            assert!(timers.steps <= most * u64::from(FLOWS), "arming {order}: {} steps", timers.steps);
            timers.steps = 0;
            for expected in 0..FLOWS / 2 {
                let due = timers.next_deadline().unwrap();
                assert_eq!(due, Nanos(start + u64::from(expected) * 150));
                assert!(timers.pop_due(due).is_some());
                assert_eq!(timers.pop_due(due), None, "the next one is not due yet");
            }
            while timers.pop_due(Nanos(start + 10_000_000)).is_some() {}
            assert_eq!(timers.next_deadline(), None);
            assert!(timers.steps <= 9 * u64::from(FLOWS), "expiring {order}: {} steps", timers.steps);
        }
    }

    proptest! {
        /// Against a plain list of deadlines.
        #[test]
        fn timers_agree_with_a_list(ops in prop::collection::vec((0_u32..20, 0_u64..40_000, 0_u64..9_000), 1..200)) {
            let mut timers = Timers::new(20);
            let mut model = [u64::MAX; 20];
            let mut now = 0;
            for (connection, after_ms, step_ms) in ops {
                let deadline = now + after_ms * 1_000_000;
                timers.arm_by(connection, Nanos(deadline));
                let place = &mut model[usize::try_from(connection).unwrap()];
                *place = deadline.min(*place);
                let earliest = *model.iter().min().unwrap();
                prop_assert_eq!(timers.next_deadline(), (earliest != u64::MAX).then_some(Nanos(earliest)));
                now += step_ms * 1_000_000;
                let mut due = Vec::new();
                while let Some(connection) = timers.pop_due(Nanos(now)) {
                    due.push(usize::try_from(connection).unwrap());
                }
                prop_assert!(due.is_sorted_by_key(|&index| model[index]), "earliest first");
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
