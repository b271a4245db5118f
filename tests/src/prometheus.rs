//! Debian's Prometheus and promtool: fetched, started on loopback, asked. They are unpacked under cargo's target directory
//! and not installed, so no service starts by itself.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::pair::cache::{run, target_directory};
use crate::process::free_tcp_address;

const READY_LIMIT: Duration = Duration::from_secs(20);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The folder of both programs: on the path, or Debian's package unpacked once.
///
/// # Errors
/// One sentence that says which command failed.
pub fn programs() -> Result<PathBuf> {
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        if folder.join("promtool").is_file() && folder.join("prometheus").is_file() {
            return Ok(folder);
        }
    }
    let home = target_directory()?.join("prometheus");
    fs::create_dir_all(&home)?;
    let lock = File::create(home.join("lock"))?;
    lock.lock().context("cannot lock the folder of Prometheus")?;
    let programs = home.join("root/usr/bin");
    if programs.join("prometheus").is_file() {
        return Ok(programs);
    }
    let new = tempfile::Builder::new().prefix("fetching-").tempdir_in(&home)?;
    let fetch = || run(new.path(), "apt-get", &["download", "-qq", "prometheus"]);
    // The lists of a fresh machine are empty.
    fetch().or_else(|_| run(&home, "apt-get", &["update", "-qq"]).and_then(|_| fetch())).context(
        "Debian's package prometheus cannot be fetched: this test's first run needs root and a network",
    )?;
    let mut packages = fs::read_dir(new.path())?;
    let package = packages.next().context("apt-get downloaded nothing")??.path();
    run(new.path(), "dpkg", &["-x", &package.to_string_lossy(), "root"])?;
    fs::rename(new.path().join("root"), home.join("root"))?;
    Ok(programs)
}

/// Runs promtool; what it said, on both outputs.
///
/// # Errors
/// When it ends with another code than 0.
pub fn promtool(arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(programs()?.join("promtool"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run promtool")?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "promtool {}: {}: {said}", arguments.join(" "), output.status);
    Ok(said)
}

/// A running Prometheus. Dropping it ends it.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts it with a configuration file; what it stores and logs goes to `folder`.
    ///
    /// # Errors
    /// With its last words, when it is not ready in time.
    pub fn start(config: &Path, folder: &Path) -> Result<Self> {
        let address = free_tcp_address()?;
        let log = folder.join("prometheus.log");
        let child = Command::new(programs()?.join("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("cannot start prometheus")?;
        let prometheus = Self { child, address };
        let deadline = Instant::now() + READY_LIMIT;
        while prometheus.get("/-/ready").is_err() {
            if Instant::now() > deadline {
                bail!("prometheus is not ready: {}", fs::read_to_string(&log).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(prometheus)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The series that an expression has now.
    ///
    /// # Errors
    /// When it is refused.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let answer = self.get(&format!("/api/v1/query?query={}", encoded(expression)))?;
        let answer: Value = serde_json::from_str(&answer)?;
        let series = answer["data"]["result"].as_array();
        Ok(series.with_context(|| format!("{expression}: {answer}"))?.clone())
    }

    /// An answer of its API.
    ///
    /// # Errors
    /// When it cannot be reached or does not answer with 200.
    pub fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, ANSWER_LIMIT)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        // HTTP/1.0 has no chunks.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        ensure!(head.split(' ').nth(1) == Some("200"), "GET {path}: {head}: {body}");
        Ok(body.to_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As a query of an address.
fn encoded(text: &str) -> String {
    text.bytes().flat_map(|byte| format!("%{byte:02X}").into_bytes()).map(char::from).collect()
}
