//! `colo ctl`: what can be said to a running engine.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use super::common::JsonArg;
use super::output::{Format, print, print_json};
use crate::ctl::{DEFAULT_PATH, Order, ask};

/// Ask or order a running colo: status, checkpoint, mode, rules, log level, reload
///
/// Over the socket that `colo compare --ctl PATH` listens on. Only the user that runs colo, and root, may open it. What is
/// ordered holds until the next order, reload or restart; the configuration file stays as it is.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  colo ctl status
  colo ctl --socket /run/colo/ctl.sock checkpoint
  colo ctl mode hybrid --pair web
  colo ctl rules add 'protocol = \"udp\", guest_ports = \"123\", action = \"pass\"' --at 1
  colo ctl rules remove 2
  colo ctl log debug
  colo ctl --json status | jq '.pairs[0].flows'")]
pub(super) struct Args {
    /// The engine's socket
    #[arg(long, value_name = "PATH", env = "COLO_CTL", default_value = DEFAULT_PATH)]
    socket: PathBuf,
    #[command(flatten)]
    json: JsonArg,
    #[command(subcommand)]
    what: What,
}

/// Which pair of several.
#[derive(Clone, Debug, Default, clap::Args)]
struct PairArg {
    /// Only this pair of several
    #[arg(long, value_name = "NAME")]
    pair: Option<String>,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// How it stands: links, mode, checkpoints, what is held
    Status,
    /// Ask for a checkpoint now
    Checkpoint(PairArg),
    /// Show or change what is compared when
    Mode {
        /// colo, passive, hybrid or off; without it the mode is shown
        mode: Option<String>,
        #[command(flatten)]
        pair: PairArg,
    },
    /// Show or change the rules in force
    Rules {
        #[command(subcommand)]
        what: Rules,
    },
    /// Change what is logged, as with --log
    Log {
        /// error, warn, info, debug, trace, off, or per module
        filter: String,
    },
    /// Read the configuration file again, as on SIGHUP
    Reload,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Rules {
    /// Show them with their numbers
    List(PairArg),
    /// Add one; its keys are those of a [[rule]], with commas between
    Add {
        /// As in 'protocol = "tcp", action = "pass"'
        rule: String,
        /// Its number: the first rule that matches counts [default: the last]
        #[arg(long, value_name = "N")]
        at: Option<usize>,
        #[command(flatten)]
        pair: PairArg,
    },
    /// Remove one
    Remove {
        /// Its number in the list
        number: usize,
        #[command(flatten)]
        pair: PairArg,
    },
}

impl What {
    fn order(&self) -> Order {
        match self.clone() {
            Self::Status => Order::Status,
            Self::Checkpoint(PairArg { pair }) => Order::Checkpoint { pair },
            Self::Mode { mode, pair: PairArg { pair } } => Order::Mode { mode, pair },
            Self::Rules { what: Rules::List(PairArg { pair }) } => Order::Rules { pair },
            Self::Rules { what: Rules::Add { rule, at, pair: PairArg { pair } } } => {
                Order::AddRule { rule, at, pair }
            }
            Self::Rules { what: Rules::Remove { number, pair: PairArg { pair } } } => {
                Order::RemoveRule { number, pair }
            }
            Self::Log { filter } => Order::Log { filter },
            Self::Reload => Order::Reload,
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let order = args.what.order();
    let answer = ask(&args.socket, &order)?;
    match (Format::from_flag(&args.json), &order) {
        (Format::Json, _) => print_json(&answer)?,
        (Format::Text, Order::Status) => print(&status(&answer))?,
        (Format::Text, _) => print(&told(&answer))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// An answer for people: one line a pair, and one a rule.
fn told(answer: &Value) -> String {
    let Value::Object(pairs) = answer else { return word(answer) };
    let several = pairs.len() > 1;
    let mut lines = Vec::new();
    for (pair, told) in pairs {
        let head = if several { format!("{pair}: ") } else { String::new() };
        match told {
            Value::Array(rules) if rules.is_empty() => lines.push(format!("{head}no rules")),
            Value::Array(rules) => {
                for (number, rule) in (1..).zip(rules) {
                    lines.push(format!("{head}{number}  {}", keys(rule)));
                }
            }
            told => lines.push(format!("{head}{}", word(told))),
        }
    }
    lines.join("\n")
}

fn keys(rule: &Value) -> String {
    let Value::Object(keys) = rule else { return word(rule) };
    keys.iter().map(|(key, value)| format!("{key} = {}", word(value))).collect::<Vec<_>>().join(", ")
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The most important of `/status`, a block a pair.
fn status(status: &Value) -> String {
    let pairs = status["pairs"].as_array().map_or(&[][..], Vec::as_slice);
    let uptime = status["uptime_seconds"].as_f64().unwrap_or_default();
    let mut lines = vec![format!("colo {} up {uptime:.0} s", word(&status["version"]))];
    for pair in pairs {
        let counts = |at: &Value| {
            let Value::Object(counts) = at else { return "none".to_owned() };
            let shown = counts.iter().filter(|(_, count)| count.as_u64() != Some(0));
            let shown: Vec<_> = shown.map(|(name, count)| format!("{} {name}", word(count))).collect();
            if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
        };
        let links = pair["links"].as_object().into_iter().flatten();
        let links: Vec<_> = links.map(|(port, state)| format!("{port} {}", word(state))).collect();
        let checkpoints = &pair["checkpoints"];
        let latency = &pair["release_latency_ns"]["matched"];
        let ms = |ns: &Value| ns.as_f64().unwrap_or_default() / 1e6;
        lines.push(format!("pair {}", word(&pair["pair"])));
        for (name, value) in [
            ("mode", format!("{} (set: {})", word(&pair["mode"]), word(&pair["modes"]["set"]))),
            ("links", links.join(", ")),
            (
                "received",
                format!("{} primary, {} secondary", pair["primary"]["frames"], pair["secondary"]["frames"]),
            ),
            ("released", counts(&pair["released"])),
            (
                "held",
                format!(
                    "{} primary, {} secondary",
                    pair["primary"]["held_frames"], pair["secondary"]["held_frames"]
                ),
            ),
            ("latency", format!("p50 {:.3} ms, p99 {:.3} ms", ms(&latency["p50"]), ms(&latency["p99"]))),
            (
                "checkpoints",
                format!(
                    "{} committed; asked for: {}",
                    checkpoints["completed"],
                    counts(&checkpoints["requested"])
                ),
            ),
            ("rules", word(&pair["rules"]["count"])),
        ] {
            lines.push(format!("  {name:<12} {value}"));
        }
    }
    lines.join("\n")
}
