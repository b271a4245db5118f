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
