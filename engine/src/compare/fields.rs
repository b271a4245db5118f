//! Header fields that are compared unless somebody says otherwise. Fields that never count (TTL, IP identification,
//! timestamps, checksums, ...) have no name here.

/// A header field whose difference is a contradiction, or limits what leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Maximum segment size of a SYN (RFC 9293 section 3.7.1).
    Mss,
    /// Window scale of a SYN (RFC 7323 section 2).
    WindowScale,
    /// SACK-permitted of a SYN (RFC 2018 section 2).
    SackPermitted,
    /// Whether a SYN offers timestamps (RFC 7323 section 3).
    TimestampsPermitted,
    /// Urgent flag and pointer (RFC 6093).
    Urgent,
    /// The window a segment offers.
    Window,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Mss,
        Self::WindowScale,
        Self::SackPermitted,
        Self::TimestampsPermitted,
        Self::Urgent,
        Self::Window,
    ];

    /// As a word of the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Mss => "mss",
            Self::WindowScale => "window-scale",
            Self::SackPermitted => "sack-permitted",
            Self::TimestampsPermitted => "timestamps-permitted",
            Self::Urgent => "urgent",
            Self::Window => "window",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Mss => 1,
            Self::WindowScale => 1 << 1,
            Self::SackPermitted => 1 << 2,
            Self::TimestampsPermitted => 1 << 3,
            Self::Urgent => 1 << 4,
            Self::Window => 1 << 5,
        }
    }
}

/// Fields that do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IgnoredFields(u8);

impl IgnoredFields {
    /// None: everything that can be compared is.
    pub const NONE: Self = Self(0);

    /// These and one more.
    #[must_use]
    pub fn with(self, field: Field) -> Self {
        Self(self.0 | field.bit())
    }

    /// These and those.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a field does not count.
    #[inline(always)]
    pub fn has(self, field: Field) -> bool {
        self.0 & field.bit() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_a_word_and_a_place_of_its_own() {
        for one in Field::ALL {
            let alone = IgnoredFields::NONE.with(one);
            assert_eq!(alone.with(one), alone, "said twice");
            assert_eq!(alone.union(alone), alone);
            for other in Field::ALL {
                let both = alone.union(IgnoredFields::NONE.with(other));
                assert_eq!(both, alone.with(other));
                assert!(both.has(one) && both.has(other));
                assert_eq!(alone.has(other), one == other);
                assert_eq!(one.label() == other.label(), one == other);
            }
            assert!(
                one.label().len() > 2
                    && one.label().chars().all(|letter| letter.is_ascii_lowercase() || letter == '-')
            );
        }
        let labels = Field::ALL.map(Field::label).join(" ");
        assert_eq!(labels, "mss window-scale sack-permitted timestamps-permitted urgent window");
    }
}
