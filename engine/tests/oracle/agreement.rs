//! The engine and the reference judge the same conversations, and must say the same of every frame.

use colo_engine::side::{BySide, Side};
use proptest::prelude::*;

use crate::drive::{Log, MS, Verdict, engine, settings};
use crate::generate::{Case, case};
use crate::reference::judge;

/// Within an instant the reference decides flow by flow and the engine reports releases, then drops; only a flow's own
/// order is fixed.
pub(crate) fn by_instant(mut log: Log) -> Log {
    log.sort();
    log
}

pub(crate) fn frames(case: &Case) -> BySide<crate::drive::Frames> {
    let of = |side: Side| {
        case.sent[side]
            .iter()
            .map(|sent| (sent.at_ns, case.flows[sent.flow].frame(side, &sent.what)))
            .collect()
    };
    BySide { primary: of(Side::Primary), secondary: of(Side::Secondary) }
}

/// Every frame is decided about once, and a flow's leave in the order they came.
pub(crate) fn books_balance(case: &Case, log: &Log) {
    let mut left = vec![0; case.sent.primary.len()];
    let mut dropped = vec![0; case.sent.secondary.len()];
    let mut last = vec![None; case.flows.len()];
    for (_, verdict) in log {
        match verdict {
            Verdict::Release { frame, .. } => {
                left[*frame] += 1;
                let last = &mut last[case.sent.primary[*frame].flow];
                assert!(last.is_none_or(|last| last < *frame), "frame {frame} left out of order");
                *last = Some(*frame);
            }
            Verdict::Held { side: Side::Primary, frame } => left[*frame] += 1,
            Verdict::Drop { frame, .. } | Verdict::Held { side: Side::Secondary, frame } => {
                dropped[*frame] += 1;
            }
            Verdict::Commit | Verdict::Request(_) | Verdict::Clamped { .. } => {}
        }
    }
    assert!(left.iter().all(|times| *times == 1), "each primary frame once: {left:?}");
    assert!(dropped.iter().all(|times| *times == 1), "each secondary frame once: {dropped:?}");
}

/// What the engine says, and what the reference says.
pub(crate) fn check(case: &Case) -> [Log; 2] {
    let mut settings = settings(case.min_interval_ms);
    // Twice what is held at most, so that no bound is reached.
    settings.shard.max_held_frames = 4 * (case.sent.primary.len() + case.sent.secondary.len());
    let log = engine(settings, frames(case));
    books_balance(case, &log);
    let expected = judge(case.flows.len(), case.min_interval_ms * MS, &case.sent);
    [by_instant(log), by_instant(expected)]
}

proptest! {
    #[test]
    fn engine_and_reference_agree(case in case()) {
        let [log, expected] = check(&case);
        prop_assert_eq!(log, expected);
    }
}
