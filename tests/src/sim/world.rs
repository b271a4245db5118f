//! The simulated world of one seed: guests, links, checkpoints, the engine's cores one at a time, and what must hold
//! after each step.

use std::time::Duration;

use colo_engine::modes::Mode;
use colo_engine::runtime::{EnginePorts, Epochs, SteppedEngine, SteppedSettings};
use colo_engine::side::{BySide, Side};
use pmd_tap::{Fault, FaultCounts, FaultPort, Nanos};
use std::sync::Arc;

use super::backend::{SimBackend, Talks};
use super::checkpoints::Checkpoint;
use super::draws::Draws;
use super::guest::{Guest, Quirk, Talk, Topic};
use super::model::Model;
use super::plan::{Plan, Weather};
use super::ports::{Both, LinkIs, MemoryPort, Received, Tap, Wire};
use super::tally::Tally;

/// How late a timeout may be beyond its tick: the scheduler's longest pause between two steps of a core, several times.
const SLACK: Duration = Duration::from_millis(25);
/// Rounds of all cores after which a settled engine has nothing left to do.
const MOST_ROUNDS: u32 = 4_000;

/// Whether a timeline is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// It is.
    Timeline,
    /// It is not.
    Nothing,
}

/// The world of one seed.
pub(super) struct World<'a> {
    pub(super) plan: &'a Plan,
    pub(super) draws: Draws,
    /// For modes alone.
    orders: Draws,
    pub(super) engine: SteppedEngine,
    pub(super) model: Model<'a>,
    pub(super) guests: BySide<Guest>,
    pub(super) wires: BySide<Both<Wire>>,
    pub(super) out: Both<Wire>,
    seen: BySide<Both<Vec<Received>>>,
    faults: Vec<Arc<FaultCounts>>,
    pub(super) talks: Both<Talks>,
    pub(super) checkpoint: Checkpoint,
    /// For each connection, how far its life's application has written, and what the client has sent.
    topics: Vec<Topic>,
    /// What the client had sent in the life before.
    former: Vec<u32>,
    silent_until: BySide<Nanos>,
    /// When something last kept requests or frames back that must not be blamed on the engine.
    pub(super) excused: Nanos,
    flushed: u32,
    flush_count: u64,
    pub(super) tally: Tally,
    record: Record,
    pub(super) timeline: Vec<String>,
}

/// What is not as it must be.
pub(super) type Verdict = Result<(), String>;

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan, record: Record) -> Result<Self, String> {
        let wires = BySide { primary: Both::default(), secondary: Both::default() };
        let seen = BySide { primary: Both::default(), secondary: Both::default() };
        let (out, talks) = (Both::<Wire>::default(), Both::<Talks>::default());
        let mut faults = Vec::new();
        let mut input = |side: Side| {
            let port = FaultPort::new(MemoryPort::new(wires[side].clone()), &plan.faults[side]);
            faults.push(port.counts());
            Box::new(Tap { port, seen: seen[side].clone() })
        };
        let (primary, secondary) = (input(Side::Primary), input(Side::Secondary));
        let output = FaultPort::new(MemoryPort::new(out.clone()), &plan.out_faults);
        faults.push(output.counts());
        let ports = EnginePorts { primary, secondary, out: Box::new(output) };
        let stepped = SteppedSettings { hash_seed: plan.seed, frames_under_way: 64 };
        let backend = Box::new(SimBackend(talks.clone()));
        let engine =
            SteppedEngine::new(&plan.settings, ports, backend, stepped).map_err(|error| error.to_string())?;
        let mut draws = Draws::new(plan.seed ^ 0x5eed);
        let mut guest = |side: Side| Guest {
            side,
            talks: plan.scripts.iter().map(|script| Talk::begin(0, &script.lives[0], plan.numbers)).collect(),
            sent: vec![0; plan.streams.len()],
            id: 0,
            padding: u8::try_from(draws.below(256)).unwrap_or(0),
            window: 64_240,
        };
        let guests = BySide { primary: guest(Side::Primary), secondary: guest(Side::Secondary) };
        Ok(Self {
            plan,
            draws,
            orders: Draws::new(plan.seed ^ 0x0de5),
            engine,
            model: Model::new(plan),
            guests,
            wires,
            out,
            seen,
            faults,
            talks,
            checkpoint: Checkpoint::new(),
            topics: vec![Topic { written: 0, client: 0 }; plan.scripts.len()],
            former: vec![0; plan.scripts.len()],
            silent_until: BySide::default(),
            excused: Nanos::ZERO,
            flushed: 0,
            flush_count: 0,
            tally: Tally::default(),
            record,
            timeline: Vec::new(),
        })
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.record == Record::Timeline {
            let micros = self.engine.now().0 / 1_000;
            self.timeline.push(format!("{:>7}.{:03} ms  {}", micros / 1_000, micros % 1_000, what()));
        }
    }

    /// The rounds in which guests speak and things go wrong.
    pub(super) fn live(&mut self) -> Verdict {
        for _ in 0..self.plan.rounds {
            let pause =
                if self.draws.percent(4) { self.draws.between(1_000, 4_000) } else { self.draws.below(150) };
            self.engine.advance(Duration::from_micros(u64::from(pause)));
            if pause >= 1_000 {
                self.round()?;
            }
            self.disturb();
            self.change_mode();
            self.speak();
            self.poll_checkpoint();
            for _ in 0..self.draws.between(1, 4) {
                self.step_any()?;
            }
            self.check_time()?;
        }
        Ok(())
    }

    /// Guests speak, unless a checkpoint has paused them.
    fn speak(&mut self) {
        if self.checkpoint.is_paused() {
            return;
        }
        let now = self.engine.now();
        for side in Side::BOTH {
            if self.silent_until[side] > now || self.draws.percent(30) {
                continue;
            }
            let mut frames = Vec::new();
            let connections = self.plan.scripts.len();
            let topic = self.draws.place(connections + self.plan.streams.len());
            if self.draws.percent(3) {
                frames.push(self.guests[side].babble(&mut self.draws));
            } else if topic < connections {
                self.speak_in(side, topic, &mut frames);
            } else {
                let at = topic - connections;
                self.guests[side].send(at, &self.plan.streams[at], &mut self.draws, &mut frames);
            }
            self.transmit(side, frames);
        }
    }

    fn speak_in(&mut self, side: Side, at: usize, frames: &mut Vec<Vec<u8>>) {
        let script = &self.plan.scripts[at];
        let furthest = Side::BOTH.map(|side| self.guests[side].talks[at].life);
        let [primary, secondary] = Side::BOTH.map(|side| self.guests[side].talks[at]);
        let mine = self.guests[side].talks[at];
        let is_clear = self.plan.weather == Weather::Clear;
        let others_are_over = primary.is_over && secondary.is_over && primary.life == secondary.life;
        let has_next = mine.life + 1 < script.lives.len();
        // The client begins a new life when the old one is over; with a bad network it may look over to one guest alone.
        let begins = has_next
            && (mine.life < furthest[0].max(furthest[1])
                || others_are_over
                || (!is_clear && side == Side::Primary && mine.is_over));
        // A copy of a primary that has not begun a life forgets that it had; that is no clear weather.
        let begins =
            begins && (!is_clear || self.plan.is_calm || side == Side::Primary || mine.life < furthest[0]);
        let may = mine.is_over || (!is_clear && mine.life < furthest[0].max(furthest[1]));
        // Of a connection two lives are told apart at a time, so in clear weather nobody is two lives ahead.
        let is_read = !is_clear || Side::BOTH.iter().all(|side| self.wires[*side].get().frames.is_empty());
        if begins && may && self.draws.percent(30) && is_read {
            let life = mine.life + 1;
            if life > furthest[0].max(furthest[1]) {
                self.former[at] = self.topics[at].client;
                self.topics[at] = Topic { written: 0, client: 0 };
            }
            if is_clear {
                self.guests[side].finish(at, script, self.former[at], frames);
            }
            self.guests[side].talks[at] = Talk::begin(life, &script.lives[life], self.plan.numbers);
            self.tally.add("new lives", 1);
        }
        let is_latest = self.guests[side].talks[at].life >= furthest[0].max(furthest[1]);
        let written = self.draws.below(400);
        let client = self.draws.below(200);
        let topic = &mut self.topics[at];
        topic.written += written;
        topic.client += client;
        let last = script.lives[self.guests[side].talks[at].life].data_end();
        let topic = if is_latest { *topic } else { Topic { written: last, client: self.former[at] } };
        self.guests[side].talk(at, script, topic, &mut self.draws, frames);
    }

    /// Frames go on the wire; without a link they are lost.
    pub(super) fn transmit(&mut self, side: Side, frames: Vec<Vec<u8>>) {
        let mut wire = self.wires[side].get();
        for frame in frames {
            if wire.link == LinkIs::Up {
                self.model.note_sent(side, &frame);
                wire.frames.push_back(frame);
            }
        }
    }

    /// What goes wrong by plan.
    fn disturb(&mut self) {
        if self.plan.plants == 0 || self.draws.below(1_000) >= self.plan.plants {
            return;
        }
        let now = self.engine.now();
        let at = self.draws.place(self.plan.scripts.len());
        let talk = self.guests.secondary.talks[at];
        let end = self.plan.scripts[at].lives[talk.life].data_end();
        let near = (talk.next + self.draws.below(200)).min(end);
        match self.draws.below(8) {
            0 | 1 => self.plant(at, Quirk::Byte(near.max(1)), "planted bytes"),
            2 => self.plant(at, Quirk::Short(near), "planted ends"),
            3 => self.plant(at, Quirk::Hole(near, near + 30), "planted holes"),
            4 | 5 => {
                let side = Side::BOTH[self.draws.place(2)];
                let time = Duration::from_millis(u64::from(self.draws.between(5, 100)));
                self.silent_until[side] = now + time;
                self.tally.add("silent sides", 1);
                self.note(|| format!("{side} is silent for {time:?}"));
            }
            _ => {
                let place = self.draws.place(3);
                let wire = [&self.wires.primary, &self.wires.secondary, &self.out][place];
                let link = if wire.get().link == LinkIs::Up { LinkIs::Down } else { LinkIs::Up };
                wire.get().set_link(link);
                self.tally.add("link losses", u64::from(link == LinkIs::Down));
                self.note(|| format!("link {place} is {link:?}"));
            }
        }
    }

    /// The operator wants something else.
    fn change_mode(&mut self) {
        if self.plan.orders == 0 || self.orders.below(1_000) >= self.plan.orders {
            return;
        }
        let (mode, name) = [(Mode::Colo, "mode colo"), (Mode::Passive, "mode passive")][self.orders.place(2)];
        let mut settings = self.plan.settings.clone();
        settings.modes.mode = mode;
        self.engine.order(&settings);
        // Who was not followed is picked up where it goes on.
        self.model.forgive_gaps();
        self.tally.add(name, 1);
        self.note(|| name.to_owned());
    }

    fn plant(&mut self, at: usize, quirk: Quirk, name: &'static str) {
        self.guests.secondary.talks[at].quirk = quirk;
        self.tally.add(name, 1);
        self.note(|| format!("connection {at}: the secondary's {quirk:?}"));
    }

    /// Everything once, in order.
    pub(super) fn round(&mut self) -> Verdict {
        self.control_step();
        for core in 0..self.engine.cores() {
            self.step(core)?;
        }
        Ok(())
    }

    fn step_any(&mut self) -> Verdict {
        let place = self.draws.place(self.engine.cores() + 1);
        if place == self.engine.cores() {
            self.control_step();
            return Ok(());
        }
        self.step(place)
    }

    fn control_step(&mut self) {
        let before = self.engine.epochs();
        self.engine.control_step();
        let after = self.engine.epochs();
        if after.committed != before.committed {
            if self.engine.is_void(after.committed) {
                self.note(|| format!("epoch {} is given up", after.committed));
                self.model.give_up(after.committed);
            } else {
                self.note(|| format!("epoch {} is committed", after.committed));
                self.model.commit(after.committed);
            }
            let checkpoints = self.engine.checkpoints();
            if checkpoints.requested.queue_full + checkpoints.absorbed.queue_full > 0 {
                self.model.forgive_gaps();
            }
        }
        if after.boundary != before.boundary {
            self.note(|| format!("the inputs are to mark epoch {}", after.boundary));
        }
        let asked = std::mem::take(&mut self.talks.get().asked);
        for reason in asked {
            self.note(|| format!("a checkpoint is asked for: {}", reason.label()));
            self.plan_checkpoint();
        }
    }

    /// One core goes on, and everything is looked at.
    fn step(&mut self, core: usize) -> Verdict {
        let before = self.engine.epochs();
        self.engine.step(core);
        for side in Side::BOTH {
            let seen = std::mem::take(&mut *self.seen[side].get());
            for frame in seen {
                let epoch = before.receiving[side];
                self.note(|| {
                    format!("{side} frame {} of epoch {epoch}: {}", frame.ordinal, describe(&frame.bytes))
                });
                match side {
                    Side::Primary => self.model.receive_primary(frame, epoch)?,
                    Side::Secondary => self.model.receive_secondary(&frame, epoch),
                }
            }
        }
        let left = std::mem::take(&mut self.out.get().left);
        for (ordinal, bytes) in left {
            self.note(|| format!("frame {ordinal} leaves"));
            self.model.leave(ordinal, &bytes)?;
        }
        let violations = self.engine.counters(core).map_or(0, |counters| counters.violations);
        if violations > 0 {
            return Err(format!("the books of core {core} do not balance"));
        }
        self.note_flush(before);
        if self.talks.get().most_outstanding > 1 {
            return Err("two requests are outstanding".to_owned());
        }
        Ok(())
    }

    /// The flush that came to an end let its frames out in the order in which they came. They may still be on their way
    /// to the world, so it is looked at when the next one ends.
    fn note_flush(&mut self, before: Epochs) {
        let shards = u64::try_from(self.plan.settings.runtime.workers).unwrap_or(1);
        let epochs = self.engine.epochs();
        if epochs.flushed == before.flushed || epochs.flushed != shards * u64::from(epochs.committed) {
            return;
        }
        let count: u64 = self.sum(|counters| counters.released.flush);
        let (epoch, flushed) = (self.flushed, count - self.flush_count);
        (self.flushed, self.flush_count) = (epochs.committed, count);
        self.checkpoint.flushes.push((epoch, flushed));
        self.note(|| format!("{flushed} frames of epoch {epoch} are flushed"));
    }

    pub(super) fn sum(&mut self, of: impl Fn(&colo_engine::stats::Counters) -> u64) -> u64 {
        (0..self.engine.cores()).filter_map(|core| self.engine.counters(core).map(&of)).sum()
    }

    /// A frame that waited too long has asked for a checkpoint.
    fn check_time(&mut self) -> Verdict {
        let now = self.engine.now();
        let epochs = self.engine.epochs();
        let is_blocked = self.out.get().link == LinkIs::Down || self.plan.out_faults.delay > Duration::ZERO;
        if is_blocked || epochs.boundary != epochs.committed || self.talks.get().outstanding > 0 {
            self.excused = now;
        }
        let settings = &self.plan.settings;
        let mut most = settings.compare.compare_timeout + settings.runtime.timer_tick + SLACK;
        let mut distance = settings.checkpoint.min_interval + SLACK;
        if self.plan.orders > 0 {
            // What is held uncompared waits for a periodic checkpoint, which is so long after the last.
            distance += settings.modes.passive_interval;
            most = most.max(distance);
        }
        match self.model.oldest_held() {
            Some(at) if at + most < now && self.excused + distance < now => {
                Err(format!("a frame that came at {at} is held and no checkpoint was asked for"))
            }
            _ => Ok(()),
        }
    }

    /// Lets time go by until nothing happens any more.
    pub(super) fn settle(&mut self, time: Duration) -> Verdict {
        let until = self.engine.now() + time;
        for _ in 0..MOST_ROUNDS {
            if self.engine.now() >= until {
                return Ok(());
            }
            self.engine.advance(Duration::from_micros(500));
            self.poll_checkpoint();
            self.round()?;
            self.check_time()?;
        }
        Err("the engine does not come to rest".to_owned())
    }

    /// Both guests say all that is left to say.
    fn finish(&mut self) {
        for side in Side::BOTH {
            let mut frames = Vec::new();
            for (at, stream) in self.plan.streams.iter().enumerate() {
                while self.guests[side].sent[at] < stream.count {
                    self.guests[side].send(at, stream, &mut self.draws, &mut frames);
                }
            }
            for (at, script) in self.plan.scripts.iter().enumerate() {
                let latest = Side::BOTH.map(|side| self.guests[side].talks[at].life);
                loop {
                    let mine = self.guests[side].talks[at];
                    let is_latest = mine.life >= latest[0].max(latest[1]);
                    let client = if is_latest { self.topics[at].client } else { self.former[at] };
                    self.guests[side].finish(at, script, client, &mut frames);
                    if is_latest {
                        break;
                    }
                    let next = Talk::begin(mine.life + 1, &script.lives[mine.life + 1], self.plan.numbers);
                    self.guests[side].talks[at] = next;
                }
            }
            self.transmit(side, frames);
        }
    }

    /// Calm after everything: links are up, guests are done, and a last checkpoint lets everything out.
    pub(super) fn end(&mut self) -> Verdict {
        for wire in [&self.wires.primary, &self.wires.secondary, &self.out] {
            wire.get().set_link(LinkIs::Up);
        }
        self.excused = self.engine.now();
        self.talks.get().deaf_until = Nanos::ZERO;
        self.complete_checkpoint()?;
        if self.plan.weather == Weather::Clear {
            self.note(|| "both guests say what is left to say".to_owned());
            self.finish();
            self.settle(Duration::from_millis(30))?;
            self.complete_checkpoint()?;
            self.check_clear()?;
        } else {
            self.settle(Duration::from_millis(20))?;
            self.complete_checkpoint()?;
        }
        // The first may find a bound that keeps an input from being read; what it lets in leaves with another.
        for _ in 0..40 {
            self.commit_now();
            self.settle(Duration::from_millis(5))?;
            self.complete_checkpoint()?;
            let unread = Side::BOTH.iter().any(|side| !self.wires[*side].get().frames.is_empty());
            if !unread
                && self.model.held().is_empty()
                && self.sum(|counters| counters.held_frames.secondary) == 0
            {
                break;
            }
        }
        self.settle(Duration::from_millis(30))?;
        self.commit_now();
        self.settle(Duration::from_millis(30))?;
        self.check_end()
    }

    /// Guests that agree leave nothing held, and nobody is disturbed for them.
    fn check_clear(&mut self) -> Verdict {
        // Who was lost track of is picked up where it goes on, and what it says again differs from that.
        if self.model.forgives_gaps() || self.model.is_two_lives_ahead() {
            return Ok(());
        }
        let false_alarms = self.sum(|counters| {
            counters.verdicts.by_label().map(|(_, verdicts)| verdicts.mismatch + verdicts.timeout).sum()
        });
        if false_alarms > 0 {
            return Err(format!("{false_alarms} mismatches or timeouts between guests that agree"));
        }
        let held = self.model.held();
        if !held.is_empty() {
            return Err(format!("frames {held:?} are held although both guests agree"));
        }
        Ok(())
    }

    fn check_end(&mut self) -> Verdict {
        let held = self.model.held();
        if !held.is_empty() {
            return Err(format!("frames {held:?} are held after the last checkpoint"));
        }
        for (epoch, count) in std::mem::take(&mut self.checkpoint.flushes) {
            self.model.check_flush(epoch, count)?;
        }
        for side in Side::BOTH {
            let out = self.engine.frames_out(side);
            if out > 0 {
                return Err(format!("{out} {side} frames did not come home"));
            }
        }
        let received = [
            self.sum(|counters| counters.received.primary),
            self.sum(|counters| counters.received.secondary),
        ];
        let handled =
            [self.sum(|counters| counters.handled.primary), self.sum(|counters| counters.handled.secondary)];
        let expected = [self.model.primaries(), self.model.secondaries];
        if received != expected || handled != expected {
            return Err(format!(
                "{expected:?} frames came, {received:?} are counted, {handled:?} were judged"
            ));
        }
        self.count();
        Ok(())
    }

    /// What this seed came to.
    fn count(&mut self) {
        let expected = self.model.primaries() + self.model.secondaries;
        self.tally.add("frames received", expected);
        self.tally.add("frames left", self.model.primaries());
        let mut tally = Tally::default();
        for core in 0..self.engine.cores() {
            let Some(counters) = self.engine.counters(core) else { continue };
            let (released, dropped) = (&counters.released, &counters.dropped);
            tally.add("left matched", released.matched);
            tally.add("left ack", released.ack);
            tally.add("left pass", released.pass);
            tally.add("left flush", released.flush);
            tally.add("dropped matched", dropped.matched);
            tally.add("dropped stale", dropped.stale);
            tally.add("dropped duplicate", dropped.duplicate);
            tally.add("dropped over_budget", dropped.over_budget);
            tally.add("dropped flush", dropped.flush);
            tally.add("reading stops", counters.reading_stops);
            tally.add("mismatches", counters.verdicts.by_label().map(|(_, cells)| cells.mismatch).sum());
        }
        let checkpoints = self.engine.checkpoints();
        let asked = &checkpoints.requested;
        tally.add("asked mismatch", asked.mismatch);
        tally.add("asked timeout", asked.timeout);
        tally.add("asked queue_full", asked.queue_full);
        tally.add("asked table_full", asked.table_full);
        tally.add("asked periodic", asked.periodic);
        tally.add("checkpoints", checkpoints.completed);
        let fault_names = [
            "fault drop",
            "fault duplicate",
            "fault reorder",
            "fault corrupt",
            "fault truncate",
            "fault delay",
            "fault stall",
        ];
        for (fault, name) in Fault::ALL.into_iter().zip(fault_names) {
            tally.add(name, self.faults.iter().map(|counts| counts.of(fault)).sum());
        }
        self.tally.merge(&tally);
    }
}

fn describe(frame: &[u8]) -> String {
    use super::packet::{Parsed, parse};
    match parse(frame) {
        Parsed::Tcp(ends, tcp) => format!(
            "tcp {} seq {:#x} ack {:#x} flags {:#x} {} bytes",
            ends.ports[1],
            tcp.seq,
            tcp.ack,
            tcp.flags,
            tcp.payload.len()
        ),
        Parsed::Datagram(ends, content) => {
            format!("datagram {}/{} {} bytes", ends.protocol, ends.ports[1], content.len())
        }
        Parsed::Other => format!("{} bytes of something else", frame.len()),
    }
}
