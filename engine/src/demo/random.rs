//! Seeded draws for the demo world: a `SplitMix64` sequence, nothing cryptographic. Equal seeds give equal
//! worlds, which is what lets a guest be rebuilt and a failing run be repeated.

/// Mixes two words into one, well enough to derive independent seeds (the `SplitMix64` finaliser).
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `bits` folded into `0..bound`; 0 when `bound` is 0.
pub(super) fn below(bits: u64, bound: usize) -> usize {
    let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
    usize::try_from(bits % bound).unwrap_or(0)
}

/// A sequence of draws from one seed.
#[derive(Debug, Clone)]
pub(super) struct Draws {
    seed: u64,
    drawn: u64,
}

impl Draws {
    /// The sequence of `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.seed, self.drawn)
    }

    /// The next number of `0..bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        below(self.bits(), bound)
    }

    /// True with probability `p`: never for 0, always for 1.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        let high = u32::try_from(self.bits() >> 32).unwrap_or(u32::MAX);
        f64::from(high) / 4_294_967_296.0 < p
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_keeps_its_promises_at_both_ends() {
        let mut draws = Draws::new(7);
        assert!((0..1_000).all(|_| draws.chance(1.0)));
        assert!((0..1_000).all(|_| !draws.chance(0.0)));
        let hits = (0..10_000).filter(|_| draws.chance(0.1)).count();
        assert!((800..1_200).contains(&hits), "{hits}");
    }

    #[test]
    fn equal_seeds_draw_equal_numbers() {
        let (mut a, mut b, mut c) = (Draws::new(1), Draws::new(1), Draws::new(2));
        let first: Vec<u64> = (0..8).map(|_| a.bits()).collect();
        assert!(first.iter().all(|&bits| bits == b.bits()));
        assert!(first.iter().any(|&bits| bits != c.bits()));
    }
}
