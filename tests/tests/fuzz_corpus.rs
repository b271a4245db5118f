//! Every input that fuzzing kept, and every seed, through the checks of its target: what was wrong once stays right,
//! without cargo-fuzz. New inputs come from `tests/fuzz/run`.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use colo_tests::fuzzing::{TARGETS, seeds};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("the corpus can be read").path();
            (
                path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                std::fs::read(&path).expect("the corpus can be read"),
            )
        })
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn every_kept_input_passes() {
    let mut failed = Vec::new();
    for (target, check) in TARGETS {
        let inputs = corpus(target);
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for (name, bytes) in inputs.iter().chain(&seeds(target)) {
            if catch_unwind(AssertUnwindSafe(|| check(bytes))).is_err() {
                failed.push(format!("{target}: {name}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A target that is missing anywhere would go untested without a word.
#[test]
fn every_target_is_everywhere() {
    let here: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(fuzz().join(folder)).unwrap();
        entries
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect()
    };
    assert_eq!(names("corpus"), here);
    assert_eq!(names("fuzz_targets"), here);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let script = std::fs::read_to_string(fuzz().join("run")).unwrap();
    for target in here {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} in Cargo.toml");
        assert!(script.contains(&target), "{target} in tests/fuzz/run");
        assert!(!seeds(&target).is_empty(), "{target} has no seeds");
    }
}
