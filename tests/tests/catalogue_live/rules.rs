//! Rules replaced while frames are held (case 91): every frame is judged by the old rules or by the new, none is lost,
//! doubled or overtaken within its flow.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use colo_tests::case::udp;
use colo_tests::frame::layout;
use colo_tests::qemu_link::Framing;
use colo_tests::rig::{Rig, STEP_LIMIT};
use rustix::process::Signal;

use super::{frame, setup};

const QUIET: Duration = Duration::from_millis(300);
const PASS: &str = "[[rule]]\nprotocol = \"udp\"\nguest_ports = \"80\"\naction = \"pass\"\n";
/// The client's port of flow 0.
const FIRST_PORT: u16 = 4_242;

/// A rig whose configuration file can be replaced, and everything that came out of it.
struct Changing {
    rig: Rig,
    file: tempfile::NamedTempFile,
    sent: Vec<Vec<u8>>,
    left: Vec<Vec<u8>>,
    probes: u16,
}

impl Changing {
    fn start(rules: &str) -> Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), rules)?;
        let rig = Rig::start(&setup(Framing::Plain, &arguments(file.path())))?;
        Ok(Self { rig, file, sent: Vec::new(), left: Vec::new(), probes: 0 })
    }

    fn send(&mut self, flow: u16, text: &str) -> Result<()> {
        let bytes = frame(udp(text.as_bytes()).flow(flow));
        self.rig.primary.send([bytes.as_slice()])?;
        self.sent.push(bytes);
        Ok(())
    }

    /// Takes what comes until it is quiet for so long.
    fn collect(&mut self, quiet: Duration) -> Result<()> {
        while let Some(bytes) = self.rig.out.receive(quiet)? {
            self.left.push(bytes);
        }
        Ok(())
    }

    /// Replaces the rules, and waits until a flow that nobody has seen before is judged by the new ones.
    fn replace(&mut self, rules: &str, expected: Fate) -> Result<()> {
        std::fs::write(self.file.path(), rules)?;
        self.rig.colo.signal(Signal::HUP)?;
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            self.probes += 1;
            let flow = 100 + self.probes;
            self.send(flow, "which rules?")?;
            self.collect(QUIET)?;
            let fate = if of_flow(&self.left, flow).is_empty() { Fate::Waits } else { Fate::Passes };
            if fate == expected {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the rules stay; stderr: {}", self.rig.colo.stderr_so_far());
        }
    }

    /// What left of a flow is what was sent, in order, from the first on.
    fn in_order(&self, flow: u16) {
        let (sent, left) = (of_flow(&self.sent, flow), of_flow(&self.left, flow));
        assert!(sent.starts_with(&left), "flow {flow}: out of order, lost or doubled: {left:02x?}");
    }

    /// A commit lets go of everything that is still held, once.
    fn finish(mut self) -> Result<()> {
        let mut notify = self.rig.notify.take().context("a notifier")?;
        notify.send_raw(&Framing::Plain.message("COLO_CHECKPOINT")?)?;
        while self.left.len() < self.sent.len() {
            let next = self.rig.out.receive(STEP_LIMIT)?.context("a frame is missing after the commit")?;
            self.left.push(next);
        }
        self.collect(QUIET)?;
        assert_eq!(self.left.len(), self.sent.len(), "nothing leaves twice");
        for flow in 0..=100 + self.probes {
            self.in_order(flow);
        }
        let books = self.rig.settled(|books| books.held == 0)?;
        self.rig.stop(&books)?;
        Ok(())
    }
}

/// Those of one flow, by the client's port.
fn of_flow(frames: &[Vec<u8>], flow: u16) -> Vec<&Vec<u8>> {
    let port = FIRST_PORT + flow;
    let is = |bytes: &&Vec<u8>| layout(bytes).is_some_and(|at| at.destination_port(bytes) == port);
    frames.iter().filter(is).collect()
}

/// What the rules do with a frame that has no partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passes,
    Waits,
}

fn arguments(config: &Path) -> String {
    format!("--config {} --compare-timeout 60000 --poll adaptive --workers 2", config.display())
}

#[test]
fn case_91_rule_added_while_frames_are_held() -> Result<()> {
    let mut engine = Changing::start("")?;
    for flow in 0..20 {
        engine.send(flow, "held under the old rules")?;
    }
    engine.collect(QUIET)?;
    assert!(engine.left.is_empty(), "without a rule everything is compared");
    engine.replace(PASS, Fate::Passes)?;
    for flow in 0..20 {
        engine.send(flow, "sent under the new rules")?;
    }
    engine.collect(QUIET)?;
    // Whether the held ones went with the change or wait for a commit: none was overtaken.
    for flow in 0..20 {
        engine.in_order(flow);
    }
    engine.finish()
}

#[test]
fn case_91_rule_removed_while_frames_are_held() -> Result<()> {
    let mut engine = Changing::start(PASS)?;
    engine.send(0, "passes")?;
    engine.collect(QUIET)?;
    assert_eq!(engine.left.len(), 1, "the rule lets it pass");
    engine.replace("", Fate::Waits)?;
    engine.send(0, "is compared")?;
    engine.collect(QUIET)?;
    assert_eq!(of_flow(&engine.left, 0).len(), 1, "without the rule it waits");
    let partner = frame(udp(b"is compared").mac(2));
    engine.rig.secondary.send([partner.as_slice()])?;
    engine.collect(QUIET)?;
    assert_eq!(of_flow(&engine.left, 0).len(), 2, "and leaves with its partner");
    engine.finish()
}

#[test]
fn case_91_rules_that_cannot_be_read_change_nothing() -> Result<()> {
    let mut engine = Changing::start(PASS)?;
    std::fs::write(engine.file.path(), "[[rule]]\nprotocol = \"udp\"\naction = \"perhaps\"\n")?;
    engine.rig.colo.signal(Signal::HUP)?;
    engine.rig.colo.wait_for_log("perhaps", STEP_LIMIT).context("the log says what is wrong")?;
    engine.send(0, "passes all the same")?;
    engine.collect(QUIET)?;
    assert_eq!(engine.left.len(), 1, "the old rules hold");
    engine.finish()
}
