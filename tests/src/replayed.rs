//! `colo replay` on two recordings, and the books of its verdict file: every frame decided, none twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pcap_file::pcap::PcapReader;
use serde_json::Value;

use crate::process::{Colo, tail};
use crate::sniff::{Captured, write_pcap};

/// Bound of one replay; it takes well under a second.
const REPLAY_LIMIT: Duration = Duration::from_mins(1);

/// What a replay said.
#[derive(Debug)]
pub struct Replayed {
    /// Primary frames released, by index, with how often and why.
    pub released: Decisions,
    /// Secondary frames dropped.
    pub dropped: Decisions,
    /// Primary frames still held at the end.
    pub held: Decisions,
    /// Secondary frames still held at the end.
    pub held_secondary: Decisions,
    /// Every `request` line.
    pub requests: Vec<Value>,
    /// The `--json` summary.
    pub summary: Value,
    /// Frames in the released capture.
    pub released_frames: Vec<Vec<u8>>,
}

/// Frame index → the reasons given for it; one entry each when all is well.
pub type Decisions = BTreeMap<usize, Vec<String>>;

impl Replayed {
    /// Replays two recordings with further arguments.
    pub fn run(primary: &[Captured], secondary: &[Captured], extra: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = |name: &str| directory.path().join(name);
        write_pcap(&file("primary.pcap"), primary)?;
        write_pcap(&file("secondary.pcap"), secondary)?;
        let mut arguments = vec!["replay".into(), "--json".into()];
        for (option, name) in [
            ("--primary", "primary.pcap"),
            ("--secondary", "secondary.pcap"),
            ("--released", "released.pcap"),
            ("--verdicts", "verdicts.jsonl"),
        ] {
            arguments.push(option.into());
            arguments.push(file(name).into_os_string());
        }
        arguments.extend(extra.iter().map(Into::into));
        let finished = Colo::run(arguments, REPLAY_LIMIT)?;
        finished.expect_code(0)?;
        let summary = serde_json::from_str(&finished.stdout)
            .with_context(|| format!("stdout is not one JSON object: {}", tail(&finished.stdout)))?;
        let verdicts = std::fs::read_to_string(file("verdicts.jsonl"))?;
        let mut replayed = Self {
            released: Decisions::new(),
            dropped: Decisions::new(),
            held: Decisions::new(),
            held_secondary: Decisions::new(),
            requests: Vec::new(),
            summary,
            released_frames: read_frames(&file("released.pcap"))?,
        };
        for line in verdicts.lines() {
            replayed.enter(serde_json::from_str(line).with_context(|| format!("verdict {line:?}"))?)?;
        }
        Ok(replayed)
    }

    fn enter(&mut self, verdict: Value) -> Result<()> {
        let book = match verdict["event"].as_str() {
            Some("release") => &mut self.released,
            Some("drop") => &mut self.dropped,
            Some("held") => &mut self.held,
            Some("held_secondary") => &mut self.held_secondary,
            Some("commit") => return Ok(()),
            Some("request") => {
                self.requests.push(verdict);
                return Ok(());
            }
            _ => anyhow::bail!("unknown verdict {verdict}"),
        };
        let frame = verdict["frame"].as_u64().with_context(|| format!("no frame in {verdict}"))?;
        let why = verdict["why"].as_str().unwrap_or_default().to_owned();
        book.entry(usize::try_from(frame)?).or_default().push(why);
        Ok(())
    }

    /// Fails unless every primary frame was released or is held, every secondary frame dropped or held, each once,
    /// and the released capture has the released frames and no other.
    pub fn check_books(&self, primary: &[Captured], secondary: &[Captured]) -> Result<()> {
        each_once("primary", primary.len(), &[&self.released, &self.held])?;
        each_once("secondary", secondary.len(), &[&self.dropped, &self.held_secondary])?;
        ensure!(
            self.released_frames.len() == self.released.len(),
            "{} frames in the released capture, {} release verdicts",
            self.released_frames.len(),
            self.released.len()
        );
        Ok(())
    }

    /// Requests with this reason.
    pub fn requests_for(&self, reason: &str) -> Vec<&Value> {
        self.requests.iter().filter(|request| request["reason"] == reason).collect()
    }
}

fn each_once(side: &str, frames: usize, books: &[&Decisions]) -> Result<()> {
    for index in 0..frames {
        let entries: Vec<_> = books.iter().filter_map(|book| book.get(&index)).flatten().collect();
        ensure!(entries.len() == 1, "{side} frame {index} has {} verdicts: {entries:?}", entries.len());
    }
    let beyond = books.iter().find_map(|book| book.range(frames..).next());
    ensure!(beyond.is_none(), "a verdict on {side} frame {beyond:?}, which does not exist");
    Ok(())
}

fn read_frames(path: &Path) -> Result<Vec<Vec<u8>>> {
    let file = std::fs::File::open(path).with_context(|| format!("{} was not written", path.display()))?;
    let mut reader = PcapReader::new(file)?;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet?.data.into_owned());
    }
    Ok(frames)
}
