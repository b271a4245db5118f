//! The same requests to a pair with `colo` and to pairs with QEMU's own comparer: what a client sees of each. It judges
//! whether answers are right, and only measures how fast they came.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::builtin::{Builtin, Tuning};
use super::client::{Client, Latencies};
use super::guests::{Guests, Secondary};
use super::initramfs::{PAGES, page};

const SEED: u64 = 20_261_121;
/// Requests that fail before the kind is given up: each may have cost the client a minute.
const FAILURES: usize = 3;
/// Pairs for one kind of page: a secondary whose kernel breaks ends its pair, and the next goes on.
const PAIRS: usize = 8;

/// How much is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Amounts {
    /// Pages of 4 KiB.
    pub small: usize,
    /// Pages of 256 KiB.
    pub large: usize,
    /// Pages that each guest makes otherwise.
    pub random: usize,
    /// A kind of page gets no new request after this long.
    pub limit: Duration,
}

/// One comparer between the guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// `colo compare`, its own defaults.
    Colo,
    /// QEMU's.
    Qemu(Tuning),
}

/// What a client saw of one kind of page.
#[derive(Debug, Clone, Default)]
pub struct Phase {
    /// Path of the page.
    pub path: &'static str,
    /// Requests wanted.
    pub wanted: usize,
    /// Latencies of the requests that were answered rightly.
    pub latencies: Vec<Duration>,
    /// Longest silence within one of them.
    pub stall: Duration,
    /// What was wrong with the others.
    pub failures: Vec<String>,
    /// Checkpoints meanwhile.
    pub checkpoints: u64,
    /// `colo`'s by reason, from each pair's start to its end.
    pub reasons: Vec<Value>,
    /// Pairs that it took: all but the last lost their secondary's kernel.
    pub pairs: usize,
    asked: usize,
    spent: Duration,
}

/// One comparer's run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The comparer.
    pub name: String,
    /// Each kind of page.
    pub phases: Vec<Phase>,
}

impl Between {
    /// In words.
    pub fn name(self) -> String {
        match self {
            Self::Colo => "`colo compare`".to_owned(),
            Self::Qemu(Tuning::Defaults) => "QEMU, defaults".to_owned(),
            Self::Qemu(Tuning::Times { compare_timeout, scan_cycle }) => format!(
                "QEMU, `compare_timeout={}`, `expired_scan_cycle={}`",
                compare_timeout.as_millis(),
                scan_cycle.as_millis()
            ),
        }
    }

    /// Asks pairs for all pages, a new pair for each kind; `progress` is told what is being asked for.
    ///
    /// # Errors
    /// When no pair comes up, or it ends. Wrong answers are none: they are counted.
    pub fn run(self, amounts: &Amounts, progress: &dyn Fn(&str)) -> Result<Run> {
        let kinds = [
            (PAGES[0].1, amounts.small, Some(page(SEED, PAGES[0].0))),
            (PAGES[1].1, amounts.large, Some(page(SEED, PAGES[1].0))),
            ("/cgi-bin/random", amounts.random, None),
        ];
        let mut phases = Vec::new();
        for (path, wanted, expected) in kinds {
            let phase = RefCell::new(Phase { path, wanted, ..Phase::default() });
            let kind = Kind { expected, limit: amounts.limit, progress, phase: &phase };
            while !kind.is_over() && phase.borrow().pairs < PAIRS {
                progress(&format!("a pair boots for {path}"));
                self.pair(&kind)?;
            }
            phases.push(phase.into_inner());
        }
        Ok(Run { name: self.name(), phases })
    }

    /// One pair, from its start to the end of the kind or of its secondary.
    fn pair(self, kind: &Kind<'_>) -> Result<()> {
        match self {
            Self::Colo => {
                let ((), finished) = Guests::run(SEED, &[], |guests| {
                    let checkpoints = || guests.metric("colo_checkpoints_completed_total");
                    kind.ask(guests.client(), &checkpoints, &|| guests.secondary())
                })?;
                finished.expect_code(0)?;
                let summary: Value = serde_json::from_str(&finished.stdout)?;
                kind.phase.borrow_mut().reasons.push(summary["checkpoints"].clone());
                Ok(())
            }
            Self::Qemu(tuning) => Builtin::run(SEED, tuning, |pair| {
                let checkpoints = || Ok(u64::try_from(pair.checkpoints())?);
                kind.ask(pair.client(), &checkpoints, &|| pair.secondary())
            }),
        }
    }
}

/// A kind of page, and what has come of it so far.
struct Kind<'run> {
    expected: Option<Vec<u8>>,
    limit: Duration,
    progress: &'run dyn Fn(&str),
    phase: &'run RefCell<Phase>,
}

impl Kind<'_> {
    fn is_over(&self) -> bool {
        let phase = self.phase.borrow();
        phase.asked >= phase.wanted || phase.spent >= self.limit || phase.failures.len() >= FAILURES
    }

    /// Asks one pair for what is left, until its secondary breaks. The request during which that happens is asked of the
    /// next pair again: how long it took says nothing about a comparer.
    fn ask(
        &self,
        client: Client<'_>,
        checkpoints: &dyn Fn() -> Result<u64>,
        secondary: &dyn Fn() -> Secondary,
    ) -> Result<()> {
        self.phase.borrow_mut().pairs += 1;
        let before = checkpoints()?;
        while !self.is_over() {
            let mut phase = self.phase.borrow_mut();
            (self.progress)(&format!(
                "{} {}/{}, pair {}",
                phase.path, phase.asked, phase.wanted, phase.pairs
            ));
            let start = Instant::now();
            let answer = client.get_watched(phase.path).and_then(|(body, silence)| {
                ensure!(self.is_right(&body), "wrong bytes");
                Ok(silence)
            });
            phase.spent += start.elapsed();
            let is_wrong = answer.as_ref().is_err_and(|error| error.to_string() == "wrong bytes");
            if secondary() == Secondary::Broken && !is_wrong {
                break;
            }
            match answer {
                Ok(silence) => {
                    phase.latencies.push(start.elapsed());
                    phase.stall = phase.stall.max(silence);
                }
                Err(error) => {
                    let failure = format!("request {}: {error:#}", phase.asked);
                    phase.failures.push(failure);
                }
            }
            phase.asked += 1;
        }
        self.phase.borrow_mut().checkpoints += checkpoints()? - before;
        Ok(())
    }

    fn is_right(&self, body: &[u8]) -> bool {
        match &self.expected {
            Some(expected) => body == expected,
            // A line of a checksum: 64 digits.
            None => body.iter().filter(|byte| byte.is_ascii_hexdigit()).count() == 64,
        }
    }
}

impl Run {
    /// For programs.
    pub fn json(&self) -> Value {
        let phases: Vec<Value> = self.phases.iter().map(Phase::json).collect();
        json!({ "comparer": self.name, "pages": phases })
    }

    /// Rows of the document's table.
    pub fn rows(&self) -> String {
        self.phases.iter().map(|phase| row(&self.name, phase)).collect()
    }
}

impl Phase {
    fn sorted(&self) -> Latencies {
        self.latencies.iter().copied().collect()
    }

    fn json(&self) -> Value {
        let latencies = self.sorted();
        json!({
            "path": self.path,
            "wanted": self.wanted,
            "correct": self.latencies.len(),
            "failures": self.failures,
            "pairs": self.pairs,
            "checkpoints": self.checkpoints,
            "reasons": self.reasons,
            "p50_us": latencies.percentile(50).as_micros(),
            "p99_us": latencies.percentile(99).as_micros(),
            "max_us": latencies.percentile(100).as_micros(),
            "stall_us": self.stall.as_micros(),
        })
    }
}

fn row(name: &str, phase: &Phase) -> String {
    let latencies = phase.sorted();
    let asked = phase.latencies.len() + phase.failures.len();
    let correct = match (asked == phase.wanted, phase.failures.len()) {
        (true, 0) => "all".to_owned(),
        (false, 0) if asked == 0 => "none was answered within the limit".to_owned(),
        (false, 0) => format!("all {asked} that were asked"),
        (_, failures) => format!("{} of {asked}, {failures} not", phase.latencies.len()),
    };
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1_000.0);
    format!(
        "| {name} | `{}` | {} | {correct} | {} | {} | {} | {} | {} | {} |\n",
        phase.path,
        phase.wanted,
        phase.pairs,
        phase.checkpoints,
        ms(latencies.percentile(50)),
        ms(latencies.percentile(99)),
        ms(latencies.percentile(100)),
        ms(phase.stall),
    )
}

/// Head of the table that [`Run::rows`] belong to.
pub const HEAD: &str = "| comparer | page | requests | correct | pairs | checkpoints | p50 ms | p99 ms | max ms | longest silence ms |\n\
                        |---|---|---:|---|---:|---:|---:|---:|---:|---:|\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(wanted: usize, answered: u64, failures: usize) -> Phase {
        Phase {
            path: "/4k",
            wanted,
            latencies: (1..=answered).map(Duration::from_millis).collect(),
            stall: Duration::from_millis(7),
            failures: vec![String::from("wrong bytes"); failures],
            checkpoints: 2,
            pairs: 1,
            ..Phase::default()
        }
    }

    #[test]
    fn a_row_says_what_was_not_asked_and_what_was_wrong() {
        let all = "| x | `/4k` | 100 | all | 1 | 2 | 50.0 | 99.0 | 100.0 | 7.0 |\n";
        assert_eq!(row("x", &phase(100, 100, 0)), all);
        assert!(row("x", &phase(100, 40, 0)).contains("| all 40 that were asked |"));
        assert!(row("x", &phase(100, 99, 1)).contains("| 99 of 100, 1 not |"));
    }
}
