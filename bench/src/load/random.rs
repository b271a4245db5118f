//! Random numbers that cost a nanosecond and come back with their seed. Not for secrets.

/// A generator of xorshift's kind.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From any seed.
    pub fn new(seed: u64) -> Self {
        // Seeds are often small numbers; the state must not be 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32).unwrap_or(0)
    }

    /// One of the numbers below `bound`.
    pub fn below(&mut self, bound: u32) -> u32 {
        u32::try_from((u64::from(self.bits()) * u64::from(bound)) >> 32).unwrap_or(0)
    }

    /// Whether something happens whose chance is `share`, 0 to 1.
    pub fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && f64::from(self.bits()) < share * 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_is_as_frequent_as_it_says() {
        let mut random = Random::new(7);
        for share in [0.0, 0.001, 0.25, 1.0] {
            let happened = (0..100_000).filter(|_| random.happens(share)).count();
            let expected = share * 1e5;
            assert!(
                (f64::from(u32::try_from(happened).unwrap()) - expected).abs() <= expected * 0.3,
                "{happened}"
            );
        }
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = Random::new(0);
        let mut seen = [0; 10];
        (0..1000).for_each(|_| seen[usize::try_from(random.below(10)).unwrap()] += 1);
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
    }
}
