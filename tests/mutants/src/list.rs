//! The changes to try, as cargo-mutants lists them. What they are is its choice, not ours.

use std::ops::Range;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// One change: the text at `span` of `file` is replaced.
#[derive(Clone, Debug, Deserialize)]
pub struct Mutant {
    /// Relative to the root of the project.
    pub file: String,
    /// What it does, with file, line and column: no two have the same.
    pub name: String,
    pub genre: Genre,
    pub span: Span,
    pub replacement: String,
}

/// What kind of a place is changed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum Genre {
    /// The body of a function.
    FnValue,
    BinaryOperator,
    UnaryOperator,
    MatchArm,
    MatchArmGuard,
    /// A field of a struct expression that has a base.
    StructField,
    /// A kind that this tool does not know.
    #[serde(other)]
    Other,
}

/// Where the text begins and where it has ended.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Span {
    pub start: Place,
    pub end: Place,
}

/// Both count from 1; columns count characters.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// Where each line of a text begins, in bytes.
pub struct Lines<'text> {
    text: &'text str,
    starts: Vec<usize>,
}

impl<'text> Lines<'text> {
    pub fn of(text: &'text str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The byte at a line, counted from 1, and a column, counted from 0.
    pub fn byte(&self, line: usize, column: usize) -> usize {
        let start = self.starts[line - 1];
        let rest = &self.text[start..];
        start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
    }

    pub fn bytes(&self, span: Span) -> Range<usize> {
        self.byte(span.start.line, span.start.column - 1)..self.byte(span.end.line, span.end.column - 1)
    }
}

/// Asks cargo-mutants for the changes to `files` in the source tree `root`.
pub fn mutants(root: &Path, files: &[String]) -> Result<Vec<Mutant>> {
    let tool = std::env::var_os("CARGO_MUTANTS").unwrap_or_else(|| "cargo-mutants".into());
    let mut command = Command::new(tool);
    command.args(["mutants", "--list", "--json", "--package", "colo-engine", "--dir"]).arg(root);
    for file in files {
        command.args(["--file", file]);
    }
    let output = command.output().context("cannot start cargo-mutants")?;
    ensure!(output.status.success(), "cargo-mutants: {}", String::from_utf8_lossy(&output.stderr));
    let mutants: Vec<Mutant> =
        serde_json::from_slice(&output.stdout).context("cannot read cargo-mutants' list")?;
    ensure!(!mutants.is_empty(), "cargo-mutants finds nothing to change in {}", files.join(", "));
    Ok(mutants)
}
