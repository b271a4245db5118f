//! `colo compare`: in place of QEMU's colo-compare.

use std::process::ExitCode;

use super::common::{JsonArg, LogArg, PortArgs, SettingArgs, ThreadArgs};
use super::output::Format;
use super::{live, logging};
use crate::config::{PairSettings, Purpose, Settings, Sources};

/// Compare two VMs' output in place of QEMU's colo-compare
///
/// Reads what the primary and the secondary VM send, lets a frame of the primary out as soon as the secondary has sent
/// the same, and asks for a checkpoint when they differ. Starts whichever side connects first.
///
/// Ports: unix:PATH[,listen][,vnet], tcp:HOST:PORT[,listen][,vnet] (QEMU socket framing),
/// tap:NAME[,queues=N][,persist][,vnet[=10|12]] (a TAP device),
/// packet:IFACE[,promisc][,queues=N][,fanout=hash|queue][,ring=MIB][,vnet[=10|12]] (a network interface),
/// dpdk:DEVICE[,ARGS] (in a build with the feature dpdk), pcap:FILE.
///
/// Several pairs of VMs in one engine: a [[pair]] each in the file, with a name, ports and whatever else is the pair's own.
/// Flags are then what pairs have that do not say otherwise.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  colo compare --primary-in tcp:127.0.0.1:9001 --secondary-in tcp:0.0.0.0:9004,listen --out tcp:127.0.0.1:9005 \\
      --checkpoint qmp:unix:/run/colo/primary.qmp,secondary=unix:/run/colo/secondary.qmp
  colo compare --config colo.toml --mode hybrid --set on_secondary_loss=pass --failover primary
  colo compare --primary-in tap:pri,vnet --secondary-in tap:sec,vnet --out tap:out,vnet --checkpoint exec:/usr/local/bin/checkpoint
  colo compare --primary-in packet:veth0,promisc,vnet --secondary-in packet:veth1,promisc,vnet --out packet:eth1,vnet --checkpoint none
  colo compare --config colo.toml --fault secondary:delay=5ms,drop=0.001,seed=7 --capture crossed.pcapng
  colo compare --config colo.toml --workers 2 --cores 0,1 --poll busy --ctl /run/colo/ctl.sock
  colo compare --config colo.toml --set compare_timeout=200 --set max_queue_size=4096")]
pub(super) struct Args {
    #[command(flatten)]
    ports: PortArgs,
    /// With --checkpoint none: a request commits after so many milliseconds [default: 5]
    #[arg(long, value_name = "MS|never")]
    checkpoint_ms: Option<String>,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Cores to pin threads to, in order, as in 0,1 [default: all]
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// What idle threads do: busy spins, adaptive sleeps after a while [default: adaptive]
    #[arg(long, value_name = "busy|adaptive")]
    poll: Option<String>,
    /// colo: compare; passive: hold everything to periodic checkpoints; hybrid: as the policy chooses; off: let
    /// everything pass [default: colo]
    #[arg(long, value_name = "colo|passive|hybrid|off")]
    mode: Option<String>,
    /// With --mode hybrid: who chooses; classic as published in 2015 [default: hybrid]
    #[arg(long, value_name = "hybrid|classic")]
    policy: Option<String>,
    /// When the secondary is lost, tell the primary's QEMU to go on alone; wants `on_secondary_loss=pass`
    /// and --checkpoint qmp:... [default: none]
    #[arg(long, value_name = "none|primary")]
    failover: Option<String>,
    /// Longest wait of a frame for its partner before a checkpoint is asked for [default: 400]
    #[arg(long, value_name = "MS")]
    compare_timeout: Option<String>,
    /// Write the frames of both sides when they differ, for `colo explain`
    #[arg(long, value_name = "D.pcapng|off")]
    diverged: Option<String>,
    /// Write every frame that crosses the ports to a pcapng file
    #[arg(long, value_name = "FILE.pcapng|off")]
    capture: Option<String>,
    /// For trials: what goes wrong at a port, as in primary:drop=0.01,seed=7. There are drop, duplicate, reorder, corrupt,
    /// truncate and stall (shares of the frames), delay=5ms; sides are primary, secondary and out; repeatable
    #[arg(long, value_name = "SIDE:FAULT=SHARE,...")]
    fault: Vec<String>,
    /// Where /metrics, /healthz, /readyz and /status are served [default: 127.0.0.1:9420]
    #[arg(long, value_name = "ADDR:PORT|off")]
    metrics: Option<String>,
    /// Where `colo ctl` is listened to [default: off]
    #[arg(long, value_name = "PATH|off")]
    ctl: Option<String>,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    log: LogArg,
    #[command(flatten)]
    json: JsonArg,
}

/// What `colo compare` was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompareOptions {
    /// What is the whole engine's; the rest is what pairs have that do not say otherwise.
    pub settings: Settings,
    /// Every pair of VMs, one at least.
    pub pairs: Vec<PairSettings>,
    /// How the summary at the end is written.
    pub format: Format,
    /// What the settings were made of, to be read again.
    pub sources: Sources,
}

impl Args {
    pub(super) fn options(&self) -> anyhow::Result<CompareOptions> {
        let sources = self.settings.sources(Purpose::Compare);
        let sources = self
            .threads
            .add_to(self.ports.add_to(sources))
            .flag("checkpoint_ms", self.checkpoint_ms.as_ref())
            .flag("cores", self.cores.as_ref())
            .flag("poll", self.poll.as_ref())
            .flag("mode", self.mode.as_ref())
            .flag("policy", self.policy.as_ref())
            .flag("failover", self.failover.as_ref())
            .flag("compare_timeout", self.compare_timeout.as_ref())
            .flag("diverged", self.diverged.as_ref())
            .flag("capture", self.capture.as_ref())
            .flag("fault", (!self.fault.is_empty()).then(|| self.fault.join(" ")))
            .flag("metrics", self.metrics.as_ref())
            .flag("ctl", self.ctl.as_ref())
            .flag("log", self.log.log.as_ref());
        let (settings, pairs) = (sources.load()?, sources.load_pairs()?);
        Ok(CompareOptions { settings, pairs, format: Format::from_flag(&self.json), sources })
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let options = args.options()?;
    let log = logging::start(&options.settings.log)?;
    live::compare(&options, &log)
}
