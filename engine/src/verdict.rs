//! What the comparer decides: the words that reports, metrics and `colo replay` share.

use pmd_tap::{Frame, Nanos};

use crate::flow::FlowKey;
use crate::side::{BySide, Side};
use crate::wire::{Packet, SeqNumber};

/// Why a primary frame left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// The secondary sent the same.
    Matched,
    /// It carries no payload, SYN, FIN or RST, and acknowledges nothing that the secondary lacks.
    Ack,
    /// It is not compared.
    Pass,
    /// A checkpoint was committed.
    Flush,
}

impl Release {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Matched, Self::Ack, Self::Pass, Self::Flush];

    /// As a label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Ack => "ack",
            Self::Pass => "pass",
            Self::Flush => "flush",
        }
    }
}

/// Why a secondary frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Discard {
    /// The primary sent the same; pure ACKs too.
    Matched,
    /// It is not compared, or malformed.
    Pass,
    /// A checkpoint was committed.
    Flush,
    /// It belongs to an old epoch or incarnation, or its place is absurd.
    Stale,
    /// The secondary had sent all of it before.
    Duplicate,
    /// There was no room for it, or its flow had run out of room: dropped until the next commit.
    OverBudget,
}

impl Discard {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Matched, Self::Pass, Self::Flush, Self::Stale, Self::Duplicate, Self::OverBudget];

    /// As a label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Pass => "pass",
            Self::Flush => "flush",
            Self::Stale => "stale",
            Self::Duplicate => "duplicate",
            Self::OverBudget => "over_budget",
        }
    }
}

/// Why a checkpoint is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The sides contradict each other.
    Mismatch,
    /// A frame found no partner in time.
    Timeout,
    /// Held frames reached the high-water mark.
    QueueFull,
    /// The connection table is full.
    TableFull,
    /// The longest time between checkpoints is over.
    Periodic,
    /// Somebody asked.
    Operator,
}

impl Reason {
    /// Its place in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        match self {
            Self::Mismatch => 0,
            Self::Timeout => 1,
            Self::QueueFull => 2,
            Self::TableFull => 3,
            Self::Periodic => 4,
            Self::Operator => 5,
        }
    }

    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Mismatch, Self::Timeout, Self::QueueFull, Self::TableFull, Self::Periodic, Self::Operator];

    /// As a label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Mismatch => "mismatch",
            Self::Timeout => "timeout",
            Self::QueueFull => "queue_full",
            Self::TableFull => "table_full",
            Self::Periodic => "periodic",
            Self::Operator => "operator",
        }
    }
}

/// What kind of contradiction a mismatch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MismatchKind {
    /// A payload byte differs.
    Payload,
    /// One side's stream ends where the other's goes on.
    Fin,
    /// One side reset the connection where the other goes on.
    Rst,
    /// A side contradicts what it sent before.
    SelfInconsistent,
    /// The oldest datagrams of both sides differ.
    Datagram,
    /// The SYNs offer other options.
    SynOptions,
    /// One side announces urgent data where the other does not.
    Urgent,
}

impl MismatchKind {
    /// As a word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Fin => "fin",
            Self::Rst => "rst",
            Self::SelfInconsistent => "self-inconsistent",
            Self::Datagram => "datagram",
            Self::SynOptions => "syn-options",
            Self::Urgent => "urgent",
        }
    }
}

/// What a frame that timed out was waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitsFor {
    /// The secondary's bytes or events up to its end.
    Secondary,
    /// The secondary's acknowledgment of the client bytes that it acknowledges.
    SecondaryAck,
    /// The secondary's window as far as its own.
    SecondaryWindow,
    /// The secondary's reset.
    SecondaryReset,
    /// The primary's bytes or events.
    Primary,
    /// A checkpoint: it lies at or past a contradiction, or cannot be tracked.
    Checkpoint,
    /// The rest of its datagram.
    Fragments,
}

impl WaitsFor {
    /// As words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Secondary => "secondary",
            Self::SecondaryAck => "secondary-ack",
            Self::SecondaryWindow => "secondary-window",
            Self::SecondaryReset => "secondary-reset",
            Self::Primary => "primary",
            Self::Checkpoint => "checkpoint",
            Self::Fragments => "fragments",
        }
    }
}

/// How far a side's TCP stream had come. Offsets count as in [`Detail::Mismatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// The sequence number of stream offset 0, as this side counts (modulo 2^32).
    pub zero: SeqNumber,
    /// Everything before this offset was sent.
    pub next: i64,
    /// How far beyond `next` it sent something, with gaps in between.
    pub beyond: u32,
}

impl StreamState {
    /// One past the highest offset that was sent.
    pub fn top(self) -> i64 {
        self.next + i64::from(self.beyond)
    }
}

/// Where one side stood when a cause was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideState {
    /// Its stream; `None` for other protocols, and while nothing of it has a place.
    pub stream: Option<StreamState>,
    /// Highest client number that it acknowledged, as far as that counts.
    pub ack: Option<SeqNumber>,
    /// Highest right edge that it offered (acknowledgment plus scaled window), if edges are followed.
    pub edge: Option<SeqNumber>,
    /// Frames of the flow that were held; the arriving one is not among them.
    pub held: u32,
    /// How long the oldest of them had been held, nanoseconds.
    pub oldest_held_ns: u64,
}

/// Where both sides stood when a cause was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// Both sides.
    pub sides: BySide<SideState>,
    /// The rule that the flow is under, by its place in the configuration, counted from 1.
    pub rule: Option<u32>,
}

/// What a cause knows beyond its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// A contradiction.
    Mismatch {
        /// Its kind.
        kind: MismatchKind,
        /// Stream offset of the first differing byte (0: the byte after the SYN, or the first position seen), or
        /// offset in the datagram's content.
        offset: i64,
        /// The primary's frame, by its place in its input.
        primary: Option<u64>,
        /// The secondary's.
        secondary: Option<u64>,
        /// Where both stood.
        scene: Scene,
    },
    /// A frame that waited too long.
    Timeout {
        /// Who sent it.
        side: Side,
        /// Its place in its input.
        frame: u64,
        /// What for.
        waits_for: WaitsFor,
        /// Where both stood.
        scene: Scene,
    },
    /// A bound was reached.
    Bound {
        /// Which, by its name in the configuration.
        limit: &'static str,
    },
}

/// A reason for a checkpoint, as the data plane saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The reason.
    pub reason: Reason,
    /// When.
    pub at: Nanos,
    /// The flow, if it is about one.
    pub flow: Option<FlowKey>,
    /// What is known.
    pub detail: Detail,
}

/// Where the comparer's decisions go. Implementations neither block nor allocate.
pub trait Sink {
    /// A frame of a burst is next: what follows is about it, or comes of it.
    #[inline(always)]
    fn begin(&mut self, side: Side, frame: &Frame, packet: &Packet) {
        let _ = (side, frame, packet);
    }

    /// That frame has been through the comparison.
    #[inline(always)]
    fn end(&mut self, side: Side) {
        let _ = side;
    }

    /// Both frames of a pair have been through the comparison together: the primary's leaves, the secondary's is dropped.
    #[inline(always)]
    fn release_pair(&mut self, pair: BySide<Frame>, packets: BySide<&Packet>, why: Release) {
        release_one_by_one(self, pair, packets, why);
    }

    /// A primary frame leaves.
    fn release(&mut self, frame: Frame, why: Release);

    /// A secondary frame is dropped.
    fn discard(&mut self, frame: Frame, why: Discard);

    /// The primary frame that leaves next had its window lowered.
    fn note_clamped(&mut self) {}

    /// A flow that keeps differing was put aside: it waits for checkpoints that others ask for.
    fn note_quarantined(&mut self) {}

    /// A checkpoint is wanted.
    fn ask(&mut self, cause: Cause);
}

/// A pair's frames, the primary's first.
#[inline(always)]
pub fn release_one_by_one<K: Sink + ?Sized>(
    sink: &mut K,
    pair: BySide<Frame>,
    packets: BySide<&Packet>,
    why: Release,
) {
    sink.begin(Side::Primary, &pair.primary, packets.primary);
    sink.release(pair.primary, why);
    sink.end(Side::Primary);
    sink.begin(Side::Secondary, &pair.secondary, packets.secondary);
    sink.discard(pair.secondary, Discard::Matched);
    sink.end(Side::Secondary);
}
