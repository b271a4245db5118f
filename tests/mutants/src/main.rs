//! Which changes to the comparison does no test notice? The command line, and the order of things.
#![forbid(unsafe_code)]

mod compile;
mod list;
mod results;
mod rewrite;
mod suites;
mod tree;
mod trial;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};

use compile::{Built, Places, Reason};
use list::Mutant;
use results::{Answer, Outcome, Results};
use rewrite::Number;
use suites::Suite;
use trial::Verdict;

const FILES: [&str; 2] = ["engine/src/compare/**", "engine/src/release.rs"];
/// What the compiler's answers stand under.
const COMPILER: &str = "rustc";

#[derive(Default)]
struct Options {
    home: PathBuf,
    files: Vec<String>,
    only: Vec<String>,
    jobs: usize,
    keep: Keep,
    missed: Missed,
}

/// What becomes of answers about other sources.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Keep {
    #[default]
    Nothing,
    Settled,
}

/// Whether mutants are tried again that all tests have missed.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Missed {
    #[default]
    Known,
    Again,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options =
            Self { jobs: std::thread::available_parallelism().map_or(1, usize::from), ..Self::default() };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match word.as_str() {
                "--home" => options.home = value()?.into(),
                "--file" => options.files.push(value()?),
                "--only" => options.only.push(value()?),
                "--jobs" => options.jobs = value()?.parse().context("--jobs wants a number")?,
                "--keep" => options.keep = Keep::Settled,
                "--again" => options.missed = Missed::Again,
                _ => bail!("there is no option {word}: see tests/mutants/run --help"),
            }
        }
        ensure!(!options.home.as_os_str().is_empty(), "--home is missing: run tests/mutants/run");
        ensure!(options.jobs > 0, "--jobs wants at least 1");
        if options.files.is_empty() {
            options.files = FILES.map(str::to_owned).to_vec();
        }
        Ok(options)
    }

    fn wants(&self, mutant: &Mutant) -> bool {
        self.only.is_empty() || self.only.iter().any(|text| mutant.name.contains(text))
    }
}

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let places = Places {
        original: options.home.join("original"),
        tree: options.home.join("tree"),
        target: options.home.join("target"),
    };
    let mut results = prepare(&options, &places)?;
    let mutants = list::mutants(&places.original, &options.files)?;
    println!("==> {} mutants", mutants.len());

    let mut out = BTreeMap::new();
    for (number, mutant) in (1..).zip(&mutants) {
        let settled = results.settled.get(&mutant.name).map(|answer| answer.outcome);
        // One that cannot be switched is taken out as if it did not compile, so that nobody asks why again.
        if matches!(settled, Some(Outcome::Unviable | Outcome::Unswitchable)) {
            out.insert(number, Reason::Unviable);
        }
    }
    compile::switch(&places, &mutants, &mut out)?;
    for (number, reason) in out {
        let name = &mutants[number - 1].name;
        let outcome = match reason {
            Reason::Unviable => Outcome::Unviable,
            Reason::Unswitchable => Outcome::Unswitchable,
        };
        if !results.settled.contains_key(name) {
            results.add(Answer {
                mutant: name.clone(),
                suite: COMPILER.into(),
                outcome,
                by: String::new(),
                seconds: 0.0,
            })?;
        }
    }
    println!("==> building the tests");
    let built = compile::build(&places)?;

    let results = Mutex::new(results);
    for (pass, suites) in suites::PASSES {
        println!("==> the {pass} tests, unchanged");
        for suite in suites {
            let (verdict, took) = trial::run(suite, &built, 0, &options.home)?;
            ensure!(verdict == Verdict::Passed, "without a mutant, {} is {verdict:?}", suite.name);
            println!("{}: {:.1} s", suite.name, took.as_secs_f64());
        }
        try_all(&options, &mutants, suites, &built, &results)?;
    }
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    summarise(&options, &mutants, &results);
    Ok(())
}

/// What decides the answers: a commit that changes none of these changes no answer.
const DECIDING: [&str; 5] = ["engine", "pmd-tap", "tests", "Cargo.toml", "Cargo.lock"];

/// Unpacks HEAD, and forgets what was said of other sources.
fn prepare(options: &Options, places: &Places) -> Result<Results> {
    let output = Command::new("git")
        .args(["ls-tree", "-r", "HEAD"])
        .args(DECIDING)
        .output()
        .context("cannot start git")?;
    ensure!(output.status.success(), "git knows no HEAD here");
    let listed = String::from_utf8(output.stdout)?;
    let sources: String =
        listed.split_inclusive('\n').filter(|line| !line.contains("\ttests/mutants/")).collect();
    fs::create_dir_all(&options.home)?;
    let (note, answers) = (options.home.join("sources"), options.home.join("results.jsonl"));
    let same = fs::read_to_string(&note).is_ok_and(|known| known == sources);
    if !same {
        tree::export("HEAD", &places.original)?;
        let known = Results::open(&answers)?.settled;
        fs::remove_file(&answers)?;
        let mut results = Results::open(&answers)?;
        if options.keep == Keep::Settled {
            known.into_values().try_for_each(|answer| results.add(answer))?;
        }
        fs::write(&note, &sources)?;
    }
    Results::open(&answers)
}

/// Asks the suites about each mutant that is not settled.
fn try_all(
    options: &Options,
    mutants: &[Mutant],
    suites: &[Suite],
    built: &Built,
    results: &Mutex<Results>,
) -> Result<()> {
    let open: Vec<(Number, &Mutant)> = {
        let results = lock(results);
        let is_open = |mutant: &Mutant| {
            let known = suites.iter().all(|suite| results.has_passed(&mutant.name, suite.name));
            !results.settled.contains_key(&mutant.name) && (!known || options.missed == Missed::Again)
        };
        (1..).zip(mutants).filter(|(_, mutant)| options.wants(mutant) && is_open(mutant)).collect()
    };
    println!("==> {} mutants to try", open.len());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some(&(number, mutant)) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
                        try_one(options, suites, built, results, number, mutant)?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })
}

fn try_one(
    options: &Options,
    suites: &[Suite],
    built: &Built,
    results: &Mutex<Results>,
    number: Number,
    mutant: &Mutant,
) -> Result<()> {
    for suite in suites {
        if options.missed == Missed::Known && lock(results).has_passed(&mutant.name, suite.name) {
            continue;
        }
        let (verdict, took) = trial::run(suite, built, number, &options.home)?;
        let (outcome, by) = match verdict {
            Verdict::Passed => (Outcome::Passed, String::new()),
            Verdict::Failed(test) => (Outcome::Caught, test),
            Verdict::Hung => (Outcome::Hung, String::new()),
        };
        let seconds = took.as_secs_f64();
        match outcome {
            Outcome::Passed => println!("passed  {} [{}, {seconds:.1} s]", mutant.name, suite.name),
            Outcome::Hung => println!("hung    {} [{}, {seconds:.1} s]", mutant.name, suite.name),
            _ => println!("caught  {} [{}: {by}, {seconds:.1} s]", mutant.name, suite.name),
        }
        let answer = Answer { mutant: mutant.name.clone(), suite: suite.name.into(), outcome, by, seconds };
        lock(results).add(answer)?;
        if outcome != Outcome::Passed {
            return Ok(());
        }
    }
    Ok(())
}

fn lock(results: &Mutex<Results>) -> std::sync::MutexGuard<'_, Results> {
    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn summarise(options: &Options, mutants: &[Mutant], results: &Results) {
    let wanted: Vec<&Mutant> = mutants.iter().filter(|mutant| options.wants(mutant)).collect();
    let with = |outcome: Option<Outcome>| -> Vec<&str> {
        let has =
            |mutant: &&&Mutant| results.settled.get(&mutant.name).map(|answer| answer.outcome) == outcome;
        wanted.iter().filter(has).map(|mutant| mutant.name.as_str()).collect()
    };
    let (caught, hung) = (with(Some(Outcome::Caught)).len(), with(Some(Outcome::Hung)).len());
    let (unviable, unswitchable) = (with(Some(Outcome::Unviable)).len(), with(Some(Outcome::Unswitchable)));
    let missed = with(None);
    let viable = caught + hung + missed.len();
    println!(
        "==> of {} mutants {unviable} do not compile, {} cannot be switched",
        wanted.len(),
        unswitchable.len()
    );
    println!(
        "==> {} of {viable} viable mutants are caught ({} %), {hung} of them because the tests hang",
        caught + hung,
        100 * (caught + hung) / viable.max(1)
    );
    print_list("cannot be switched; for cargo-mutants", &unswitchable);
    print_list("missed", &missed);
}

fn print_list(what: &str, names: &[&str]) {
    if !names.is_empty() {
        println!("==> {what}:");
    }
    for name in names {
        println!("{name}");
    }
}
