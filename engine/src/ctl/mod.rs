//! The control socket of a running engine: what can be said over it, the server that listens, the client that asks.
//!
//! One line of JSON each way, then the connection is closed. Who may open the socket's file may give orders, nobody else:
//! there is no password. What an order does is not decided here but by whoever takes it from the server.

mod client;
mod server;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use client::{CtlFailure, ask};
pub use server::{CtlError, CtlServer, Pending};

/// Where the socket is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/run/colo/ctl.sock";
/// Longest line of an order, bytes.
const ORDER_BYTES: u64 = 64 * 1024;

/// What can be said to an engine. `pair` names one of several; without it all are meant, or the only one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Everything at `/status`.
    Status,
    /// A checkpoint now.
    Checkpoint {
        /// Of which pair.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pair: Option<String>,
    },
    /// Another mode.
    Mode {
        /// `colo`, `passive`, `hybrid` or `off`; without it the mode is told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<String>,
        /// Of which pair.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pair: Option<String>,
    },
    /// The rules in force.
    Rules {
        /// Of which pair.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pair: Option<String>,
    },
    /// One rule more.
    AddRule {
        /// Its keys as in a `[[rule]]`, with commas between.
        rule: String,
        /// Its place, counted from 1; without it the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<usize>,
        /// Of which pair.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pair: Option<String>,
    },
    /// One rule less.
    RemoveRule {
        /// Its place, counted from 1.
        number: usize,
        /// Of which pair.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pair: Option<String>,
    },
    /// What is logged from here on.
    Log {
        /// As `--log`.
        filter: String,
    },
    /// The configuration is read again, as on SIGHUP.
    Reload,
}

/// What became of an order: what it has to tell, or a sentence that says what is wrong.
pub type Outcome = Result<Value, String>;

fn to_line(outcome: &Outcome) -> String {
    let answer = match outcome {
        Ok(told) => json!({ "ok": true, "answer": told }),
        Err(why) => json!({ "ok": false, "error": why }),
    };
    format!("{answer}\n")
}

fn from_line(line: &str) -> Option<Outcome> {
    let mut answer: Value = serde_json::from_str(line).ok()?;
    if answer.get("ok")?.as_bool()? {
        Some(Ok(answer.get_mut("answer")?.take()))
    } else {
        Some(Err(answer.get("error")?.as_str()?.to_owned()))
    }
}
