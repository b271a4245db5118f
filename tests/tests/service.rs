//! `colo compare` under a service manager: readiness, signs of life, the end, over the socket it is given.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use colo_tests::process::{Colo, colo_binary};

const LIMIT: Duration = Duration::from_secs(20);
const WATCHDOG: Duration = Duration::from_millis(400);

fn heard(manager: &UnixDatagram) -> Result<String> {
    let mut text = [0; 256];
    let length = manager.recv(&mut text).context("nothing was said in time")?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// A comparison of three sockets in `directory`, without a checkpoint back end.
fn arguments(directory: &std::path::Path) -> Vec<String> {
    let ports = ["--primary-in", "--secondary-in", "--out"].into_iter().zip(["p", "s", "o"]);
    let ports = ports.flat_map(|(flag, name)| {
        [flag.to_owned(), format!("unix:{},listen", directory.join(name).display())]
    });
    let others = ["--checkpoint", "none", "--metrics", "off"].map(str::to_owned);
    std::iter::once("compare".to_owned()).chain(ports).chain(others).collect()
}

/// A whole life under a manager at `address`, which `$NOTIFY_SOCKET` calls `name`.
fn live(address: &SocketAddr, name: &OsStr, directory: &std::path::Path) -> Result<()> {
    let manager = UnixDatagram::bind_addr(address)?;
    manager.set_read_timeout(Some(LIMIT))?;
    let micros = WATCHDOG.as_micros().to_string();
    let environment = [("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", OsStr::new(&micros))];
    let colo = Colo::start_in(arguments(directory), &environment)?;
    assert_eq!(heard(&manager)?, "READY=1");
    assert!(directory.join("p").exists(), "ready means that the ports are open");
    let started = Instant::now();
    for _ in 0..5 {
        assert_eq!(heard(&manager)?, "WATCHDOG=1");
    }
    assert!(started.elapsed() >= WATCHDOG * 2, "half of the time asked for lies between two");
    let finished = colo.terminate(LIMIT)?;
    finished.expect_code(0)?;
    loop {
        match heard(&manager)?.as_str() {
            "WATCHDOG=1" => {}
            last => break assert_eq!(last, "STOPPING=1"),
        }
    }
    Ok(())
}

#[test]
fn a_service_manager_is_told_of_a_whole_life() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("notify");
    live(&SocketAddr::from_pathname(&path)?, path.as_os_str(), directory.path())?;
    let directory = tempfile::tempdir()?;
    let name = format!("colo-service-test-{}", std::process::id());
    live(&SocketAddr::from_abstract_name(&name)?, format!("@{name}").as_ref(), directory.path())
}

#[test]
fn a_manager_that_is_not_there_is_no_reason_not_to_work() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let gone = directory.path().join("gone");
    let colo = Colo::start_in(arguments(directory.path()), &[("NOTIFY_SOCKET", gone.as_os_str())])?;
    colo.wait_for_log("no service manager at", LIMIT)?;
    colo.terminate(LIMIT)?.expect_code(0)
}

/// The journal reads a level in front of each line, and has its own time; another reader of stderr gets JSON.
#[test]
fn lines_for_the_journal_begin_with_their_level() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("stderr");
    let told = |stream: Option<&str>| -> Result<String> {
        let stderr = std::fs::File::create(&path)?;
        let found = stderr.metadata()?;
        let ours = format!("{}:{}", found.dev(), found.ino());
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples");
        let out = format!("pcap:{}", folder.path().join("out.pcap").display());
        let status = Command::new(colo_binary()?)
            .args(["compare", "--primary-in", &format!("pcap:{examples}/primary.pcap"), "--secondary-in"])
            .args([&format!("pcap:{examples}/secondary.pcap"), "--out", &out])
            .args(["--checkpoint", "none", "--metrics", "off"])
            .env("JOURNAL_STREAM", stream.unwrap_or(&ours))
            .stdout(Stdio::null())
            .stderr(stderr)
            .status()?;
        anyhow::ensure!(status.success(), "{status}");
        Ok(std::fs::read_to_string(&path)?)
    };
    let journal = told(None)?;
    assert!(journal.lines().any(|line| line.starts_with("<6>comparing pcap:")), "{journal}");
    assert!(journal.lines().all(|line| line.starts_with('<')), "{journal}");
    let other = told(Some("1:1"))?;
    assert!(other.lines().all(|line| line.starts_with('{')), "{other}");
    Ok(())
}
