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

    /// An IPv4 TCP segment with SYN that offers to scale windows (RFC 7323 section 2.2).
    fn scaled_syn(scale: u8) -> Vec<u8> {
        let mut frame = vec![0; 58];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&[0, 44]);
        frame[23] = 6;
        frame[46] = 0x60;
        frame[47] = 0x02;
        frame[54..58].copy_from_slice(&[3, 3, scale, 0]);
        frame
    }

    /// A guest whose SYN was not seen scales as the other does; one whose SYN waits for its place scales as that says.
    #[test]
    fn a_scale_is_the_guests_own_or_the_others() {
        let store = Store::new(8, 8, 1, crate::flow::FlowHasher::fixed());
        let segment = crate::wire::Segment {
            seq: crate::wire::SeqNumber(100),
            ack: None,
            flags: crate::wire::TcpFlags::from_bits(2),
            window: 1_000,
            payload: crate::wire::Extent { offset: 58, len: 0 },
        };
        for (secondary, expected) in [(None, 7), (Some(3), 3)] {
            let mut life = Incarnation::new(0);
            if let Some(scale) = secondary {
                life.note_unplaced_syn(&scaled_syn(scale));
                life.note_unplaced(&segment);
            }
            life.open_primary(&segment);
            let placed = life.place_primary(&segment);
            life.note_syn(&store, IgnoredFields::NONE, Side::Primary, &placed, &scaled_syn(7));
            assert_eq!((life.streams.primary.scale, life.streams.secondary.scale), (7, expected));
        }
    }
}
