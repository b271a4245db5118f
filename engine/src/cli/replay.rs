//! `colo replay`: two captures through the engine in virtual time.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::common::{JsonArg, LogArg, SettingArgs};
use super::output::Format;
use super::{UsageError, logging};
use crate::config::{CheckpointBackend, Purpose, Settings};

/// Run two captures through the engine in virtual time: a verdict for every frame
///
/// Time comes from the captures' timestamps, so the same input gives the same output, to the byte. pcap and pcapng,
/// microseconds or nanoseconds, Ethernet. Exits with 0 whether or not the captures differ.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  colo replay --primary p.pcap --secondary s.pcap
  colo replay --primary p.pcap --secondary s.pcap --released out.pcap --verdicts verdicts.jsonl --json
  colo replay --primary p.pcap --secondary s.pcap --checkpoint-ms never --fail-on-mismatch
  colo replay --primary p.pcap --secondary s.pcap --diverged d.pcapng && colo explain d.pcapng
  colo replay --primary p.pcap --secondary s.pcap --set compare_timeout=200 --set ack_policy=any")]
pub(super) struct Args {
    /// What the primary VM sent
    #[arg(long, value_name = "P.pcap")]
    primary: PathBuf,
    /// What the secondary VM sent
    #[arg(long, value_name = "S.pcap")]
    secondary: PathBuf,
    /// Write the released frames, in release order, stamped with their release time
    #[arg(long, value_name = "OUT.pcap")]
    released: Option<PathBuf>,
    /// Write every decision, one JSON object a line
    #[arg(long, value_name = "V.jsonl")]
    verdicts: Option<PathBuf>,
    /// Write the frames of both sides when they differ, for `colo explain`
    #[arg(long, value_name = "D.pcapng")]
    diverged: Option<PathBuf>,
    /// A requested checkpoint commits so many milliseconds later [default: 5]
    #[arg(long, value_name = "MS|never")]
    checkpoint_ms: Option<String>,
    /// Shards to spread the flows over; the verdicts are the same with any number [default: 1]
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// Exit with 3 when the captures differ
    #[arg(long)]
    fail_on_mismatch: bool,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    log: LogArg,
    #[command(flatten)]
    json: JsonArg,
}

/// What a mismatch does to the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMismatch {
    /// Nothing: 0.
    Succeed,
    /// It is [`super::MISMATCH`].
    Fail,
}

/// What `colo replay` was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayOptions {
    /// Engine settings; the checkpoint backend is always `None`, workers are shards.
    pub settings: Settings,
    /// The primary's capture.
    pub primary: PathBuf,
    /// The secondary's capture.
    pub secondary: PathBuf,
    /// Where released frames are written, if anywhere.
    pub released: Option<PathBuf>,
    /// Where decisions are written, if anywhere.
    pub verdicts: Option<PathBuf>,
    /// What a mismatch does to the exit code.
    pub on_mismatch: OnMismatch,
    /// How the summary is written.
    pub format: Format,
}

impl Args {
    pub(super) fn options(&self) -> anyhow::Result<ReplayOptions> {
        let sources = self
            .settings
            .sources(Purpose::Replay)
            .flag("checkpoint_ms", self.checkpoint_ms.as_ref())
            .flag("workers", self.workers.as_ref())
            .flag("diverged", self.diverged.as_ref().map(|path| path.display()))
            .flag("log", self.log.log.as_ref());
        let mut settings = sources.load()?;
        // A file shared with `colo compare` may name a backend; there is none in virtual time.
        settings.checkpoint.backend = CheckpointBackend::None;
        self.check_outputs(settings.diverged.path.as_ref())?;
        Ok(ReplayOptions {
            settings,
            primary: self.primary.clone(),
            secondary: self.secondary.clone(),
            released: self.released.clone(),
            verdicts: self.verdicts.clone(),
            on_mismatch: if self.fail_on_mismatch { OnMismatch::Fail } else { OnMismatch::Succeed },
            format: Format::from_flag(&self.json),
        })
    }

    /// Refuses to write over a file that is read, or two things into one file.
    fn check_outputs(&self, diverged: Option<&PathBuf>) -> Result<(), UsageError> {
        let mut taken =
            vec![("--primary", self.primary.as_path()), ("--secondary", self.secondary.as_path())];
        for (flag, path) in [
            ("--released", self.released.as_ref()),
            ("--verdicts", self.verdicts.as_ref()),
            ("--diverged", diverged),
        ] {
            let Some(path) = path else { continue };
            if let Some((other, _)) = taken.iter().find(|(_, known)| same_file(known, path)) {
                let path = path.display();
                return Err(UsageError(format!(
                    "{flag} {path} is the file of {other}; give it another name"
                )));
            }
            taken.push((flag, path));
        }
        Ok(())
    }
}

/// Whether both are one regular file; `/dev/null` may be named as often as one likes.
fn same_file(one: &Path, other: &Path) -> bool {
    if one == other {
        return !one.exists() || one.is_file();
    }
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other && one.is_file(),
        _ => false,
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let options = args.options()?;
    logging::start(&options.settings.log)?;
    replay(&options)
}

/// Runs the captures and says what came of it.
fn replay(options: &ReplayOptions) -> anyhow::Result<ExitCode> {
    let files = crate::replay::Files {
        primary: options.primary.clone(),
        secondary: options.secondary.clone(),
        released: options.released.clone(),
        verdicts: options.verdicts.clone(),
        diverged: options.settings.diverged.clone(),
    };
    super::reload::warn_of_masks(&options.settings);
    let rules = crate::wiring::rule_set(&options.settings);
    let settings = crate::wiring::virtual_settings(&options.settings);
    let summary = match crate::replay::run(&files, settings, rules) {
        Ok(summary) => summary,
        Err(error) if error.is_usage() => return Err(UsageError(error.to_string()).into()),
        Err(error) => return Err(error.into()),
    };
    match options.format {
        Format::Text => super::print(&summary.to_text())?,
        Format::Json => super::print(&serde_json::to_string(&summary)?)?,
    }
    let differs = summary.mismatches > 0 && options.on_mismatch == OnMismatch::Fail;
    Ok(if differs { ExitCode::from(super::MISMATCH) } else { ExitCode::SUCCESS })
}
