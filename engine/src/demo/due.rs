//! Who is due when: a heap of wake-up times over numbered slots, so that a loop turn touches only the
//! connections that have something to do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::stack::Micros;

/// Wake-up times of slots. A slot may be woken too early (its owner looks and schedules it again), never too
/// late; moving a timer further away costs nothing.
#[derive(Debug, Default)]
pub(super) struct DueQueue {
    heap: BinaryHeap<Reverse<(Micros, usize)>>,
    earliest: Vec<Micros>,
}

impl DueQueue {
    /// Wakes `slot` at `at` at the latest.
    pub(super) fn schedule(&mut self, slot: usize, at: Micros) {
        if slot >= self.earliest.len() {
            self.earliest.resize(slot + 1, Micros::MAX);
        }
        if at < self.earliest[slot] {
            self.earliest[slot] = at;
            self.heap.push(Reverse((at, slot)));
        }
    }

    /// Takes a slot that is due at `now`.
    pub(super) fn pop(&mut self, now: Micros) -> Option<usize> {
        while let Some(&Reverse((at, slot))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if self.earliest[slot] == at {
                self.earliest[slot] = Micros::MAX;
                return Some(slot);
            }
        }
        None
    }

    /// When the next slot is due, `Micros::MAX` for never.
    pub(super) fn next(&self) -> Micros {
        self.heap.peek().map_or(Micros::MAX, |&Reverse((at, _))| at)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.heap.clear();
        self.earliest.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_once_each_at_their_earliest_time() {
        let mut queue = DueQueue::default();
        queue.schedule(3, 30);
        queue.schedule(1, 20);
        queue.schedule(3, 10);
        queue.schedule(3, 40);
        assert_eq!((queue.next(), queue.pop(9)), (10, None));
        assert_eq!((queue.pop(15), queue.pop(15)), (Some(3), None));
        assert_eq!((queue.pop(50), queue.pop(50), queue.next()), (Some(1), None, Micros::MAX));
    }
}
