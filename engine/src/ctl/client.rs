//! The asking end.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Order, from_line};

/// Longest time to an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum CtlFailure {
    /// nobody listens
    #[error(
        "no colo listens on {}: {reason}; start it with --ctl PATH, and name the same path here", path.display()
    )]
    Nobody {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// the connection broke
    #[error("colo on {} gave no answer: {reason}", path.display())]
    NoAnswer {
        /// Who was asked.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// it says no
    #[error("{0}")]
    Refused(String),
}

/// Gives an order and waits for what comes of it.
pub fn ask(path: &Path, order: &Order) -> Result<Value, CtlFailure> {
    let nobody = |reason| CtlFailure::Nobody { path: path.to_owned(), reason };
    let no_answer = |reason: String| CtlFailure::NoAnswer { path: path.to_owned(), reason };
    let mut stream = UnixStream::connect(path).map_err(nobody)?;
    let mut talk = || -> io::Result<String> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        stream.write_all(line.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = talk().map_err(|error| no_answer(error.to_string()))?;
    let outcome = from_line(&answer).ok_or_else(|| no_answer(format!("{answer:?} is none")))?;
    outcome.map_err(CtlFailure::Refused)
}
