//! The witness of a shard: when the sides differ it copies the frames that matter, and the next few of that flow, into
//! memory that was taken at the start, and hands that to somebody who writes it down.
//!
//! It decides nothing and never waits: where there is no room, a record is skipped and counted. A frame is copied only
//! when a cause is found, or when it belongs to a flow that is being watched; until then the witness costs nothing. It
//! writes no file: that is `diverged`'s part.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrayvec::ArrayVec;
use crossbeam_queue::ArrayQueue;
use pmd_tap::{Frame, Nanos};

use crate::flow::FlowKey;
use crate::held::{Content, Held, HeldFrames, HeldId, Queue};
use crate::side::{BySide, Side};
use crate::verdict::{Cause, Detail};
use crate::wire::SeqNumber;

/// Held frames of a side in a record, at most: those nearest to the difference.
pub const HELD_PER_SIDE: usize = 16;
/// Frames of the flow that are added after the event.
pub const FRAMES_AFTER: usize = 8;
/// Bytes of a record's frames, at most: three frames of the largest size and then some.
pub const RECORD_BYTES: usize = 256 * 1024;
/// Of those, what is left for the frames after the event.
const BYTES_AFTER: usize = 64 * 1024;
/// Records that a shard begins in an epoch. One checkpoint answers all causes of an epoch, and a storm has one reason.
pub const RECORDS_PER_EPOCH: usize = 4;
/// Records that may wait for the writer, beside those that shards are filling.
const WAITING_RECORDS: usize = 8;
/// How long a flow is watched for frames after the event, in a running engine.
const WATCH: Duration = Duration::from_secs(1);

/// What a frame is to its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It was held, as others were.
    Held,
    /// It is one of those that contradict each other.
    Differs,
    /// It waited too long.
    Waits,
    /// It came afterwards.
    After,
}

impl Role {
    /// As a word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Differs => "differs",
            Self::Waits => "waits",
            Self::After => "after",
        }
    }
}

/// A frame of a record.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// What it is to the record.
    pub role: Role,
    /// Who sent it.
    pub side: Side,
    /// Its place in its input.
    pub ordinal: u64,
    /// When it came.
    pub arrival: Nanos,
    /// Its length, bytes; more than what is kept when there was no room.
    pub len: usize,
    start: usize,
    kept: usize,
}

const MOST_FRAMES: usize = 2 * HELD_PER_SIDE + 1 + FRAMES_AFTER;

/// One event: why, and the frames.
#[derive(Debug)]
pub struct Record {
    cause: Option<Cause>,
    notes: ArrayVec<Note, MOST_FRAMES>,
    bytes: Vec<u8>,
    after: usize,
    left_out: BySide<u32>,
}

impl Record {
    fn with_capacity(bytes: usize) -> Box<Self> {
        Box::new(Self {
            cause: None,
            notes: ArrayVec::new(),
            bytes: Vec::with_capacity(bytes),
            after: 0,
            left_out: BySide::default(),
        })
    }

    fn clear(&mut self) {
        self.cause = None;
        self.notes.clear();
        self.bytes.clear();
        self.after = 0;
        self.left_out = BySide::default();
    }

    /// Why it was made.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Its frames, in the order in which they came.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// What is kept of a frame, without virtio header.
    pub fn bytes_of(&self, note: &Note) -> &[u8] {
        self.bytes.get(note.start..note.start + note.kept).unwrap_or(&[])
    }

    /// Frames of the flow that were held and found no room in it.
    pub fn left_out(&self) -> BySide<u32> {
        self.left_out
    }

    /// Copies a frame, as much of it as there is room for; false if there is none at all.
    fn add(&mut self, role: Role, side: Side, frame: &Frame, most_bytes: usize) -> bool {
        let ethernet = frame.ethernet();
        let kept = ethernet.len().min(most_bytes.saturating_sub(self.bytes.len()));
        if kept == 0 || self.notes.is_full() {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(ethernet.get(..kept).unwrap_or(&[]));
        let (ordinal, arrival) = (frame.ordinal(), frame.arrival());
        self.notes.push(Note { role, side, ordinal, arrival, len: ethernet.len(), start, kept });
        true
    }
}

/// What a witness gets to see at an event.
pub(crate) struct Sighting<'a> {
    /// Why.
    pub(crate) cause: Cause,
    /// What the flow holds.
    pub(crate) queues: BySide<Queue>,
    /// The frame that arrived, if it is not held.
    pub(crate) arriving: Option<(Side, &'a Frame)>,
    /// The held frame that it contradicts.
    pub(crate) with: Option<HeldId>,
    /// The stream position that it is about.
    pub(crate) at: Option<SeqNumber>,
}

impl Sighting<'_> {
    /// What a frame is to this event.
    fn role_of(&self, side: Side, ordinal: u64) -> Role {
        match self.cause.detail {
            Detail::Mismatch { primary, secondary, .. } => {
                let named = BySide { primary, secondary }[side];
                if named == Some(ordinal) { Role::Differs } else { Role::Held }
            }
            Detail::Timeout { side: of, frame, .. } if of == side && frame == ordinal => Role::Waits,
            _ => Role::Held,
        }
    }

    /// How far a held frame is from what this is about; `place` counts the queue's frames.
    fn distance(&self, id: HeldId, held: &Held, place: u32) -> u32 {
        if self.with == Some(id) || self.role_of(held.side, held.frame.ordinal()) != Role::Held {
            return 0;
        }
        match (self.at, &held.content) {
            (Some(at), Content::Segment { placed, .. }) => {
                let to_end = placed.range.end.distance(at);
                placed.range.start.distance(at).min(to_end).saturating_add(1)
            }
            (Some(_), _) => u32::MAX,
            (None, _) => place.saturating_add(1),
        }
    }
}

/// Whether a flow is being watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Its next frames are wanted.
    Yes,
    /// They are not.
    No,
}

/// Records on their way from the shards to the writer, and back.
#[derive(Debug)]
pub struct Exchange {
    free: ArrayQueue<Box<Record>>,
    full: ArrayQueue<Box<Record>>,
    skipped: AtomicU64,
}

impl Exchange {
    /// All the memory that records of so many shards will ever use.
    pub fn new(shards: usize) -> Arc<Self> {
        let records = shards * RECORDS_PER_EPOCH + WAITING_RECORDS;
        let exchange = Self {
            free: ArrayQueue::new(records),
            full: ArrayQueue::new(records),
            skipped: AtomicU64::new(0),
        };
        for _ in 0..records {
            let _ = exchange.free.push(Record::with_capacity(RECORD_BYTES));
        }
        Arc::new(exchange)
    }

    /// The next record to be written.
    pub fn next(&self) -> Option<Box<Record>> {
        self.full.pop()
    }

    /// A record comes back.
    pub fn give_back(&self, mut record: Box<Record>) {
        record.clear();
        // There are as many places as records.
        let _ = self.free.push(record);
    }

    /// Events that were not written down: a shard had enough of this epoch, or the writer was behind.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }
}

/// Where records come from and go to.
#[derive(Debug)]
#[expect(clippy::vec_box, reason = "records travel between queues: a box is moved, not its content")]
enum Outlet {
    /// Shared with a writer on another thread; nothing grows.
    Exchange(Arc<Exchange>),
    /// In virtual time: made as they are needed, kept until somebody takes them.
    Kept(Vec<Box<Record>>),
}

/// The witness of one shard.
#[derive(Debug)]
pub struct Witness {
    outlet: Outlet,
    /// Records whose flows are watched.
    #[expect(clippy::vec_box, reason = "records travel between queues: a box is moved, not its content")]
    open: Vec<Box<Record>>,
    /// Records that may still be begun in this epoch.
    left: usize,
    per_epoch: usize,
    watch: Option<Duration>,
}

impl Witness {
    /// For a shard of a running engine.
    pub fn new(exchange: Arc<Exchange>) -> Self {
        Self {
            outlet: Outlet::Exchange(exchange),
            open: Vec::with_capacity(RECORDS_PER_EPOCH),
            left: RECORDS_PER_EPOCH,
            per_epoch: RECORDS_PER_EPOCH,
            watch: Some(WATCH),
        }
    }

    /// For virtual time, where nobody is in a hurry: nothing is skipped, a flow is watched until a commit, and records
    /// wait for [`take_records`](Self::take_records). What is recorded must not depend on the number of shards.
    pub fn patient() -> Self {
        Self {
            outlet: Outlet::Kept(Vec::new()),
            open: Vec::new(),
            left: usize::MAX,
            per_epoch: usize::MAX,
            watch: None,
        }
    }

    /// The finished records of a [`patient`](Self::patient) witness.
    pub fn take_records(&mut self) -> Vec<Box<Record>> {
        match &mut self.outlet {
            Outlet::Exchange(_) => Vec::new(),
            Outlet::Kept(records) => std::mem::take(records),
        }
    }

    /// Copies what is held of the flow. Says whether its next frames are wanted.
    #[cold]
    pub(crate) fn write_down(&mut self, held: &HeldFrames, sighting: &Sighting<'_>) -> Watch {
        let Some(mut record) = self.begin() else { return Watch::No };
        let most = RECORD_BYTES - BYTES_AFTER;
        record.cause = Some(sighting.cause);
        if let Some((side, frame)) = sighting.arriving {
            // Whatever the reason names, the frame that arrived is one end of it.
            record.add(Role::Differs, side, frame, most);
        }
        for side in Side::BOTH {
            let queue = &sighting.queues[side];
            let nearest = nearest(held, queue, sighting);
            let mut kept = 0;
            for (_, id) in nearest {
                let Some(one) = held.get(id) else { continue };
                let role = match sighting.role_of(side, one.frame.ordinal()) {
                    Role::Held if sighting.with == Some(id) => Role::Differs,
                    role => role,
                };
                kept += u32::from(record.add(role, side, &one.frame, most));
            }
            record.left_out[side] = queue.len().saturating_sub(kept);
        }
        self.open.push(record);
        Watch::Yes
    }

    /// A record, if one may be begun.
    fn begin(&mut self) -> Option<Box<Record>> {
        let record = match &self.outlet {
            Outlet::Kept(_) => Some(Record::with_capacity(0)),
            Outlet::Exchange(exchange) => {
                let record = if self.left == 0 { None } else { exchange.free.pop() };
                if record.is_none() {
                    exchange.skipped.fetch_add(1, Ordering::Relaxed);
                }
                record
            }
        };
        self.left -= usize::from(record.is_some());
        record
    }

    /// A frame of a flow that may be watched. Says whether further ones are wanted.
    #[cold]
    pub(crate) fn see(&mut self, flow: &FlowKey, side: Side, frame: &Frame) -> Watch {
        let mut watch = Watch::No;
        let mut at = 0;
        while let Some(record) = self.open.get_mut(at) {
            if record.cause.and_then(|cause| cause.flow).as_ref() != Some(flow) {
                at += 1;
                continue;
            }
            record.add(Role::After, side, frame, RECORD_BYTES);
            record.after += 1;
            if record.after >= FRAMES_AFTER {
                self.close(at);
            } else {
                watch = Watch::Yes;
                at += 1;
            }
        }
        watch
    }

    /// A record is complete.
    fn close(&mut self, at: usize) {
        let mut record = self.open.remove(at);
        record.notes.sort_unstable_by_key(|note| (note.arrival, note.side, note.ordinal));
        match &mut self.outlet {
            Outlet::Kept(records) => records.push(record),
            Outlet::Exchange(exchange) => {
                // There are as many places as records.
                let _ = exchange.full.push(record);
            }
        }
    }

    /// Hands on the records whose flows were watched long enough.
    pub(crate) fn close_due(&mut self, now: Nanos) {
        let Some(watch) = self.watch else { return };
        // The oldest is the first.
        while let Some(cause) = self.open.first().and_then(|record| record.cause)
            && now.since(cause.at) >= watch
        {
            self.close(0);
        }
    }

    /// Hands on everything: nothing more will come.
    pub fn close_all(&mut self) {
        while !self.open.is_empty() {
            self.close(0);
        }
    }

    /// A checkpoint was committed: what comes now belongs to another story.
    pub(crate) fn end_epoch(&mut self) {
        self.close_all();
        self.left = self.per_epoch;
    }
}

/// The held frames of a queue that are nearest to what a sighting is about, nearest first.
fn nearest(
    held: &HeldFrames,
    queue: &Queue,
    sighting: &Sighting<'_>,
) -> ArrayVec<(u32, HeldId), HELD_PER_SIDE> {
    let mut nearest: ArrayVec<(u32, HeldId), HELD_PER_SIDE> = ArrayVec::new();
    let mut at = queue.head();
    let mut place = 0;
    while let Some(id) = at {
        at = held.next_in_flow(id);
        let Some(one) = held.get(id) else { continue };
        let distance = sighting.distance(id, one, place);
        place += 1;
        if nearest.is_full() && nearest.last().is_some_and(|(farthest, _)| *farthest <= distance) {
            continue;
        }
        if nearest.is_full() {
            nearest.pop();
        }
        let to = nearest.iter().take_while(|(known, _)| *known <= distance).count();
        nearest.insert(to, (distance, id));
    }
    nearest
}

#[cfg(test)]
mod tests;
