//! Sleeping and waking under loom, which knows what a processor may put in another order. The bell stands for the
//! eventfd; there is no timer. A thread that would sleep lets all others go to their end, and then its bell must be rung.

use loom::sync::{Arc, Mutex};
use loom::thread::{self, JoinHandle};

/// What `runtime/sync.rs` has, of loom.
mod sync {
    use super::Mutex;

    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

    /// Stays rung until it is silenced, as an eventfd is readable until it is read.
    #[derive(Debug)]
    pub(super) struct Bell {
        rung: Mutex<bool>,
    }

    impl Bell {
        pub(super) fn new() -> Self {
            Self { rung: Mutex::new(false) }
        }

        pub(super) fn ring(&self) {
            *self.rung.lock().unwrap() = true;
        }

        pub(super) fn silence(&self) {
            *self.rung.lock().unwrap() = false;
        }

        pub(super) fn is_rung(&self) -> bool {
            *self.rung.lock().unwrap()
        }
    }
}

#[allow(dead_code, reason = "the engine uses all of it")]
#[path = "../../src/runtime/epochs.rs"]
mod epochs;
#[path = "../../src/runtime/wake.rs"]
mod real;

use epochs::Epochs;
use sync::{AtomicBool, Bell, Ordering};

/// What the models need of a waker.
trait Wakes: Send + Sync + 'static {
    fn new() -> Self;
    fn fall_asleep(&self);
    fn is_rung(&self) -> bool;
    fn awake(&self);
    fn wake(&self);
}

impl Wakes for real::Waker {
    fn new() -> Self {
        Self::new(Bell::new())
    }

    fn fall_asleep(&self) {
        self.fall_asleep();
    }

    fn is_rung(&self) -> bool {
        self.bell().is_rung()
    }

    fn awake(&self) {
        self.awake();
    }

    fn wake(&self) {
        self.wake();
    }
}

/// The fault that the engine had: strong accesses to the flag, and nothing that orders them with the news.
struct Unfenced {
    bell: Bell,
    asleep: AtomicBool,
}

impl Wakes for Unfenced {
    fn new() -> Self {
        Self { bell: Bell::new(), asleep: AtomicBool::new(false) }
    }

    fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    fn is_rung(&self) -> bool {
        self.bell.is_rung()
    }

    fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        self.bell.silence();
    }

    fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
    }
}

/// `poll` without a timeout.
fn sleep(waker: &impl Wakes, others: &mut Vec<JoinHandle<()>>) {
    others.drain(..).for_each(|other| other.join().unwrap());
    assert!(waker.is_rung(), "a wake-up is lost");
}

/// When a sleeper looks for news.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    AfterSayingSo,
    Before,
}

/// One thread announces a boundary and its commit, another sleeps until it has seen both: the control thread and a core.
fn announcements<W: Wakes>(looks: Looks) {
    loom::model(move || {
        let shared = Arc::new((W::new(), Epochs::new()));
        let announcer = Arc::clone(&shared);
        let mut announcer = vec![thread::spawn(move || {
            announcer.1.set_boundary(1);
            announcer.0.wake();
            announcer.1.set_committed(1);
            announcer.0.wake();
        })];
        let (waker, epochs) = &*shared;
        let mut seen = (0, 0);
        while seen != (1, 1) {
            let news = || (epochs.boundary(), epochs.committed()) != seen;
            let before = news();
            waker.fall_asleep();
            let any = if looks == Looks::Before { before } else { news() };
            if !any {
                sleep(waker, &mut announcer);
            }
            waker.awake();
            seen = (epochs.boundary(), epochs.committed());
            assert!(seen.1 <= seen.0, "a commit without its boundary");
        }
        for announcer in announcer {
            announcer.join().unwrap();
        }
    });
}

#[test]
fn no_wake_up_is_lost() {
    announcements::<real::Waker>(Looks::AfterSayingSo);
}

/// Two shards report to the control thread, which sleeps until both have.
#[test]
fn no_report_is_lost() {
    // All orders with few changes of thread: three threads have very many.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((real::Waker::new(Bell::new()), Epochs::new()));
        let mut reporters: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.count_flushed();
                    shared.0.wake();
                })
            })
            .collect();
        let (waker, epochs) = &*shared;
        while epochs.flushed() < 2 {
            waker.fall_asleep();
            if epochs.flushed() < 2 {
                sleep(waker, &mut reporters);
            }
            waker.awake();
        }
        for reporter in reporters {
            reporter.join().unwrap();
        }
    });
}

#[test]
#[should_panic(expected = "a wake-up is lost")]
fn without_fences_a_wake_up_is_lost() {
    announcements::<Unfenced>(Looks::AfterSayingSo);
}

#[test]
#[should_panic(expected = "a wake-up is lost")]
fn looking_before_saying_so_loses_a_wake_up() {
    announcements::<real::Waker>(Looks::Before);
}
