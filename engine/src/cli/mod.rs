//! The command line: what can be said, and how failures are told.
//!
//! One file a subcommand; each turns its flags into options and hands them on. Nothing in here moves a frame.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::config::ConfigError;

mod check_config;
mod common;
mod compare;
mod completions;
mod ctl;
mod demo;
mod desk;
mod dump_config;
mod ending;
mod explain;
mod live;
mod logging;
mod man;
mod output;
mod ports;
mod qemu_args;
mod reload;
mod replay;
mod service;
mod show;
#[cfg(test)]
mod tests;
mod top;
mod wrap;

pub use compare::CompareOptions;
pub use demo::DemoOptions;
pub use output::{Format, print, print_json};
pub use replay::{OnMismatch, ReplayOptions};

/// Failure at run time.
const FAILED: u8 = 1;
/// Usage or configuration.
const USAGE: u8 = 2;
/// `colo replay --fail-on-mismatch` found one.
pub const MISMATCH: u8 = 3;

/// COLO proxy engine: compares what a primary and a secondary VM send, lets matching output go at once, and asks for a
/// checkpoint only when they differ.
#[derive(Debug, Parser)]
#[command(name = "colo", version, propagate_version = true, subcommand_required = true, max_term_width = 110)]
#[command(after_help = "Start with `colo demo`: it needs no VM, no privileges and no configuration.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Compare(compare::Args),
    Replay(replay::Args),
    Explain(explain::Args),
    Ctl(ctl::Args),
    Top(top::Args),
    CheckConfig(check_config::Args),
    DumpConfig(dump_config::Args),
    QemuArgs(qemu_args::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// A mistake in how the command was called, beyond what clap and the configuration find; exit code 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let outcome = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Ctl(args) => ctl::run(&args),
        Command::Top(args) => top::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::DumpConfig(args) => dump_config::run(&args),
        Command::QemuArgs(args) => qemu_args::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        output::complain(&sentence(&error));
        ExitCode::from(exit_code(&error))
    })
}

/// Help and version go to stdout, mistakes to stderr with our name in front.
fn refuse(error: &clap::Error) -> ExitCode {
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_help || !error.use_stderr() {
        // A reader that has gone is no failure.
        let _ = error.print();
        return if is_help { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
    }
    let text = error.render().to_string();
    output::complain(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
    ExitCode::from(USAGE)
}

/// An error and its causes in one line.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Some errors repeat their cause in their own message.
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let is_usage =
        |cause: &(dyn std::error::Error + 'static)| cause.is::<ConfigError>() || cause.is::<UsageError>();
    if error.chain().any(is_usage) { USAGE } else { FAILED }
}
