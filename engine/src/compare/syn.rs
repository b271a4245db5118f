//! What both guests' first SYNs offer: compared when both are known, and where each side's window scale comes from.

use super::contradiction::Contradiction;
use super::incarnation::Incarnation;
use super::{Field, IgnoredFields, Store};
use crate::held::Placed;
use crate::side::Side;
use crate::verdict::MismatchKind;
use crate::wire::{SynOptions, syn_options};

/// Whether two SYNs differ in something that counts.
fn differ(one: SynOptions, other: SynOptions, ignored: IgnoredFields) -> bool {
    let differs = [
        (Field::Mss, one.mss != other.mss),
        (Field::WindowScale, one.window_scale != other.window_scale),
        (Field::SackPermitted, one.sack_permitted != other.sack_permitted),
        (Field::TimestampsPermitted, one.timestamps != other.timestamps),
    ];
    differs.into_iter().any(|(field, differs)| differs && !ignored.has(field))
}

impl Incarnation {
    /// Takes note of what a side's SYN offers, and says whether that contradicts the other side's. Only the first SYN of
    /// a side is judged: a guest may offer less when it tries again.
    #[cold]
    pub(super) fn note_syn(
        &mut self,
        store: &Store,
        ignored: IgnoredFields,
        side: Side,
        placed: &Placed,
        ethernet: &[u8],
    ) -> Option<Contradiction> {
        if self.streams[side].options.is_some() {
            return None;
        }
        let options = syn_options(ethernet);
        self.streams[side].options = Some(options);
        self.settle_scales();
        let other = &self.streams[side.other()];
        let at = placed.range.start;
        let with = other.holder_of(&store.spans, at);
        let differs = other.options.is_some_and(|theirs| differ(options, theirs, ignored));
        differs.then_some(Contradiction { kind: MismatchKind::SynOptions, at, with })
    }

    /// Takes note of the scale of a secondary's SYN that cannot be placed yet; it is judged when it can be.
    #[cold]
    pub(super) fn note_unplaced_syn(&mut self, ethernet: &[u8]) {
        self.streams.secondary.scale = syn_options(ethernet).window_scale.unwrap_or(0);
    }

    /// A side whose SYN was not seen scales as the other does.
    fn settle_scales(&mut self) {
        let [primary, secondary] = Side::BOTH.map(|side| self.streams[side].options);
        let scale_of = |own: Option<SynOptions>, other: Option<SynOptions>| {
            own.or(other).and_then(|options| options.window_scale).unwrap_or(0)
        };
        self.streams.primary.scale = scale_of(primary, secondary);
        if secondary.is_some() || !self.has_secondary_syn() {
            self.streams.secondary.scale = scale_of(secondary, primary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Offered;

    #[test]
    fn each_field_can_be_ignored() {
        let options = SynOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: Offered::Yes,
            timestamps: Offered::Yes,
        };
        let others = [
            (Field::Mss, SynOptions { mss: None, ..options }),
            (Field::WindowScale, SynOptions { window_scale: Some(8), ..options }),
            (Field::SackPermitted, SynOptions { sack_permitted: Offered::No, ..options }),
            (Field::TimestampsPermitted, SynOptions { timestamps: Offered::No, ..options }),
        ];
        for (field, other) in others {
            for ignored in Field::ALL {
                let found = differ(options, other, IgnoredFields::NONE.with(ignored));
                assert_eq!(found, ignored != field, "{field:?} without {ignored:?}");
            }
        }
        assert!(!differ(options, options, IgnoredFields::NONE));
    }
}
