//! What another process has used so far, and on which cores it and we run.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// Processor time of a process with all its threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// To the nanosecond.
    pub run: Duration,
    /// In user mode, to the clock tick.
    user_ticks: u64,
    /// In the kernel, to the clock tick.
    system_ticks: u64,
}

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// Resident at most, so far.
    pub peak: u64,
}

impl Used {
    /// So far. Threads that have ended are left out of `run`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn by(process: u32) -> Result<Self> {
        let folder = PathBuf::from(format!("/proc/{process}"));
        let gone = || format!("process {process} has ended");
        let mut used = Self::default();
        for thread in fs::read_dir(folder.join("task")).with_context(gone)? {
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            let first = text.split_whitespace().next().and_then(|word| word.parse().ok());
            used.run += Duration::from_nanos(first.unwrap_or(0));
        }
        let stat = fs::read_to_string(folder.join("stat")).with_context(gone)?;
        // The name may hold spaces; it stands in parentheses.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|word| word.parse().ok()).unwrap_or(0);
        (used.user_ticks, used.system_ticks) = (ticks(11), ticks(12));
        Ok(used)
    }

    /// Since an earlier look: all of it, and the share of it in the kernel, 0 to 1.
    pub fn since(&self, earlier: &Self) -> (Duration, f64) {
        let system = self.system_ticks.saturating_sub(earlier.system_ticks);
        let all = system + self.user_ticks.saturating_sub(earlier.user_ticks);
        (self.run.saturating_sub(earlier.run), ratio(system, all))
    }
}

impl Memory {
    /// Of a process now.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(process: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let bytes =
            |name| field(name).map(|kib| kib * 1024).with_context(|| format!("no {name} in its status"));
        Ok(Self { resident: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }
}

/// A quotient; 0 of nothing.
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) }
}

/// A count as a float: exact up to 2^53.
pub fn float(count: u64) -> f64 {
    let [high, low] = [count >> 32, count & 0xffff_ffff].map(|half| u32::try_from(half).unwrap_or(0));
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// Who runs where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    /// The load.
    pub driver: Option<usize>,
    /// The comparer.
    pub engine: Option<usize>,
}

impl Cores {
    /// The first two cores that this process may use, one each; nowhere in particular when there is only one.
    pub fn apart() -> Self {
        let Ok(set) = sched_getaffinity(None) else { return Self::default() };
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core));
        match (cores.next(), cores.next()) {
            (Some(driver), Some(engine)) => Self { driver: Some(driver), engine: Some(engine) },
            _ => Self::default(),
        }
    }
}

/// Moves this thread, and what it starts from now on, to a core.
///
/// # Errors
/// When the core is not there for us.
pub fn stay_on(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_time_goes_on_and_own_memory_is_there() {
        let own = std::process::id();
        let before = Used::by(own).unwrap();
        let mut sum = 1_u64;
        // Other tests' threads end meanwhile and take their time with them: what was reached once counts.
        let (run, share) = loop {
            let seen = Used::by(own).unwrap().since(&before);
            if seen.0 >= Duration::from_millis(3) {
                break seen;
            }
            sum = std::hint::black_box(sum.wrapping_mul(3));
        };
        assert!(run < Duration::from_mins(10), "{run:?}");
        assert!((0.0..=1.0).contains(&share));
        let memory = Memory::of(own).unwrap();
        assert!(memory.resident > 100_000 && memory.peak >= memory.resident, "{memory:?}");
        assert!(Used::by(u32::MAX).is_err());
    }

    #[test]
    fn counts_become_floats_exactly() {
        assert!((float((5 << 32) + 7) - 21_474_836_487.0).abs() < 0.5);
        assert!((ratio(1, 4) - 0.25).abs() < 1e-12 && ratio(1, 0) == 0.0);
    }
}
