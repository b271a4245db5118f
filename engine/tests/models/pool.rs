//! The way of a slot back to its pool, and the end of a pool, under loom. A model of `pmd-tap/src/sys.rs`: `Home` is a
//! queue with as many places as there are slots, filled from any thread (`RawSlot::drop`), emptied by the pool's core
//! (`FramePool::collect`), freed when all slots are home (`Slots::end`), left alone for ever when they are not.
//!
//! The queue is `crossbeam_queue::ArrayQueue` by what it promises: a place is claimed, filled, then published, and
//! publishing is the last thing that a push does to the queue's memory.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// Slots of the pool, and threads that drop a frame each.
const SLOTS: usize = 2;
const EMPTY: usize = usize::MAX;

/// The planted faults.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A slot is published without what was written to it.
    PublishedRelaxed,
    /// The end counts slots that are on their way as home.
    CountsClaims,
}

/// Memory that all handles share. The cells hold nothing: loom reports accesses that nothing orders.
struct Home {
    claimed: AtomicUsize,
    places: Vec<AtomicUsize>,
    slots: Vec<UnsafeCell<()>>,
    memory: UnsafeCell<()>,
    fault: Fault,
}

impl Home {
    fn new(fault: Fault) -> Self {
        Self {
            claimed: AtomicUsize::new(0),
            places: (0..SLOTS).map(|_| AtomicUsize::new(EMPTY)).collect(),
            slots: (0..SLOTS).map(|_| UnsafeCell::new(())).collect(),
            memory: UnsafeCell::new(()),
            fault,
        }
    }

    fn write(&self, slot: usize) {
        self.memory.with(|_| ());
        self.slots[slot].with_mut(|_| ());
    }

    /// `RawSlot::drop`.
    fn push(&self, slot: usize) {
        let place = self.memory.with(|_| self.claimed.fetch_add(1, Ordering::SeqCst));
        assert!(place < SLOTS, "a slot came home twice");
        let order = if self.fault == Fault::PublishedRelaxed { Ordering::Relaxed } else { Ordering::Release };
        self.memory.with(|_| ());
        self.places[place].store(slot, order);
    }

    /// `Slots::returned`, for the place that is next.
    fn pop(&self, next: usize) -> Option<usize> {
        let slot = self.places.get(next)?.load(Ordering::Acquire);
        (slot != EMPTY).then_some(slot)
    }

    /// `FramePool::drop`: whether the memory was given back.
    fn end(&self, mut home: usize) -> bool {
        while self.pop(home).is_some() {
            home += 1;
        }
        if self.fault == Fault::CountsClaims {
            home = self.claimed.load(Ordering::SeqCst);
        }
        if home == SLOTS {
            self.memory.with_mut(|_| ());
        }
        home == SLOTS
    }
}

/// Two frames are written and dropped on other cores. The pool meanwhile takes what has come home, writes to it again,
/// and goes.
fn frames_come_home(fault: Fault) {
    loom::model(move || {
        let home = Arc::new(Home::new(fault));
        let others: Vec<_> = (0..SLOTS)
            .map(|slot| {
                let home = Arc::clone(&home);
                thread::spawn(move || {
                    home.write(slot);
                    home.push(slot);
                })
            })
            .collect();
        let mut taken = 0;
        if let Some(slot) = home.pop(0) {
            home.write(slot);
            taken = 1;
        }
        let freed = home.end(taken);
        for other in others {
            other.join().unwrap();
        }
        if !freed {
            assert!((taken..SLOTS).all(|place| home.pop(place).is_some()), "a slot is lost");
        }
    });
}

#[test]
fn a_slot_comes_home_with_what_was_written_and_outlives_no_memory() {
    frames_come_home(Fault::None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_slot_published_too_weakly_is_found() {
    frames_come_home(Fault::PublishedRelaxed);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn memory_that_is_freed_under_a_frame_is_found() {
    frames_come_home(Fault::CountsClaims);
}
