//! The reference knows no fragments: traffic that is cut, on each side in its own way, must be judged like the whole, and
//! each fragment like the frame that it is a part of.

use colo_engine::side::{BySide, Side};
use proptest::prelude::*;

use crate::agreement::{by_instant, frames};
use crate::drive::{Frames, Log, MS, Verdict, Why, engine, settings};
use crate::generate::case;
use crate::reference::judge;

const ETHERNET: usize = 14;

fn put16(frame: &mut [u8], at: usize, value: usize) {
    frame[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap().to_be_bytes());
}

fn word(frame: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]))
}

/// A frame in two or three fragments, padding left behind; whole if it is too short for that or not
/// TCP or UDP right behind an IP header.
/// Also which of them has the transport header.
fn cut(frame: &[u8], identification: usize, seed: u32) -> (Vec<Vec<u8>>, usize) {
    if frame.len() < ETHERNET + 40 {
        return (vec![frame.to_vec()], 0);
    }
    let v4 = frame[ETHERNET] >> 4 == 4;
    let headers = ETHERNET + if v4 { 20 } else { 40 };
    let end = if v4 { ETHERNET + word(frame, ETHERNET + 2) } else { headers + word(frame, ETHERNET + 4) };
    let protocol = frame[if v4 { ETHERNET + 9 } else { ETHERNET + 6 }];
    let usual = (if v4 { frame[12..15] == [8, 0, 0x45] } else { frame[12..14] == [0x86, 0xdd] })
        && [6, 17].contains(&protocol)
        && (headers + 13..=frame.len()).contains(&end);
    if !usual {
        return (vec![frame.to_vec()], 0);
    }
    let (head, payload) = (&frame[..headers], &frame[headers..end]);
    // A first fragment without all of its TCP header says nothing (RFC 1858): such are not compared.
    let first = if protocol == 6 { usize::from(payload[12] >> 4).div_ceil(2) * 8 } else { 8 };
    let room = payload.len().saturating_sub(first + 1) / 8;
    if seed.is_multiple_of(3) || payload.len() <= first {
        return (vec![frame.to_vec()], 0);
    }
    let seed = usize::try_from(seed).unwrap();
    let mut ends =
        vec![0, first + 8 * (seed / 16 % (room + 1)), first + 8 * (seed / 1024 % (room + 1)), payload.len()];
    ends.sort_unstable();
    ends.dedup();
    let mut pieces: Vec<Vec<u8>> = ends
        .windows(2)
        .map(|ends| {
            let (from, to) = (ends[0], ends[1]);
            let mut piece = head.to_vec();
            let more = to < payload.len();
            if v4 {
                put16(&mut piece, ETHERNET + 2, 20 + to - from);
                put16(&mut piece, ETHERNET + 4, identification);
                put16(&mut piece, ETHERNET + 6, (from / 8) | (usize::from(more) << 13));
            } else {
                put16(&mut piece, ETHERNET + 4, 8 + to - from);
                let next = std::mem::replace(&mut piece[ETHERNET + 6], 44);
                piece.extend([next, 0, 0, 0, 0, 0, 0, 0]);
                put16(&mut piece, headers + 2, from | usize::from(more));
                put16(&mut piece, headers + 6, identification);
            }
            piece.extend(&payload[from..to]);
            piece
        })
        .collect();
    let turn = seed / 4 % pieces.len();
    pieces.rotate_left(turn);
    let head = (pieces.len() - turn) % pieces.len();
    (pieces, head)
}

/// The fragments that a frame became.
pub(crate) struct Parts {
    frames: std::ops::Range<usize>,
    /// The one with the transport header.
    head: usize,
}

/// All frames cut, and the fragments that each became.
pub(crate) fn cut_all(whole: &Frames, seeds: &[u32]) -> (Frames, Vec<Parts>) {
    let (mut frames, mut parts) = (Frames::new(), Vec::new());
    for (index, (at_ns, frame)) in whole.iter().enumerate() {
        let start = frames.len();
        let (pieces, head) = cut(frame, index, seeds[index % seeds.len()]);
        frames.extend(pieces.into_iter().map(|piece| (*at_ns, piece)));
        parts.push(Parts { frames: start..frames.len(), head: start + head });
    }
    (frames, parts)
}

/// What was said of whole frames, said of their fragments.
fn of_fragments(log: Log, parts: &BySide<Vec<Parts>>) -> Log {
    let first = |side: Side, frame: usize| parts[side][frame].frames.start;
    let mut all = Log::new();
    for (at_ns, verdict) in log {
        let said: Vec<Verdict> = match verdict {
            Verdict::Release { frame, why } => {
                parts.primary[frame].frames.clone().map(|frame| Verdict::Release { frame, why }).collect()
            }
            Verdict::Drop { frame, why } => {
                parts.secondary[frame].frames.clone().map(|frame| Verdict::Drop { frame, why }).collect()
            }
            Verdict::Held { side, frame } => {
                parts[side][frame].frames.clone().map(|frame| Verdict::Held { side, frame }).collect()
            }
            Verdict::Request(Why::Timeout { side, frame }) => {
                vec![Verdict::Request(Why::Timeout { side, frame: first(side, frame) })]
            }
            Verdict::Request(Why::Mismatch { kind, offset, primary, secondary }) => {
                let primary = primary.map(|frame| first(Side::Primary, frame));
                let secondary = secondary.map(|frame| first(Side::Secondary, frame));
                vec![Verdict::Request(Why::Mismatch { kind, offset, primary, secondary })]
            }
            Verdict::Clamped { frame, window } => {
                vec![Verdict::Clamped { frame: parts.primary[frame].head, window }]
            }
            other => vec![other],
        };
        all.extend(said.into_iter().map(|verdict| (at_ns, verdict)));
    }
    all
}

proptest! {
    #[test]
    fn cut_traffic_is_judged_like_the_whole(
        case in case(),
        seeds in prop::collection::vec(any::<u32>(), 16),
        other_seeds in prop::collection::vec(any::<u32>(), 16),
        shards in 1_usize..4,
    ) {
        let whole = frames(&case);
        let (primary, primary_parts) = cut_all(&whole.primary, &seeds);
        let (secondary, secondary_parts) = cut_all(&whole.secondary, &other_seeds);
        let mut settings = settings(case.min_interval_ms);
        settings.shards = shards;
        settings.shard.max_held_frames = 8 * (primary.len() + secondary.len()).max(8);
        let parts = BySide { primary: primary_parts, secondary: secondary_parts };
        let expected = judge(case.flows.len(), case.min_interval_ms * MS, &case.sent);
        let log = engine(settings, BySide { primary, secondary });
        prop_assert_eq!(by_instant(log), by_instant(of_fragments(expected, &parts)));
    }
}
