//! `colo man`: the help as manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::output::print;
use super::{Cli, UsageError};

/// Print the manual page of colo, or of one of its commands
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  colo man | man -l -
  colo man compare | man -l -
  colo man --to /usr/share/man/man1")]
pub(super) struct Args {
    /// One of the commands
    command: Option<String>,
    /// Write all pages into this folder instead
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    to: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    if let Some(folder) = &args.to {
        let subcommands =
            whole.get_subcommands().map(|one| (format!("colo-{}", one.get_name()), one.clone()));
        for (name, command) in [("colo".to_owned(), whole.clone())].into_iter().chain(subcommands) {
            let path = folder.join(format!("{name}.1"));
            let page = page(command.name(leaked(&name)))?;
            std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let command = match &args.command {
        None => whole,
        Some(name) => {
            let found = whole.find_subcommand(name).cloned();
            let found =
                found.ok_or_else(|| UsageError(format!("there is no colo {name}; see colo --help")))?;
            found.name(leaked(&format!("colo-{name}")))
        }
    };
    print(&page(command)?)?;
    Ok(ExitCode::SUCCESS)
}

/// In the language of `man`.
fn page(command: Command) -> anyhow::Result<String> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page).context("the page cannot be made")?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// clap wants names that live as long as the process, which ends soon.
fn leaked(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}
