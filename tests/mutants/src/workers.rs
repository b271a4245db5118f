//! Several threads that take their work from one list.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, anyhow};

/// Does something with each item and its place in the list, `jobs` at a time. Stops at the first error.
pub fn each<T: Sync>(jobs: usize, items: &[T], work: impl Fn(usize, &T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let take = || -> Result<()> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(()) };
            if let Err(error) = work(at, item) {
                next.store(items.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(take)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}
