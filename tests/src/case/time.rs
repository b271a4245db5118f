//! Points and lengths of virtual time, in nanoseconds since the start of a case. No clock is read here.

use std::fmt;
use std::ops::{Add, Sub};

/// Nanoseconds since the start of a case, or between two such points.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ns(pub u64);

/// Written after a number: `3.ms()`.
pub trait Time {
    /// So many milliseconds.
    fn ms(self) -> Ns;
    /// So many microseconds.
    fn us(self) -> Ns;
}

impl Time for u64 {
    fn ms(self) -> Ns {
        Ns(self * 1_000_000)
    }

    fn us(self) -> Ns {
        Ns(self * 1_000)
    }
}

impl Add for Ns {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Ns {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl fmt::Debug for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} ms", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
