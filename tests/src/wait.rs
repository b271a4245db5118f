//! Bounded waits: nothing in the suite blocks without an end.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until a descriptor can be read or accepted from.
pub fn readable(descriptor: impl AsFd, limit: Duration) -> Result<()> {
    let limit_spec =
        Timespec { tv_sec: i64::try_from(limit.as_secs())?, tv_nsec: limit.subsec_nanos().into() };
    let mut descriptors = [PollFd::new(&descriptor, PollFlags::IN)];
    ensure!(poll(&mut descriptors, Some(&limit_spec))? > 0, "nothing to read within {limit:?}");
    Ok(())
}

/// Calls `attempt` until it succeeds; returns its last error, with `what`, when `limit` passes first.
pub fn until<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => bail!("{what}: not within {limit:?}: {error:#}"),
            Err(_) => std::thread::sleep(LOOK_INTERVAL),
        }
    }
}
