//! Acknowledgments of the secondary, after a commit, above what the primary has acknowledged: they count only when the
//! primary has sent them, too. Bounded; the lowest are kept exactly, because those come to count first.

use crate::wire::SeqNumber;

/// What a burst of received segments makes a guest send that is a little faster.
const ROOM: usize = 16;

/// Acknowledgments and the windows that came with them.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct AcksAhead {
    len: u8,
    acks: [SeqNumber; ROOM],
    /// As sent; of one acknowledgment the largest.
    windows: [u16; ROOM],
}

impl AcksAhead {
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    fn iter(&self) -> impl Iterator<Item = (SeqNumber, u16)> + use<> {
        self.acks.into_iter().zip(self.windows).take(usize::from(self.len))
    }

    /// Adds one. When there is no room the highest gives way, which only lets a frame wait longer.
    #[cold]
    pub(super) fn insert(&mut self, ack: SeqNumber, window: u16) {
        if let Some(at) = self.iter().position(|(known, _)| known == ack) {
            self.windows[at] = self.windows[at].max(window);
            return;
        }
        if usize::from(self.len) == ROOM {
            let highest = self.iter().map(|(ack, _)| ack).reduce(SeqNumber::max);
            self.take(|ack| Some(ack) == highest, |_, _| {});
        }
        let at = usize::from(self.len);
        if let (Some(place), Some(offered)) = (self.acks.get_mut(at), self.windows.get_mut(at)) {
            (*place, *offered) = (ack, window);
            self.len += 1;
        }
    }

    /// Takes out those that `counts` says yes to.
    #[cold]
    pub(super) fn take(&mut self, counts: impl Fn(SeqNumber) -> bool, mut each: impl FnMut(SeqNumber, u16)) {
        let mut kept = Self::default();
        for (ack, window) in self.iter() {
            if counts(ack) {
                each(ack, window);
            } else {
                let at = usize::from(kept.len);
                (kept.acks[at], kept.windows[at]) = (ack, window);
                kept.len += 1;
            }
        }
        *self = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(ahead: &mut AcksAhead, highest: u32) -> Vec<(u32, u16)> {
        let mut all = Vec::new();
        ahead.take(|ack| !SeqNumber(highest).is_before(ack), |ack, window| all.push((ack.0, window)));
        all.sort_unstable();
        all
    }

    #[test]
    fn the_lowest_are_kept_and_the_largest_window_of_each() {
        let mut ahead = AcksAhead::default();
        for ack in (1..=20).rev() {
            ahead.insert(SeqNumber(ack), 100);
        }
        ahead.insert(SeqNumber(2), 300);
        ahead.insert(SeqNumber(2), 200);
        assert_eq!(taken(&mut ahead, 3), [(1, 100), (2, 300), (3, 100)]);
        assert_eq!(taken(&mut ahead, 100).len(), 13, "16 are kept, and the highest gave way");
        assert!(ahead.is_empty());
    }
}
