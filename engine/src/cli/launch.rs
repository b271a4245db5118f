//! Where the command line ends and the engine begins: one call a command, with options that are complete and valid.

use std::process::ExitCode;

use anyhow::bail;

use super::{CompareOptions, DemoOptions, ReplayOptions};

// SEAM: each of these becomes the one call into the engine.

pub(super) fn compare(options: &CompareOptions) -> anyhow::Result<ExitCode> {
    bail!(
        "this build has no data plane to connect {} to",
        options.ports.primary_in
    )
}

pub(super) fn replay(options: &ReplayOptions) -> anyhow::Result<ExitCode> {
    bail!(
        "this build has no data plane to run {} through",
        options.primary.display()
    )
}

pub(super) fn demo(options: &DemoOptions) -> anyhow::Result<ExitCode> {
    bail!(
        "this build has no data plane to show for {} seconds",
        options.run_for.as_secs()
    )
}
