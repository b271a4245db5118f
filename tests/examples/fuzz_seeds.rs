//! Writes the seeds of a fuzz target into a folder: `cargo run -p colo-tests --example fuzz_seeds -- TARGET FOLDER`.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use colo_tests::fuzzing::seeds;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let target = arguments.next().and_then(|name| name.into_string().ok()).context("which target?")?;
    let folder = PathBuf::from(arguments.next().context("into which folder?")?);
    let seeds = seeds(&target);
    ensure!(!seeds.is_empty(), "no target is called {target}");
    std::fs::create_dir_all(&folder)?;
    for (name, bytes) in seeds {
        std::fs::write(folder.join(format!("seed-{name}")), bytes)?;
    }
    Ok(())
}
