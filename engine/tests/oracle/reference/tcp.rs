//! One TCP connection by stream offset: which positions each side has sent, with which bytes, in which frame.

use std::collections::{BTreeMap, BTreeSet};

use colo_engine::side::{BySide, Side};

use super::{Decided, Waiting};
use crate::drive::{Verdict, WINDOW_GRACE_NS, Why};
use crate::traffic::{Offer, Segment};

/// A position that a side has sent.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// `None`: a SYN or a FIN.
    byte: Option<u8>,
    /// The frame that sent it first.
    frame: usize,
}

/// One side's half.
#[derive(Clone, Debug, Default)]
struct Stream {
    /// Every position below it counts as sent.
    floor: Option<i64>,
    /// Where it was first seen, which may be above the floor.
    first: Option<i64>,
    sent: BTreeMap<i64, Position>,
    ack: Option<u32>,
    /// Highest right edge, counted as acks are.
    edge: Option<u64>,
    /// What its first SYN offered.
    offer: Option<Offer>,
    /// Every offset it has announced as urgent.
    urgent: BTreeSet<i64>,
    fin: Option<i64>,
}

impl Stream {
    fn has_sent(&self, position: i64) -> bool {
        self.floor.is_some_and(|floor| position < floor) || self.sent.contains_key(&position)
    }

    fn top(&self) -> Option<i64> {
        let highest = self.sent.keys().next_back().map(|highest| highest + 1);
        self.floor.max(self.first).max(highest)
    }

    fn is_contiguous_to(&self, end: i64) -> bool {
        self.floor.is_some_and(|floor| (floor..end).all(|position| self.sent.contains_key(&position)))
    }

    fn note_ack(&mut self, ack: Option<u32>, edge: Option<u64>) {
        self.ack = self.ack.max(ack);
        self.edge = self.edge.max(edge);
    }

    /// Whether everything before a position was sent.
    fn has_passed(&self, position: i64) -> bool {
        self.floor.is_some() && (position <= self.floor.unwrap() || self.is_contiguous_to(position))
    }
}

/// A secondary segment that waits.
#[derive(Clone, Debug)]
pub(crate) struct Partner {
    segment: Segment,
    /// `None`: it came before anything of the primary.
    placed: Option<Unmet>,
}

#[derive(Clone, Debug)]
struct Unmet {
    /// Positions that the primary has not sent yet.
    positions: Vec<i64>,
    /// The sides differ about it: it waits for a checkpoint.
    contradicted: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Tcp {
    pub(crate) held_primary: Vec<Waiting<Segment>>,
    pub(crate) held_secondary: Vec<Waiting<Partner>>,
    streams: BySide<Stream>,
    /// Offset 0 in reports.
    origin: i64,
    opened_by_syn: bool,
    /// The lowest offset of a secondary segment other than its SYN, while the primary is unknown.
    secondary_first: Option<i64>,
    contradiction: Option<i64>,
    committed: Option<(i64, Option<u32>)>,
    /// The secondary's first SYN was compared.
    syn_judged: bool,
    /// Acks of the secondary above the primary's at the commit.
    acks_ahead: Vec<(u32, u64)>,
}

struct Contradiction {
    kind: &'static str,
    at: i64,
    with: Option<(Side, usize)>,
}

impl Tcp {
    pub(crate) fn arrive(&mut self, side: Side, arrived: Waiting<Segment>, decided: &mut Decided) {
        let now_ns = arrived.at_ns;
        match side {
            Side::Primary => self.primary(arrived, decided),
            Side::Secondary if self.streams.primary.floor.is_none() => self.unplaced(arrived, decided),
            Side::Secondary => self.secondary(arrived, decided),
        }
        self.release(now_ns, decided);
    }

    /// Lets go what may leave.
    pub(crate) fn release(&mut self, now_ns: u64, decided: &mut Decided) {
        while let Some(head) = self.held_primary.first()
            && self.may_leave(&head.what)
        {
            let pure_ack = head.what.positions().is_empty();
            let window = self.clamped_window(&head.what);
            if window.is_some() && pure_ack && now_ns < head.at_ns + WINDOW_GRACE_NS {
                return;
            }
            let (frame, why) = (head.frame, if pure_ack { "ack" } else { "matched" });
            // An edge may lie beyond by less than what a scaled window can say.
            if let Some(window) = window.filter(|window| *window != head.what.window) {
                decided.verdicts.push(Verdict::Clamped { frame, window });
            }
            decided.verdicts.push(Verdict::Release { frame, why });
            self.held_primary.remove(0);
        }
    }

    /// When the oldest frame leaves with a lower window.
    pub(crate) fn grace_due(&self) -> Option<u64> {
        let head = self.held_primary.first()?;
        let waits = head.what.positions().is_empty() && self.may_leave(&head.what);
        (waits && self.clamped_window(&head.what).is_some()).then_some(head.at_ns + WINDOW_GRACE_NS)
    }

    /// How a side's windows are scaled: as its SYN says, or the other's if it was not seen.
    fn scale(&self, side: Side) -> u8 {
        let offer = self.streams[side].offer.or(self.streams[side.other()].offer);
        offer.and_then(|offer| offer.scale).unwrap_or(0)
    }

    fn edge(&self, side: Side, segment: &Segment) -> Option<u64> {
        let scale = if segment.syn { 0 } else { self.scale(side) };
        segment.ack.map(|ack| u64::from(ack) + (u64::from(segment.window) << scale))
    }

    /// The window that the secondary offers, if a primary segment offers more.
    fn clamped_window(&self, segment: &Segment) -> Option<u16> {
        let (edge, limit) = (self.edge(Side::Primary, segment)?, self.streams.secondary.edge?);
        if edge <= limit {
            return None;
        }
        let scale = if segment.syn { 0 } else { self.scale(Side::Primary) };
        let room = limit.saturating_sub(u64::from(segment.ack?)) >> scale;
        Some(u16::try_from(room).unwrap())
    }

    /// The release rule.
    fn may_leave(&self, segment: &Segment) -> bool {
        if self.is_below_start(segment) {
            return false;
        }
        let secondary = &self.streams.secondary;
        let bytes = segment.positions().is_empty() || secondary.is_contiguous_to(segment.end());
        let uncontradicted = self.contradiction.is_none_or(|at| segment.end() <= at);
        let acks = segment.ack.is_none_or(|ack| secondary.ack.is_some_and(|acked| ack <= acked));
        bytes && uncontradicted && acks && self.urgent_agreed(segment)
    }

    fn primary(&mut self, arrived: Waiting<Segment>, decided: &mut Decided) {
        let Waiting { frame, what: segment, .. } = &arrived;
        let opens = self.streams.primary.floor.is_none();
        if opens {
            self.streams.primary.floor = Some(segment.start);
            self.streams.primary.first = Some(segment.start);
            self.opened_by_syn = segment.syn;
            self.origin = segment.start + i64::from(segment.syn);
        }
        // Picked up out of order: until the secondary has shown itself, the stream starts where the primary's lowest
        // segment does.
        let unjoined =
            self.streams.secondary.floor.is_none() && !self.opened_by_syn && self.committed.is_none();
        if unjoined && !segment.positions().is_empty() {
            self.streams.primary.floor = self.streams.primary.floor.min(Some(segment.start));
        }
        self.note_primary_ack(segment);
        if segment.syn {
            self.streams.primary.offer.get_or_insert(segment.offer);
        }
        if segment.positions().is_empty() {
            let contradiction = self.urgent_contradiction(Side::Primary, segment);
            self.streams.primary.urgent.extend(segment.urgent_at());
            self.report(contradiction.as_ref(), Side::Primary, *frame, decided);
        }
        if !segment.positions().is_empty() && !self.is_below_start(segment) {
            let contradiction = self.contradiction_of(Side::Primary, segment);
            self.meet_partners(segment, decided);
            self.note_sent(Side::Primary, *frame, segment);
            self.report(contradiction.as_ref(), Side::Primary, *frame, decided);
        }
        self.held_primary.push(arrived);
        if opens {
            for partner in std::mem::take(&mut self.held_secondary) {
                let Waiting { frame, at_ns, what } = partner;
                self.secondary(Waiting { frame, at_ns, what: what.segment }, decided);
            }
        }
    }

    /// Below the start nothing was sent in this life, so what comes there waits for a checkpoint.
    fn is_below_start(&self, segment: &Segment) -> bool {
        let below = self.streams.primary.floor.is_some_and(|floor| segment.start < floor);
        below && !segment.positions().is_empty() && self.committed.is_none()
    }

    /// The secondary's waiting segments count off what they waited for.
    fn meet_partners(&mut self, segment: &Segment, decided: &mut Decided) {
        for (position, byte) in segment.positions() {
            if self.streams.primary.has_sent(position) {
                continue;
            }
            let theirs = self.streams.secondary.sent.get(&position).copied();
            for held in &mut self.held_secondary {
                let Some(unmet) = held.what.placed.as_mut() else { continue };
                let waits = unmet.positions.contains(&position);
                unmet.positions.retain(|waiting| *waiting != position);
                let differs = theirs.is_some_and(|theirs| theirs.byte != byte);
                unmet.contradicted |= waits && differs;
            }
        }
        self.held_secondary.retain(|held| {
            let met = held
                .what
                .placed
                .as_ref()
                .is_some_and(|unmet| unmet.positions.is_empty() && !unmet.contradicted);
            if met {
                decided.verdicts.push(Verdict::Drop { frame: held.frame, why: "matched" });
            }
            !met
        });
    }

    /// Nothing tells yet where it belongs.
    fn unplaced(&mut self, arrived: Waiting<Segment>, decided: &mut Decided) {
        let Waiting { frame, at_ns, what: segment } = arrived;
        if segment.syn {
            self.streams.secondary.offer.get_or_insert(segment.offer);
        }
        let edge = self.edge(Side::Secondary, &segment);
        self.streams.secondary.note_ack(segment.ack, edge);
        if !segment.syn {
            self.secondary_first.get_or_insert(segment.start);
        }
        if segment.positions().is_empty() {
            decided.verdicts.push(Verdict::Drop { frame, why: "matched" });
        } else {
            self.held_secondary.push(Waiting { frame, at_ns, what: Partner { segment, placed: None } });
        }
    }

    fn secondary(&mut self, arrived: Waiting<Segment>, decided: &mut Decided) {
        let Waiting { frame, at_ns, what: segment } = arrived;
        self.join(&segment);
        let drop = |why| Verdict::Drop { frame, why };
        let empty = segment.positions().is_empty();
        if let Some((committed, _)) = self.committed
            && (segment.end() < committed || (segment.end() == committed && !empty))
        {
            return decided.verdicts.push(drop("stale"));
        }
        let offers = self.offers_differ(&segment);
        self.note_secondary_ack(&segment);
        if empty {
            let contradiction = self.urgent_contradiction(Side::Secondary, &segment);
            self.streams.secondary.urgent.extend(segment.urgent_at());
            self.report(contradiction.as_ref(), Side::Secondary, frame, decided);
            return decided.verdicts.push(drop("matched"));
        }
        let contradiction = offers.or_else(|| self.contradiction_of(Side::Secondary, &segment));
        let contradicted = contradiction.is_some();
        let [primary, secondary] = [&self.streams.primary, &self.streams.secondary];
        let new: Vec<i64> = segment.positions().into_iter().map(|(position, _)| position).collect();
        let new: Vec<i64> = new.into_iter().filter(|position| !secondary.has_sent(*position)).collect();
        let repeats = new.is_empty() && contradiction.is_none();
        let positions: Vec<i64> = new.into_iter().filter(|position| !primary.has_sent(*position)).collect();
        self.note_sent(Side::Secondary, frame, &segment);
        self.report(contradiction.as_ref(), Side::Secondary, frame, decided);
        if repeats {
            decided.verdicts.push(drop("duplicate"));
        } else if positions.is_empty() && !contradicted {
            decided.verdicts.push(drop("matched"));
        } else {
            let placed = Some(Unmet { positions, contradicted });
            self.held_secondary.push(Waiting { frame, at_ns, what: Partner { segment, placed } });
        }
    }

    /// Both sides have shown a position: comparison starts at the lower one.
    fn join(&mut self, segment: &Segment) {
        if self.streams.secondary.floor.is_some() {
            return;
        }
        let first = self.secondary_first.unwrap_or(segment.start);
        let lowest = self.streams.primary.floor.unwrap_or(self.origin);
        let start = if self.opened_by_syn { -1 } else { first.min(lowest) };
        self.streams.primary.floor = Some(start);
        self.streams.secondary.floor = Some(start);
    }

    fn note_sent(&mut self, side: Side, frame: usize, segment: &Segment) {
        let stream = &mut self.streams[side];
        for (position, byte) in segment.positions() {
            if !stream.has_sent(position) {
                stream.sent.insert(position, Position { byte, frame });
            }
        }
        stream.fin = stream.fin.or(segment.fin_at());
        stream.urgent.extend(segment.urgent_at());
    }

    /// The first SYNs of both sides.
    fn offers_differ(&mut self, segment: &Segment) -> Option<Contradiction> {
        if !segment.syn || self.syn_judged || self.committed.is_some() {
            return None;
        }
        self.syn_judged = true;
        let offer = *self.streams.secondary.offer.get_or_insert(segment.offer);
        let differs = self.streams.primary.offer.is_some_and(|primary| primary != offer);
        let with = self.holder(Side::Primary, segment.start).map(|(_, frame)| (Side::Primary, frame));
        differs.then_some(Contradiction { kind: "syn-options", at: segment.start, with })
    }

    /// The other side must announce it, too, or have passed it without anybody objecting.
    fn urgent_agreed(&self, segment: &Segment) -> bool {
        let secondary = &self.streams.secondary;
        segment.urgent_at().is_none_or(|position| {
            let announced = secondary.urgent.contains(&position) || secondary.has_passed(position);
            announced && self.contradiction.is_none_or(|at| position <= at)
        })
    }

    /// An urgent position that one side announces and the other passes in silence: the lowest that this segment makes so.
    fn urgent_contradiction(&self, side: Side, segment: &Segment) -> Option<Contradiction> {
        let (own, other) = (&self.streams[side], &self.streams[side.other()]);
        let announced = segment.urgent_at();
        let mut after = own.clone();
        for (position, byte) in segment.positions() {
            after.sent.entry(position).or_insert(Position { byte, frame: 0 });
        }
        let denied = announced
            .into_iter()
            .filter(|at| !own.has_passed(*at) && other.has_passed(*at) && !other.urgent.contains(at));
        let passed = other.urgent.iter().copied().filter(|at| {
            let silent = !own.urgent.contains(at) && announced != Some(*at);
            silent && !own.has_passed(*at) && after.has_passed(*at)
        });
        let position = denied.chain(passed).min()?;
        let with = self.holder(side.other(), position - 1).map(|(_, frame)| (side.other(), frame));
        Some(Contradiction { kind: "urgent", at: position - 1, with })
    }

    fn note_primary_ack(&mut self, segment: &Segment) {
        let edge = self.edge(Side::Primary, segment);
        self.streams.primary.note_ack(segment.ack, edge);
        let highest = self.streams.primary.ack;
        let (count, ahead) = self.acks_ahead.iter().partition(|(ack, _)| Some(*ack) <= highest);
        self.acks_ahead = ahead;
        let count: Vec<(u32, u64)> = count;
        for (ack, edge) in count {
            self.streams.secondary.note_ack(Some(ack), Some(edge));
        }
    }

    fn note_secondary_ack(&mut self, segment: &Segment) {
        let ack = segment.ack;
        let edge = self.edge(Side::Secondary, segment);
        if let Some((_, Some(committed))) = self.committed
            && let Some(ack) = ack
            && ack > committed
            && Some(ack) > self.streams.primary.ack
        {
            self.acks_ahead.push((ack, edge.unwrap()));
        } else {
            self.streams.secondary.note_ack(ack, edge);
        }
    }

    /// The frame that sent a side's position first, while it waits.
    fn holder(&self, side: Side, position: i64) -> Option<(Position, usize)> {
        let sent = self.streams[side].sent.get(&position)?;
        let is_held = match side {
            Side::Primary => self.held_primary.iter().any(|held| held.frame == sent.frame),
            Side::Secondary => self.held_secondary.iter().any(|held| held.frame == sent.frame),
        };
        is_held.then_some((*sent, sent.frame))
    }

    fn contradiction_of(&self, side: Side, segment: &Segment) -> Option<Contradiction> {
        let own = &self.streams[side];
        for (at, byte) in segment.positions() {
            for of in [side.other(), side] {
                if let Some((position, frame)) = self.holder(of, at)
                    && let (Some(mine), Some(theirs)) = (byte, position.byte)
                    && mine != theirs
                {
                    let kind = if own.has_sent(at) { "self-inconsistent" } else { "payload" };
                    return Some(Contradiction { kind, at, with: Some((of, frame)) });
                }
            }
        }
        let with = |at| self.holder(side.other(), at).map(|(_, frame)| (side.other(), frame));
        let end = self.end_contradiction(side, segment);
        let end = end.map(|(kind, at)| Contradiction { kind, at, with: with(at) });
        end.or_else(|| self.urgent_contradiction(side, segment))
    }

    /// A FIN here, and something else or something beyond there.
    fn end_contradiction(&self, side: Side, segment: &Segment) -> Option<(&'static str, i64)> {
        let sides = [(side, "self-inconsistent"), (side.other(), "fin")];
        if let Some(fin) = segment.fin_at() {
            for (of, kind) in sides {
                let stream = &self.streams[of];
                if stream.fin != Some(fin) && stream.top() > Some(fin) {
                    return Some((kind, stream.fin.map_or(fin, |other| other.min(fin))));
                }
            }
        }
        for (of, kind) in sides {
            if let Some(fin) = self.streams[of].fin
                && segment.fin_at() != Some(fin)
                && fin < segment.end()
            {
                return Some((kind, fin));
            }
        }
        None
    }

    fn report(&mut self, found: Option<&Contradiction>, side: Side, frame: usize, decided: &mut Decided) {
        let Some(&Contradiction { kind, at, with }) = found else { return };
        self.contradiction = Some(self.contradiction.map_or(at, |lowest| lowest.min(at)));
        let of = |wanted: Side| match with {
            _ if wanted == side => Some(frame),
            Some((of, frame)) if of == wanted => Some(frame),
            _ => None,
        };
        let offset = match kind {
            "syn-options" => 0,
            "urgent" => at + 1 - self.origin,
            _ => at - self.origin,
        };
        let [primary, secondary] = [of(Side::Primary), of(Side::Secondary)];
        decided.causes.push(Why::Mismatch { kind, offset, primary, secondary });
    }

    /// The secondary becomes the primary's copy.
    pub(crate) fn commit(&mut self) -> BySide<Vec<usize>> {
        let flushed = BySide {
            primary: self.held_primary.drain(..).map(|held| held.frame).collect(),
            secondary: self.held_secondary.drain(..).map(|held| held.frame).collect(),
        };
        let Some(top) = self.streams.primary.top().filter(|_| self.streams.primary.floor.is_some()) else {
            *self = Self::default();
            return flushed;
        };
        let Stream { ack, fin, edge, offer, .. } = self.streams.primary;
        let copy = Stream { floor: Some(top), ack, fin, edge, offer, ..Stream::default() };
        self.streams = BySide { primary: copy.clone(), secondary: copy };
        self.committed = Some((top, ack));
        self.acks_ahead.clear();
        self.contradiction = None;
        flushed
    }
}
