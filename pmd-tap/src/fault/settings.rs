//! What goes wrong and how often, and how people write it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Fault;

/// Frames that may wait in one direction, unless told otherwise.
const DEFAULT_DEPTH: usize = 1_024;
/// Most that may be asked for.
const MOST_DEPTH: usize = 65_536;
/// How long a stall lasts, unless told otherwise.
const DEFAULT_STALL: Duration = Duration::from_millis(20);
/// Longest delay or stall. More is no fault but an end.
const LONGEST: Duration = Duration::from_mins(1);

/// How often something happens, as a share of 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// Never.
    pub const NEVER: Self = Self(0);

    /// Once in `1_000_000 / millionths`; a million and more is always.
    pub fn millionths(millionths: u32) -> Self {
        Self((u64::from(millionths.min(1_000_000)) << 32) / 1_000_000)
    }

    /// Whether a draw of 64 bits strikes.
    pub(super) fn strikes(self, draw: u64) -> bool {
        draw >> 32 < self.0
    }
}

/// What goes wrong on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSettings {
    /// By [`Fault::index`]; that of [`Fault::Delay`] does not count.
    rates: [Rate; Fault::ALL.len()],
    /// Each frame comes up to so much later, in order.
    pub delay: Duration,
    /// How long a stall lasts.
    pub stall_time: Duration,
    /// Frames that may wait in one direction.
    pub depth: usize,
    /// Decides everything.
    pub seed: u64,
}

impl Default for FaultSettings {
    fn default() -> Self {
        Self {
            rates: [Rate::NEVER; Fault::ALL.len()],
            delay: Duration::ZERO,
            stall_time: DEFAULT_STALL,
            depth: DEFAULT_DEPTH,
            seed: 0,
        }
    }
}

impl FaultSettings {
    /// No fault yet, and what will decide them.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// How often a fault happens.
    pub fn rate(&self, fault: Fault) -> Rate {
        self.rates[fault.index()]
    }

    /// The same with another rate of one fault.
    #[must_use]
    pub fn with(mut self, fault: Fault, rate: Rate) -> Self {
        self.rates[fault.index()] = rate;
        self
    }
}

/// Why a text describes no faults.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; write {USAGE}")]
pub struct FaultError {
    problem: String,
}

/// What can be written.
const USAGE: &str = "drop=0.01,duplicate=0.01,reorder=0.05,corrupt=0.001,truncate=0.001 (shares of the frames), \
                     delay=5ms, stall=0.001, stall_time=20ms, depth=1024, seed=7, any of them";

fn problem(text: impl fmt::Display) -> FaultError {
    FaultError { problem: text.to_string() }
}

impl FromStr for FaultSettings {
    type Err = FaultError;

    /// From `drop=0.01,delay=5ms,seed=7`.
    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut settings = Self::default();
        let mut keys = Vec::new();
        for part in text.split(',') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(problem(format_args!("{part:?} is not KEY=VALUE")));
            };
            if keys.contains(&key) {
                return Err(problem(format_args!("{key:?} is given twice")));
            }
            keys.push(key);
            match key {
                "delay" => settings.delay = duration(key, value)?,
                "stall_time" => settings.stall_time = duration(key, value)?,
                "depth" => {
                    settings.depth =
                        value.parse().ok().filter(|depth| (1..=MOST_DEPTH).contains(depth)).ok_or_else(
                            || problem(format_args!("depth={value} is no number from 1 to {MOST_DEPTH}")),
                        )?;
                }
                "seed" => {
                    settings.seed = value
                        .parse()
                        .map_err(|_| problem(format_args!("seed={value} is no number of 64 bits")))?;
                }
                _ => {
                    let fault = Fault::ALL
                        .into_iter()
                        .find(|fault| fault.label() == key)
                        .ok_or_else(|| problem(format_args!("there is no fault {key:?}")))?;
                    settings = settings.with(fault, rate(key, value)?);
                }
            }
        }
        Ok(settings)
    }
}

/// A share from 0 to 1, to the millionth, without a float's way.
fn rate(key: &str, value: &str) -> Result<Rate, FaultError> {
    let wrong = || problem(format_args!("{key}={value} is no share from 0 to 1 with at most 6 places"));
    let (whole, places) = value.split_once('.').unwrap_or((value, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(places) || places.len() > 6 || (whole.is_empty() && places.is_empty()) {
        return Err(wrong());
    }
    let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let places: u32 = format!("{places:0<6}").parse().map_err(|_| wrong())?;
    let millionths = whole.checked_mul(1_000_000).and_then(|whole| whole.checked_add(places));
    millionths.filter(|all| *all <= 1_000_000).map(Rate::millionths).ok_or_else(wrong)
}

/// `5ms`, `200us`, `1s`.
fn duration(key: &str, value: &str) -> Result<Duration, FaultError> {
    let wrong =
        || problem(format_args!("{key}={value} is no time such as 200us, 5ms or 1s, one minute at most"));
    let unit = value.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = value.split_at(unit);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let duration = match unit {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return Err(wrong()),
    };
    if duration > LONGEST { Err(wrong()) } else { Ok(duration) }
}
