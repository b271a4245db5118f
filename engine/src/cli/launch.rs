//! Where the command line ends and the engine begins: one call a command, with options that are complete and valid.

use std::process::ExitCode;

use anyhow::bail;

use super::{CompareOptions, DemoOptions, Format, MISMATCH, OnMismatch, ReplayOptions, UsageError, print};
use crate::{replay, wiring};

// SEAM: each of these becomes the one call into the engine.

pub(super) fn compare(options: &CompareOptions) -> anyhow::Result<ExitCode> {
    bail!("this build has no data plane to connect {} to", options.ports.primary_in)
}

pub(super) fn replay(options: &ReplayOptions) -> anyhow::Result<ExitCode> {
    let files = replay::Files {
        primary: options.primary.clone(),
        secondary: options.secondary.clone(),
        released: options.released.clone(),
        verdicts: options.verdicts.clone(),
    };
    let summary = match replay::run(&files, wiring::virtual_settings(&options.settings)) {
        Ok(summary) => summary,
        Err(error) if error.is_usage() => return Err(UsageError(error.to_string()).into()),
        Err(error) => return Err(error.into()),
    };
    match options.format {
        Format::Text => print(&summary.to_text())?,
        Format::Json => print(&serde_json::to_string(&summary)?)?,
    }
    let differs = summary.mismatches() > 0 && options.on_mismatch == OnMismatch::Fail;
    Ok(if differs { ExitCode::from(MISMATCH) } else { ExitCode::SUCCESS })
}

pub(super) fn demo(options: &DemoOptions) -> anyhow::Result<ExitCode> {
    bail!("this build has no data plane to show for {} seconds", options.run_for.as_secs())
}
