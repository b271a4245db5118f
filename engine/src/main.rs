//! The `colo` command; everything is in [`colo_engine::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    colo_engine::cli::main()
}
