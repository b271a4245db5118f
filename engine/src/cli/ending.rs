//! When `colo compare` ends by itself: both inputs are captures that are over, and nothing can change any more.
//!
//! That is so as soon as every frame is released or dropped. While frames are held, their timeouts, the checkpoint these
//! ask for and its commit can change it, so that long it waits. A checkpoint that somebody else takes may take any
//! time; one that was asked for is waited for.

use std::time::{Duration, Instant};

use crate::config::{CheckpointBackend, CommitAfter, Settings};
use crate::summary::Summary;

/// What threads need to publish what they count, and to wake up.
const SLACK: Duration = Duration::from_millis(200);

/// Sees when the end has come.
#[derive(Debug)]
pub(super) struct CaptureEnd {
    /// The longest that nothing happens before something does.
    grace: Duration,
    commits: Commits,
    last: Option<(Standing, Instant)>,
}

/// Whose commits are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commits {
    /// Somebody takes checkpoints when asked.
    Elsewhere,
    /// They come by themselves within the grace, or never.
    Ours,
}

/// What must stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    released: u64,
    dropped: u64,
    held: [u64; 2],
    requested: u64,
    completed: u64,
}

impl Standing {
    fn of(summary: &Summary) -> Self {
        Self {
            released: summary.released(),
            dropped: summary.dropped(),
            held: summary.held(),
            requested: summary.checkpoints().map(|(_, count)| count).sum(),
            completed: summary.completed(),
        }
    }
}

impl CaptureEnd {
    pub(super) fn new(settings: &Settings) -> Self {
        let (compare, checkpoint) = (&settings.compare, &settings.checkpoint);
        let commit = match checkpoint.none_commit_after {
            CommitAfter::After(after) => after,
            CommitAfter::Never => Duration::ZERO,
        };
        let grace = compare.compare_timeout.max(compare.reorder_grace).max(compare.window_grace)
            + 2 * settings.runtime.timer_tick
            + checkpoint.min_interval
            + checkpoint.delay
            + commit
            + SLACK;
        let commits = match checkpoint.backend {
            CheckpointBackend::Notify(_) | CheckpointBackend::Qmp(_) | CheckpointBackend::Exec(_) => {
                Commits::Elsewhere
            }
            CheckpointBackend::None => Commits::Ours,
        };
        Self { grace, commits, last: None }
    }

    /// Whether nothing can change any more; to be asked once both inputs are over.
    pub(super) fn has_come(&mut self, summary: &Summary, now: Instant) -> bool {
        let standing = Standing::of(summary);
        if summary.balances() && standing.held == [0, 0] {
            return true;
        }
        let since = match self.last {
            Some((last, since)) if last == standing => since,
            _ => now,
        };
        self.last = Some((standing, since));
        let awaited = self.commits == Commits::Elsewhere && standing.requested > standing.completed;
        !awaited && now.duration_since(since) >= self.grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Purpose;
    use crate::metrics::{PairSnapshot, Snapshot};

    fn summary(received: u64, held: u64, requested: u64) -> Summary {
        let mut pair = PairSnapshot::default();
        pair.primary.frames = received;
        pair.primary.held_frames = held;
        pair.released.matched = 10;
        pair.checkpoints.requested.timeout = requested;
        Summary::new(Snapshot { pairs: vec![pair], ..Snapshot::default() })
    }

    #[test]
    fn it_ends_at_once_when_nothing_is_held_and_all_is_judged() {
        let settings = Settings::defaults(Purpose::Compare);
        let now = Instant::now();
        assert!(CaptureEnd::new(&settings).has_come(&summary(10, 0, 0), now));
        assert!(!CaptureEnd::new(&settings).has_come(&summary(11, 0, 0), now), "one is in a ring");
        assert!(!CaptureEnd::new(&settings).has_come(&summary(11, 1, 0), now), "one is held");
    }

    #[test]
    fn what_is_held_may_still_time_out() {
        let settings = Settings::defaults(Purpose::Compare);
        let mut end = CaptureEnd::new(&settings);
        let (start, grace) = (Instant::now(), end.grace);
        assert!(grace > settings.compare.compare_timeout);
        assert!(!end.has_come(&summary(11, 1, 0), start));
        assert!(!end.has_come(&summary(11, 1, 1), start + grace), "something happened");
        assert!(end.has_come(&summary(11, 1, 1), start + 2 * grace), "and then nothing");
    }

    #[test]
    fn a_checkpoint_that_others_take_is_waited_for() {
        let settings = Settings::defaults(Purpose::Compare);
        let mut end = CaptureEnd { commits: Commits::Elsewhere, ..CaptureEnd::new(&settings) };
        let start = Instant::now();
        assert!(!end.has_come(&summary(11, 1, 1), start));
        assert!(!end.has_come(&summary(11, 1, 1), start + Duration::from_hours(1)));
    }
}
