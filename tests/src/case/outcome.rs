//! What a replay made of a case, with assertions that read like the right-hand column of the catalogue. Times are
//! those of the case. Every failure prints the whole case as a timeline.

use serde_json::Value;

use super::capture::{Decoded, decode};
use super::time::Ns;
use super::{Case, Verdict, invariants, table};
use crate::process::{self, Finished};

/// A replayed case.
#[derive(Debug)]
pub struct Outcome {
    pub(super) case: Case,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) summary: Value,
    pub(super) released: Decoded,
    /// The case time of the first frame: the verdicts count from there.
    pub(super) zero: Ns,
}

/// The files and output of one run, as bytes.
#[derive(Debug, PartialEq, Eq)]
struct Raw {
    finished: Finished,
    verdicts: String,
    released: Vec<u8>,
}

fn replay(case: &Case, workers: &str) -> Raw {
    let directory = tempfile::tempdir().expect("a temp dir");
    case.write(directory.path());
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let mut arguments: Vec<String> = ["replay", "--json", "--workers", workers].map(str::to_owned).to_vec();
    for (flag, file) in [
        ("--primary", "p.pcap"),
        ("--secondary", "s.pcap"),
        ("--verdicts", "v.jsonl"),
        ("--released", "out.pcap"),
    ] {
        arguments.extend([flag.to_owned(), path(file)]);
    }
    if !case.config.is_empty() {
        arguments.extend(["--config".to_owned(), path(super::CONFIG)]);
    }
    arguments.extend(case.arguments());
    let finished = process::run(&arguments);
    assert_eq!(finished.code, Some(0), "colo {arguments:?} failed: {}", finished.stderr);
    Raw {
        finished,
        verdicts: std::fs::read_to_string(path("v.jsonl")).expect("--verdicts writes its file"),
        released: std::fs::read(path("out.pcap")).expect("--released writes its file"),
    }
}

impl Outcome {
    pub(super) fn of(case: Case) -> Self {
        let raw = replay(&case, &case.workers.unwrap_or(1).to_string());
        let verdicts = Verdict::parse_all(&raw.verdicts).unwrap_or_else(|error| panic!("verdicts: {error}"));
        let summary = serde_json::from_str(&raw.finished.stdout)
            .unwrap_or_else(|error| panic!("--json prints one object: {error}: {}", raw.finished.stdout));
        let released = decode(&raw.released).unwrap_or_else(|error| panic!("released: {error}"));
        let firsts = [case.primary.first(), case.secondary.first()];
        let zero = firsts.into_iter().flatten().map(|sent| sent.at).min().unwrap_or_default();
        let outcome = Self { case, verdicts, summary, released, zero };
        invariants::check(&outcome);
        if outcome.case.workers.is_some() {
            return outcome;
        }
        let two = replay(&outcome.case, "2");
        outcome.ensure(raw.verdicts == two.verdicts, || {
            format!(
                "--workers 2 decides otherwise than --workers 1:\n{}\nagainst\n{}",
                two.verdicts, raw.verdicts
            )
        });
        outcome.ensure(raw == two, || {
            format!(
                "--workers 2 says or releases otherwise: {} / {}",
                two.finished.stdout, raw.finished.stdout
            )
        });
        outcome
    }

    /// The verdicts as read, their times counted from the first frame.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// The summary object of `--json`.
    pub fn summary(&self) -> &Value {
        &self.summary
    }

    #[track_caller]
    pub(super) fn ensure(&self, holds: bool, message: impl FnOnce() -> String) {
        assert!(holds, "{}\n{}", message(), table::timeline(&self.case, &self.verdicts, self.zero));
    }

    pub(super) fn release_of(&self, index: usize) -> Option<(Ns, &str, Ns)> {
        self.verdicts.iter().find_map(|verdict| match verdict {
            Verdict::Release { at, frame, why, held } if *frame == index => {
                Some((*at + self.zero, why.as_str(), *held))
            }
            _ => None,
        })
    }

    pub(super) fn drop_of(&self, index: usize) -> Option<(Ns, &str)> {
        self.verdicts.iter().find_map(|verdict| match verdict {
            Verdict::Drop { at, frame, why } if *frame == index => Some((*at + self.zero, why.as_str())),
            _ => None,
        })
    }

    fn request_list(&self) -> Vec<(Ns, &str, Option<&str>, &Value)> {
        let requests = self.verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Request { at, reason, flow, detail } => {
                Some((*at + self.zero, reason.as_str(), flow.as_deref(), detail))
            }
            _ => None,
        });
        requests.collect()
    }

    /// PVM frame `frame` left at `at` for reason `why` (`a|b`: for either).
    #[track_caller]
    pub fn released(&self, frame: usize, at: Ns, why: &str) -> &Self {
        let found = self.release_of(frame);
        let right = found.is_some_and(|(t, w, _)| t == at && why.split('|').any(|known| known == w));
        self.ensure(right, || format!("P{frame} should be released at {at:?} {why:?}, is: {found:?}"));
        self
    }

    /// SVM frame `frame` was dropped at `at` for reason `why` (`a|b`: for either).
    #[track_caller]
    pub fn dropped(&self, frame: usize, at: Ns, why: &str) -> &Self {
        let found = self.drop_of(frame);
        let right = found.is_some_and(|(t, w)| t == at && why.split('|').any(|known| known == w));
        self.ensure(right, || format!("S{frame} should be dropped at {at:?} {why:?}, is: {found:?}"));
        self
    }

    /// SVM frame `frame` was dropped as `why`, whenever.
    #[track_caller]
    pub fn dropped_as(&self, frame: usize, why: &str) -> &Self {
        let found = self.drop_of(frame);
        let right = found.is_some_and(|(_, w)| why.split('|').any(|known| known == w));
        self.ensure(right, || format!("S{frame} should be dropped as {why:?}, is: {found:?}"));
        self
    }

    /// Exactly these PVM frames were still held at the end.
    #[track_caller]
    pub fn held(&self, frames: &[usize]) -> &Self {
        let open = |v: &Verdict| {
            if let Verdict::Held { frame } = v { Some(*frame) } else { None }
        };
        let found: Vec<usize> = self.verdicts.iter().filter_map(open).collect();
        self.ensure(found == frames, || {
            format!("P frames {frames:?} should be held at the end, are: {found:?}")
        });
        self
    }

    /// Exactly these SVM frames were still held at the end.
    #[track_caller]
    pub fn held_secondary(&self, frames: &[usize]) -> &Self {
        let open = |v: &Verdict| {
            if let Verdict::HeldSecondary { frame } = v { Some(*frame) } else { None }
        };
        let found: Vec<usize> = self.verdicts.iter().filter_map(open).collect();
        self.ensure(found == frames, || {
            format!("S frames {frames:?} should be held at the end, are: {found:?}")
        });
        self
    }

    /// Exactly these checkpoints were asked for.
    #[track_caller]
    pub fn requests(&self, expected: &[(Ns, &str)]) -> &Self {
        let found: Vec<(Ns, &str)> = self.request_list().iter().map(|r| (r.0, r.1)).collect();
        self.ensure(found == expected, || format!("the requests should be {expected:?}, are: {found:?}"));
        self
    }

    /// Nothing was asked for: all is well.
    #[track_caller]
    pub fn quiet(&self) -> &Self {
        self.requests(&[])
    }

    /// One timeout and nothing else.
    #[track_caller]
    pub fn timeout(&self, at: Ns) -> &Self {
        self.requests(&[(at, "timeout")])
    }

    /// One mismatch and nothing else, of this kind (`a|b`: of either).
    #[track_caller]
    pub fn mismatch(&self, at: Ns, kind: &str) -> &Self {
        self.requests(&[(at, "mismatch")]);
        let found = &self.request_list()[0].3["kind"];
        let right = found.as_str().is_some_and(|f| kind.split('|').any(|known| known == f));
        self.ensure(right, || format!("the mismatch should be of kind {kind:?}, is: {found}"));
        self
    }

    /// The first request's detail says so.
    #[track_caller]
    pub fn detail(&self, key: &str, value: impl Into<Value>) -> &Self {
        self.detail_of(0, key, value)
    }

    /// The n-th request's detail says so.
    #[track_caller]
    pub fn detail_of(&self, request: usize, key: &str, value: impl Into<Value>) -> &Self {
        let value = value.into();
        let found = self.request_list().get(request).map(|r| r.3[key].clone());
        self.ensure(found.as_ref() == Some(&value), || {
            format!("detail {key:?} of request {request} should be {value}, is: {found:?}")
        });
        self
    }

    /// The n-th request names this flow.
    #[track_caller]
    pub fn names_flow(&self, request: usize, flow: &str) -> &Self {
        let found = self.request_list().get(request).and_then(|r| r.2.map(str::to_owned));
        self.ensure(found.as_deref() == Some(flow), || {
            format!("request {request} should name {flow:?}, names: {found:?}")
        });
        self
    }

    /// The checkpoints were committed exactly then.
    #[track_caller]
    pub fn commits(&self, expected: &[Ns]) -> &Self {
        let committed = |v: &Verdict| {
            if let Verdict::Commit { at } = v { Some(*at + self.zero) } else { None }
        };
        let found: Vec<Ns> = self.verdicts.iter().filter_map(committed).collect();
        self.ensure(found == expected, || format!("the commits should be {expected:?}, are: {found:?}"));
        self
    }
}
