//! Flags that several commands share. Values stay text: the configuration reads them all, so that a flag, a file and
//! `--set` answer a mistake with the same sentence.

use std::path::PathBuf;

use crate::config::{Purpose, Sources};

/// Where settings come from.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct SettingArgs {
    /// TOML file with settings; flags override it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Set any key of the file; overrides file and flags; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

impl SettingArgs {
    pub(super) fn sources(&self, purpose: Purpose) -> Sources {
        Sources { file: self.config.clone(), set: self.set.clone(), ..Sources::new(purpose) }
    }
}

/// Where frames come from and go to, and who takes checkpoints.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct PortArgs {
    /// The primary VM's output (QEMU: `primary_in`)
    #[arg(long, value_name = "PORT")]
    primary_in: Option<String>,
    /// The secondary VM's output (QEMU: `secondary_in`)
    #[arg(long, value_name = "PORT")]
    secondary_in: Option<String>,
    /// Where released frames go (QEMU: `outdev`)
    #[arg(long, value_name = "PORT")]
    out: Option<String>,
    /// Who takes checkpoints: `qmp:ADDR[,secondary=ADDR]` (QEMU's monitors), notify:ADDR (QEMU: `notify_dev`),
    /// exec:COMMAND (exit status 0: committed), or none, where requests commit by themselves
    #[arg(long, value_name = "qmp:ADDR|notify:ADDR|exec:COMMAND|none")]
    checkpoint: Option<String>,
}

impl PortArgs {
    pub(super) fn add_to(&self, sources: Sources) -> Sources {
        sources
            .flag("primary_in", self.primary_in.as_ref())
            .flag("secondary_in", self.secondary_in.as_ref())
            .flag("outdev", self.out.as_ref())
            .flag("checkpoint", self.checkpoint.as_ref())
    }
}

/// `--log`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct LogArg {
    /// What to log: error, warn, info, debug, trace, off, or per module as in `info,colo_engine::checkpoint=debug`
    #[arg(long, value_name = "FILTER")]
    pub(super) log: Option<String>,
}

/// `--json`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct JsonArg {
    /// Answer with JSON, for programs
    #[arg(long)]
    pub(super) json: bool,
}

/// How threads share the work.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ThreadArgs {
    /// Worker threads, one shard each [default: 1]
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<String>,
    /// workers: every core receives and compares; pipeline: receive cores hand to shard cores [default: workers]
    #[arg(long, value_name = "workers|pipeline")]
    pub(super) run_mode: Option<String>,
}

impl ThreadArgs {
    pub(super) fn add_to(&self, sources: Sources) -> Sources {
        sources.flag("workers", self.workers.as_ref()).flag("run_mode", self.run_mode.as_ref())
    }
}
