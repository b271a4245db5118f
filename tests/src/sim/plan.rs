//! What a seed stands for: settings, faults, scripts, and how checkpoints go.

use std::time::Duration;

use colo_engine::compare::{AckPolicy, SecondarySequence};
use colo_engine::config::{Purpose, RunMode, Settings};
use colo_engine::side::{BySide, Side};
use pmd_tap::{Fault, FaultSettings, Rate};

use super::draws::Draws;
use super::guest::{End, Life, Numbers, Opening, Script, Stream};
use super::packet::Ends;

/// How much may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Nothing: both guests say the same, and nobody may ask for a checkpoint because of it.
    Clear,
    /// Anything.
    Rough,
}

/// What the back end tells of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Pause and commit.
    Two,
    /// The commit alone.
    One,
}

/// Everything a seed decides beforehand.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The engine's settings.
    pub settings: Settings,
    /// How much may go wrong.
    pub weather: Weather,
    /// Faults of the inputs.
    pub faults: BySide<FaultSettings>,
    /// Faults of the output: delays and stalls only, for the engine owes those frames to the world.
    pub out_faults: FaultSettings,
    /// Connections.
    pub scripts: Vec<Script>,
    /// Flows of datagrams.
    pub streams: Vec<Stream>,
    /// What is told of checkpoints.
    pub marks: Marks,
    /// The secondary's numbers before a checkpoint.
    pub numbers: Numbers,
    /// The secondary's numbers after one.
    pub numbers_after: Numbers,
    /// Rounds of the world.
    pub rounds: u32,
    /// Whether a bound is small enough to be reached.
    pub is_tight: bool,
    /// Whether no checkpoint comes unasked.
    pub is_calm: bool,
    /// Rounds in a thousand that bring what goes wrong by plan.
    pub plants: u32,
    /// Rounds in a thousand that bring another mode.
    pub orders: u32,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut draws = Draws::new(seed);
        let weather = if draws.percent(40) { Weather::Clear } else { Weather::Rough };
        let is_tight = weather == Weather::Rough && draws.percent(30);
        let settings = settings(&mut draws, weather, is_tight);
        let sequence = settings.compare.secondary_sequence;
        let either = |draws: &mut Draws| if draws.percent(50) { Numbers::Primary } else { Numbers::Own };
        let (numbers, numbers_after) = match sequence {
            SecondarySequence::Translated => (Numbers::Primary, Numbers::Primary),
            SecondarySequence::Raw => (Numbers::Own, Numbers::Own),
            // With a rewriter in front they never were its own.
            SecondarySequence::Auto => match either(&mut draws) {
                Numbers::Primary => (Numbers::Primary, Numbers::Primary),
                Numbers::Own => (Numbers::Own, either(&mut draws)),
            },
        };
        let connections = draws.between(1, 4);
        let scripts = (0..connections).map(|at| script(&mut draws, at, numbers)).collect();
        let streams = (0..draws.below(3)).map(|at| stream(&mut draws, at)).collect();
        let mut out_faults = faults(&mut draws, 0);
        if weather == Weather::Rough && draws.percent(20) {
            out_faults.delay = Duration::from_micros(u64::from(draws.below(2_000)));
            out_faults = out_faults.with(Fault::Stall, Rate::millionths(draws.below(30_000)));
        }
        let chance = if weather == Weather::Rough { 60 } else { 0 };
        let plants = if weather == Weather::Rough && draws.percent(60) { draws.between(1, 12) } else { 0 };
        // Drawn apart, so that the other seeds mean what they have meant before there were modes.
        let changes_modes = weather == Weather::Rough && Draws::new(seed ^ 0x30de).percent(15);
        let mut inputs =
            BySide { primary: faults(&mut draws, chance), secondary: faults(&mut draws, chance) };
        if settings.limits.max_held_frames < 200 {
            // Frames that wait in a port are out of the pool: with room for so few they would stop the reading.
            for side in Side::BOTH {
                for fault in [Fault::Duplicate, Fault::Reorder, Fault::Stall] {
                    inputs[side] = inputs[side].with(fault, Rate::NEVER);
                }
                inputs[side].delay = Duration::ZERO;
            }
        }
        Self {
            seed,
            settings,
            weather,
            faults: inputs,
            out_faults,
            scripts,
            streams,
            marks: if draws.percent(50) { Marks::Two } else { Marks::One },
            numbers,
            numbers_after,
            rounds: draws.between(60, 350),
            is_tight,
            is_calm: weather == Weather::Clear && draws.percent(50),
            plants,
            orders: if changes_modes { 25 } else { 0 },
        }
    }

    /// Whether frames of a side can get lost or changed before the engine has them.
    pub fn harms(&self, side: Side, fault: Fault) -> bool {
        self.faults[side].rate(fault) != Rate::NEVER
    }
}

fn settings(draws: &mut Draws, weather: Weather, is_tight: bool) -> Settings {
    let mut settings = Settings::defaults(Purpose::Compare);
    let ms = |ms: u32| Duration::from_millis(u64::from(ms));
    settings.runtime.workers = usize::try_from(draws.between(1, 4)).unwrap_or(1);
    settings.runtime.run_mode = if draws.percent(50) { RunMode::Workers } else { RunMode::Pipeline };
    settings.runtime.timer_tick = ms(draws.between(1, 10));
    settings.compare.compare_timeout =
        if weather == Weather::Clear { Duration::from_secs(20) } else { ms(draws.between(15, 60)) };
    settings.compare.reorder_grace = ms(if weather == Weather::Clear { 1_000 } else { draws.between(5, 20) });
    settings.compare.ack_policy = if draws.percent(85) { AckPolicy::Both } else { AckPolicy::Any };
    settings.compare.secondary_sequence = match draws.below(4) {
        0 => SecondarySequence::Raw,
        1 => SecondarySequence::Translated,
        _ => SecondarySequence::Auto,
    };
    settings.checkpoint.min_interval = ms(draws.below(30));
    settings.checkpoint.delay = ms(draws.below(4));
    settings.checkpoint.max_interval = (weather == Weather::Rough && draws.percent(20)).then(|| ms(50));
    settings.modes.passive_interval = ms(30);
    settings.limits.max_held_frames = 224;
    settings.limits.max_connections = 64;
    settings.limits.max_gso_frames = 2;
    settings.limits.max_fragments = 64;
    if is_tight {
        let limits = &mut settings.limits;
        match draws.below(3) {
            0 => limits.max_held_frames = usize::try_from(draws.between(8, 60)).unwrap_or(8),
            1 => limits.max_connections = usize::try_from(draws.between(1, 3)).unwrap_or(1),
            _ => settings.compare.max_queue_size = draws.between(4, 30),
        }
    }
    settings
}

fn faults(draws: &mut Draws, chance: u32) -> FaultSettings {
    let mut faults = FaultSettings::seeded(draws.bits());
    faults.depth = 256;
    let each = [Fault::Drop, Fault::Duplicate, Fault::Reorder, Fault::Corrupt, Fault::Truncate, Fault::Stall];
    for fault in each {
        if draws.percent(chance / 3) {
            let most = if fault == Fault::Stall { 10_000 } else { 60_000 };
            faults = faults.with(fault, Rate::millionths(draws.below(most)));
        }
    }
    faults.stall_time = Duration::from_millis(5);
    if draws.percent(chance / 3) {
        faults.delay = Duration::from_micros(u64::from(draws.below(3_000)));
    }
    faults
}

fn script(draws: &mut Draws, at: u32, numbers: Numbers) -> Script {
    let ends = Ends { protocol: 6, hosts: [1, 9], ports: [80, 4_000 + u16::try_from(at).unwrap_or(0)] };
    let mut taken: Vec<u32> = Vec::new();
    let mut lives = Vec::new();
    for life in 0..draws.between(1, 3) {
        let mut isn = |draws: &mut Draws| {
            loop {
                // Some streams begin just before their numbers wrap.
                let isn =
                    if draws.percent(25) { 0_u32.wrapping_sub(draws.below(1_500)) } else { draws.word() };
                let apart = |other: &u32| isn.wrapping_sub(*other).min(other.wrapping_sub(isn)) > 1 << 22;
                if taken.iter().all(apart) {
                    taken.push(isn);
                    return isn;
                }
            }
        };
        let (primary, secondary) = (isn(draws), isn(draws));
        let client_isn = isn(draws);
        let middle = life == 0 && numbers == Numbers::Primary && draws.percent(20);
        lives.push(Life {
            isn: BySide { primary, secondary },
            client_isn,
            length: draws.between(0, 2_500),
            content: draws.bits(),
            opening: if middle { Opening::Middle } else { Opening::Syn },
            end: [End::Fin, End::Fin, End::Fin, End::Reset, End::Open][draws.place(5)],
        });
    }
    Script { ends, lives }
}

fn stream(draws: &mut Draws, at: u32) -> Stream {
    let port = 5_000 + u16::try_from(at).unwrap_or(0);
    let ends = if draws.percent(70) {
        Ends { protocol: 17, hosts: [1, 9], ports: [53, port] }
    } else {
        Ends { protocol: 1, hosts: [1, 9], ports: [0, port] }
    };
    Stream { ends, count: draws.between(5, 60), content: draws.bits() }
}
