//! `colo demo`: two embedded guests, a client, some divergence.

use std::process::ExitCode;
use std::time::Duration;

use super::common::{JsonArg, LogArg, SettingArgs, ThreadArgs};
use super::output::Format;
use super::{logging, show};
use crate::config::{CheckpointBackend, Purpose, Settings};

/// See the engine at work: two embedded guests, a client, some divergence, a report
///
/// Needs no VM, no privileges and no configuration. Both guests have TCP/IP stacks of their own; the client checks every
/// byte it gets. Watch `http://127.0.0.1:9420/metrics` meanwhile.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  colo demo
  colo demo --seconds 30 --diverge 0.001 --workers 2
  colo demo --seconds 5 --rate 10000 --flows 16 --seed 7 --json")]
pub(super) struct Args {
    /// How long to run
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Share of answers in which the secondary differs, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0001, value_parser = share)]
    diverge: f64,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Where /metrics, /healthz, /readyz and /status are served [default: 127.0.0.1:9420]
    #[arg(long, value_name = "ADDR:PORT|off")]
    metrics: Option<String>,
    /// Requests a second, over all flows [default: as fast as answers come]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Connections of the client at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    flows: u32,
    /// Start of the random numbers; the same seed asks for and answers the same
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    log: LogArg,
    #[command(flatten)]
    json: JsonArg,
}

/// What `colo demo` was told.
#[derive(Clone, Debug, PartialEq)]
pub struct DemoOptions {
    /// Engine settings; the ports are not used and the checkpoint backend is always `None`: the guests are ours.
    pub settings: Settings,
    /// How long the client asks.
    pub run_for: Duration,
    /// Share of answers in which the secondary differs, 0–1.
    pub diverge: f64,
    /// Requests a second over all flows; `None`: as fast as answers come.
    pub rate: Option<f64>,
    /// Connections of the client at a time.
    pub flows: u32,
    /// Start of the random numbers.
    pub seed: u64,
    /// How the report is written.
    pub format: Format,
}

impl Args {
    pub(super) fn options(&self) -> anyhow::Result<DemoOptions> {
        let sources = self
            .threads
            .add_to(self.settings.sources(Purpose::Demo))
            .flag("metrics", self.metrics.as_ref())
            .flag("log", self.log.log.as_ref());
        let mut settings = sources.load()?;
        settings.checkpoint.backend = CheckpointBackend::None;
        Ok(DemoOptions {
            settings,
            run_for: Duration::from_secs(self.seconds),
            diverge: self.diverge,
            rate: self.rate,
            flows: self.flows,
            seed: self.seed,
            format: Format::from_flag(&self.json),
        })
    }
}

fn share(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "it must be a share from 0 to 1".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    let fits = |rate: &f64| (0.001..=1e9).contains(rate);
    number.filter(fits).ok_or_else(|| "it must be a number of requests a second above 0".to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let options = args.options()?;
    logging::start(&options.settings.log)?;
    show::demo(&options)
}
