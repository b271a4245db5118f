//! What holds for every replay whatever the case: the books balance, nothing is lost or doubled, a flow keeps its
//! order, a checkpoint flushes, frames leave unchanged, the summary says what the verdicts say.

use std::collections::HashMap;

use serde_json::Value;

use super::time::Ns;
use super::{Case, Commit, Outcome, Side, Verdict, departures};

/// Checks all of it; a failure prints the case.
pub(super) fn check(outcome: &Outcome) {
    accounting(outcome);
    times(outcome);
    flow_order(outcome);
    order_within_instants(outcome);
    checkpoints(outcome);
    flushes(outcome);
    released_frames(outcome);
    summary(outcome);
}

/// Every frame of P is released or held exactly once, every frame of S dropped or held; held only under `never`.
fn accounting(outcome: &Outcome) {
    let mut primary = vec![0_u32; outcome.case.sent(Side::Primary).len()];
    let mut secondary = vec![0_u32; outcome.case.sent(Side::Secondary).len()];
    for verdict in &outcome.verdicts {
        let (count, index) = match verdict {
            Verdict::Release { frame, .. } | Verdict::Held { frame } => (&mut primary, *frame),
            Verdict::Drop { frame, .. } | Verdict::HeldSecondary { frame } => (&mut secondary, *frame),
            Verdict::Request { .. } | Verdict::Commit { .. } => continue,
        };
        outcome.ensure(index < count.len(), || format!("no such frame: {verdict:?}"));
        count[index] += 1;
        let open = matches!(verdict, Verdict::Held { .. } | Verdict::HeldSecondary { .. });
        outcome.ensure(!open || outcome.case.commit == Commit::Never, || {
            format!("held, though checkpoints commit: {verdict:?}")
        });
    }
    for (name, counts) in [("P", primary), ("S", secondary)] {
        for (index, count) in counts.iter().enumerate() {
            outcome.ensure(*count == 1, || format!("{name}{index} has {count} verdicts"));
        }
    }
}

/// Time never goes back, nothing is decided before it arrives, and `held_ns` is the time between.
fn times(outcome: &Outcome) {
    let decided: Vec<Ns> = outcome.verdicts.iter().filter_map(Verdict::at).collect();
    outcome.ensure(decided.is_sorted(), || "verdicts are in order of decision".to_owned());
    for verdict in &outcome.verdicts {
        match verdict {
            Verdict::Release { at, frame, held, .. } => {
                let arrived = outcome.case.sent(Side::Primary)[*frame].at;
                outcome.ensure(arrived + *held == *at + outcome.zero, || {
                    format!("arrived {arrived:?}, so: {verdict:?}")
                });
            }
            Verdict::Drop { at, frame, .. } => {
                let arrived = outcome.case.sent(Side::Secondary)[*frame].at;
                outcome.ensure(arrived <= *at + outcome.zero, || {
                    format!("arrived {arrived:?}, so: {verdict:?}")
                });
            }
            _ => {}
        }
    }
}

/// PVM frames of one flow leave in the order they came; one still held lets none after it pass.
fn flow_order(outcome: &Outcome) {
    let frames = outcome.case.sent(Side::Primary);
    let mut last: HashMap<(&str, u16), usize> = HashMap::new();
    for verdict in &outcome.verdicts {
        if let Verdict::Release { frame, .. } | Verdict::Held { frame } = verdict {
            let before = last.insert(frames[*frame].flow, *frame);
            outcome.ensure(before.is_none_or(|b| b < *frame), || {
                format!("P{frame} after P{before:?} of its flow")
            });
        }
    }
}

/// Within an instant releases come before drops; a flush goes by index.
fn order_within_instants(outcome: &Outcome) {
    let timed: Vec<&Verdict> = outcome.verdicts.iter().filter(|v| v.at().is_some()).collect();
    for instant in timed.chunk_by(|a, b| a.at() == b.at()) {
        let commits = instant.iter().any(|v| matches!(v, Verdict::Commit { .. }));
        let counts = |why: &str| !commits || why == "flush";
        let ranks: Vec<(u8, usize)> = instant
            .iter()
            .filter_map(|verdict| match verdict {
                Verdict::Release { why, frame, .. } if counts(why) => {
                    Some((0, if commits { *frame } else { 0 }))
                }
                Verdict::Drop { why, frame, .. } if counts(why) => {
                    Some((1, if commits { *frame } else { 0 }))
                }
                _ => None,
            })
            .collect();
        outcome.ensure(ranks.is_sorted(), || format!("order within {:?}: {instant:?}", instant[0].at()));
    }
}

/// One outstanding request; it commits after the set time; the next one keeps its distance from the commit.
fn checkpoints(outcome: &Outcome) {
    let spacing = outcome.case.setting_ms("min_checkpoint_interval", 100);
    let (mut outstanding, mut committed): (Option<Ns>, Option<Ns>) = (None, None);
    for verdict in &outcome.verdicts {
        match verdict {
            Verdict::Request { at, .. } => {
                outcome
                    .ensure(outstanding.is_none(), || format!("a second outstanding request: {verdict:?}"));
                let near = committed.is_some_and(|commit| *at < commit + spacing);
                outcome.ensure(!near, || format!("too soon after the commit: {verdict:?}"));
                outstanding = Some(*at);
            }
            Verdict::Commit { at } => {
                let due = match outcome.case.commit {
                    Commit::After(delay) => outstanding.map(|request| request + delay),
                    Commit::Never => None,
                };
                outcome.ensure(due == Some(*at), || format!("committed at {at:?}, due {due:?}"));
                (outstanding, committed) = (None, Some(*at));
            }
            _ => {}
        }
    }
    let open = outstanding.is_some() && outcome.case.commit != Commit::Never;
    outcome.ensure(!open, || "a request was never committed".to_owned());
}

/// A commit empties everything that arrived before it, and nothing else is called a flush.
fn flushes(outcome: &Outcome) {
    let commit_time = |v: &Verdict| {
        if let Verdict::Commit { at } = v { Some(*at + outcome.zero) } else { None }
    };
    let commits: Vec<Ns> = outcome.verdicts.iter().filter_map(commit_time).collect();
    let flushed = |arrived: Ns, done: Ns, why: &str, what: &str| {
        for commit in &commits {
            outcome.ensure(arrived >= *commit || done <= *commit, || {
                format!("{what} arrived {arrived:?} and outlived the commit at {commit:?}: {done:?}")
            });
        }
        let at_commit = commits.contains(&done) && arrived < done;
        outcome
            .ensure(why != "flush" || at_commit, || format!("{what} flushed without a commit at {done:?}"));
    };
    for verdict in &outcome.verdicts {
        match verdict {
            Verdict::Release { at, frame, why, .. } => {
                let arrived = outcome.case.sent(Side::Primary)[*frame].at;
                flushed(arrived, *at + outcome.zero, why, &format!("P{frame}"));
            }
            Verdict::Drop { at, frame, why } => {
                let arrived = outcome.case.sent(Side::Secondary)[*frame].at;
                flushed(arrived, *at + outcome.zero, why, &format!("S{frame}"));
            }
            _ => {}
        }
    }
}

/// The released capture holds the released frames, unchanged but for windows that a case says are clamped, in release order, stamped with their release.
fn released_frames(outcome: &Outcome) {
    let unit = outcome.released.unit_ns;
    let expected = outcome.verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Release { at, frame, .. } => Some((*frame, *at + outcome.zero)),
        _ => None,
    });
    let expected: Vec<(usize, Ns)> = expected.collect();
    let found = outcome.released.records.len();
    outcome.ensure(found == expected.len(), || format!("{found} frames in the released capture"));
    for ((frame, at), (stamped, bytes)) in expected.iter().zip(&outcome.released.records) {
        outcome.ensure(at.0 / unit == stamped.0 / unit, || {
            format!("P{frame} is stamped {stamped:?}, left {at:?}")
        });
        let came = &outcome.case.sent(Side::Primary)[*frame].bytes;
        if outcome.case.clamped.contains(frame) {
            let lowered = departures::only_the_window_is_lower(came, bytes);
            outcome.ensure(lowered, || format!("P{frame} should leave clamped, left as {bytes:02x?}"));
        } else {
            outcome.ensure(came == bytes, || format!("P{frame} left changed: {bytes:02x?}"));
        }
    }
}

/// The summary counts what the verdicts list.
fn summary(outcome: &Outcome) {
    let tally = |wanted: fn(&Verdict) -> bool| outcome.verdicts.iter().filter(|v| wanted(v)).count();
    let says = |key: &str| outcome.summary[key].as_u64().and_then(|n| usize::try_from(n).ok());
    let released = tally(|v| matches!(v, Verdict::Release { .. }));
    let dropped = tally(|v| matches!(v, Verdict::Drop { .. }));
    let held = tally(|v| matches!(v, Verdict::Held { .. }));
    let held_secondary = tally(|v| matches!(v, Verdict::HeldSecondary { .. }));
    let check = |key: &str, right: bool| {
        outcome.ensure(right, || format!("summary {key:?} does not fit the verdicts: {}", outcome.summary));
    };
    check("released", says("released") == Some(released));
    check("dropped", says("dropped") == Some(dropped));
    // The contract does not say whose frames are meant: both readings balance.
    check("held", says("held") == Some(held) || says("held") == Some(held + held_secondary));
    check("frames", frames_fit(&outcome.case, &outcome.summary["frames"]));
    if outcome.case.commit != Commit::Never {
        for reason in ["mismatch", "timeout", "queue_full", "table_full", "periodic"] {
            let asked = |v: &&Verdict| matches!(v, Verdict::Request { reason: r, .. } if r == reason);
            let count = outcome.verdicts.iter().filter(asked).count();
            let told = outcome.summary["checkpoints"][reason].as_u64().unwrap_or(0);
            check("checkpoints", usize::try_from(told) == Ok(count));
        }
    }
    latencies(outcome, &check);
}

fn frames_fit(case: &Case, told: &Value) -> bool {
    let (primary, secondary) = (case.sent(Side::Primary).len(), case.sent(Side::Secondary).len());
    let is =
        |value: &Value, count: usize| value.as_u64().and_then(|n| usize::try_from(n).ok()) == Some(count);
    is(told, primary + secondary) || (is(&told["primary"], primary) && is(&told["secondary"], secondary))
}

/// Percentiles are nearest rank, so they are members of the list, exactly.
fn latencies(outcome: &Outcome, check: &impl Fn(&str, bool)) {
    let held = outcome.verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Release { held, .. } => Some(held.0),
        _ => None,
    });
    let mut held: Vec<u64> = held.collect();
    held.sort_unstable();
    let told = &outcome.summary["release_latency_ns"];
    for (name, percent) in [("p50", 50), ("p99", 99), ("max", 100)] {
        // With nothing released there is no percentile to speak of: 0 and null are as good.
        if let Some(rank) = (held.len() * percent).div_ceil(100).checked_sub(1) {
            check(name, told[name].as_u64() == Some(held[rank]));
        }
    }
}
