//! `colo top`: a running engine on a terminal.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use super::UsageError;
use crate::top::{Source, run as show};

/// Watch a running colo: shards, cores, held frames, latency, checkpoints, modes, hottest flows
///
/// Asks the page at /status, of `colo compare` or `colo demo`. Keys: q quits, s sorts flows otherwise, the arrows select one, w
/// says why it last differed, p turns to the next pair, space pauses.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  colo top
  colo top --metrics 127.0.0.1:9421 --interval 500
  colo top --socket /run/colo/ctl.sock")]
pub(super) struct Args {
    /// Where the engine serves its metrics
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9420")]
    metrics: SocketAddr,
    /// The engine's control socket, instead
    #[arg(long, value_name = "PATH", conflicts_with = "metrics")]
    socket: Option<PathBuf>,
    /// Milliseconds from one look to the next
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval: u64,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let source = args.socket.clone().map_or(Source::Http(args.metrics), Source::Socket);
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(UsageError(
            "colo top wants a terminal; programs read colo ctl --json status, or /status".to_owned(),
        )
        .into());
    }
    // Before the screen is taken, so that a mistake in the address is one sentence.
    source.status().map_err(anyhow::Error::msg)?;
    show(&source, Duration::from_millis(args.interval)).context("the terminal cannot be used")?;
    Ok(ExitCode::SUCCESS)
}
