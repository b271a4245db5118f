//! A library that is loaded before QEMU's own, because QEMU 7.2's COLO hangs without KVM.
//!
//! Its checkpoint thread synchronises the dirty memory bitmap without holding the big lock. Without KVM that waits for
//! the processors' threads on a condition variable of that lock, which pthreads leave undefined for a lock that is not
//! held; the thread comes back owning it, and the primary is deadlocked after its first checkpoint. The library takes
//! the lock around such a wait. Nothing of it is in `colo`, and with KVM it is not needed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const SOURCE: &str = include_str!("../../qemu/bqlfix.c");

/// Compiles it unless `library` stands beside a copy of the same source. The caller holds the cache's lock.
pub(super) fn build(library: &Path) -> Result<()> {
    let copy = library.with_extension("c");
    if library.is_file() && fs::read_to_string(&copy).ok().as_deref() == Some(SOURCE) {
        return Ok(());
    }
    let folder = library.parent().context("a library without a folder")?;
    let new = tempfile::Builder::new().prefix("bqlfix-").tempdir_in(folder)?;
    fs::write(new.path().join("bqlfix.c"), SOURCE)?;
    let arguments = ["-O2", "-shared", "-fPIC", "-o", "bqlfix.so", "bqlfix.c", "-ldl"];
    super::cache::run(new.path(), "gcc", &arguments).context("install gcc (Debian package gcc)")?;
    // The source goes last: it says that the library is of it.
    drop(fs::remove_file(&copy));
    fs::rename(new.path().join("bqlfix.so"), library)?;
    Ok(fs::rename(new.path().join("bqlfix.c"), copy)?)
}
