//! A bounded queue of bursts from one core to another.
//!
//! One item is a whole burst: a queue of single frames costs an order of magnitude more a frame. Pushing never waits;
//! who cannot push keeps the burst, does its other work and tries again, so no two cores wait for each other.

use crossbeam_queue::ArrayQueue;

/// The queue.
#[derive(Debug)]
pub struct Ring<T> {
    queue: ArrayQueue<T>,
}

impl<T> Ring<T> {
    /// Room for `bursts` items.
    pub fn new(bursts: usize) -> Self {
        Self { queue: ArrayQueue::new(bursts.max(1)) }
    }

    /// Appends an item; gives it back when there is no room.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.queue.push(item)
    }

    /// Takes the first item.
    pub fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Whether there is no room.
    pub fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Items in it.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Items it has room for.
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_threads_nothing_is_lost_or_reordered() {
        let ring: Ring<[u64; 4]> = Ring::new(3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for first in (0..40_000_u64).step_by(4) {
                    let mut burst = [first, first + 1, first + 2, first + 3];
                    while let Err(back) = ring.push(burst) {
                        burst = back;
                        std::thread::yield_now();
                    }
                }
            });
            let mut next = 0;
            while next < 40_000 {
                match ring.pop() {
                    Some(burst) => {
                        assert_eq!(burst, [next, next + 1, next + 2, next + 3]);
                        next += 4;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
        assert!(ring.is_empty() && ring.capacity() == 3);
    }
}
