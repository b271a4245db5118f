//! Seeded draws: a `SplitMix64` sequence. Equal seeds draw equal numbers, for ever.

/// A sequence of draws.
#[derive(Clone, Debug)]
pub struct Draws {
    state: u64,
}

impl Draws {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: mix(seed, 0x51) }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state, 0)
    }

    /// The next 32 bits.
    pub fn word(&mut self) -> u32 {
        u32::try_from(self.bits() >> 32).unwrap_or(0)
    }

    /// A number of `0..bound`; 0 when there is none.
    pub fn below(&mut self, bound: u32) -> u32 {
        let wide = u64::from(self.word()) * u64::from(bound);
        u32::try_from(wide >> 32).unwrap_or(0)
    }

    /// The same for places in a list.
    pub fn place(&mut self, len: usize) -> usize {
        index(self.below(u32::try_from(len).unwrap_or(u32::MAX)))
    }

    /// A number of `low..=high`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }
}

/// Mixes two words into one (the finaliser of `SplitMix64`).
pub fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A small number as a place in a list.
pub fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A length as a number.
pub fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
