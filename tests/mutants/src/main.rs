//! Which changes to the comparison does no test notice? The command line, and the order of things.
#![forbid(unsafe_code)]

mod compile;
mod list;
mod reach;
mod results;
mod rewrite;
mod suites;
mod tree;
mod trial;
mod workers;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use compile::{Built, Places, Reason};
use list::Mutant;
use reach::Reach;
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
    let chosen_at = compile::switch(&places, &mutants, &mut out)?;
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

    let reach = Reach::of(&built, &options.home, options.jobs)?;

    let results = Mutex::new(results);
    let bench =
        Bench { options: &options, built: &built, reach: &reach, chosen_at: &chosen_at, results: &results };
    for (pass, suites) in suites::PASSES {
        bench.try_all(pass, suites, &mutants)?;
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

/// What trying a mutant takes.
struct Bench<'a> {
    options: &'a Options,
    built: &'a Built,
    reach: &'a Reach,
    /// The place where a mutant is chosen, if not at its own.
    chosen_at: &'a BTreeMap<Number, Number>,
    results: &'a Mutex<Results>,
}

impl Bench<'_> {
    /// Asks the suites about each mutant that is not settled.
    fn try_all(&self, pass: &str, suites: &[Suite], mutants: &[Mutant]) -> Result<()> {
        let open: Vec<(Number, &Mutant)> = {
            let results = lock(self.results);
            let is_open = |mutant: &Mutant| {
                let known = suites.iter().all(|suite| results.has_passed(&mutant.name, suite.name));
                !results.settled.contains_key(&mutant.name)
                    && (!known || self.options.missed == Missed::Again)
            };
            (1..).zip(mutants).filter(|(_, mutant)| self.options.wants(mutant) && is_open(mutant)).collect()
        };
        println!("==> {} mutants for the {pass} tests", open.len());
        workers::each(self.options.jobs, &open, |_, (number, mutant)| self.try_one(suites, *number, mutant))
    }

    fn try_one(&self, suites: &[Suite], number: Number, mutant: &Mutant) -> Result<()> {
        for suite in suites {
            if self.options.missed == Missed::Known && lock(self.results).has_passed(&mutant.name, suite.name)
            {
                continue;
            }
            let tests = self.reach.tests(suite, *self.chosen_at.get(&number).unwrap_or(&number));
            let (verdict, took) = if tests.is_empty() {
                (None, Duration::ZERO)
            } else {
                let number = u32::try_from(number)?;
                let (verdict, took) = trial::run(suite, self.built, number, &self.options.home, &tests, &[])?;
                (Some(verdict), took)
            };
            let (outcome, word, by) = match verdict {
                None => (Outcome::Unreached, "nowhere", String::new()),
                Some(Verdict::Passed) => (Outcome::Passed, "passed", String::new()),
                Some(Verdict::Failed(test)) => (Outcome::Caught, "caught", test),
                Some(Verdict::Hung) => (Outcome::Hung, "hung", String::new()),
            };
            let seconds = took.as_secs_f64();
            println!("{word:<8}{} [{}: {} tests, {seconds:.1} s] {by}", mutant.name, suite.name, tests.len());
            let answer =
                Answer { mutant: mutant.name.clone(), suite: suite.name.into(), outcome, by, seconds };
            lock(self.results).add(answer)?;
            if matches!(outcome, Outcome::Caught | Outcome::Hung) {
                return Ok(());
            }
        }
        Ok(())
    }
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
    let (reached, unreached): (Vec<&str>, Vec<&str>) =
        missed.into_iter().partition(|name| results.reached.contains(*name));
    print_list("missed, and no test comes there", &unreached);
    print_list("missed", &reached);
}

fn print_list(what: &str, names: &[&str]) {
    if !names.is_empty() {
        println!("==> {what}:");
    }
    for name in names {
        println!("{name}");
    }
}
