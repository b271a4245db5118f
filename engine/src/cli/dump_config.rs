//! `colo dump-config`: the settings in effect, commented.

use std::process::ExitCode;

use clap::ValueEnum;

use super::common::{JsonArg, SettingArgs};
use super::output::{Format, print, print_json};
use crate::config::Purpose;

/// Print the settings in effect as a commented TOML file
///
/// Without flags: every key with its default, unit and meaning.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  colo dump-config > colo.toml
  colo dump-config --config colo.toml --set compare_timeout=200
  colo dump-config --for replay --json")]
pub(super) struct Args {
    /// The command whose defaults hold
    #[arg(long = "for", value_enum, default_value_t = For::Compare)]
    purpose: For,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    json: JsonArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum For {
    Compare,
    Demo,
    Replay,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let purpose = match args.purpose {
        For::Compare => Purpose::Compare,
        For::Demo => Purpose::Demo,
        For::Replay => Purpose::Replay,
    };
    let sources = args.settings.sources(purpose);
    match Format::from_flag(&args.json) {
        Format::Text => print(&sources.dump_toml()?)?,
        Format::Json => print_json(&sources.dump_json()?)?,
    }
    Ok(ExitCode::SUCCESS)
}
