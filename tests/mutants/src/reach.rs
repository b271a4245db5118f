//! Which tests reach which mutants. A test that never comes to the place where a mutant is chosen says the same with it
//! as without, so only those that do are asked.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::compile::Built;
use crate::rewrite::{Number, TRACE};
use crate::suites::{PASSES, Suite};
use crate::trial::{self, Verdict};
use crate::workers;

/// What the tests reach when no mutant is chosen.
#[derive(Default, Deserialize, Serialize)]
pub struct Reach {
    /// What all of this is about: another build has other numbers.
    build: u64,
    /// Places by test, by suite.
    suites: BTreeMap<String, BTreeMap<String, BTreeSet<Number>>>,
}

impl Reach {
    /// The tests of a suite that reach a place.
    pub fn tests(&self, suite: &Suite, place: Number) -> Vec<&str> {
        let tests = self.suites.get(suite.name).into_iter().flatten();
        tests.filter(|(_, places)| places.contains(&place)).map(|(test, _)| test.as_str()).collect()
    }

    /// Runs all tests, each alone, unless that was done for this build. All must pass.
    pub fn of(built: &Built, home: &Path, jobs: usize) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        for executable in built.tests.values().chain([&built.colo]) {
            fs::read(executable)?.hash(&mut hasher);
        }
        let (path, build) = (home.join("reached.json"), hasher.finish());
        let known = fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Self>(&text).ok());
        if let Some(known) = known.filter(|known| known.build == build) {
            return Ok(known);
        }
        let mut tests = Vec::new();
        for suite in PASSES.iter().flat_map(|(_, suites)| *suites) {
            tests.extend(list(suite, built)?.into_iter().map(|test| (suite, test)));
        }
        println!("==> what {} tests reach, without a mutant", tests.len());
        let started = Instant::now();
        let reach = Mutex::new(Self { build, ..Self::default() });
        workers::each(jobs, &tests, |number, (suite, test)| {
            let places = trace(suite, built, test, &home.join(format!("trace-{number}")), home)?;
            let mut reach = reach.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            reach.suites.entry(suite.name.to_owned()).or_default().insert(test.clone(), places);
            Ok(())
        })?;
        println!("{:.0} s", started.elapsed().as_secs_f64());
        let reach = reach.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        fs::write(&path, serde_json::to_string(&reach)?)?;
        Ok(reach)
    }
}

/// The names of a suite's tests.
fn list(suite: &Suite, built: &Built) -> Result<Vec<String>> {
    let executable =
        built.tests.get(suite.target).with_context(|| format!("{} was not built", suite.target))?;
    let output =
        Command::new(executable).args(suite.filters).args(["--list", "--format", "terse"]).output()?;
    ensure!(output.status.success(), "{} does not list its tests", suite.name);
    let text = String::from_utf8(output.stdout)?;
    let tests: Vec<_> =
        text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect();
    ensure!(!tests.is_empty(), "{} has no tests", suite.name);
    Ok(tests)
}

fn trace(suite: &Suite, built: &Built, test: &str, file: &Path, home: &Path) -> Result<BTreeSet<Number>> {
    let _ = fs::remove_file(file);
    let traced = [("COLO_MUTANT_TRACE", file)];
    let (verdict, _) = trial::run(suite, built, TRACE, home, &[test], &traced)?;
    ensure!(verdict == Verdict::Passed, "without a mutant, {} {test} says {verdict:?}", suite.name);
    let text = fs::read_to_string(file).unwrap_or_default();
    let _ = fs::remove_file(file);
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}
