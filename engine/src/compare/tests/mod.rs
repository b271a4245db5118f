//! One life of a connection by itself: what belongs to it, where it puts what comes, how it ends. What becomes of frames
//! is not asked here: the catalogue and the oracle do.

mod ends;
mod layout;
mod lives;
mod positions;

use super::incarnation::{Incarnation, SEQUENCE_WINDOW};
use super::{CompareSettings, SecondarySequence, Store};
use crate::flow::FlowHasher;
use crate::held::Placed;
use crate::side::Side;
use crate::wire::{Extent, Segment, SeqNumber, TcpFlags};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Farther apart than numbers of one space are.
const FAR: u32 = SEQUENCE_WINDOW + 1;

fn segment(flags: u8, seq: u32, ack: impl Into<Option<u32>>, len: u32) -> Segment {
    Segment {
        seq: SeqNumber(seq),
        ack: ack.into().map(SeqNumber),
        flags: TcpFlags::from_bits(flags),
        window: 1_000,
        payload: Extent { offset: 54, len },
    }
}

fn store() -> Store {
    Store::new(64, 64, 4, FlowHasher::fixed())
}

/// A life, told what both sides sent, in this order, as a connection tells it.
struct Told {
    life: Incarnation,
    store: Store,
    settings: CompareSettings,
}

impl Told {
    fn new() -> Self {
        Self { life: Incarnation::new(0), store: store(), settings: CompareSettings::default() }
    }

    fn counting(secondary_sequence: SecondarySequence) -> Self {
        let settings = CompareSettings { secondary_sequence, ..CompareSettings::default() };
        Self { settings, ..Self::new() }
    }

    /// Both guests have opened it with these numbers, answering a client that begins at 4,999.
    fn opened(primary: u32, secondary: u32) -> Self {
        let mut told = Self::new();
        told.primary(&segment(SYN | ACK, primary, 5_000, 0));
        told.secondary(&segment(SYN | ACK, secondary, 5_000, 0));
        told
    }

    fn primary(&mut self, segment: &Segment) -> Placed {
        if !self.life.has_primary() {
            self.life.open_primary(segment);
        }
        let placed = self.life.place_primary(segment);
        assert!(self.life.reach_down(&mut self.store.islands, &placed));
        self.note(Side::Primary, &placed);
        placed
    }

    /// `None`: its place is not known yet.
    fn secondary(&mut self, segment: &Segment) -> Option<Placed> {
        if !self.life.join(&self.settings, &mut self.store, segment) {
            self.life.note_unplaced(segment);
            return None;
        }
        let placed = self.life.place_secondary(&self.settings, segment);
        self.note(Side::Secondary, &placed);
        Some(placed)
    }

    fn note(&mut self, side: Side, placed: &Placed) {
        self.life.note_end(side, placed);
        match side {
            Side::Primary => self.life.note_primary_ack(placed),
            Side::Secondary => self.life.note_secondary_ack(placed),
        }
        assert!(self.life.streams[side].cover(&mut self.store.islands, placed.range));
    }
}
