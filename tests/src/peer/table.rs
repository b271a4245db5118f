//! Runs the catalogue through both comparers and writes down where they differ.

use std::fmt::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::catalogue::Entry;
use super::comparer::Kind;
use super::faults;
use super::play::play;
use super::record::Record;
use crate::netns::join;

/// One entry and both answers.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was played.
    pub entry: Entry,
    /// `colo`'s answer.
    pub colo: Record,
    /// QEMU's answer.
    pub qemu: Record,
}

impl Row {
    /// Plays one entry to both at the same time.
    pub fn play(entry: Entry) -> Result<Self> {
        let (colo, qemu) = std::thread::scope(|scope| {
            let qemu = scope.spawn(|| play(Kind::Qemu, &entry.script));
            (play(Kind::Colo, &entry.script), join(qemu))
        });
        Ok(Self { colo: colo?, qemu: qemu?, entry })
    }

    /// Whether both did the same.
    pub fn agrees(&self) -> bool {
        self.colo.agrees_with(&self.qemu)
    }

    /// A difference that nothing explains, or an explanation of none.
    pub fn is_unexplained(&self) -> bool {
        self.agrees() != self.entry.why.is_empty()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "case": self.entry.name,
            "agree": self.agrees(),
            "colo": self.colo.to_string(),
            "qemu": self.qemu.to_string(),
            "why": self.entry.why,
            "requests": { "colo": self.colo.requests, "qemu": self.qemu.requests },
        })
    }
}

/// The document's part that is made: what differs, what does not, what the numbers mean.
pub fn markdown(rows: &[Row]) -> String {
    let differing = rows.iter().filter(|row| !row.agrees()).count();
    let mut text = format!(
        "{} scripts: {} answered alike, {differing} differently.\n\n| script | `colo` | QEMU's colo-compare | why |\n|---|---|---|---|\n",
        rows.len(),
        rows.len() - differing
    );
    for row in rows.iter().filter(|row| !row.agrees()) {
        let why = if row.entry.why.is_empty() { "unexplained".to_owned() } else { row.entry.why.join(", ") };
        let _ = writeln!(text, "| {} | {} | {} | {why} |", row.entry.name, row.colo, row.qemu);
    }
    text += "\nAnswered alike:\n\n| script | both |\n|---|---|\n";
    for row in rows.iter().filter(|row| row.agrees()) {
        let _ = writeln!(text, "| {} | {} |", row.entry.name, row.colo);
    }
    for (heading, first) in [("QEMU's faults", 'Q'), ("Deliberate differences", 'D')] {
        let _ = write!(text, "\n### {heading}\n\n| number | what |\n|---|---|\n");
        for reason in faults::ALL.iter().filter(|reason| reason.code.starts_with(first)) {
            let elsewhere = reason.elsewhere.map(|place| format!(" ({place})")).unwrap_or_default();
            let _ = writeln!(text, "| {} | {}{elsewhere} |", reason.code, reason.text);
        }
    }
    text
}
