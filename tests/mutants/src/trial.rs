//! One test executable with one mutant chosen. Ends at the first test that fails.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::compile::Built;
use crate::suites::Suite;
use crate::tree;

/// Address space of a test, so that a mutant that grows without end ends.
const MAX_MEMORY_KIB: &str = "12582912";
/// What a process ends by that has used its processor seconds.
const SIGXCPU: i32 = 24;

/// What tests say of a mutant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    Passed,
    /// This test failed, or the process died in it.
    Failed(String),
    /// It took too long; a test never ended.
    Hung,
}

/// Runs these tests of a suite, with files named in the environment. `home` is for what they leave behind.
pub fn run(
    suite: &Suite,
    built: &Built,
    mutant: u32,
    home: &Path,
    tests: &[&str],
    environment: &[(&str, &Path)],
) -> Result<(Verdict, Duration)> {
    // Numbers are not unique while nobody has chosen a mutant.
    static RUN: AtomicUsize = AtomicUsize::new(0);
    let executable =
        built.tests.get(suite.target).with_context(|| format!("{} was not built", suite.target))?;
    let scratch = home.join(format!("scratch-{}", RUN.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&scratch)?;
    // Proptest looks for its sources from here, and for what failed once beside them. What fails now goes there, too.
    let sources = home.join("original").join(suite.package);
    tree::sync(&sources, &scratch.join(suite.package), &BTreeMap::new())?;
    let started = Instant::now();
    let child = Command::new("sh")
        .args(["-c", "ulimit -S -t \"$1\" && ulimit -v \"$2\" && shift 2 && exec \"$@\"", "sh"])
        .args([suite.processor_seconds.to_string().as_str(), MAX_MEMORY_KIB])
        .arg(executable)
        .args(["--test-threads", "1", "--exact"])
        .args(tests)
        .current_dir(&scratch)
        .env("COLO_MUTANT", mutant.to_string())
        .env("COLO_BIN", &built.colo)
        .env("TMPDIR", &scratch)
        .env("RUST_BACKTRACE", "0")
        // The same inputs each time, none made smaller.
        .envs([("PROPTEST_RNG_SEED", "1"), ("PROPTEST_MAX_SHRINK_ITERS", "0")])
        .envs(suite.environment.iter().copied())
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", executable.display()))?;
    let verdict = watch(child, Duration::from_secs(suite.seconds.into()));
    // A child of a test may still write into it.
    let _ = std::fs::remove_dir_all(&scratch);
    Ok((verdict?, started.elapsed()))
}

fn watch(mut child: Child, longest: Duration) -> Result<Verdict> {
    let output = child.stdout.take().context("a test has no output")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let deadline = Instant::now() + longest;
    let mut last = String::from("the start");
    let verdict = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let Some(name) = line.strip_prefix("test ").filter(|name| !name.starts_with("result:"))
                else {
                    continue;
                };
                name.split(" ... ").next().unwrap_or_default().clone_into(&mut last);
                if name.ends_with("FAILED") {
                    break Some(Verdict::Failed(last.clone()));
                }
            }
            Err(RecvTimeoutError::Timeout) => break Some(Verdict::Hung),
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    if verdict.is_some() {
        // The whole group, with whatever the test has started.
        Command::new("kill")
            .args(["-KILL", "--", &format!("-{}", child.id())])
            .status()
            .context("cannot start kill")?;
    }
    let status = child.wait()?;
    Ok(match verdict {
        Some(verdict) => verdict,
        None if status.signal() == Some(SIGXCPU) => Verdict::Hung,
        None if status.success() => Verdict::Passed,
        None => Verdict::Failed(format!("{status} after {last}")),
    })
}
