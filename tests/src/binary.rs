//! Finds and runs the `colo` binary under test. It is never built from here: cargo builds no binary of another
//! package for a test, so a missing one is a clear failure instead of a stale run.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// What one run of `colo` left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Everything on standard output.
    pub stdout: String,
    /// Everything on standard error.
    pub stderr: String,
}

/// The binary under test: `COLO_BIN`, else `colo` in the target directory of this test executable.
pub fn colo() -> PathBuf {
    let path = std::env::var_os("COLO_BIN").map_or_else(beside_the_test, PathBuf::from);
    assert!(path.is_file(), "no colo at {}: build it first: cargo build (or set COLO_BIN)", path.display());
    path
}

/// `target/<profile>/colo`, seen from `target/<profile>/deps/<test>`.
fn beside_the_test() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.parent().and_then(std::path::Path::parent);
    profile
        .expect("a test lies in target/<profile>/deps")
        .join(format!("colo{}", std::env::consts::EXE_SUFFIX))
}

/// Runs `colo` with these arguments to its end.
pub fn run<A: AsRef<OsStr>>(arguments: &[A]) -> Finished {
    let path = colo();
    let output = Command::new(&path)
        .args(arguments)
        // A setting of the developer's shell must not change what is tested.
        .env_remove("RUST_LOG")
        .output()
        .unwrap_or_else(|error| panic!("{} does not start: {error}", path.display()));
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
