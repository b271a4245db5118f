//! The `colo` binary as a child process: found, started, read, asked to stop, always reaped. Knows nothing of
//! what the commands mean, and never waits without a deadline.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How often a child that ends is looked at.
const REAP_INTERVAL: Duration = Duration::from_millis(5);
/// How long a command that ends by itself may take.
const RUN_LIMIT: Duration = Duration::from_mins(1);
/// How much of a child's stderr a failure quotes, bytes.
const QUOTED_BYTES: usize = 4_000;

/// Path of the binary under test: `COLO_BIN`, else `colo` in the profile directory this test was built in.
pub fn colo_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("COLO_BIN") {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "COLO_BIN names {}, which is not a file", path.display());
        return Ok(path);
    }
    let test = std::env::current_exe().context("the path of this test's own binary")?;
    let profile =
        profile_directory(&test).ok_or_else(|| anyhow!("{} lies in no profile directory", test.display()))?;
    let path = profile.join("colo");
    ensure!(
        path.is_file(),
        "{} is missing: build it with `cargo build -p colo-engine`, or name another in COLO_BIN",
        path.display()
    );
    Ok(path)
}

/// Cargo's `target/<profile>`, from a test's own binary (`deps/<test>-<hash>` in it), an example's (`examples/<name>`) or a
/// command's (directly in it).
pub fn profile_directory(binary: &Path) -> Option<&Path> {
    let folder = binary.parent()?;
    if folder.ends_with("deps") || folder.ends_with("examples") { folder.parent() } else { Some(folder) }
}

/// A loopback address nobody listens on at this moment.
pub fn free_tcp_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free TCP port on loopback")?;
    Ok(listener.local_addr()?)
}

/// What a child left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Finished {
    /// Fails with the child's own words unless it ended with `code`.
    pub fn expect_code(&self, code: i32) -> Result<()> {
        ensure!(
            self.code == Some(code),
            "colo ended with {:?}, not {code}; stdout: {}\nstderr: {}",
            self.code,
            tail(&self.stdout),
            tail(&self.stderr)
        );
        Ok(())
    }
}

/// Runs a command of `colo` that ends by itself, for tests that read its answer.
pub fn run<A: AsRef<OsStr>>(arguments: &[A]) -> Finished {
    Colo::run(arguments.iter().map(AsRef::as_ref), RUN_LIMIT)
        .unwrap_or_else(|error| panic!("colo: {error:#}"))
}

/// A running `colo`. Dropping it kills and reaps the process.
pub struct Colo {
    child: Child,
    stdout: Collector,
    stderr: Collector,
}

impl Colo {
    /// Starts `colo` with these arguments, stdout and stderr collected.
    ///
    /// `RUST_BACKTRACE` is set, because an operator may have it set too: messages must stay one sentence.
    pub fn start<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Result<Self> {
        Self::start_in(args, &[])
    }

    /// The same with more in its environment.
    pub fn start_in<A: AsRef<OsStr>>(
        args: impl IntoIterator<Item = A>,
        environment: &[(&str, &OsStr)],
    ) -> Result<Self> {
        let binary = colo_binary()?;
        let mut child = Command::new(&binary)
            .args(args)
            .env("RUST_BACKTRACE", "1")
            .env_remove("RUST_LOG")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let stdout = Collector::new(child.stdout.take());
        let stderr = Collector::new(child.stderr.take());
        Ok(Self { child, stdout, stderr })
    }

    /// Starts `colo` and waits for its own end.
    pub fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>, limit: Duration) -> Result<Finished> {
        Self::start(args)?.finish(limit)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything on stderr up to now.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.text()
    }

    /// Waits for a stderr line that contains `needle`, whatever its case; returns the line.
    pub fn wait_for_log(&self, needle: &str, limit: Duration) -> Result<String> {
        let needle = needle.to_lowercase();
        self.stderr.wait_for(limit, |line| line.to_lowercase().contains(&needle)).ok_or_else(|| {
            anyhow!(
                "no line with {needle:?} on stderr within {limit:?}; stderr: {}",
                tail(&self.stderr_so_far())
            )
        })
    }

    /// Fails with the child's words when it has ended already.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("colo ended early ({status}); stderr: {}", tail(&self.stderr_so_far()));
        }
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("cannot signal colo")
    }

    /// SIGTERM, then waits for the end.
    pub fn terminate(mut self, limit: Duration) -> Result<Finished> {
        self.check_alive()?;
        self.signal(Signal::TERM)?;
        self.finish(limit).context("after SIGTERM")
    }

    /// Waits for the child's own end; kills it and fails when `limit` passes first.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                bail!("colo still runs after {limit:?}; stderr: {}", tail(&self.stderr_so_far()));
            }
            std::thread::sleep(REAP_INTERVAL);
        };
        Ok(Finished { code: status.code(), stdout: self.stdout.finish(), stderr: self.stderr.finish() })
    }
}

impl Drop for Colo {
    fn drop(&mut self) {
        // Both fail harmlessly when it was reaped before.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The end of a long text, for messages.
pub fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(QUOTED_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[derive(Default)]
struct Collected {
    lines: Mutex<Vec<String>>,
    grew: Condvar,
}

/// Reads one of a child's pipes on a thread, so that a chatty child never blocks.
struct Collector {
    collected: Arc<Collected>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    fn new(pipe: Option<impl Read + Send + 'static>) -> Self {
        let collected = Arc::new(Collected::default());
        let thread = pipe.map(|pipe| {
            let collected = Arc::clone(&collected);
            std::thread::spawn(move || {
                let mut pipe = BufReader::new(pipe);
                let mut line = Vec::new();
                while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    collected.lines.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                    collected.grew.notify_all();
                    line.clear();
                }
            })
        });
        Self { collected, thread }
    }

    fn text(&self) -> String {
        self.collected.lines.lock().unwrap_or_else(PoisonError::into_inner).concat()
    }

    fn wait_for(&self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + limit;
        let mut lines = self.collected.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = lines.iter().find(|line| wanted(line)) {
                return Some(line.clone());
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            lines = self.collected.grew.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything up to the end of the pipe.
    fn finish(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.text()
    }
}
