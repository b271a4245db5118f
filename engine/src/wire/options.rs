//! What a SYN offers by its TCP options. Timestamp values, SACK blocks and other kinds are not kept.

/// Option kinds (IANA TCP parameters).
mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const TIMESTAMPS: u8 = 8;
}

/// Largest shift of a window (RFC 7323 section 2.3): a larger one counts as this.
const LARGEST_SCALE: u8 = 14;

/// The options of a SYN that both guests must agree about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Maximum segment size, bytes (RFC 9293 section 3.7.1).
    pub mss: Option<u16>,
    /// Window scale, a shift of 0 to 14 (RFC 7323 section 2).
    pub window_scale: Option<u8>,
    /// SACK-permitted (RFC 2018 section 2).
    pub sack_permitted: Offered,
    /// Timestamps (RFC 7323 section 3).
    pub timestamps: Offered,
}

/// Whether a SYN offers something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offered {
    /// It does.
    Yes,
    /// It does not.
    #[default]
    No,
}

impl SynOptions {
    /// From the bytes behind the fixed TCP header. A length that cannot be ends the walk: what came before it counts.
    /// Of an option that comes twice the last counts, as for the receivers that there are.
    pub fn parse(mut bytes: &[u8]) -> Self {
        let mut found = Self::default();
        loop {
            bytes = match bytes {
                [] | [kind::END, ..] => return found,
                [kind::NOP, rest @ ..] => rest,
                [kind, len, ..] => {
                    let len = usize::from(*len);
                    let (2.., Some(option), Some(rest)) = (len, bytes.get(2..len), bytes.get(len..)) else {
                        return found;
                    };
                    found.note(*kind, option);
                    rest
                }
                [_] => return found,
            };
        }
    }

    fn note(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (kind::MSS, [high, low]) => {
                self.mss = Some(u16::from_be_bytes([*high, *low]));
            }
            (kind::WINDOW_SCALE, [shift]) => {
                self.window_scale = Some((*shift).min(LARGEST_SCALE));
            }
            (kind::SACK_PERMITTED, []) => self.sack_permitted = Offered::Yes,
            (kind::TIMESTAMPS, [_, _, _, _, _, _, _, _]) => self.timestamps = Offered::Yes,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USUAL: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];

    #[test]
    fn options_of_a_usual_syn() {
        let options = SynOptions::parse(&USUAL);
        assert_eq!((options.mss, options.window_scale), (Some(1460), Some(7)));
        assert_eq!((options.sack_permitted, options.timestamps), (Offered::Yes, Offered::Yes));
    }

    #[test]
    fn the_last_of_an_option_counts() {
        let options = SynOptions::parse(&[2, 4, 5, 0xb4, 3, 3, 7, 3, 3, 2, 2, 4, 2, 0x18]);
        assert_eq!((options.mss, options.window_scale), (Some(536), Some(2)));
    }

    #[test]
    fn a_bad_length_ends_the_walk() {
        for bad in [[5, 0], [5, 1], [5, 200]] {
            let mut bytes = vec![2, 4, 5, 0xb4];
            bytes.extend(bad);
            bytes.extend([3, 3, 7]);
            let options = SynOptions::parse(&bytes);
            assert_eq!((options.mss, options.window_scale), (Some(1460), None), "{bad:?}");
        }
        // A known kind of another length is no such option, and the walk goes on.
        assert_eq!(SynOptions::parse(&[2, 3, 5, 3, 3, 99]).window_scale, Some(14));
        assert_eq!(SynOptions::parse(&[0, 3, 3, 7]), SynOptions::default());
        assert_eq!(SynOptions::parse(&[3]), SynOptions::default());
    }

    proptest! {
        /// Any bytes: the walk ends and reads nothing beyond them.
        #[test]
        fn rubbish_is_walked_to_its_end(bytes in prop::collection::vec(any::<u8>(), 0..44)) {
            let options = SynOptions::parse(&bytes);
            prop_assert!(options.window_scale.is_none_or(|scale| scale <= LARGEST_SCALE));
        }
    }
}
