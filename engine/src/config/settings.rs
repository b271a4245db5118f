//! What the engine is told: plain, typed, validated values and their defaults.
//!
//! Nothing in here knows where a value came from (file, flag, `--set`) or how it is written there; see the sibling
//! modules for that. The small structs are what the cores get: each takes only the part it needs.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::address::{PortAddress, QmpAddresses, SocketAddress};
use super::header_fields::HeaderFields;
use super::wrappers::WrapperSettings;
use crate::compare::CompareSettings;
use crate::diverged::DivergedSettings;
use crate::modes::{ModeSettings, QuarantineSettings};
use crate::policy::{ClassPolicies, Rule};
use crate::rx::VerifyChecksums;

/// Which command the settings are for; it decides some defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `colo compare`: live traffic between two real VMs.
    Compare,
    /// `colo demo`: live traffic between two embedded guests.
    Demo,
    /// `colo replay`: captures in virtual time; no delay before a checkpoint, no periodic ones.
    Replay,
}

/// Everything the engine is told, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where frames come from and go to.
    pub ports: PortSettings,
    /// When a frame may leave.
    pub compare: CompareSettings,
    /// Which header fields count; what [`compare`](Self::compare) ignores follows from it.
    pub header_fields: HeaderFields,
    /// When a checkpoint is asked for and who is asked.
    pub checkpoint: CheckpointSettings,
    /// Threads and cores.
    pub runtime: RuntimeSettings,
    /// What is compared when.
    pub modes: ModeSettings,
    /// Flows that keep differing.
    pub quarantine: QuarantineConfig,
    /// What happens when a side is lost.
    pub loss: LossSettings,
    /// What is compared and what is not.
    pub policy: PolicySettings,
    /// What nothing may grow beyond.
    pub limits: LimitSettings,
    /// What is put around the ports.
    pub wrappers: WrapperSettings,
    /// Where frames of both sides go when they differ.
    pub diverged: DivergedSettings,
    /// Where the metrics server listens; `None` when it is off.
    pub metrics: Option<SocketAddr>,
    /// Where `colo ctl` is listened to; `None` when it is off.
    pub ctl: Option<PathBuf>,
    /// Filter of log lines in the syntax of `tracing-subscriber`, e.g. `info` or `info,colo_engine::shard=debug`.
    pub log: String,
}

/// The ports, as far as they are given; [`PortSettings::complete`] asks for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSettings {
    /// The primary VM's output.
    pub primary_in: Option<PortAddress>,
    /// The secondary VM's output.
    pub secondary_in: Option<PortAddress>,
    /// Where released frames go.
    pub out: Option<PortAddress>,
    /// Every frame on the sockets carries a virtio-net header, and so does every message *to* `notify_dev` (QEMU's
    /// property of the same name).
    pub vnet_hdr_support: bool,
}

/// The ports of `colo compare`, none missing; `vnet_hdr_support` is already folded into the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The primary VM's output.
    pub primary_in: PortAddress,
    /// The secondary VM's output.
    pub secondary_in: PortAddress,
    /// Where released frames go.
    pub out: PortAddress,
}

/// When a checkpoint is asked for and who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// Who takes checkpoints.
    pub backend: CheckpointBackend,
    /// Shortest time from a commit to the next request.
    pub min_interval: Duration,
    /// How long a mismatch waits for further ones before the request goes out.
    pub delay: Duration,
    /// Longest epoch without a request; `None`: no periodic checkpoints.
    pub max_interval: Option<Duration>,
    /// From a request to its commit at most, before people are told and it is asked for again.
    pub deadline: Duration,
    /// When a request commits under [`CheckpointBackend::None`].
    pub none_commit_after: CommitAfter,
}

/// Who takes checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointBackend {
    /// QEMU's `notify_dev` protocol at this address.
    Notify(SocketAddress),
    /// QEMU's monitors.
    Qmp(QmpAddresses),
    /// A command, run by the shell.
    Exec(String),
    /// Nobody: a request commits by itself, see [`CommitAfter`]. For replay, demo and measurements.
    None,
}

/// When a request commits without a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitAfter {
    /// This long after the request.
    After(Duration),
    /// It never does.
    Never,
}

/// Flows that keep differing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantineConfig {
    /// Whether they are put aside.
    pub is_on: bool,
    /// When, and for how long.
    pub settings: QuarantineSettings,
}

/// What happens when a side is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossSettings {
    /// Without the secondary.
    pub on_secondary: OnSecondaryLoss,
    /// Without the primary.
    pub on_primary: OnPrimaryLoss,
    /// The secondary is lost when it sends nothing for so long while frames of the primary wait.
    pub silence: Option<Duration>,
    /// Whether QEMU is told.
    pub failover: Failover,
}

/// What becomes of the primary's frames without a secondary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnSecondaryLoss {
    /// They wait: for a commit, for QEMU to leave COLO, for the operator.
    #[default]
    Hold,
    /// They pass until a checkpoint brings a secondary back.
    Pass,
}

/// What becomes of the engine without a primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPrimaryLoss {
    /// It waits for it to come back.
    #[default]
    Hold,
    /// It ends, and nothing of what is held leaves.
    Exit,
}

/// Whether QEMU is told that the secondary is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// Somebody else does that.
    #[default]
    None,
    /// The primary goes on alone.
    Primary,
}

/// What is compared and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySettings {
    /// What becomes of frames outside the comparison of IP flows.
    pub classes: ClassPolicies,
    /// Rules for flows; the first that matches counts.
    pub rules: Vec<Rule>,
    /// Whether rules may mask payload.
    pub allow_unsafe_masks: bool,
    /// Whether wrong checksums are counted.
    pub verify_checksums: VerifyChecksums,
}

/// Threads and cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// Worker threads, one shard each; at least 1.
    pub workers: usize,
    /// Core numbers to pin threads to, in order; empty: all cores of the machine, in order.
    pub cores: Vec<usize>,
    /// How threads share the work.
    pub run_mode: RunMode,
    /// What an idle thread does.
    pub poll: PollMode,
    /// When memory becomes resident.
    pub memory: MemoryMode,
    /// How often timers are looked at: a timeout comes at most this much late.
    pub timer_tick: Duration,
}

/// How threads share the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMode {
    /// Every core receives and compares.
    Workers,
    /// Receive cores hand to shard cores.
    Pipeline,
}

/// What an idle thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollMode {
    /// Spins: lowest latency, a whole core each.
    Busy,
    /// Spins for a while, then sleeps until a port is readable.
    Adaptive,
}

/// When memory becomes resident, and what pages it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryMode {
    /// At the start, with huge pages where the system has them.
    Huge,
    /// At the start, with ordinary pages.
    Resident,
    /// Page by page, when it is touched for the first time.
    Lazy,
}

/// What nothing may grow beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Entries of the connection table, over all shards.
    pub max_connections: usize,
    /// Held frames per side, over all shards; also sizes the frame pool.
    pub max_held_frames: usize,
    /// Frames longer than one jumbo frame (segmentation offload, up to 69,632 bytes) per side; sizes their pool.
    pub max_gso_frames: usize,
    /// IP fragments per side that wait for the rest of their datagram.
    pub max_fragments: usize,
}

impl Settings {
    /// What holds when nothing is set.
    pub fn defaults(purpose: Purpose) -> Self {
        let log = match purpose {
            Purpose::Compare | Purpose::Replay => "info",
            // Its report says it all.
            Purpose::Demo => "error",
        };
        let (delay, max_interval) = match purpose {
            Purpose::Compare | Purpose::Demo => (Duration::from_millis(3), Some(Duration::from_secs(10))),
            Purpose::Replay => (Duration::ZERO, None),
        };
        Self {
            ports: PortSettings::default(),
            compare: CompareSettings::default(),
            header_fields: HeaderFields::default(),
            checkpoint: CheckpointSettings {
                backend: CheckpointBackend::None,
                min_interval: Duration::from_millis(100),
                delay,
                max_interval,
                deadline: Duration::from_secs(10),
                none_commit_after: CommitAfter::After(Duration::from_millis(5)),
            },
            runtime: RuntimeSettings {
                workers: 1,
                cores: Vec::new(),
                run_mode: RunMode::Workers,
                poll: PollMode::Adaptive,
                memory: MemoryMode::Huge,
                timer_tick: Duration::from_millis(10),
            },
            limits: LimitSettings {
                max_connections: 65_536,
                max_held_frames: 16_384,
                max_gso_frames: 256,
                max_fragments: 1024,
            },
            modes: ModeSettings::default(),
            quarantine: QuarantineConfig {
                is_on: false,
                settings: QuarantineSettings { after: 3, epochs: 20 },
            },
            loss: LossSettings::default(),
            policy: PolicySettings {
                verify_checksums: match purpose {
                    Purpose::Replay => VerifyChecksums::Count,
                    Purpose::Compare | Purpose::Demo => VerifyChecksums::Off,
                },
                ..PolicySettings::default()
            },
            wrappers: WrapperSettings::default(),
            diverged: DivergedSettings::default(),
            metrics: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9420))),
            ctl: None,
            log: log.to_owned(),
        }
    }
}

/// Held packets per flow and side, as other counts are.
pub(super) fn queue_size(settings: &Settings) -> usize {
    usize::try_from(settings.compare.max_queue_size).unwrap_or(usize::MAX)
}
