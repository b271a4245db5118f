//! `colo completions`: what a shell knows of our flags.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::output::print;

/// Print completions for a shell
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  colo completions bash > /usr/share/bash-completion/completions/colo
  colo completions zsh > /usr/share/zsh/vendor-completions/_colo
  source <(colo completions bash)")]
pub(super) struct Args {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "colo", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
