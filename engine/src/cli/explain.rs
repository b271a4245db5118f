//! `colo explain`: why did the sides differ?

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use super::UsageError;
use super::common::JsonArg;
use super::output::{Format, print, print_json};
use crate::explain::{Style, read, to_json, to_text};

/// Records shown unless somebody asks for more.
const FIRST_RECORDS: usize = 10;

/// Why did the sides differ: both frames side by side, the first differing byte, a sentence
///
/// Reads the file that `--diverged` of `colo compare` or `colo replay` has written. Each record is one mismatch or
/// timeout: why, both frames decoded, their bytes by stream offset with the first differing one in >xx<, and the other
/// frames of the connection that were held then or came next.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  colo replay --primary p.pcap --secondary s.pcap --diverged d.pcapng
  colo explain d.pcapng
  colo explain d.pcapng --record 3
  colo explain d.pcapng --all | less
  colo explain d.pcapng --json | jq -r '.records[].sentence'")]
pub(super) struct Args {
    /// The file
    #[arg(value_name = "D.pcapng")]
    file: PathBuf,
    /// Show this record only, by its number
    #[arg(long, value_name = "N", conflicts_with = "all")]
    record: Option<u64>,
    /// Show all records, not the first 10 only
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let explained = read(&args.file).map_err(|error| UsageError(error.to_string()))?;
    let numbers = || explained.records.iter().map(crate::explain::Entry::number);
    let mut records: Vec<_> = explained.records.iter().collect();
    if let Some(number) = args.record {
        records.retain(|record| record.number() == number);
        if records.is_empty() {
            let (first, last) = (numbers().min().unwrap_or(0), numbers().max().unwrap_or(0));
            let file = args.file.display();
            let sentence = format!("{file} has no record {number}; it has {first} to {last}");
            return Err(UsageError(sentence).into());
        }
    }
    if Format::from_flag(&args.json) == Format::Json {
        print_json(&to_json(&explained, &records))?;
        return Ok(ExitCode::SUCCESS);
    }
    let more = if args.all { 0 } else { records.len().saturating_sub(FIRST_RECORDS) };
    records.truncate(records.len() - more);
    let style = if std::io::stdout().is_terminal() { Style::Colour } else { Style::Plain };
    let mut text = to_text(&explained, &records, style);
    if more > 0 {
        // Into memory: that does not fail.
        let _ = writeln!(text, "{more} more records: --all shows them, --record N one of them.");
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
