//! The lines of V.jsonl, read strictly: an unknown event, a missing field or a word outside the vocabulary is an
//! error, because other tools read the same lines.

use serde_json::Value;

use super::time::Ns;

/// One line of V.jsonl. Times count from the first frame of either capture, as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// A PVM frame left.
    Release {
        /// When.
        at: Ns,
        /// Its index in the PVM's capture.
        frame: usize,
        /// A word of the contract.
        why: String,
        /// How long it had waited.
        held: Ns,
    },
    /// An SVM frame was done with.
    Drop {
        /// When.
        at: Ns,
        /// Its index in the SVM's capture.
        frame: usize,
        /// A word of the contract.
        why: String,
    },
    /// A checkpoint was asked for.
    Request {
        /// When.
        at: Ns,
        /// A word of the contract.
        reason: String,
        /// The flow it is about, if it is about one.
        flow: Option<String>,
        /// What was found.
        detail: Value,
    },
    /// A checkpoint was committed.
    Commit {
        /// When.
        at: Ns,
    },
    /// A PVM frame never left.
    Held {
        /// Its index in the PVM's capture.
        frame: usize,
    },
    /// An SVM frame was never done with.
    HeldSecondary {
        /// Its index in the SVM's capture.
        frame: usize,
    },
}

const RELEASE_WHY: [&str; 4] = ["matched", "pass", "flush", "ack"];
const DROP_WHY: [&str; 5] = ["matched", "pass", "flush", "stale", "duplicate"];
const REASONS: [&str; 5] = ["mismatch", "timeout", "queue_full", "table_full", "periodic"];

impl Verdict {
    /// When it was decided; `None` for what is still open at the end.
    pub fn at(&self) -> Option<Ns> {
        match self {
            Self::Release { at, .. }
            | Self::Drop { at, .. }
            | Self::Request { at, .. }
            | Self::Commit { at } => Some(*at),
            Self::Held { .. } | Self::HeldSecondary { .. } => None,
        }
    }

    fn parse(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let number = |key: &str| value[key].as_u64().ok_or_else(|| format!("no number {key:?}"));
        let frame = || usize::try_from(number("frame")?).map_err(|error| error.to_string());
        let time = |key: &str| number(key).map(Ns);
        let text =
            |key: &str| value[key].as_str().map(str::to_owned).ok_or_else(|| format!("no text {key:?}"));
        let word = |key: &str, known: &[&str]| {
            let word = text(key)?;
            if known.contains(&word.as_str()) {
                Ok(word)
            } else {
                Err(format!("{key} {word:?} is no known word"))
            }
        };
        match text("event")?.as_str() {
            "release" => Ok(Self::Release {
                at: time("t_ns")?,
                frame: frame()?,
                why: word("why", &RELEASE_WHY)?,
                held: time("held_ns")?,
            }),
            "drop" => Ok(Self::Drop { at: time("t_ns")?, frame: frame()?, why: word("why", &DROP_WHY)? }),
            "request" => Ok(Self::Request {
                at: time("t_ns")?,
                reason: word("reason", &REASONS)?,
                // A request for a full table or a period belongs to no flow.
                flow: value["flow"].as_str().map(str::to_owned),
                detail: value["detail"].clone(),
            }),
            "commit" => Ok(Self::Commit { at: time("t_ns")? }),
            "held" => Ok(Self::Held { frame: frame()? }),
            "held_secondary" => Ok(Self::HeldSecondary { frame: frame()? }),
            other => Err(format!("event {other:?} is not in the contract")),
        }
    }

    /// Reads a whole V.jsonl.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let numbered = text.lines().enumerate();
        numbered
            .map(|(i, line)| Self::parse(line).map_err(|e| format!("line {}: {e}: {line}", i + 1)))
            .collect()
    }
}
