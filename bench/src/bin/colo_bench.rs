//! `colo-bench`: loads comparers over their sockets, sets `colo` beside QEMU's, and writes the figures down.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::{Parser, Subcommand};
use colo_bench::load::command::Load;
use colo_bench::load::echo;
use colo_bench::load::idle::Idle;
use colo_bench::peer::command::Peer;
use colo_bench::report::command::Report;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Loads comparers of COLO pairs over their sockets
#[derive(Debug, Parser)]
#[command(name = "colo-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One run against one comparer. Ends with 1 when a frame was lost, altered, out of order or there twice, or a
    /// checkpoint was asked for that nothing called for
    #[command(after_help = "Examples:
  colo-bench load
  colo-bench load --protocol udp --frame 1400 --flows 10000 --transport tcp
  colo-bench load --rate 10000 --seconds 5 --late-us 200
  colo-bench load --skew 500 --reorder 0.01 --mismatch 0.0001 --json
  colo-bench load --frame 65000 --window 32
  colo-bench load --primary-in unix:/run/p --secondary-in unix:/run/s --out unix:/run/o")]
    Load(Load),
    /// What `colo` takes of a core without traffic, polling adaptively and busily, and how long a pair takes that wakes it
    #[command(after_help = "Examples:
  colo-bench idle
  colo-bench idle --workers 2 --seconds 20 --json")]
    Idle(Idle),
    /// A plan on `colo` and on QEMU's colo-compare in turns, and tables of both. The first run fetches QEMU
    #[command(after_help = "Examples:
  colo-bench peer bench/plans/quick.toml
  colo-bench peer bench/plans/peer.toml --save target/peer.jsonl
  colo-bench peer bench/plans/peer.toml --only latency --rounds 1
  colo-bench peer bench/plans/faults.toml
  colo-bench peer bench/plans/strain.toml --engines colo")]
    Peer(Peer),
    /// Tables and drawings of runs that were saved
    #[command(after_help = "Example:
  colo-bench report target/peer.jsonl --into docs/bench/PEER.md --svg docs/bench")]
    Report(Report),
    /// A comparer that compares nothing, at three addresses
    #[command(hide = true)]
    Echo { primary: String, secondary: String, out: String },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "colo-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut out = std::io::stdout().lock();
    match command {
        Command::Load(load) => {
            heed_signals(&stop)?;
            let outcome = load.run(&stop)?;
            if load.json {
                writeln!(out, "{}", serde_json::to_string(&outcome)?)?;
            } else {
                write!(out, "{}", outcome.text())?;
            }
            Ok(if outcome.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Idle(idle) => {
            heed_signals(&stop)?;
            idle.run(&stop, |seen| {
                if idle.json {
                    writeln!(out, "{}", serde_json::to_string(seen)?)?;
                } else {
                    writeln!(out, "{seen}")?;
                }
                Ok(())
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Peer(peer) => {
            heed_signals(&stop)?;
            peer.run(&stop, &mut out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Report(report) => {
            report.run(&mut out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Echo { primary, secondary, out } => {
            // It ends when the load hangs up.
            drop(echo::serve(&primary, &secondary, &out));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The first signal ends a run early, with its summary.
fn heed_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(stop))?;
    }
    Ok(())
}
