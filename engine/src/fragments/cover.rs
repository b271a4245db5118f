//! Which bytes of a datagram its fragments have brought: one bit for eight bytes, as offsets count in eights.
//!
//! So an overlap is found by looking at the fragment's own bits, however many came before it.

use crate::wire::{Fragment, Place};

/// Words of bits for the longest datagram.
pub(super) const WORDS: usize = 128;
const BITS: u32 = 64;
const UNIT: u32 = 8;
/// Longest IP datagram (RFC 791 section 3.1, RFC 8200 section 3).
const MAX_LEN: u32 = 65_535;

/// What is known of a datagram's length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cover {
    /// Bytes that came.
    received: u32,
    /// End of the farthest fragment.
    top: u32,
    /// Where the datagram ends, once its last fragment came.
    end: Option<u32>,
}

/// Whether a fragment can be a part of its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It can, and counts.
    Fits,
    /// It overlaps, lies beyond the end, is too long, or has a length that no fragment has.
    Misfit,
}

impl Cover {
    /// Adds a fragment; a misfit changes nothing. Overlaps are never allowed (RFC 5722, RFC 8200 section 4.5), not even
    /// exact ones, in IPv4 neither: which copy would the receiver take?
    pub(super) fn add(&mut self, bits: &mut [u64], fragment: &Fragment) -> Fit {
        let (len, end) = (fragment.payload.len, fragment.end());
        let sound = match fragment.place {
            Place::Inner => len.is_multiple_of(UNIT) && self.end.is_none_or(|known| end <= known),
            Place::Last => self.end.is_none() && self.top <= end,
        };
        if len == 0 || end > MAX_LEN || !sound || !mark(bits, fragment.offset / UNIT, end.div_ceil(UNIT)) {
            return Fit::Misfit;
        }
        self.received += len;
        self.top = self.top.max(end);
        if fragment.place == Place::Last {
            self.end = Some(end);
        }
        Fit::Fits
    }

    /// The datagram's length, if all of it came.
    pub(super) fn whole(&self) -> Option<u32> {
        self.end.filter(|end| *end == self.received)
    }

    /// Clears the bits that were set.
    pub(super) fn clear(&mut self, bits: &mut [u64]) {
        let words = self.top.div_ceil(UNIT * BITS);
        bits.iter_mut().take(usize::try_from(words).unwrap_or(WORDS)).for_each(|word| *word = 0);
        *self = Self::default();
    }
}

/// Sets bits `from..to`, unless one of them is set.
fn mark(bits: &mut [u64], from: u32, to: u32) -> bool {
    let masks = || {
        (from / BITS..to.div_ceil(BITS)).map(move |word| {
            let low = from.saturating_sub(word * BITS).min(BITS);
            let high = (to - word * BITS).min(BITS);
            (usize::try_from(word).unwrap_or(WORDS), ones(high) & !ones(low))
        })
    };
    if masks().any(|(word, mask)| bits.get(word).is_none_or(|bits| bits & mask != 0)) {
        return false;
    }
    for (word, mask) in masks() {
        if let Some(bits) = bits.get_mut(word) {
            *bits |= mask;
        }
    }
    true
}

/// So many low bits.
fn ones(count: u32) -> u64 {
    1_u64.checked_shl(count).map_or(u64::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn marks_are_those_of_a_list(spans in prop::collection::vec((0_u32..8192, 1_u32..300), 1..40)) {
            let (mut bits, mut naive) = ([0_u64; WORDS], vec![false; 8192]);
            for (from, len) in spans {
                let to = (from + len).min(8192);
                let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
                let free = naive[range.clone()].iter().all(|bit| !bit);
                prop_assert_eq!(mark(&mut bits, from, to), free);
                if free {
                    naive[range].fill(true);
                }
            }
            let count: u32 = bits.iter().map(|word| word.count_ones()).sum();
            prop_assert_eq!(usize::try_from(count).unwrap(), naive.iter().filter(|bit| **bit).count());
        }
    }
}
