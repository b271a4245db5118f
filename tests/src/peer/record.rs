//! What a comparer did with one script, in a form that two of them can be compared in: which primary frames came out
//! before a checkpoint, which with it, which never, and whether one was asked for.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use crate::frame::{self, protocol};

/// Whether a checkpoint was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Not at all.
    Never,
    /// Long before anything could be late.
    AtOnce,
    /// When something was.
    Late,
}

/// Order of frames within their flows, compared with the primary's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The primary's.
    Kept,
    /// Another one in a flow.
    Broken,
}

/// Frames that came out, as numbers of the primary's frames in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Came(pub Vec<usize>);

/// One comparer's answer to one script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Primary frames that were sent.
    pub sent: usize,
    /// Before the checkpoint.
    pub released: Came,
    /// Whether one was asked for.
    pub asked: Asked,
    /// How often, repetitions included.
    pub requests: usize,
    /// With the checkpoint.
    pub flushed: Came,
    /// Frames of the primary that left with another window.
    pub clamped: Vec<usize>,
    /// Frames that came out and are none of the primary's, or came out twice.
    pub strangers: usize,
    /// Order within flows.
    pub order: Order,
}

/// What the outside saw, and when.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Frames until the commit.
    pub before: Vec<Vec<u8>>,
    /// Frames from the commit on.
    pub after: Vec<Vec<u8>>,
    /// Time from the last frame sent to the first request; none when there was none.
    pub asked_after: Option<Duration>,
    /// Requests.
    pub requests: usize,
}

impl Record {
    /// Reads it off what was sent and seen. `flows` says for each primary frame which flow it belongs to; a request
    /// sooner than `late` after the last frame came at once.
    pub fn new<F: Eq + Hash + Copy>(primary: &[&[u8]], flows: &[F], seen: &Seen, late: Duration) -> Self {
        let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (index, bytes) in primary.iter().enumerate().rev() {
            places.entry(bytes).or_default().push(index);
        }
        let mut masked: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (index, bytes) in primary.iter().enumerate().rev() {
            masked.entry(without_window(bytes)).or_default().push(index);
        }
        let (mut clamped, mut strangers) = (Vec::new(), 0);
        let mut number = |frames: &[Vec<u8>]| {
            let mut came = Vec::new();
            for bytes in frames {
                // One that the primary sent just so is that one, or came out twice.
                let exact = places.get_mut(bytes.as_slice());
                let changed = exact.is_none();
                let place = match exact {
                    Some(places) => places.pop(),
                    None => masked.get_mut(&without_window(bytes)).and_then(Vec::pop),
                };
                match place {
                    Some(index) if changed => {
                        clamped.push(index);
                        came.push(index);
                    }
                    Some(index) => came.push(index),
                    None => strangers += 1,
                }
            }
            Came(came)
        };
        let (released, flushed) = (number(&seen.before), number(&seen.after));
        let order = order(released.0.iter().chain(&flushed.0), flows);
        let asked = match seen.asked_after {
            None => Asked::Never,
            Some(time) if time < late => Asked::AtOnce,
            Some(_) => Asked::Late,
        };
        let (sent, requests) = (primary.len(), seen.requests);
        Self { sent, released, asked, requests, flushed, clamped, strangers, order }
    }

    /// Primary frames that never came out.
    pub fn lost(&self) -> usize {
        self.sent.saturating_sub(self.released.0.len() + self.flushed.0.len())
    }

    /// Whether two comparers did the same. How often one repeats its request is not counted.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let sets = |record: &Self| {
            let sorted = |came: &Came| {
                let mut numbers = came.0.clone();
                numbers.sort_unstable();
                numbers
            };
            (sorted(&record.released), sorted(&record.flushed), record.clamped.clone())
        };
        sets(self) == sets(other)
            && (self.asked, self.strangers, self.order) == (other.asked, other.strangers, other.order)
    }
}

/// Frames of one flow keep their order; between flows there is none.
fn order<'a, F: Eq + Hash + Copy>(came: impl Iterator<Item = &'a usize>, flows: &[F]) -> Order {
    let mut last: HashMap<F, usize> = HashMap::new();
    for &index in came {
        if last.insert(flows[index], index).is_some_and(|previous| previous > index) {
            return Order::Broken;
        }
    }
    Order::Kept
}

/// A TCP frame with its window and checksum blanked: those are what a comparer may change.
fn without_window(bytes: &[u8]) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    if let Some(layout) = frame::layout(bytes).filter(|layout| layout.protocol == protocol::TCP) {
        copy[layout.transport + 14..layout.transport + 18].fill(0);
    }
    copy
}

impl fmt::Display for Came {
    /// Numbers, with runs as `3–9`; many without a pattern are counted.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for &number in &self.0 {
            match runs.last_mut() {
                Some((first, last)) if *last + 1 == number && *first <= *last => *last = number,
                Some((first, last)) if number + 1 == *last && *first >= *last => *last = number,
                _ => runs.push((number, number)),
            }
        }
        if runs.len() > 4 {
            return write!(out, "{} frames", self.0.len());
        }
        for (index, (first, last)) in runs.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match first.abs_diff(*last) {
                0 => write!(out, "{comma}{first}")?,
                1 => write!(out, "{comma}{first}, {last}")?,
                _ => write!(out, "{comma}{first}–{last}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Record {
    /// One line in the words of `docs/QEMU_DIFFERENCES.md`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        let order = if self.order == Order::Broken { ", out of order" } else { "" };
        if self.released.0.is_empty() {
            words.push(format!("nothing leaves{order}"));
        } else if self.released.0.len() == self.sent {
            words.push(format!("all leave{order}"));
        } else {
            words.push(format!("{} leave{order}", self.released));
        }
        match (self.asked, self.requests) {
            (Asked::Never, _) => {}
            (Asked::AtOnce, 0..20) => words.push("asks at once".to_owned()),
            (Asked::AtOnce, times) => words.push(format!("asks at once, {times} times in all")),
            (Asked::Late, _) => words.push("asks at the timeout".to_owned()),
        }
        if !self.flushed.0.is_empty() {
            words.push(format!("{} with the checkpoint", self.flushed));
        }
        if !self.clamped.is_empty() {
            words.push(format!("{} with a lower window", Came(self.clamped.clone())));
        }
        match self.lost() {
            0 => {}
            lost if lost == self.sent => words.push("**all are lost**".to_owned()),
            lost => words.push(format!("**{lost} lost**")),
        }
        if self.strangers > 0 {
            words.push(format!("**{} that the primary did not send**", self.strangers));
        }
        out.write_str(&words.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_millis(200);

    fn record(primary: &[&[u8]], before: &[&[u8]], after: &[&[u8]]) -> Record {
        let owned = |frames: &[&[u8]]| frames.iter().map(|bytes| bytes.to_vec()).collect();
        let seen = Seen { before: owned(before), after: owned(after), ..Seen::default() };
        Record::new(primary, &vec![0; primary.len()], &seen, LATE)
    }

    #[test]
    fn equal_frames_are_counted_one_by_one() {
        let one = record(&[b"a", b"a", b"b"], &[b"a", b"b"], &[b"a"]);
        assert_eq!(
            (one.released.0.as_slice(), one.flushed.0.as_slice(), one.lost()),
            (&[0, 2][..], &[1][..], 0)
        );
        let twice = record(&[b"a"], &[b"a", b"a"], &[]);
        assert_eq!((twice.strangers, twice.lost()), (1, 0));
    }

    #[test]
    fn another_order_within_a_flow_is_seen() {
        let turned = record(&[b"a", b"b", b"c"], &[b"c", b"b", b"a"], &[]);
        assert_eq!(turned.order, Order::Broken);
        assert_eq!(turned.to_string(), "all leave, out of order");
        let kept = record(&[b"a", b"b", b"c"], &[b"a", b"b", b"c"], &[]);
        assert!(!kept.agrees_with(&turned) && kept.agrees_with(&kept.clone()));
        assert_eq!(kept.to_string(), "all leave");
    }

    #[test]
    fn what_is_lost_is_said() {
        assert_eq!(
            record(&[b"a", b"b"], &[], &[b"b"]).to_string(),
            "nothing leaves; 1 with the checkpoint; **1 lost**"
        );
    }
}
