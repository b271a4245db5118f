//! The control thread's log: whom a line is about, and how many lines a second there may be.

use pmd_tap::Nanos;

use crate::flow::FlowKey;

/// Lines of a kind in the log, per second at most.
const LOG_LINES_PER_SECOND: u32 = 10;

/// Whom a log line is about. Made text only when somebody reads it.
pub(super) struct Of(pub(super) Option<FlowKey>);

impl std::fmt::Display for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(flow) => flow.fmt(f),
            None => f.write_str("all flows"),
        }
    }
}

/// So many log lines a second: a guest must not fill a disk.
#[derive(Debug, Default)]
pub(super) struct LogBudget {
    second: u64,
    lines: u32,
}

impl LogBudget {
    pub(super) fn allows(&mut self, now: Nanos) -> bool {
        let second = now.0 / 1_000_000_000;
        if second != self.second {
            *self = Self { second, lines: 0 };
        }
        self.lines += 1;
        self.lines <= LOG_LINES_PER_SECOND
    }
}
