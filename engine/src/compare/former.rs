//! Former lives of a shard's connections, in fixed memory. Not when a life begins: that is `tcp`'s matter.
//!
//! A life is forgotten by its connection, or by the table when it needs room and nothing of that life is held. So a
//! connection names it by a ticket, which says whether it is still there.

use std::time::Duration;

use pmd_tap::Nanos;

use super::incarnation::Incarnation;
use crate::spans::Spans;

/// Lives looked at for one that finds no room.
const SWEEP: usize = 64;
/// How long latecomers of a replaced life are expected, at least.
const SHORTEST_AGE: Duration = Duration::from_secs(1);

/// A former life, if it is still known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FormerId {
    index: u32,
    ticket: u32,
}

#[derive(Debug)]
struct Slot {
    ticket: u32,
    since: Nanos,
    life: Option<Incarnation>,
}

/// The lives.
#[derive(Debug)]
pub(crate) struct FormerLives {
    slots: Vec<Slot>,
    free: Vec<u32>,
    capacity: usize,
    hand: usize,
}

/// Where the stretches and gaps of lives are.
pub(crate) struct Memory<'a> {
    pub(crate) spans: &'a mut Spans,
    pub(crate) islands: &'a mut Spans,
}

impl FormerLives {
    /// Room for `capacity` lives.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { slots: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity), capacity, hand: 0 }
    }

    /// Lives known.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Forgets all, their memory being gone already.
    pub(crate) fn clear(&mut self) {
        self.free.clear();
        for (index, slot) in (0_u32..).zip(&mut self.slots) {
            slot.life = None;
            slot.ticket = slot.ticket.wrapping_add(1);
            self.free.push(index);
        }
    }

    fn slot(&self, id: FormerId) -> Option<&Slot> {
        self.slots.get(usize::try_from(id.index).ok()?).filter(|slot| slot.ticket == id.ticket)
    }

    fn slot_mut(&mut self, id: FormerId) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(id.index).ok()?).filter(|slot| slot.ticket == id.ticket)
    }

    /// A life.
    pub(crate) fn get(&self, id: FormerId) -> Option<&Incarnation> {
        self.slot(id)?.life.as_ref()
    }

    /// Takes a life out for a while; [`put_back`](Self::put_back) follows.
    pub(crate) fn take(&mut self, id: FormerId) -> Option<Incarnation> {
        self.slot_mut(id)?.life.take()
    }

    /// Puts a life back.
    pub(crate) fn put_back(&mut self, id: FormerId, life: Incarnation) {
        if let Some(slot) = self.slot_mut(id) {
            slot.life = Some(life);
        }
    }

    /// Whether nothing of a life is held and its latecomers have had their time.
    pub(crate) fn has_aged(&self, id: FormerId, timeout: Duration, now: Nanos) -> bool {
        self.slot(id).is_some_and(|slot| {
            now.since(slot.since) > timeout.max(SHORTEST_AGE)
                && slot.life.as_ref().is_some_and(Incarnation::holds_nothing)
        })
    }

    /// Adds a life that ended at `since`; without room, lives of which nothing is held make some. `None`: none did, and
    /// the life is gone.
    pub(crate) fn insert(
        &mut self,
        mut life: Incarnation,
        since: Nanos,
        mut memory: Memory<'_>,
    ) -> Option<FormerId> {
        if self.len() == self.capacity {
            self.sweep(&mut memory);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < self.capacity => {
                self.slots.push(Slot { ticket: 0, since, life: None });
                u32::try_from(self.slots.len() - 1).ok()?
            }
            None => {
                life.free(&mut memory);
                return None;
            }
        };
        let slot = self.slots.get_mut(usize::try_from(index).ok()?)?;
        (slot.since, slot.life) = (since, Some(life));
        Some(FormerId { index, ticket: slot.ticket })
    }

    /// Forgets a life and takes its memory back.
    pub(crate) fn forget(&mut self, id: FormerId, memory: &mut Memory<'_>) {
        if let Some(slot) = self.slot_mut(id) {
            slot.ticket = slot.ticket.wrapping_add(1);
            if let Some(mut life) = slot.life.take() {
                life.free(memory);
            }
            self.free.push(id.index);
        }
    }

    /// Forgets those among the next few lives of which nothing is held: their latecomers are strangers then.
    #[cold]
    fn sweep(&mut self, memory: &mut Memory<'_>) {
        for _ in 0..SWEEP.min(self.slots.len()) {
            let slot = &self.slots[self.hand];
            let idle = slot.life.as_ref().is_some_and(Incarnation::holds_nothing);
            let id = u32::try_from(self.hand).map(|index| FormerId { index, ticket: slot.ticket });
            self.hand = (self.hand + 1) % self.slots.len();
            if let (true, Ok(id)) = (idle, id) {
                self.forget(id, memory);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::HeldId;
    use crate::wire::{SeqNumber, SeqRange};

    struct Rig {
        lives: FormerLives,
        spans: Spans,
        islands: Spans,
    }

    impl Rig {
        fn new(capacity: usize) -> Self {
            Self {
                lives: FormerLives::new(capacity),
                spans: Spans::new(16, 8, 1),
                islands: Spans::new(8, 8, 2),
            }
        }

        fn insert(&mut self, life: Incarnation, since: u64) -> Option<FormerId> {
            let memory = Memory { spans: &mut self.spans, islands: &mut self.islands };
            self.lives.insert(life, Nanos(since), memory)
        }

        fn forget(&mut self, id: FormerId) {
            self.lives.forget(id, &mut Memory { spans: &mut self.spans, islands: &mut self.islands });
        }

        /// A life of which something is held.
        fn holding(&mut self) -> Incarnation {
            let mut life = Incarnation::new(0);
            for start in [1, 3] {
                let range = SeqRange::new(SeqNumber(start), 1);
                let stream = &mut life.streams.primary;
                assert!(stream.hold(&self.islands, &mut self.spans, range, HeldId(0)));
            }
            life
        }
    }

    #[test]
    fn a_life_ages_when_more_than_the_timeout_is_over_and_nothing_of_it_is_held() {
        let mut rig = Rig::new(2);
        let idle = rig.insert(Incarnation::new(0), 100).unwrap();
        let life = rig.holding();
        let busy = rig.insert(life, 100).unwrap();
        for (timeout, patience) in [(400, 1_000), (2_000, 2_000)] {
            let aged = |id, nanos| rig.lives.has_aged(id, Duration::from_millis(timeout), Nanos(nanos));
            let at = 100 + patience * 1_000_000;
            assert!(!aged(idle, at) && aged(idle, at + 1) && !aged(busy, at + 1), "{timeout} ms");
        }
    }

    #[test]
    fn room_is_made_by_lives_of_which_nothing_is_held() {
        let mut rig = Rig::new(3);
        let held = [(); 2].map(|()| rig.holding());
        let [first, second] = held.map(|life| rig.insert(life, 0).unwrap());
        let idle = rig.insert(Incarnation::new(7), 0).unwrap();
        assert_eq!(rig.lives.len(), 3);
        let next = rig.holding();
        let next = rig.insert(next, 0).unwrap();
        assert!(rig.lives.get(idle).is_none() && rig.lives.get(next).is_some());
        assert!(rig.lives.get(first).is_some() && rig.lives.get(second).is_some());
        // All hold something: the life that comes is gone, and what it held is free again.
        let used = rig.spans.used();
        let refused = rig.holding();
        assert_eq!(rig.insert(refused, 0), None);
        assert_eq!((rig.lives.len(), rig.spans.used()), (3, used));
        rig.forget(first);
        assert_eq!(rig.lives.len(), 2);
        assert!(rig.spans.used() < used);
    }

    /// However many there are, the hand comes past all of them.
    #[test]
    fn the_hand_goes_round() {
        let mut rig = Rig::new(2 * SWEEP);
        let lives: Vec<_> = (0..2 * SWEEP).map(|_| rig.insert(Incarnation::new(0), 0).unwrap()).collect();
        for round in 1..=2 {
            rig.insert(Incarnation::new(1), 0).unwrap();
            let left = lives.iter().filter(|id| rig.lives.get(**id).is_some()).count();
            assert_eq!(left, (2 - round) * SWEEP, "round {round}");
            while rig.lives.len() < 2 * SWEEP {
                rig.insert(Incarnation::new(1), 0).unwrap();
            }
        }
    }

    #[test]
    fn a_ticket_is_good_for_one_life() {
        let mut rig = Rig::new(1);
        let first = rig.insert(Incarnation::new(1), 0).unwrap();
        rig.forget(first);
        rig.forget(first);
        let second = rig.insert(Incarnation::new(2), 0).unwrap();
        assert!(rig.lives.get(first).is_none() && rig.lives.get(second).is_some());
        rig.lives.clear();
        assert!(rig.lives.get(second).is_none());
        assert_eq!(rig.lives.len(), 0);
        let third = rig.insert(Incarnation::new(3), 0).unwrap();
        assert_eq!(rig.lives.take(third).map(|life| life.generation), Some(3));
        assert!(rig.lives.get(third).is_none());
        rig.lives.put_back(third, Incarnation::new(4));
        assert_eq!(rig.lives.get(third).map(|life| life.generation), Some(4));
    }
}
