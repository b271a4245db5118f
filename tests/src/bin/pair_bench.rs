//! Asks a pair with `colo` and pairs with QEMU's own comparer for the same pages, and says what a client saw.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use colo_tests::document;
use colo_tests::pair::bench::{Amounts, Between, HEAD, Phase, Run};
use colo_tests::pair::builtin::Tuning;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

const HELP: &str = "Asks a real pair for pages: with `colo compare`, with QEMU's comparer, and with that one tuned.

usage: tests/pair-bench [--small N] [--large N] [--random N] [--limit S] [--only NAME]
                        [--compare-timeout MS] [--scan-cycle MS] [--note TEXT] [--write FILE] [--json]

  --small N             pages of 4 KiB [default: 1000]
  --large N             pages of 256 KiB [default: 100]
  --random N            pages that each guest makes otherwise [default: 200]
  --limit S             a kind of page gets no new request after S seconds [default: 600]
  --only NAME           one of colo, defaults, tuned
  --compare-timeout MS  of the tuned comparer [default: 400]
  --scan-cycle MS       of the tuned comparer [default: 10]
  --note TEXT           stands beside the figures: what else the machine did
  --write FILE          puts the table into this document, between its markers
  --json                one object a comparer instead of a table

Needs root, because it makes a network namespace. The first run fetches QEMU, a kernel and busybox. Ctrl-C ends all of it.
Ends with 1 when an answer was wrong or did not come.
";

struct Options {
    amounts: Amounts,
    only: Option<String>,
    compare_timeout: Duration,
    scan_cycle: Duration,
    note: String,
    write: Option<PathBuf>,
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let amounts = Amounts { small: 1_000, large: 100, random: 200, limit: Duration::from_mins(10) };
    let mut options = Options {
        amounts,
        only: None,
        compare_timeout: Duration::from_millis(400),
        scan_cycle: Duration::from_millis(10),
        note: String::new(),
        write: None,
        format: Format::Text,
    };
    while let Some(word) = words.next() {
        if word == "--json" {
            options.format = Format::Json;
            continue;
        }
        if word == "--help" || word == "-h" {
            return Ok(None);
        }
        let value =
            words.next().with_context(|| format!("{word} is not known or needs a value; see --help"))?;
        let number = || value.parse::<u32>().with_context(|| format!("{word} {value}: no number"));
        let count = || -> Result<usize> { Ok(usize::try_from(number()?)?) };
        match word.as_str() {
            "--small" => options.amounts.small = count()?,
            "--large" => options.amounts.large = count()?,
            "--random" => options.amounts.random = count()?,
            "--limit" => options.amounts.limit = Duration::from_secs(number()?.into()),
            "--compare-timeout" => options.compare_timeout = Duration::from_millis(number()?.into()),
            "--scan-cycle" => options.scan_cycle = Duration::from_millis(number()?.into()),
            "--only" => options.only = Some(value),
            "--note" => options.note = value,
            "--write" => options.write = Some(value.into()),
            _ => bail!("{word:?} is not known; see --help"),
        }
    }
    Ok(Some(options))
}

/// What is to be run, in the order of the table.
fn comparers(options: &Options) -> Result<Vec<Between>> {
    let Options { compare_timeout, scan_cycle, .. } = *options;
    let all = [
        ("colo", Between::Colo),
        ("defaults", Between::Qemu(Tuning::Defaults)),
        ("tuned", Between::Qemu(Tuning::Times { compare_timeout, scan_cycle })),
    ];
    let wanted = |name| options.only.as_deref().is_none_or(|only| only == name);
    let chosen: Vec<_> = all.into_iter().filter(|(name, _)| wanted(*name)).map(|(_, one)| one).collect();
    ensure!(!chosen.is_empty(), "--only takes colo, defaults or tuned");
    Ok(chosen)
}

/// On a signal: ends this process's children, removes its files, and goes. The network namespace goes with its holder.
fn end_on_signal(home: TempDir) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // A child that is just being started may be missed in the first round.
            for _ in 0..3 {
                for child in children() {
                    let _ = kill_process(child, Signal::KILL);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            drop(home.close());
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// Children of all threads of this process.
fn children() -> Vec<Pid> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<i32>>())
        .filter_map(Pid::from_raw)
        .collect()
}

fn progress(between: Between) -> impl Fn(&str) {
    let is_watched = std::io::stderr().is_terminal();
    move |what: &str| {
        if is_watched {
            // What cannot be shown is not missed.
            drop(write!(std::io::stderr(), "\r\x1b[K{}: {what}", between.name()));
        }
    }
}

fn markdown(options: &Options, runs: &[Run]) -> String {
    let note = if options.note.is_empty() { String::new() } else { format!("{}\n\n", options.note) };
    let mut made = format!("{note}{HEAD}");
    for run in runs {
        made += &run.rows();
    }
    for Run { name, phases } in runs {
        for Phase { path, reasons, .. } in phases.iter().filter(|phase| !phase.reasons.is_empty()) {
            let _ = write!(
                made,
                "\nCheckpoints of {name} by reason, all pairs of `{path}`: {}.\n",
                summed(reasons)
            );
        }
    }
    made
}

/// What any pair counted, in words.
fn summed(reasons: &[Value]) -> String {
    let mut sums = BTreeMap::new();
    for (reason, count) in reasons.iter().filter_map(Value::as_object).flatten() {
        *sums.entry(reason).or_insert(0) += count.as_u64().unwrap_or(0);
    }
    let words: Vec<_> = sums.into_iter().filter(|(_, sum)| *sum > 0).collect();
    let words: Vec<_> = words.iter().map(|(reason, sum)| format!("{reason} {sum}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn main() -> Result<ExitCode> {
    let Some(options) = options(std::env::args().skip(1))? else {
        write!(std::io::stdout(), "{HELP}")?;
        return Ok(ExitCode::SUCCESS);
    };
    let comparers = comparers(&options)?;
    let home = tempfile::tempdir()?;
    let path = home.path().to_owned();
    tempfile::env::override_temp_dir(&path).map_err(|_| anyhow::anyhow!("the folder of temporary files"))?;
    end_on_signal(home)?;
    let measured = measure(&options, comparers);
    if std::io::stderr().is_terminal() {
        write!(std::io::stderr(), "\r\x1b[K")?;
    }
    drop(fs::remove_dir_all(&path));
    let runs = measured?;
    let made = markdown(&options, &runs);
    match (&options.write, options.format) {
        (Some(path), _) => document::put(path, "pair-bench", &made)?,
        (None, Format::Text) => write!(std::io::stdout(), "{made}")?,
        (None, Format::Json) => {}
    }
    let failures = runs.iter().flat_map(|run| &run.phases).map(|phase| phase.failures.len()).sum::<usize>();
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(options: &Options, comparers: Vec<Between>) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for between in comparers {
        let run = between.run(&options.amounts, &progress(between)).with_context(|| between.name())?;
        if options.format == Format::Json {
            writeln!(std::io::stdout(), "{}", json!(run.json()))?;
        }
        runs.push(run);
    }
    Ok(runs)
}
