//! A real pair: two QEMUs in COLO with `colo` between them, in a network namespace that vanishes with the test. What
//! the pair is asked and what is expected of it is left to the tests.

pub mod bench;
pub mod builtin;
pub mod cache;
pub mod client;
pub mod guests;
pub mod initramfs;
pub mod monitor;
pub mod shim;
pub mod vhost;
pub mod wiring;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use client::{Client, Latencies, Stream, Streamed};
pub use guests::Guests;
pub use vhost::VhostGuest;
pub use wiring::Node;

/// One pair at a time: four guests without KVM would only wait for each other. Holds among the tests of one process; cargo
/// runs the processes one after the other.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
