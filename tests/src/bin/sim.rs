//! Runs the simulator over seeds and says what they exercised, or how one failed.
#![forbid(unsafe_code)]

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use colo_tests::sim::{Failure, Plan, Record, Summary, describe, run, run_many};
use serde_json::{Map, Value, json};

const HELP: &str = "Runs a whole engine in virtual time, from seeds, with faults, and checks it after each step.

usage: tests/sim [--seeds N] [--from S] [--jobs J] [--json]
       tests/sim --seed S [--json]

  --seeds N   so many seeds [default: 10000]
  --from S    beginning with this one [default: 0]
  --seed S    this seed alone, with its timeline
  --jobs J    threads [default: one a core]
  --json      one object instead of a table

Seeds are taken in order: what was interrupted after N of them goes on with --from S+N.
Ends with 1 when something did not hold; the seed, its settings, what happened, and how to repeat it are printed.
";

#[derive(Debug)]
struct Options {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    jobs: u64,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

fn options(mut words: impl Iterator<Item = String>) -> anyhow::Result<Option<Options>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options {
        seeds: 10_000,
        from: 0,
        seed: None,
        jobs: u64::try_from(cores).unwrap_or(1),
        format: Format::Text,
    };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().with_context(|| format!("{word} needs a number"))?;
            value.parse::<u64>().with_context(|| format!("{word} {value}: no number"))
        };
        match word.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--seed" => options.seed = Some(number()?),
            "--jobs" => options.jobs = number()?,
            "--json" => options.format = Format::Json,
            "--help" | "-h" => return Ok(None),
            _ => bail!("{word:?} is not known; see --help"),
        }
    }
    Ok(Some(options))
}

/// A bar on a terminal while others work.
fn show_progress(done: &AtomicU64, seeds: u64, is_over: &std::sync::atomic::AtomicBool) {
    let begin = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        let done = done.load(Ordering::Relaxed);
        let width = 40;
        let full = usize::try_from(done * width / seeds.max(1)).unwrap_or(0);
        let rate = u128::from(done) * 1_000 / begin.elapsed().as_millis().max(1);
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(40_usize.saturating_sub(full)));
        // A bar that cannot be shown is none.
        let _ = write!(std::io::stderr(), "\r[{bar}] {done}/{seeds} seeds, {rate} a second ");
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = write!(std::io::stderr(), "\r\x1b[K");
}

/// How much of a timeline is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timeline {
    All,
    End,
}

fn report(
    summary: &Summary,
    elapsed: Duration,
    format: Format,
    timeline: Timeline,
) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json => {
            let counts: Map<String, Value> =
                summary.tally.iter().map(|(name, count)| (name.replace(' ', "_"), json!(count))).collect();
            let failures: Vec<Value> = summary
                .failures
                .iter()
                .map(|one| json!({"seed": one.seed, "problem": one.problem, "timeline": one.timeline}))
                .collect();
            let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let object = json!({"counts": counts, "failures": failures, "milliseconds": milliseconds});
            writeln!(out, "{object}")?;
        }
        Format::Text => {
            for (name, count) in summary.tally.iter() {
                writeln!(out, "{name:<22} {count:>12}")?;
            }
            writeln!(out, "in {:.1} s", elapsed.as_secs_f64())?;
            for failure in &summary.failures {
                match timeline {
                    Timeline::All => writeln!(out, "\n{failure:#}")?,
                    Timeline::End => writeln!(out, "\n{failure}")?,
                }
            }
        }
    }
    Ok(if summary.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One seed, with its timeline whether it fails or not.
fn one(seed: u64, format: Format) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let mut summary = Summary::default();
    match run(seed, Record::Timeline) {
        Ok(tally) => summary.tally = tally,
        Err(failure) => summary.failures.push(Failure { ..*failure }),
    }
    if format == Format::Text {
        writeln!(std::io::stdout(), "seed {seed}: {}", describe(&Plan::draw(seed)))?;
    }
    report(&summary, begin.elapsed(), format, Timeline::All)
}

fn main() -> anyhow::Result<ExitCode> {
    let Some(options) = options(std::env::args().skip(1))? else {
        write!(std::io::stdout(), "{HELP}")?;
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(seed) = options.seed {
        return one(seed, options.format);
    }
    let done = AtomicU64::new(0);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let begin = Instant::now();
    let summary = std::thread::scope(|scope| {
        if std::io::stderr().is_terminal() {
            scope.spawn(|| show_progress(&done, options.seeds, &is_over));
        }
        let seeds = options.from..options.from.saturating_add(options.seeds);
        let summary = run_many(seeds, options.jobs, &done);
        is_over.store(true, Ordering::Relaxed);
        summary
    });
    let code = report(&summary, begin.elapsed(), options.format, Timeline::End)?;
    if summary.failures.is_empty() && options.format == Format::Text {
        writeln!(std::io::stdout(), "go on with: tests/sim --from {}", options.from + options.seeds)?;
    }
    Ok(code)
}
