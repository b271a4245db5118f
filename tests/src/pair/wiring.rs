//! What each QEMU of a pair is told, from `colo qemu-args`: users, documents and tests have one source.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::run;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// Its guest's frames leave.
    Primary,
    /// Its guest follows.
    Secondary,
}

impl Node {
    /// Start of the names of its sockets and logs.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Primary => "p",
            Self::Secondary => "s",
        }
    }
}

/// The answer for one node.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// QEMU's arguments.
    pub arguments: Vec<String>,
    /// Monitor commands that start COLO.
    pub start: Vec<Value>,
    /// Those for this node when the other is lost.
    pub failover: Vec<Value>,
    /// Those that take the engine out of the guest's way then.
    pub detach: Vec<Value>,
}

impl Wiring {
    /// Asks `colo` with these flags.
    ///
    /// # Errors
    /// `colo` refuses them, or its answer lacks something.
    pub fn of(node: Node, flags: impl IntoIterator<Item = String>) -> Result<Self> {
        let name = match node {
            Node::Primary => "primary",
            Node::Secondary => "secondary",
        };
        let words = ["qemu-args", name, "--json"].map(str::to_owned);
        let arguments: Vec<_> = words.into_iter().chain(flags).collect();
        let finished = run(&arguments);
        finished.expect_code(0)?;
        let answer: Value = serde_json::from_str(&finished.stdout).context("the answer of colo qemu-args")?;
        let list =
            |key: &str| answer[key].as_array().cloned().with_context(|| format!("no {key} in {answer:#}"));
        let word = |value: &Value| value.as_str().map(str::to_owned).context("an argument that is no text");
        // A monitor here negotiates by itself.
        let commands = |key: &str| -> Result<Vec<Value>> {
            Ok(list(key)?.into_iter().filter(|command| command["execute"] != "qmp_capabilities").collect())
        };
        Ok(Self {
            arguments: list("args")?.iter().map(word).collect::<Result<_>>()?,
            start: commands("qmp")?,
            failover: commands("failover")?,
            detach: commands("detach")?,
        })
    }
}
