//! `colo ctl` against a running `colo compare`: every order, mistakes in them, and who may give them.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use colo_tests::process::{Colo, Finished};
use colo_tests::wait::until;
use etherparse::PacketBuilder;
use serde_json::Value;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);

/// An engine that listens for orders, with two links up and nothing to take checkpoints but time.
struct Rig {
    folder: TempDir,
    colo: Colo,
    primary: UnixStream,
    _secondary: UnixStream,
    out: UnixStream,
}

impl Rig {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = folder.path().display();
        let config = format!(
            "primary_in = \"unix:{at}/p,listen\"\nsecondary_in = \"unix:{at}/s,listen\"\nout = \"unix:{at}/o,listen\"\n\
             checkpoint = \"none\"\nmetrics = \"off\"\nctl = \"{at}/ctl\"\ncompare_timeout = 60000\n\
             max_checkpoint_interval = \"off\"\n"
        );
        std::fs::write(folder.path().join("colo.toml"), config)?;
        let file = folder.path().join("colo.toml").display().to_string();
        let colo = Colo::start(["compare", "--config", &file])?;
        let connect = |name: &str| -> Result<UnixStream> {
            let path = folder.path().join(name);
            let stream = until("the port is there", LIMIT, || Ok(UnixStream::connect(&path)?))?;
            stream.set_read_timeout(Some(LIMIT))?;
            Ok(stream)
        };
        let (primary, secondary, out) = (connect("p")?, connect("s")?, connect("o")?);
        let rig = Self { folder, colo, primary, _secondary: secondary, out };
        until("all links are up", LIMIT, || {
            let status = rig.json(&["status"])?;
            let links = status["pairs"][0]["links"].to_string();
            anyhow::ensure!(!links.contains("down"), "{links}");
            Ok(())
        })?;
        Ok(rig)
    }

    fn order(&self, words: &[&str]) -> Result<Finished> {
        let socket = self.folder.path().join("ctl").display().to_string();
        Colo::run(["ctl", "--socket", &socket].iter().chain(words), LIMIT)
    }

    /// What is said when it is done.
    fn done(&self, words: &[&str]) -> Result<String> {
        let finished = self.order(words)?;
        finished.expect_code(0)?;
        Ok(finished.stdout.trim_end().to_owned())
    }

    /// What is said when it is refused, in one line.
    fn refused(&self, words: &[&str]) -> Result<String> {
        let finished = self.order(words)?;
        finished.expect_code(1)?;
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        Ok(finished.stderr)
    }

    fn json(&self, words: &[&str]) -> Result<Value> {
        let mut all = vec!["--json"];
        all.extend(words);
        Ok(serde_json::from_str(&self.done(&all)?)?)
    }

    /// Nothing leaves for a while.
    fn nothing_leaves(&mut self) -> Result<()> {
        self.out.set_read_timeout(Some(Duration::from_millis(200)))?;
        assert!(self.out.read(&mut [0; 1]).is_err(), "nothing leaves uncompared");
        Ok(self.out.set_read_timeout(Some(LIMIT))?)
    }

    fn leaves(&mut self, what: &[u8]) -> Result<()> {
        let mut got = vec![0; what.len()];
        self.out.read_exact(&mut got).context("it leaves")?;
        assert_eq!(got, what);
        Ok(())
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64).udp(53, 99);
    step.write(&mut frame, payload).expect("a frame");
    let mut framed = u32::try_from(frame.len()).expect("short").to_be_bytes().to_vec();
    framed.extend(frame);
    framed
}

#[test]
fn a_checkpoint_can_be_ordered_and_lets_go_what_is_held() -> Result<()> {
    let mut rig = Rig::start()?;
    let held = frame(b"held");
    rig.primary.write_all(&held)?;
    rig.nothing_leaves()?;
    assert_eq!(rig.done(&["checkpoint"])?, "asked for");
    rig.leaves(&held)?;
    let status = rig.json(&["status"])?;
    let checkpoints = &status["pairs"][0]["checkpoints"];
    assert_eq!((&checkpoints["requested"]["operator"], &checkpoints["completed"]), (&1.into(), &1.into()));
    let text = rig.done(&["status"])?;
    assert!(text.contains("pair default") && text.contains("1 committed; asked for: 1 operator"), "{text}");
    rig.colo.terminate(LIMIT)?.expect_code(0)
}

#[test]
fn rules_can_be_added_shown_and_removed() -> Result<()> {
    let mut rig = Rig::start()?;
    let held = frame(b"held");
    rig.primary.write_all(&held)?;
    rig.nothing_leaves()?;
    assert_eq!(rig.done(&["rules", "list"])?, "no rules");
    let hold = "protocol = \"tcp\", action = \"hold\"";
    rig.done(&["rules", "add", hold])?;
    let pass = "protocol = \"udp\", guest_ports = \"53\", action = \"pass\"";
    let list = rig.done(&["rules", "add", pass, "--at", "1"])?;
    let lines: Vec<_> = list.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("1  ") && lines[0].contains("pass"), "{list}");
    rig.leaves(&held)?;
    assert_eq!(rig.done(&["rules", "list"])?, list);

    for (words, wanted) in [
        (&["rules", "add", "protocol = \"upd\""][..], "protocol of a rule is"),
        (&["rules", "add", "protcol = \"udp\""], "the nearest known one is protocol"),
        (&["rules", "add", "}] x"], "not TOML"),
        (&["rules", "add", "mask = [{ offset = 0, length = 4 }]"], "allow_unsafe_masks"),
        (&["rules", "add", pass, "--at", "9"], "from 1 to 3"),
        (&["rules", "remove", "3"], "there is no rule 3"),
        (&["rules", "list", "--pair", "web"], "there is no pair web; there is default"),
        (&["mode", "of"], "the mode must be"),
        (&["log", "inof"], "it must be"),
    ] {
        let said = rig.refused(words)?;
        assert!(said.contains(wanted), "{words:?}: {said}");
    }
    let list = rig.json(&["rules", "remove", "1"])?;
    assert_eq!(list["default"].as_array().map(Vec::len), Some(1));
    let next = frame(b"next");
    rig.primary.write_all(&next)?;
    rig.nothing_leaves()?;
    rig.done(&["checkpoint"])?;
    rig.leaves(&next)?;
    rig.colo.terminate(LIMIT)?.expect_code(0)
}

#[test]
fn mode_log_and_reload_change_while_it_runs() -> Result<()> {
    let mut rig = Rig::start()?;
    assert_eq!(rig.done(&["mode"])?, "colo");
    assert_eq!(rig.done(&["mode", "off"])?, "off");
    let frame = frame(b"alone");
    rig.primary.write_all(&frame)?;
    rig.leaves(&frame)?;
    rig.colo.wait_for_log("mode: off, was colo", LIMIT)?;
    assert_eq!(rig.json(&["status"])?["pairs"][0]["modes"]["set"], "off");

    // The file says nothing of a mode: the default comes back, and with the log off nothing is said of it.
    rig.done(&["log", "off"])?;
    assert_eq!(rig.done(&["reload"])?, "done");
    assert_eq!(rig.done(&["mode"])?, "colo");
    rig.done(&["log", "info"])?;
    let file = rig.folder.path().join("colo.toml");
    std::fs::write(&file, "workers = \"many\"\n")?;
    let refused = rig.refused(&["reload"])?;
    assert!(refused.contains("nothing is changed") && refused.contains("workers"), "{refused}");
    rig.colo.wait_for_log("colo ctl: nothing is changed", LIMIT)?;
    let log = rig.colo.stderr_so_far();
    assert!(!log.contains("mode: colo, was off"), "said although the log was off: {log}");
    rig.colo.terminate(LIMIT)?.expect_code(0)
}

#[test]
fn who_asks_nobody_is_told_so_in_one_sentence() -> Result<()> {
    let finished = Colo::run(["ctl", "--socket", "/nonexistent/ctl", "status"], LIMIT)?;
    finished.expect_code(1)?;
    assert!(finished.stderr.contains("no colo listens on /nonexistent/ctl"), "{}", finished.stderr);
    let rig = Rig::start()?;
    let socket = rig.folder.path().join("ctl");
    let second = Colo::run(
        ["compare", "--primary-in", "pcap:a", "--ctl", &socket.display().to_string()].map(str::to_owned),
        LIMIT,
    )?;
    second.expect_code(2)?;
    rig.colo.terminate(LIMIT)?.expect_code(0)?;
    assert!(!Path::new(&socket).exists(), "the socket goes with the engine");
    Ok(())
}
