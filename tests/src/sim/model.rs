//! A naive model of what may leave: byte arrays for each connection and side, a multiset for datagrams.
//!
//! It sees what the engine received, in which epoch, and what left. It knows from the scripts which life a number belongs
//! to, so it cannot mistake one life for another. It never says when something must leave; the world does that.

use std::collections::{HashMap, HashSet};

use colo_engine::compare::AckPolicy;
use colo_engine::side::Side;
use pmd_tap::Nanos;

use super::draws::{index, number};
use super::guest::Numbers;
use super::packet::{
    ACK, CHECKSUM_AT, Ends, FIN, HEADERS, Parsed, RST, SYN, Tcp, WINDOW_AT, is_fragment, parse,
    tcp_checksum_is_right,
};
use super::plan::Plan;
use super::ports::Received;

/// What stands at a position beside bytes.
const FIN_HERE: u16 = 0x100;
const SYN_HERE: u16 = 0x200;
/// No value; more values than are kept.
const NOTHING: u16 = u16::MAX;
const ANY: u16 = u16::MAX - 1;

/// What the secondary has sent at one position in an epoch.
#[derive(Clone, Copy, Debug)]
struct Values([u16; 3]);

impl Values {
    const NONE: Self = Self([NOTHING; 3]);

    fn add(&mut self, value: u16) {
        if self.has(value) {
            return;
        }
        match self.0.iter_mut().find(|place| **place == NOTHING) {
            Some(place) => *place = value,
            None => self.0[2] = ANY,
        }
    }

    fn has(self, value: u16) -> bool {
        self.0.contains(&value) || self.0[2] == ANY
    }

    fn any(self) -> bool {
        self.0[0] != NOTHING
    }
}

/// What was received of a life in one epoch.
#[derive(Clone, Debug, Default)]
struct Slot {
    values: Vec<Values>,
    secondary_ack: Option<u32>,
    primary_ack: Option<u32>,
    primary_top: u32,
    seen: Seen,
}

impl Slot {
    /// With what came later.
    fn with(mut self, later: &Self) -> Self {
        for (place, values) in self.values.iter_mut().zip(&later.values) {
            values.0.iter().filter(|value| **value != NOTHING).for_each(|value| place.add(*value));
        }
        self.secondary_ack = self.secondary_ack.max(later.secondary_ack);
        self.primary_ack = self.primary_ack.max(later.primary_ack);
        self.primary_top = self.primary_top.max(later.primary_top);
        self.seen = self.seen.with(later.seen);
        self
    }
}

/// Where the sides of a life were first seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The first position anybody showed until both sides had shown one: nobody knows what came before.
    floor: u32,
    /// Which side has shown one.
    sides: [bool; 2],
}

impl Default for Seen {
    fn default() -> Self {
        Self { floor: u32::MAX, sides: [false; 2] }
    }
}

impl Seen {
    fn show(&mut self, side: Side, position: u32) {
        if self.sides != [true; 2] {
            self.floor = self.floor.min(position);
            self.sides[usize::from(side == Side::Secondary)] = true;
        }
    }

    /// With what was seen later.
    fn with(self, later: Self) -> Self {
        if self.sides == [true; 2] {
            return self;
        }
        let sides = [self.sides[0] || later.sides[0], self.sides[1] || later.sides[1]];
        Self { floor: self.floor.min(later.floor), sides }
    }
}

/// A life of a connection.
#[derive(Clone, Debug)]
struct LifeModel {
    /// Of this epoch, and of the next.
    slots: [Slot; 2],
    /// Positions below it both have: the primary's when the last checkpoint was committed.
    shared: u32,
    /// Positions that have left.
    left: Vec<bool>,
    /// Whether resets of each side were seen.
    resets: [bool; 2],
}

impl LifeModel {
    /// How far the secondary has come without a gap.
    fn contiguous(&self) -> u32 {
        let from = self.shared.max(self.slots[0].seen.floor);
        let values = self.slots[0].values.get(index(from)..).unwrap_or(&[]);
        let sent = values.iter().take_while(|values| values.any()).count();
        from + number(sent)
    }
}

/// A connection.
#[derive(Clone, Debug)]
struct Connection {
    script: usize,
    lives: Vec<LifeModel>,
    /// A header of it was changed on the way: which life it now seems to belong to is anybody's guess.
    is_tainted: bool,
}

/// A flow of datagrams: contents of the secondary in this epoch and the next, and what left of the primary.
#[derive(Clone, Debug, Default)]
struct Datagrams {
    sent: [HashMap<Vec<u8>, u32>; 2],
    left: HashMap<Vec<u8>, u32>,
}

/// What has to be asked before a primary frame leaves.
#[derive(Clone, Copy, Debug)]
enum Question {
    None,
    Tcp { life: usize, from: u32, to: u32, ack: Option<u32>, is_reset: bool },
    Datagram,
}

/// A primary frame that the engine received.
#[derive(Clone, Debug)]
struct Primary {
    at: Nanos,
    epoch: u32,
    bytes: Vec<u8>,
    ends: Option<Ends>,
    question: Question,
    has_left: bool,
}

/// The model.
#[derive(Debug)]
pub struct Model<'a> {
    plan: &'a Plan,
    epoch: u32,
    connections: HashMap<Ends, Connection>,
    datagrams: HashMap<Ends, Datagrams>,
    frames: Vec<Primary>,
    /// Frames before it have all left.
    oldest: usize,
    last_of_flow: HashMap<Ends, u64>,
    last_epoch: u32,
    /// What left: place in the input, epoch.
    order: Vec<(u64, u32)>,
    /// Headers as guests sent them; looked at only where headers can be changed.
    headers: HashSet<Vec<u8>>,
    /// Whether a connection may have been lost track of: it is picked up where it goes on, and gaps before do not count.
    forgives_gaps: bool,
    /// Whether a third life of a connection began while something of its first was still to leave.
    is_two_lives_ahead: bool,
    /// Frames of the secondary.
    pub secondaries: u64,
}

impl<'a> Model<'a> {
    /// Nothing received.
    pub fn new(plan: &'a Plan) -> Self {
        let connections = plan.scripts.iter().enumerate().map(|(script, of)| {
            let lives = of.lives.iter().map(|life| {
                let positions = index(life.length) + 2;
                let slot = || Slot { values: vec![Values::NONE; positions], ..Slot::default() };
                LifeModel {
                    slots: [slot(), slot()],
                    shared: 0,
                    left: vec![false; positions],
                    resets: [false; 2],
                }
            });
            (of.ends, Connection { script, lives: lives.collect(), is_tainted: false })
        });
        Self {
            plan,
            epoch: 0,
            connections: connections.collect(),
            datagrams: HashMap::new(),
            frames: Vec::new(),
            oldest: 0,
            last_of_flow: HashMap::new(),
            last_epoch: 0,
            order: Vec::new(),
            headers: HashSet::new(),
            forgives_gaps: plan.is_tight,
            is_two_lives_ahead: false,
            secondaries: 0,
        }
    }

    /// A connection's state may have run out of room.
    pub fn forgive_gaps(&mut self) {
        self.forgives_gaps = true;
    }

    /// Whether it may have.
    pub fn forgives_gaps(&self) -> bool {
        self.forgives_gaps
    }

    /// Whether a guest was two connections ahead of what left. One former life of a connection is kept: what is older waits
    /// for a checkpoint.
    pub fn is_two_lives_ahead(&self) -> bool {
        self.is_two_lives_ahead
    }

    /// A guest sends a frame.
    pub fn note_sent(&mut self, side: Side, frame: &[u8]) {
        if self.plan.harms(side, pmd_tap::Fault::Corrupt) {
            self.headers.insert(frame[..frame.len().min(HEADERS)].to_vec());
        }
    }

    fn is_changed(&self, side: Side, frame: &[u8]) -> bool {
        self.plan.harms(side, pmd_tap::Fault::Corrupt)
            && !self.headers.contains(&frame[..frame.len().min(HEADERS)])
    }

    /// Frames of the primary that were received.
    pub fn primaries(&self) -> u64 {
        u64::from(number(self.frames.len()))
    }

    /// The engine received a frame of the primary.
    pub fn receive_primary(&mut self, frame: Received, epoch: u32) -> Result<(), String> {
        if frame.ordinal != self.primaries() {
            return Err(format!("primary frame {} is numbered {}", self.frames.len(), frame.ordinal));
        }
        let is_changed = self.is_changed(Side::Primary, &frame.bytes);
        let (mut ends, mut question) = (None, Question::None);
        match parse(&frame.bytes) {
            Parsed::Tcp(of, segment) => {
                ends = Some(of);
                question = self.meet(of, &segment, Side::Primary, epoch, is_changed);
            }
            Parsed::Datagram(of, _) => {
                ends = Some(of);
                question = Question::Datagram;
            }
            Parsed::Other => {}
        }
        if is_changed {
            (ends, question) = (None, Question::None);
        }
        let Received { at, bytes, .. } = frame;
        self.frames.push(Primary { at, epoch, bytes, ends, question, has_left: false });
        Ok(())
    }

    /// The engine received a frame of the secondary.
    pub fn receive_secondary(&mut self, frame: &Received, epoch: u32) {
        self.secondaries += 1;
        let is_changed = self.is_changed(Side::Secondary, &frame.bytes);
        match parse(&frame.bytes) {
            Parsed::Tcp(ends, segment) => {
                self.meet(ends, &segment, Side::Secondary, epoch, is_changed);
            }
            Parsed::Datagram(ends, content) => {
                let slot = usize::from(epoch > self.epoch);
                let sent = &mut self.datagrams.entry(ends).or_default().sent[slot];
                *sent.entry(content.to_vec()).or_default() += 1;
            }
            Parsed::Other => {}
        }
    }

    /// Takes note of a segment; what to ask before it leaves.
    fn meet(&mut self, ends: Ends, segment: &Tcp<'_>, side: Side, epoch: u32, is_changed: bool) -> Question {
        let Some(connection) = self.connections.get_mut(&ends) else { return Question::None };
        let lives = &self.plan.scripts[connection.script].lives;
        let found = lives.iter().enumerate().find_map(|(at, life)| {
            let isns = match side {
                Side::Primary => [life.isn.primary; 2],
                Side::Secondary => [life.isn.secondary, life.isn.primary],
            };
            let positions = isns.map(|isn| segment.seq.wrapping_sub(isn));
            let position = positions.into_iter().find(|position| *position <= life.length + 2)?;
            Some((at, position))
        });
        let Some((at, from)) = found.filter(|_| !is_changed) else {
            connection.is_tainted = true;
            return Question::None;
        };
        if segment.flags & SYN != 0 && at >= 2 {
            let waits = |frame: &Primary| {
                let is_older = matches!(frame.question, Question::Tcp { life, .. } if life + 2 <= at);
                frame.ends == Some(ends) && is_older && !frame.has_left
            };
            self.is_two_lives_ahead |= self.frames.iter().any(waits);
        }
        let life = &mut connection.lives[at];
        let slot = &mut life.slots[usize::from(epoch > self.epoch)];
        let has = |flag: u8| segment.flags & flag != 0;
        let ack = has(ACK).then(|| segment.ack.wrapping_sub(lives[at].client_isn.wrapping_add(1)));
        let values = values_of(segment);
        let to = from + number(values.len());
        // A pure ACK shows where its side is, too; a reset may have any number. A secondary's SYN in numbers of its own,
        // when its data are not, shows nothing of where the data are.
        let is_unplaced = side == Side::Secondary && has(SYN) && self.plan.numbers == Numbers::Primary;
        if !has(RST) && !is_unplaced {
            slot.seen.show(side, from);
        }
        match side {
            Side::Primary => {
                slot.primary_ack = slot.primary_ack.max(ack);
                slot.primary_top = slot.primary_top.max(to);
                life.resets[0] |= has(RST);
            }
            Side::Secondary => {
                slot.secondary_ack = slot.secondary_ack.max(ack);
                for (place, value) in slot.values.iter_mut().skip(index(from)).zip(values) {
                    place.add(value);
                }
                life.resets[1] |= has(RST);
            }
        }
        Question::Tcp { life: at, from, to, ack, is_reset: has(RST) }
    }

    /// The boundary of an epoch stands for no commit: what came behind it belongs to what came before.
    pub fn give_up(&mut self, epoch: u32) {
        for frame in &mut self.frames {
            if frame.epoch == self.epoch {
                frame.epoch = epoch;
            }
        }
        self.epoch = epoch;
        for life in self.connections.values_mut().flat_map(|connection| &mut connection.lives) {
            let [old, new] = std::mem::take(&mut life.slots);
            let next = Slot { values: vec![Values::NONE; old.values.len()], ..Slot::default() };
            life.slots = [old.with(&new), next];
        }
        for flow in self.datagrams.values_mut() {
            let [old, new] = &mut flow.sent;
            for (content, count) in new.drain() {
                *old.entry(content).or_default() += count;
            }
        }
    }

    /// A checkpoint is committed: what comes next is judged in the next epoch.
    pub fn commit(&mut self, epoch: u32) {
        while self.epoch < epoch {
            self.epoch += 1;
            for life in self.connections.values_mut().flat_map(|connection| &mut connection.lives) {
                let [mut old, mut new] = std::mem::take(&mut life.slots);
                life.shared = life.shared.max(old.primary_top);
                // The secondary is the primary's copy, also in what it has acknowledged.
                new.secondary_ack = new.secondary_ack.max(old.primary_ack);
                new.primary_ack = new.primary_ack.max(old.primary_ack);
                // Before the primary was seen the secondary says everything again.
                if old.seen.sides[0] {
                    new.seen = old.seen.with(new.seen);
                }
                old.values.fill(Values::NONE);
                let next = Slot { values: old.values, ..Slot::default() };
                life.slots = [new, next];
                life.resets[1] |= life.resets[0];
            }
            for flow in self.datagrams.values_mut() {
                flow.sent = [std::mem::take(&mut flow.sent[1]), HashMap::new()];
                flow.left.clear();
            }
        }
    }

    /// A frame left.
    pub fn leave(&mut self, ordinal: u64, bytes: &[u8]) -> Result<(), String> {
        let place = usize::try_from(ordinal).unwrap_or(usize::MAX);
        let frame =
            self.frames.get_mut(place).ok_or_else(|| format!("frame {ordinal} left, which nobody sent"))?;
        if std::mem::replace(&mut frame.has_left, true) {
            return Err(format!("frame {ordinal} left twice"));
        }
        let (epoch, ends, question) = (frame.epoch, frame.ends, frame.question);
        if !is_as_sent(&frame.bytes, bytes) {
            return Err(format!("frame {ordinal} left changed"));
        }
        if epoch < self.last_epoch {
            return Err(format!(
                "frame {ordinal} of epoch {epoch} left after one of epoch {}",
                self.last_epoch
            ));
        }
        if let Some(ends) = ends
            && let Some(before) = self.last_of_flow.insert(ends, ordinal)
            && before > ordinal
        {
            return Err(format!("frame {ordinal} left after frame {before} of its flow"));
        }
        self.last_epoch = epoch;
        self.order.push((ordinal, epoch));
        if epoch >= self.epoch {
            self.justify(place).map_err(|problem| format!("frame {ordinal} left: {problem}"))?;
        }
        if let (Some(ends), Question::Tcp { life, from, to, .. }) = (ends, question)
            && let Some(connection) = self.connections.get_mut(&ends)
        {
            let left = &mut connection.lives[life].left;
            let len = left.len();
            left[index(from).min(len)..index(to).min(len)].fill(true);
        }
        while self.frames.get(self.oldest).is_some_and(|frame| frame.has_left) {
            self.oldest += 1;
        }
        Ok(())
    }

    /// Whether a frame may leave although no checkpoint was committed since it came.
    fn justify(&mut self, place: usize) -> Result<(), String> {
        let frame = &self.frames[place];
        if frame.epoch > self.epoch {
            return Err("before its epoch began".to_owned());
        }
        let Some(ends) = frame.ends else { return Ok(()) };
        match (frame.question, parse(&frame.bytes)) {
            (Question::Tcp { life, from, to, ack, is_reset }, Parsed::Tcp(_, segment)) => {
                let Some(connection) = self.connections.get(&ends) else { return Ok(()) };
                if connection.is_tainted {
                    return Ok(());
                }
                let life = &connection.lives[life];
                if self.plan.settings.compare.ack_policy == AckPolicy::Both
                    && let Some(ack) = ack
                    && life.slots[0].secondary_ack.is_none_or(|most| most < ack)
                {
                    let most = life.slots[0].secondary_ack;
                    return Err(format!("it acknowledges {ack}, the secondary {most:?}"));
                }
                if is_reset && !life.resets[1] {
                    return Err("a reset that the secondary has not sent".to_owned());
                }
                let bounds = self.forgives_gaps || (life.resets[0] && life.resets[1]);
                let sent = life.contiguous();
                if from < to && to > sent && !bounds {
                    return Err(format!("it reaches {to}, the secondary has come to {sent}"));
                }
                justify_values(life, from, &values_of(&segment))
            }
            (Question::Datagram, Parsed::Datagram(_, content)) => {
                let flow = self.datagrams.entry(ends).or_default();
                let left = flow.left.entry(content.to_vec()).or_default();
                *left += 1;
                if *left > flow.sent[0].get(content).copied().unwrap_or(0) {
                    return Err("a datagram that the secondary has not sent".to_owned());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// When the oldest frame of this epoch that has not left came.
    pub fn oldest_held(&self) -> Option<Nanos> {
        let held = self.frames.get(self.oldest..)?.iter().find(|frame| !frame.has_left)?;
        (held.epoch <= self.epoch).then_some(held.at)
    }

    /// Frames that have not left.
    pub fn held(&self) -> Vec<usize> {
        let held = self.frames.iter().enumerate().filter(|(_, frame)| !frame.has_left);
        held.map(|(place, _)| place).collect()
    }

    /// Whether the last `count` frames of an epoch that left did so in the order in which they came.
    pub fn check_flush(&self, epoch: u32, count: u64) -> Result<(), String> {
        let of_epoch = self.order.iter().rev().filter(|(_, of)| *of == epoch);
        let flushed =
            of_epoch.take(usize::try_from(count).unwrap_or(usize::MAX)).map(|(ordinal, _)| *ordinal);
        // A fragment without its siblings takes its place at the boundary.
        let is_whole = |ordinal: &u64| {
            let frame = usize::try_from(*ordinal).ok().and_then(|place| self.frames.get(place));
            frame.is_some_and(|frame| !is_fragment(&frame.bytes))
        };
        let flushed: Vec<u64> = flushed.filter(is_whole).collect();
        match flushed.windows(2).find(|pair| pair[0] < pair[1]) {
            Some(pair) => {
                Err(format!("the flush of epoch {epoch} let frame {} out before {}", pair[1], pair[0]))
            }
            None => Ok(()),
        }
    }
}

/// What a segment has at its positions.
fn values_of(segment: &Tcp<'_>) -> Vec<u16> {
    let syn = (segment.flags & SYN != 0).then_some(SYN_HERE);
    let fin = (segment.flags & FIN != 0).then_some(FIN_HERE);
    syn.into_iter().chain(segment.payload.iter().map(|byte| u16::from(*byte))).chain(fin).collect()
}

fn justify_values(life: &LifeModel, from: u32, values: &[u16]) -> Result<(), String> {
    for (position, value) in (from..).zip(values) {
        let place = index(position);
        let is_known = position < life.shared || life.left.get(place).copied().unwrap_or(false);
        let is_sent = life.slots[0].values.get(place).is_some_and(|values| values.has(*value));
        if !is_known && !is_sent {
            return Err(format!("the secondary has not sent {value:#x} at position {position}"));
        }
    }
    Ok(())
}

/// Whether a frame is what was sent, but for a window that was lowered.
fn is_as_sent(sent: &[u8], left: &[u8]) -> bool {
    if sent == left {
        return true;
    }
    let windows = [sent, left].map(|frame| match parse(frame) {
        Parsed::Tcp(_, segment) => Some(segment.window),
        _ => None,
    });
    let [Some(before), Some(after)] = windows else { return false };
    let rest = |frame: &[u8]| {
        let mut frame = frame.to_vec();
        frame[WINDOW_AT..WINDOW_AT + 2].fill(0);
        frame[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
        frame
    };
    after < before
        && rest(sent) == rest(left)
        && (tcp_checksum_is_right(left) || !tcp_checksum_is_right(sent))
}
