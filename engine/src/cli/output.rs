//! stdout and stderr: a reader that has gone away is no failure and no panic.

use std::io::{self, Write};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON value, for programs.
    Json,
}

impl Format {
    /// `--json`.
    pub(super) fn from_flag(args: &super::common::JsonArg) -> Self {
        if args.json { Self::Json } else { Self::Text }
    }
}

/// Writes text and a line end to stdout.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    quiet_when_gone(writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush()))
}

/// Writes a JSON value, indented, to stdout.
pub fn print_json(value: &serde_json::Value) -> io::Result<()> {
    print(&format!("{value:#}"))
}

/// Says on stderr what is wrong.
pub(super) fn complain(text: &str) {
    // Nobody is left to hear that stderr is gone.
    let _ = writeln!(io::stderr().lock(), "colo: {text}");
}

fn quiet_when_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gone_reader_is_no_failure() {
        assert!(quiet_when_gone(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(quiet_when_gone(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
