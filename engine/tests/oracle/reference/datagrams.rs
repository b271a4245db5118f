//! Datagrams of one flow, first-in first-out: each matches the oldest equal one of the other side.

use colo_engine::side::{BySide, Side};

use super::{Decided, Waiting};
use crate::drive::{REORDER_GRACE_NS, Verdict, Why};

#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    /// The primary's matched ones wait here, too, for those in front of them.
    pub(crate) held: BySide<Vec<Waiting<Vec<u8>>>>,
    matched: Vec<usize>,
    mismatch_reported: bool,
}

impl Datagrams {
    pub(crate) fn arrive(&mut self, side: Side, arrived: Waiting<Vec<u8>>, decided: &mut Decided) {
        let partner = self.held[side.other()]
            .iter()
            .position(|held| held.what == arrived.what && !self.is_matched(side.other(), held.frame));
        match (side, partner) {
            (Side::Primary, Some(at)) => {
                let partner = self.held.secondary.remove(at);
                decided.verdicts.push(Verdict::Drop { frame: partner.frame, why: "matched" });
                self.matched.push(arrived.frame);
                self.held.primary.push(arrived);
            }
            (Side::Secondary, Some(at)) => {
                self.matched.push(self.held.primary[at].frame);
                decided.verdicts.push(Verdict::Drop { frame: arrived.frame, why: "matched" });
            }
            (_, None) => self.held[side].push(arrived),
        }
        while let Some(head) = self.held.primary.first()
            && self.is_matched(Side::Primary, head.frame)
        {
            decided.verdicts.push(Verdict::Release { frame: head.frame, why: "matched" });
            self.held.primary.remove(0);
        }
    }

    fn is_matched(&self, side: Side, frame: usize) -> bool {
        side == Side::Primary && self.matched.contains(&frame)
    }

    /// When the two heads have differed long enough.
    pub(crate) fn grace_due(&self) -> Option<u64> {
        let [primary, secondary] = [self.held.primary.first()?, self.held.secondary.first()?];
        (!self.mismatch_reported).then(|| primary.at_ns.max(secondary.at_ns) + REORDER_GRACE_NS)
    }

    pub(crate) fn report_mismatch(&mut self) -> Why {
        self.mismatch_reported = true;
        let [primary, secondary] = [&self.held.primary[0], &self.held.secondary[0]];
        let equal = primary.what.iter().zip(&secondary.what).take_while(|(one, other)| one == other).count();
        Why::Mismatch {
            kind: "datagram",
            offset: i64::try_from(equal).unwrap(),
            primary: Some(primary.frame),
            secondary: Some(secondary.frame),
        }
    }

    /// Everything leaves or is dropped.
    pub(crate) fn commit(&mut self) -> BySide<Vec<usize>> {
        let Self { held, .. } = std::mem::take(self);
        let frames = |held: Vec<Waiting<Vec<u8>>>| held.into_iter().map(|held| held.frame).collect();
        BySide { primary: frames(held.primary), secondary: frames(held.secondary) }
    }
}
