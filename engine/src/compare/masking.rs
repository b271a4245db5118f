//! Differences that do not count: what no comparison looks at, and what a rule masks.
//!
//! Nothing here is on the usual way. Bytes are compared as they are; only when they differ does anybody ask why.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use super::same::is_same;
use super::volatile::stretches;
use super::{Context, Flow};
use crate::held::Placed;
use crate::policy::{self, MAX_RULES, Masked, PayloadMask, RuleIndex, RuleSet, Window};
use crate::wire::{SeqNumber, SeqRange};

/// A position of a stream and its offset, which others are counted from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamOrigin {
    pub(super) mark: SeqNumber,
    pub(super) offset: i64,
}

impl StreamOrigin {
    fn offset_of(self, position: SeqNumber) -> i64 {
        self.offset + i64::from(position.past(self.mark))
    }
}

/// The masks in force, and which one the connection at hand has. Counts what they forgave, by the rule's place.
#[derive(Debug)]
pub struct MaskDesk {
    rules: Option<Arc<RuleSet>>,
    rule: RuleIndex,
    forgiven: Box<[Cell<u64>]>,
}

impl Default for MaskDesk {
    fn default() -> Self {
        Self { rules: None, rule: RuleIndex::NONE, forgiven: vec![Cell::new(0); MAX_RULES].into() }
    }
}

impl MaskDesk {
    /// Takes other rules.
    pub(crate) fn replace(&mut self, rules: Arc<RuleSet>) {
        self.rules = Some(rules);
    }

    /// Turns to a connection under this rule.
    #[inline(always)]
    pub(crate) fn turn_to(&mut self, rule: RuleIndex) {
        self.rule = rule;
    }

    /// The rule of the connection at hand.
    pub(super) fn rule(&self) -> RuleIndex {
        self.rule
    }

    /// The mask of the connection at hand.
    #[cold]
    pub(super) fn mask(&self) -> Option<&PayloadMask> {
        self.rules.as_ref()?.mask(self.rule)
    }

    /// Whether the connection at hand has a mask with an expression.
    pub(super) fn has_expressions(&self) -> bool {
        self.mask().is_some_and(PayloadMask::has_expressions)
    }

    /// Differences that masks forgave, by the rule's place.
    pub fn forgiven(&self) -> impl Iterator<Item = u64> {
        self.forgiven.iter().map(Cell::get)
    }

    /// What a comparison came to; a forgiven difference is counted.
    fn count(&self, mask: Option<&PayloadMask>, masked: Option<Masked>) -> Option<i64> {
        match masked? {
            Masked::DiffersAt(offset) => Some(offset),
            Masked::Forgiven => {
                if let Some(cell) = mask.and(self.rule.place()).and_then(|place| self.forgiven.get(place)) {
                    cell.set(cell.get() + 1);
                }
                None
            }
        }
    }

    /// The first of `common` whose byte differs between two segments and counts.
    #[cold]
    pub(super) fn difference_in_stream(
        &self,
        mask: &PayloadMask,
        origin: StreamOrigin,
        segments: [(&Placed, &[u8]); 2],
        common: SeqRange,
    ) -> Option<SeqNumber> {
        let windows = segments.map(|(placed, ethernet)| Window {
            bytes: placed.extent.of(ethernet),
            start: origin.offset_of(placed.payload.start),
        });
        let start = origin.offset_of(common.start);
        let masked = policy::compare(Some(mask), &[], windows, start..start + i64::from(common.len()));
        let at = self.count(Some(mask), masked)?;
        Some(common.start + u32::try_from(at - start).unwrap_or(0))
    }
}

/// Whether only the lengths of two datagrams' contents differ, or where a byte differs that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// They are equal, as far as it counts.
    None,
    /// At this offset.
    At(usize),
}

/// Compares two datagrams of a flow.
#[inline(always)]
pub(super) fn difference_of(flow: &Flow, cx: &Context<'_>, one: &[u8], other: &[u8]) -> Difference {
    if is_same(one, other) { Difference::None } else { unequal(flow, cx, one, other) }
}

#[cold]
fn unequal(flow: &Flow, cx: &Context<'_>, one: &[u8], other: &[u8]) -> Difference {
    let mask = cx.store.masks.mask();
    let free = stretches(&flow.key, one);
    let common = i64::try_from(one.len().min(other.len())).unwrap_or(0);
    let windows = [one, other].map(|bytes| Window { bytes, start: 0 });
    let masked = policy::compare(mask, &free, windows, 0..common);
    let differs = match masked {
        Some(Masked::DiffersAt(offset)) => Some(offset),
        // A mask never changes lengths.
        _ if one.len() != other.len() => Some(common),
        masked => cx.store.masks.count(mask, masked),
    };
    match differs {
        Some(offset) => Difference::At(usize::try_from(offset).unwrap_or(0)),
        None => Difference::None,
    }
}

/// The keyed digest of what counts of a datagram's content.
pub(super) fn digest_of(flow: &Flow, cx: &Context<'_>, connection: u32, content: &[u8]) -> u64 {
    let (free, mask) = (stretches(&flow.key, content), cx.store.masks.mask());
    let ranges: &[Range<usize>] = &free;
    if ranges.is_empty() && mask.is_none() {
        return cx.store.hasher.digest(connection, content);
    }
    cx.store.hasher.digest_parts(connection, policy::counting_parts(content, ranges, mask))
}
