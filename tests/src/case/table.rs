//! The failure message: the whole case as a timeline, one line per frame, request and commit, with the verdict each
//! frame got. A reader sees the catalogue row and what the engine made of it side by side.

use std::fmt::Write;

use super::time::Ns;
use super::{Case, Side, Verdict};

/// What the verdicts say about one frame, in a few words.
fn fate(verdicts: &[Verdict], side: Side, index: usize, zero: Ns) -> String {
    let mut fates = Vec::new();
    for verdict in verdicts {
        match (side, verdict) {
            (Side::Primary, Verdict::Release { at, frame, why, held }) if *frame == index => {
                fates.push(format!("released {:?} {why}, held {held:?}", *at + zero));
            }
            (Side::Primary, Verdict::Held { frame }) if *frame == index => {
                fates.push("held at the end".to_owned());
            }
            (Side::Secondary, Verdict::Drop { at, frame, why }) if *frame == index => {
                fates.push(format!("dropped {:?} {why}", *at + zero));
            }
            (Side::Secondary, Verdict::HeldSecondary { frame }) if *frame == index => {
                fates.push("held at the end".to_owned());
            }
            _ => {}
        }
    }
    if fates.is_empty() { "NO VERDICT".to_owned() } else { fates.join(" AND ") }
}

/// Longest case whose frames are listed; of a flood a reader wants the requests.
const LISTED: usize = 4_000;

/// The case and its verdicts in order of time.
pub(super) fn timeline(case: &Case, verdicts: &[Verdict], zero: Ns) -> String {
    let mut rows: Vec<(Ns, u8, String)> = Vec::new();
    for (rank, side, letter) in [(1, Side::Primary, 'P'), (2, Side::Secondary, 'S')] {
        let listed = if case.sent(side).len() > LISTED { &[] } else { case.sent(side) };
        for (index, sent) in listed.iter().enumerate() {
            let fate = fate(verdicts, side, index, zero);
            rows.push((sent.at, rank, format!("{letter}{index:<4} {:<58} {fate}", sent.what)));
        }
    }
    for verdict in verdicts {
        match verdict {
            Verdict::Request { at, reason, flow, detail } => {
                rows.push((*at + zero, 3, format!("      request {reason} {flow:?} {detail}")));
            }
            Verdict::Commit { at } => rows.push((*at + zero, 0, "      commit".to_owned())),
            _ => {}
        }
    }
    rows.sort_by_key(|(at, rank, _)| (*at, *rank));
    let mut text = format!("{:?}, {:?}\n", case.ip(), case.arguments());
    for (at, _, row) in rows {
        let _ = writeln!(text, "{:>16}  {row}", format!("{at:?}"));
    }
    text
}
