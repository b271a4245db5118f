//! `colo check-config`: is this file fine?

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::common::JsonArg;
use super::output::{Format, print, print_json};
use crate::config::{ConfigError, Purpose, Sources};

/// Check a configuration file: ok, or one sentence that says what is wrong
///
/// A file without ports is fine; `colo replay` and `colo demo` need none. Exits with 2 when something is wrong.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  colo check-config colo.toml
  colo dump-config > colo.toml && colo check-config colo.toml")]
pub(super) struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let sources = Sources { file: Some(args.file.clone()), ..Sources::new(Purpose::Compare) };
    let settings = match (sources.dump_json(), Format::from_flag(&args.json)) {
        (Ok(settings), _) => settings,
        (Err(error), Format::Text) => return Err(error.into()),
        (Err(error), Format::Json) => {
            print_json(&json!({ "ok": false, "error": error.to_string() }))?;
            return Err(error.into());
        }
    };
    // What is missing is no mistake of the file: flags may say it.
    let missing = match sources.load_pairs() {
        Err(
            error @ (ConfigError::MissingPort { .. }
            | ConfigError::MissingCheckpoint
            | ConfigError::MissingInPair { .. }),
        ) => Some(error.to_string()),
        _ => None,
    };
    match (Format::from_flag(&args.json), missing) {
        (Format::Json, missing) => {
            print_json(&json!({ "ok": true, "compare_also_needs": missing, "settings": settings }))?;
        }
        (Format::Text, None) => print(&format!("{}: ok", args.file.display()))?,
        (Format::Text, Some(missing)) => {
            print(&format!("{}: ok (for colo compare: {missing})", args.file.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
