//! TCP sequence and acknowledgment numbers, with serial arithmetic (RFC 9293 section 3.4, RFC 1982).

use std::fmt;
use std::ops::{Add, Sub};

/// A position in a TCP stream, modulo 2^32.
///
/// There is no `Ord`: on a circle "less" needs a frame of reference. Two numbers less than 2^31 apart compare by
/// [`is_before`](Self::is_before); 0 is a position like any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqNumber(pub u32);

impl SeqNumber {
    /// How far `self` is past `earlier`: negative when it is before it.
    #[inline(always)]
    pub fn past(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// Whether `self` comes before `other`.
    #[inline(always)]
    pub fn is_before(self, other: Self) -> bool {
        self.past(other) < 0
    }

    /// The later of the two.
    #[inline(always)]
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        if self.is_before(other) { other } else { self }
    }

    /// The earlier of the two.
    #[inline(always)]
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        if other.is_before(self) { other } else { self }
    }

    /// Distance to `other` on the circle, in positions.
    #[inline(always)]
    pub fn distance(self, other: Self) -> u32 {
        self.past(other).unsigned_abs()
    }
}

impl Add<u32> for SeqNumber {
    type Output = Self;

    #[inline(always)]
    fn add(self, positions: u32) -> Self {
        Self(self.0.wrapping_add(positions))
    }
}

impl Sub<u32> for SeqNumber {
    type Output = Self;

    #[inline(always)]
    fn sub(self, positions: u32) -> Self {
        Self(self.0.wrapping_sub(positions))
    }
}

impl fmt::Display for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What to add to a number of one sequence space to get the same position in another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeqShift(u32);

impl SeqShift {
    /// Both spaces are the same.
    pub const IDENTITY: Self = Self(0);

    /// The shift that takes `from` to `to`.
    pub fn between(from: SeqNumber, to: SeqNumber) -> Self {
        Self(to.0.wrapping_sub(from.0))
    }

    /// `number` in the other space.
    #[inline(always)]
    pub fn apply(self, number: SeqNumber) -> SeqNumber {
        number + self.0
    }
}

/// The positions from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeqRange {
    /// The first position.
    pub start: SeqNumber,
    /// One past the last.
    pub end: SeqNumber,
}

impl SeqRange {
    /// `len` positions from `start`.
    #[inline(always)]
    pub fn new(start: SeqNumber, len: u32) -> Self {
        Self { start, end: start + len }
    }

    /// Positions in it; 0 when the end is not past the start.
    #[inline(always)]
    pub fn len(self) -> u32 {
        u32::try_from(self.end.past(self.start)).unwrap_or(0)
    }

    /// Whether it has no position.
    #[inline(always)]
    pub fn is_empty(self) -> bool {
        self.end.past(self.start) <= 0
    }

    /// What both have in common.
    #[inline(always)]
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }

    /// Whether `position` lies in it.
    pub fn contains(self, position: SeqNumber) -> bool {
        !position.is_before(self.start) && position.is_before(self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_serial() {
        let (before, after) = (SeqNumber(0xffff_fff0), SeqNumber(0x10));
        assert!(before.is_before(after));
        assert_eq!(after.past(before), 0x20);
        assert_eq!(before.past(after), -0x20);
        assert_eq!((before.max(after), before.min(after)), (after, before));
        assert!(!before.is_before(before));
    }

    #[test]
    fn ranges_wrap() {
        let range = SeqRange::new(SeqNumber(0xffff_fffe), 4);
        assert_eq!((range.end, range.len()), (SeqNumber(2), 4));
        assert!(range.contains(SeqNumber(0)));
        assert!(!range.contains(SeqNumber(2)));
        assert_eq!(range.intersection(SeqRange::new(SeqNumber(1), 9)).len(), 1);
        assert!(range.intersection(SeqRange::new(SeqNumber(2), 9)).is_empty());
    }

    #[test]
    fn shifts_round_trip() {
        let shift = SeqShift::between(SeqNumber(5), SeqNumber(0xffff_ffff));
        assert_eq!(shift.apply(SeqNumber(7)), SeqNumber(1));
    }
}
