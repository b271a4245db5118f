//! Waking a thread that sleeps, without a call into the kernel for one that does not.
//!
//! Who has news says so somewhere, then looks whether the thread sleeps. Who falls asleep says so, then looks for news.
//! Each writes and then reads what the other wrote, and a processor may put the read first, so that neither sees the
//! other. The two fences forbid that, whatever the news is made of (`engine/tests/models` has the proof and the
//! counter-example).

use super::sync::{AtomicBool, Bell, Ordering, fence};

/// Wakes a thread that sleeps in `poll`.
#[derive(Debug)]
pub(super) struct Waker {
    bell: Bell,
    asleep: AtomicBool,
}

impl Waker {
    pub(super) fn new(bell: Bell) -> Self {
        Self { bell, asleep: AtomicBool::new(false) }
    }

    /// Says that the thread is about to sleep. It must look for work once more before it does.
    pub(super) fn fall_asleep(&self) {
        // An exchange, as in `wake`: then each reads what the other left, which the model's checker needs to see.
        self.asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// Says that the thread is awake, and forgets what woke it.
    pub(super) fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        self.bell.silence();
    }

    /// Wakes the thread if it sleeps. To be called when there is news already.
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// What the thread waits for while it sleeps.
    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }
}
