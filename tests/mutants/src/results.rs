//! What is known of the mutants of a commit: one line of JSON for each answer, written as soon as it is there, so that
//! a run can be ended and go on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// One answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Answer {
    pub mutant: String,
    /// What was asked: a suite, or the compiler.
    pub suite: String,
    pub outcome: Outcome,
    /// The test that failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    #[serde(default)]
    pub seconds: f64,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A test failed.
    Caught,
    /// The tests did not end.
    Hung,
    /// All tests of the suite passed that come to the place of the mutant.
    Passed,
    /// No test of the suite comes there.
    Unreached,
    /// Does not compile.
    Unviable,
    /// Cannot be chosen at run time.
    Unswitchable,
}

/// All answers about one commit.
pub struct Results {
    file: File,
    /// Caught, hung, not compiled: nothing more is asked.
    pub settled: BTreeMap<String, Answer>,
    /// Mutant and suite that noticed nothing.
    passed: BTreeSet<(String, String)>,
    /// Mutants that some test has come to.
    pub reached: BTreeSet<String>,
}

impl Results {
    /// Reads what an earlier run has left.
    pub fn open(path: &Path) -> Result<Self> {
        let known = std::fs::read_to_string(path).unwrap_or_default();
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let mut results =
            Self { file, settled: BTreeMap::new(), passed: BTreeSet::new(), reached: BTreeSet::new() };
        // The last line may have been cut.
        for answer in known.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            results.learn(answer);
        }
        Ok(results)
    }

    fn learn(&mut self, answer: Answer) {
        if answer.outcome == Outcome::Passed {
            self.reached.insert(answer.mutant.clone());
        }
        if matches!(answer.outcome, Outcome::Passed | Outcome::Unreached) {
            self.passed.insert((answer.mutant, answer.suite));
        } else {
            self.settled.insert(answer.mutant.clone(), answer);
        }
    }

    pub fn add(&mut self, answer: Answer) -> Result<()> {
        let mut line = serde_json::to_string(&answer)?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).context("cannot write the results")?;
        self.learn(answer);
        Ok(())
    }

    /// Whether a suite was asked and noticed nothing.
    pub fn has_passed(&self, mutant: &str, suite: &str) -> bool {
        self.passed.contains(&(mutant.to_owned(), suite.to_owned()))
    }
}
