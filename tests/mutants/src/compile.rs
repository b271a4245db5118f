//! All mutants in one build: puts them in, takes out those that the compiler refuses, and builds the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::BufRead as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::list::{Lines, Mutant};
use crate::rewrite::{self, Blame, Number, Rewritten};
use crate::{suites, tree};

/// The profile of the root's Cargo.toml that all of this is built with.
const PROFILE: &str = "mutants";
/// More rounds than the compiler's phases can need.
const MAX_ROUNDS: usize = 40;

/// Where everything lies.
pub struct Places {
    /// The commit as it is.
    pub original: PathBuf,
    /// The commit with the mutants in it.
    pub tree: PathBuf,
    /// Cargo's target directory for that.
    pub target: PathBuf,
}

/// Why a mutant is not tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// It does not compile.
    Unviable,
    /// It cannot be chosen at run time.
    Unswitchable,
}

/// What was built.
pub struct Built {
    /// Test executables by the name of their target.
    pub tests: BTreeMap<String, PathBuf>,
    /// The binary that black-box tests start.
    pub colo: PathBuf,
}

/// Puts all mutants into the tree but those of `out`, and adds to these whatever does not compile. Gives the place where
/// each is chosen, if not at its own.
pub fn switch(
    places: &Places,
    mutants: &[Mutant],
    out: &mut BTreeMap<Number, Reason>,
) -> Result<BTreeMap<Number, Number>> {
    for round in 1..=MAX_ROUNDS {
        let rewritten = rewrite_all(places, mutants, out)?;
        let mut texts: BTreeMap<String, String> =
            rewritten.iter().map(|(name, file)| (name.clone(), file.text.clone())).collect();
        let library = fs::read_to_string(places.original.join("engine/src/lib.rs"))?;
        texts.insert("engine/src/lib.rs".into(), format!("{library}\nmod mutant_switch;\n"));
        texts.insert("engine/src/mutant_switch.rs".into(), rewrite::SWITCH.into());
        tree::sync(&places.original, &places.tree, &texts)?;
        let mut found = complaints(places, "check")?;
        if found.is_empty() {
            // Sums of constants that overflow are found where code is made.
            found = complaints(places, "build")?;
        }
        if found.is_empty() {
            if out.values().any(|reason| *reason == Reason::Unswitchable) {
                judge_alone(places, mutants, out)?;
                tree::sync(&places.original, &places.tree, &texts)?;
            }
            return Ok(rewritten.values().flat_map(|file| file.places.iter().copied()).collect());
        }
        let before = out.len();
        for complaint in &found {
            blame(complaint, &rewritten, out);
        }
        println!("round {round}: {} complaints, {} mutants do not compile", found.len(), out.len());
        if out.len() == before {
            let text: Vec<_> = found.iter().map(|complaint| complaint.text.as_str()).collect();
            bail!("the compiler refuses what no mutant is to blame for:\n{}", text.join("\n"));
        }
    }
    bail!("the mutants do not compile after {MAX_ROUNDS} rounds")
}

fn rewrite_all(
    places: &Places,
    mutants: &[Mutant],
    out: &mut BTreeMap<Number, Reason>,
) -> Result<BTreeMap<String, Rewritten>> {
    let names: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.file.as_str()).collect();
    let mut rewritten = BTreeMap::new();
    for name in names {
        let text =
            fs::read_to_string(places.original.join(name)).with_context(|| format!("cannot read {name}"))?;
        let own: Vec<_> = (1..)
            .zip(mutants)
            .filter(|(number, mutant)| mutant.file == name && !out.contains_key(number))
            .collect();
        let file = rewrite::rewrite(&text, &own).with_context(|| format!("cannot rewrite {name}"))?;
        out.extend(file.left_out.iter().map(|number| (*number, Reason::Unswitchable)));
        rewritten.insert(name.to_owned(), file);
    }
    Ok(rewritten)
}

/// An error of the compiler.
struct Complaint {
    text: String,
    /// File and bytes, what it is about first.
    spans: Vec<(String, Range<usize>)>,
}

fn blame(complaint: &Complaint, rewritten: &BTreeMap<String, Rewritten>, out: &mut BTreeMap<Number, Reason>) {
    let blames = complaint.spans.iter().find_map(|(name, at)| {
        let blames: Vec<&Blame> = rewritten.get(name)?.blame(at).collect();
        (!blames.is_empty()).then_some(blames)
    });
    for blame in blames.into_iter().flatten() {
        let (numbers, reason) = match blame {
            Blame::Unviable(numbers) => (numbers, Reason::Unviable),
            Blame::Unswitchable(numbers) => (numbers, Reason::Unswitchable),
        };
        out.extend(numbers.iter().map(|number| (*number, reason)));
    }
}

/// Of those that cannot be switched: which would not compile either way?
fn judge_alone(places: &Places, mutants: &[Mutant], out: &mut BTreeMap<Number, Reason>) -> Result<()> {
    for (number, reason) in out.iter_mut().filter(|(_, reason)| **reason == Reason::Unswitchable) {
        let mutant = &mutants[number - 1];
        let mut text = fs::read_to_string(places.original.join(&mutant.file))?;
        let span = Lines::of(&text).bytes(mutant.span);
        text.replace_range(span, &mutant.replacement);
        tree::sync(&places.original, &places.tree, &BTreeMap::from([(mutant.file.clone(), text)]))?;
        if !complaints(places, "check")?.is_empty() {
            *reason = Reason::Unviable;
        }
    }
    Ok(())
}

fn cargo(places: &Places, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .arg(arguments[0])
        .args(["--locked", "--quiet", "--profile", PROFILE, "--message-format", "json"])
        .args(&arguments[1..])
        .current_dir(&places.tree)
        .env("CARGO_TARGET_DIR", &places.target);
    command
}

/// The compiler's errors about the library when cargo is told this.
fn complaints(places: &Places, verb: &str) -> Result<Vec<Complaint>> {
    let (messages, success) = messages(cargo(places, &[verb, "--package", "colo-engine", "--lib"]))?;
    let mut complaints = Vec::new();
    for message in messages {
        let message = &message["message"];
        if message["level"] != "error" {
            continue;
        }
        let mut spans = Vec::new();
        collect_spans(message, &mut spans);
        spans.sort_by_key(|(primary, _, _)| !primary);
        let spans: Vec<_> = spans.into_iter().map(|(_, name, at)| (name, at)).collect();
        if !spans.is_empty() {
            let text = message["rendered"].as_str().unwrap_or_default().to_owned();
            complaints.push(Complaint { text, spans });
        }
    }
    ensure!(success || !complaints.is_empty(), "cargo {verb} fails and says nothing of any source");
    Ok(if success { Vec::new() } else { complaints })
}

/// Spans of a message and of its notes: whether one is what it is about, file, bytes.
fn collect_spans(message: &Value, spans: &mut Vec<(bool, String, Range<usize>)>) {
    for span in message["spans"].as_array().into_iter().flatten() {
        let byte = |key: &str| span[key].as_u64().and_then(|byte| usize::try_from(byte).ok());
        let (Some(name), Some(start), Some(end)) =
            (span["file_name"].as_str(), byte("byte_start"), byte("byte_end"))
        else {
            continue;
        };
        spans.push((span["is_primary"] == true, name.to_owned(), start..end));
    }
    for note in message["children"].as_array().into_iter().flatten() {
        let first = spans.len();
        collect_spans(note, spans);
        for span in &mut spans[first..] {
            span.0 = false;
        }
    }
}

/// What cargo says in JSON, and whether it succeeded.
fn messages(mut command: Command) -> Result<(Vec<Value>, bool)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut messages = Vec::new();
    for line in std::io::BufReader::new(output).lines() {
        if let Ok(message) = serde_json::from_str(&line?) {
            messages.push(message);
        }
    }
    Ok((messages, child.wait()?.success()))
}

/// Builds the tests of all suites, and the binary.
pub fn build(places: &Places) -> Result<Built> {
    let mut built = Built { tests: BTreeMap::new(), colo: PathBuf::new() };
    let binary = ["build", "--package", "colo-engine", "--bins"].map(str::to_owned).to_vec();
    let tests = suites::targets().into_iter().map(|(package, targets)| {
        let mut arguments =
            vec!["test".to_owned(), "--no-run".into(), "--package".into(), format!("colo-{package}")];
        arguments.extend(targets);
        arguments
    });
    for arguments in std::iter::once(binary).chain(tests) {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (messages, success) = messages(cargo(places, &arguments))?;
        if !success {
            let errors = messages.iter().filter(|message| message["message"]["level"] == "error");
            let errors = errors.filter_map(|message| message["message"]["rendered"].as_str());
            bail!("cargo {} fails:\n{}", arguments.join(" "), errors.collect::<String>());
        }
        for artifact in &messages {
            let (Some(path), Some(name)) =
                (artifact["executable"].as_str(), artifact["target"]["name"].as_str())
            else {
                continue;
            };
            if artifact["profile"]["test"] == true {
                built.tests.insert(name.to_owned(), Path::new(path).to_owned());
            } else if name == "colo" {
                built.colo = path.into();
            }
        }
    }
    Ok(built)
}
