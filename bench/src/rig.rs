//! A shard with nothing around it but memory: frames from pools in, a sink that recycles.
//!
//! One *pass*: [`fill`](Rig::fill) writes the frames, outside of what is measured; then the walk of a worker core –
//! parse, hash, prefetch, handle, release, recycle – is run over them in bursts, as `runtime` does.

use std::collections::VecDeque;
use std::time::Duration;

use colo_engine::compare::CompareSettings;
use colo_engine::flow::{FlowHash, FlowHasher};
use colo_engine::shard::{Budget, Place, Shard, ShardSettings, WorkBurst};
use colo_engine::side::{BySide, Side};
use colo_engine::verdict::{Cause, Discard, Release, Sink};
use colo_engine::wire::Packet;
use pmd_tap::{BURST_FRAMES, Frame, FramePool, Nanos, PoolSettings};

use crate::frames::Protocol;
use crate::scenario::{Coming, Order, Scenario};

/// How often a core looks at its timers.
const TICK: Duration = Duration::from_millis(10);
/// Time that passes with each pair.
const PAIR: u64 = 30;

/// Takes frames home, and counts.
#[derive(Debug)]
struct Recycler {
    pools: BySide<FramePool>,
    matched: BySide<usize>,
    other: usize,
    asked: usize,
}

impl Sink for Recycler {
    #[inline(always)]
    fn release(&mut self, frame: Frame, why: Release) {
        self.pools.primary.recycle(frame);
        match why {
            Release::Matched => self.matched.primary += 1,
            _ => self.other += 1,
        }
    }

    #[inline(always)]
    fn discard(&mut self, frame: Frame, why: Discard) {
        self.pools.secondary.recycle(frame);
        match why {
            Discard::Matched => self.matched.secondary += 1,
            _ => self.other += 1,
        }
    }

    fn ask(&mut self, _: Cause) {
        self.asked += 1;
    }
}

/// One side's traffic; both sides draw the same flows.
#[derive(Debug)]
struct Guest {
    random: u64,
    /// Next position of each flow.
    positions: Vec<u32>,
    sent: u32,
    /// Positions of the current turn still to be sent, when they come out of order.
    turn: VecDeque<u32>,
    frames: VecDeque<Frame>,
}

impl Guest {
    fn new(scenario: &Scenario) -> Self {
        let flows = usize::try_from(scenario.flows).expect("fits");
        Self {
            random: 0x9e37_79b9_7f4a_7c15,
            positions: vec![1_000_000; flows],
            sent: 0,
            turn: VecDeque::with_capacity(scenario.turn),
            frames: VecDeque::with_capacity(scenario.pairs + scenario.lag + flows),
        }
    }

    /// Xorshift64 (Marsaglia 2003).
    fn draw(&mut self, below: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u32::try_from(((self.random >> 32) * u64::from(below)) >> 32).unwrap_or(0)
    }

    /// The next frame's position in its flow's stream, when they come in order.
    fn next_position(&mut self, flow: u32, step: u32) -> u32 {
        let next = &mut self.positions[usize::try_from(flow).unwrap_or(0)];
        let position = *next;
        *next = position.wrapping_add(step);
        position
    }

    /// The next frame's position as the scenario wants it.
    fn position(&mut self, flow: u32, scenario: &Scenario, side: Side) -> u32 {
        let step = scenario.payload_bytes();
        let Some((_, order)) = scenario.disorder.filter(|(disordered, _)| *disordered == side) else {
            return self.next_position(flow, step);
        };
        if self.turn.is_empty() {
            self.draw_turn(flow, step, scenario.turn, order);
        }
        self.turn.pop_front().unwrap_or_default()
    }

    /// The positions of a turn, in the order in which they come.
    fn draw_turn(&mut self, flow: u32, step: u32, len: usize, order: Order) {
        let mut positions: Vec<u32> = (0..len).map(|_| self.next_position(flow, step)).collect();
        match order {
            Order::Shuffled => {
                while !positions.is_empty() {
                    let at = self.draw(u32::try_from(positions.len()).unwrap_or(0));
                    self.turn.push_back(positions.swap_remove(usize::try_from(at).unwrap_or(0)));
                }
            }
            Order::Reversed => self.turn.extend(positions.into_iter().rev()),
            Order::Gapped => {
                self.turn.extend(positions.iter().skip(1).step_by(2));
                self.turn.extend(positions.iter().step_by(2));
            }
        }
    }
}

/// A shard under measurement.
#[derive(Debug)]
pub struct Rig {
    scenario: Scenario,
    shard: Shard,
    hasher: FlowHasher,
    sink: Recycler,
    guests: BySide<Guest>,
    template: Vec<u8>,
    now: Nanos,
    last_tick: Nanos,
    measured: usize,
}

impl Rig {
    /// A shard that knows all its flows and has run a few passes.
    pub fn new(scenario: Scenario) -> anyhow::Result<Self> {
        let flows = usize::try_from(scenario.flows)?;
        let frames = scenario.pairs.max(BURST_FRAMES) + scenario.lag;
        let slots = |fits: bool| if fits { frames } else { 0 };
        let small = scenario.frame_bytes <= 128;
        let pool = PoolSettings { small: slots(small), mtu: slots(!small), jumbo: 0, gso: 0 };
        let compare = CompareSettings { max_queue_size: 4096, ..CompareSettings::default() };
        let settings = ShardSettings {
            compare,
            max_connections: flows.max(65_536),
            max_held_frames: frames,
            tick: TICK,
        };
        let hasher = FlowHasher::fixed();
        let mut rig = Self {
            scenario,
            shard: Shard::new(settings, hasher.clone()),
            hasher,
            sink: Recycler {
                pools: BySide { primary: FramePool::new(pool)?, secondary: FramePool::new(pool)? },
                matched: BySide::default(),
                other: 0,
                asked: 0,
            },
            guests: BySide { primary: Guest::new(&scenario), secondary: Guest::new(&scenario) },
            template: scenario.protocol.template(scenario.frame_bytes),
            now: Nanos::ZERO,
            last_tick: Nanos::ZERO,
            measured: 0,
        };
        rig.meet_all_flows();
        for _ in 0..scenario.lag {
            rig.fill_frame(Side::Primary);
        }
        rig.walk();
        // A primary that is ahead asks for a checkpoint when half of what may be held is held.
        rig.sink.asked = 0;
        for _ in 0..3 {
            rig.fill();
            rig.walk();
            rig.check();
        }
        Ok(rig)
    }

    /// One pair of every flow, so that no connection is new afterwards.
    fn meet_all_flows(&mut self) {
        for flow in 0..self.scenario.flows {
            for side in Side::BOTH {
                let position = self.guests[side].next_position(flow, self.scenario.payload_bytes());
                self.send(side, flow, position);
            }
            if self.guests.primary.frames.len() == 32 || flow + 1 == self.scenario.flows {
                self.walk();
            }
        }
    }

    fn fill_frame(&mut self, side: Side) {
        let guest = &mut self.guests[side];
        let flow = if self.scenario.flows == 1 { 0 } else { guest.draw(self.scenario.flows) };
        let position = guest.position(flow, &self.scenario, side);
        self.send(side, flow, position);
    }

    fn send(&mut self, side: Side, flow: u32, position: u32) {
        let guest = &mut self.guests[side];
        let nonce = match self.scenario.protocol {
            Protocol::Tcp => position ^ flow,
            Protocol::Udp => guest.sent,
        };
        let pool = &mut self.sink.pools[side];
        let mut frame = pool.frame_from(&self.template).expect("as many slots as frames");
        self.scenario.protocol.personalise(frame.bytes_mut(), flow, position, nonce);
        frame.stamp(self.now, u64::from(guest.sent));
        guest.sent = guest.sent.wrapping_add(1);
        guest.frames.push_back(frame);
    }

    /// Writes the frames of a pass.
    pub fn fill(&mut self) {
        for _ in 0..self.scenario.pairs {
            for side in Side::BOTH {
                self.fill_frame(side);
            }
        }
    }

    /// Pairs in a pass.
    pub fn pairs(&self) -> usize {
        self.scenario.pairs
    }

    /// Pairs measured so far.
    pub fn measured(&self) -> usize {
        self.measured
    }

    /// Sends off what a reference left, so that the next frames go on where these end.
    pub fn empty(&mut self) {
        self.walk();
    }

    /// What is measured: the filled frames go through the shard. A function of its own for callgrind's sake.
    #[inline(never)]
    pub fn pass(&mut self) {
        self.walk();
        self.measured += self.scenario.pairs;
    }

    #[inline(always)]
    fn walk(&mut self) {
        if self.now.since(self.last_tick) >= TICK {
            self.last_tick = self.now;
            self.shard.expire(self.now, &mut self.sink);
        }
        let mut bursts: BySide<WorkBurst> = BySide::default();
        match self.scenario.coming {
            Coming::Together => self.walk_together(&mut bursts),
            Coming::First(first) => self.walk_in_turn(first, &mut bursts),
        }
        self.now.0 += PAIR * u64::try_from(self.scenario.pairs).unwrap_or(0);
    }

    /// A burst of both sides at a time.
    #[inline(always)]
    fn walk_together(&mut self, bursts: &mut BySide<WorkBurst>) {
        while Side::BOTH.iter().any(|side| !self.guests[*side].frames.is_empty()) {
            for side in Side::BOTH {
                self.receive(side, self.scenario.turn, &mut bursts[side]);
            }
            self.shard.handle_bursts(bursts, self.now, &mut self.sink);
            for side in Side::BOTH {
                if !bursts[side].is_empty() {
                    self.shard.handle_burst(side, &mut bursts[side], self.now, &mut self.sink);
                }
            }
        }
    }

    /// A turn of one side, then one of the other.
    #[inline(always)]
    fn walk_in_turn(&mut self, first: Side, bursts: &mut BySide<WorkBurst>) {
        let mut side = first;
        while !self.guests[side].frames.is_empty() || !self.guests[side.other()].frames.is_empty() {
            let mut left = self.scenario.turn;
            while left > 0 && !self.guests[side].frames.is_empty() {
                left -= self.receive(side, left, &mut bursts[side]);
                self.shard.handle_burst(side, &mut bursts[side], self.now, &mut self.sink);
            }
            side = side.other();
        }
    }

    /// One burst of one side; how many frames it has.
    #[inline(always)]
    fn receive(&mut self, side: Side, most: usize, burst: &mut WorkBurst) -> usize {
        let frames = &mut self.guests[side].frames;
        let most = most.min(BURST_FRAMES).min(frames.len());
        let mut ahead = Ahead { shard: &self.shard, burst };
        for frame in frames.drain(..most) {
            let usual = WorkBurst::receive_usual(frame, &self.hasher, Budget::Room, &mut ahead);
            assert!(usual.is_ok(), "all frames are usual ones");
        }
        most
    }

    /// That everything went as it should: all matched, only the late ones held, nobody asked for a checkpoint.
    pub fn check(&self) {
        let held = Side::BOTH.map(|side| self.shard.held_frames(side));
        assert_eq!(held, [self.scenario.lag, 0], "frames held in {}", self.scenario);
        let sent = |side: Side| usize::try_from(self.guests[side].sent).unwrap_or(0);
        let matched = self.sink.matched;
        assert_eq!(
            (matched.primary + held[0], matched.secondary),
            (sent(Side::Primary), sent(Side::Secondary))
        );
        assert_eq!((self.sink.other, self.sink.asked), (0, 0), "in {}", self.scenario);
    }

    /// Reference: the filled pairs compared by `memcmp`, frame by frame. How many are equal.
    #[inline(never)]
    pub fn compare_bytes(&self) -> usize {
        let [primary, secondary] = Side::BOTH.map(|side| &self.guests[side].frames);
        primary.iter().zip(secondary).filter(|(one, other)| one.ethernet() == other.ethernet()).count()
    }

    /// Reference: the filled frames parsed and hashed, nothing else. How many have a flow.
    #[inline(never)]
    pub fn parse_and_hash(&self) -> usize {
        let hash_all = |frames: &VecDeque<Frame>| {
            let packets = frames.iter().map(|frame| Packet::parse(frame.ethernet()));
            packets
                .filter(|packet| packet.flow().is_some_and(|flow| self.hasher.hash(flow).bucket_bits() != 0))
                .count()
        };
        Side::BOTH.map(|side| hash_all(&self.guests[side].frames)).iter().sum()
    }
}

/// As an input does, asks for the memory that says where a flow's connection stands.
struct Ahead<'a> {
    shard: &'a Shard,
    burst: &'a mut WorkBurst,
}

impl Place for Ahead<'_> {
    #[inline(always)]
    fn place(&mut self, hash: FlowHash) -> &mut WorkBurst {
        self.shard.prefetch(hash);
        self.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_matches_in_every_order() {
        let mut all = Scenario::matrix();
        all.retain(|scenario| scenario.flows <= 1_000 && scenario.pairs <= 512);
        for held in [1, 32] {
            all.push(Scenario::late(held));
            for order in Order::ALL {
                all.extend(Side::BOTH.map(|side| Scenario::disordered(held, side, order)));
            }
        }
        for scenario in all {
            let mut rig = Rig::new(scenario).unwrap();
            rig.fill();
            if scenario.disorder.is_none() && scenario.lag == 0 {
                assert_eq!(rig.compare_bytes(), scenario.pairs, "{scenario}");
            }
            rig.pass();
            rig.check();
            assert_eq!(Scenario::named(&scenario.to_string()), Some(scenario));
        }
    }
}
