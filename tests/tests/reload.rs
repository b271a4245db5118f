//! SIGHUP against a running `colo compare`: rules are replaced, modes change, mistakes change nothing.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use colo_tests::process::Colo;
use colo_tests::wait::until;
use etherparse::PacketBuilder;
use rustix::process::Signal;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);

fn config(directory: &Path, more: &str) -> String {
    let at = directory.display();
    format!(
        "primary_in = \"unix:{at}/p,listen\"\nsecondary_in = \"unix:{at}/s,listen\"\nout = \"unix:{at}/o,listen\"\n\
         checkpoint = \"none\"\ncheckpoint_ms = \"never\"\nmetrics = \"off\"\n{more}"
    )
}

fn connect(path: &Path) -> Result<UnixStream> {
    let stream = until("the port is there", LIMIT, || Ok(UnixStream::connect(path)?))?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64).udp(53, 99);
    step.write(&mut frame, payload).expect("a frame");
    let mut framed = u32::try_from(frame.len()).expect("short").to_be_bytes().to_vec();
    framed.extend(frame);
    framed
}

/// An engine that holds a frame of the primary, and whatever is around it.
struct Holding {
    directory: TempDir,
    file: PathBuf,
    colo: Colo,
    primary: UnixStream,
    _secondary: UnixStream,
    out: UnixStream,
}

impl Holding {
    fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("colo.toml");
        std::fs::write(&file, config(directory.path(), ""))?;
        let colo = Colo::start(["compare", "--config", &file.display().to_string()])?;
        let mut primary = connect(&directory.path().join("p"))?;
        let secondary = connect(&directory.path().join("s"))?;
        let mut out = connect(&directory.path().join("o"))?;
        primary.write_all(&frame(b"held"))?;
        out.set_read_timeout(Some(Duration::from_millis(200)))?;
        assert!(out.read(&mut [0; 1]).is_err(), "nothing leaves uncompared");
        Ok(Self { directory, file, colo, primary, _secondary: secondary, out })
    }
}

/// What was held leaves, and so does what comes next.
fn passes(primary: &mut UnixStream, out: &mut UnixStream) -> Result<()> {
    out.set_read_timeout(Some(LIMIT))?;
    let mut got = vec![0; frame(b"held").len()];
    out.read_exact(&mut got).context("the held frame leaves")?;
    assert_eq!(got, frame(b"held"));
    primary.write_all(&frame(b"next"))?;
    out.read_exact(&mut got).context("and so does the next")?;
    assert_eq!(got, frame(b"next"));
    Ok(())
}

#[test]
fn sighup_puts_new_rules_in_force_and_lets_held_frames_follow() -> Result<()> {
    let Holding { directory, file, colo, mut primary, _secondary, mut out } = Holding::start()?;

    std::fs::write(&file, config(directory.path(), "[[rule]]\nprotocol = \"upd\"\n"))?;
    colo.signal(Signal::HUP)?;
    let log = colo.wait_for_log("nothing is changed", LIMIT)?;
    assert!(log.contains("colo.toml:8: protocol of a rule is"), "{log}");
    assert!(out.read(&mut [0; 1]).is_err(), "a mistake changes nothing");

    let rule = "workers = 2\n[[rule]]\nprotocol = \"udp\"\nguest_ports = \"53\"\naction = \"pass\"\n";
    std::fs::write(&file, config(directory.path(), rule))?;
    colo.signal(Signal::HUP)?;
    colo.wait_for_log("restart to change workers", LIMIT)?;
    colo.wait_for_log("rules in force: 1", LIMIT)?;
    passes(&mut primary, &mut out)?;
    colo.terminate(LIMIT)?.expect_code(0)
}

#[test]
fn sighup_changes_the_mode_while_frames_are_held() -> Result<()> {
    let Holding { directory, file, colo, mut primary, _secondary, mut out } = Holding::start()?;

    std::fs::write(&file, config(directory.path(), "mode = \"of\"\n"))?;
    colo.signal(Signal::HUP)?;
    let log = colo.wait_for_log("nothing is changed", LIMIT)?;
    assert!(log.contains("colo.toml:7: mode is"), "{log}");
    assert!(out.read(&mut [0; 1]).is_err(), "a mistake changes nothing");

    std::fs::write(&file, config(directory.path(), "mode = \"off\"\n"))?;
    colo.signal(Signal::HUP)?;
    colo.wait_for_log("mode: off, was colo", LIMIT)?;
    passes(&mut primary, &mut out)?;
    colo.terminate(LIMIT)?.expect_code(0)
}
