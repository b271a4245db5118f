//! Plays the catalogue of scripts to QEMU's colo-compare and to `colo`, and says where their answers differ.
#![forbid(unsafe_code)]

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use colo_tests::document;
use colo_tests::peer::entries;
use colo_tests::peer::table::{Row, markdown};
use serde_json::json;

const HELP: &str = "Feeds QEMU's colo-compare object and `colo compare` the same frames and says where they differ.

usage: tests/peer-diff [--only TEXT] [--write FILE] [--json]

  --only TEXT    only scripts whose name contains this
  --write FILE   puts the tables into this document, between its markers
  --json         one object a line instead of tables

Ends with 1 when a difference is explained by nothing, or an explanation is left over. The first run fetches QEMU.
";

#[derive(Default)]
struct Options {
    only: String,
    write: Option<PathBuf>,
    json: Option<()>,
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--only" => options.only = words.next().context("--only needs a text")?,
            "--write" => options.write = Some(words.next().context("--write needs a file")?.into()),
            "--json" => options.json = Some(()),
            "--help" | "-h" => return Ok(None),
            _ => bail!("{word:?} is not known; see --help"),
        }
    }
    Ok(Some(options))
}

fn main() -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let Some(options) = options(std::env::args().skip(1))? else {
        write!(out, "{HELP}")?;
        return Ok(ExitCode::SUCCESS);
    };
    let entries: Vec<_> = entries().into_iter().filter(|entry| entry.name.contains(&options.only)).collect();
    let mut rows = Vec::new();
    let total = entries.len();
    for (number, entry) in (1..).zip(entries) {
        if std::io::stderr().is_terminal() {
            write!(std::io::stderr(), "\r\x1b[K{number}/{total} {}", entry.name)?;
        }
        let name = entry.name;
        let row = Row::play(entry).context(name)?;
        if options.json.is_some() {
            writeln!(out, "{}", row.json())?;
        }
        rows.push(row);
    }
    if std::io::stderr().is_terminal() {
        write!(std::io::stderr(), "\r\x1b[K")?;
    }
    if let Some(path) = &options.write {
        document::put(path, "peer-diff", &markdown(&rows))?;
    } else if options.json.is_none() {
        write!(out, "{}", markdown(&rows))?;
    }
    let open: Vec<_> = rows.iter().filter(|row| row.is_unexplained()).collect();
    for row in &open {
        writeln!(std::io::stderr(), "unexplained: {}", json!(row.json()))?;
    }
    Ok(if open.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
