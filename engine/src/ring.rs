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
