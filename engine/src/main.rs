//! The `colo` command.
#![forbid(unsafe_code)]
fn main() {}
