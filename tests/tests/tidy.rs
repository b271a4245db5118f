//! The house's invariants, held against the source tree: what lies where, what the data plane may name, where unsafe
//! code lives, which links resolve. Reads text only; what the compiler and clippy check is left to them.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// What may lie at the top.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".config",
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "bench",
    "clippy.toml",
    "deny.toml",
    "docs",
    "engine",
    "grafana",
    "pmd-tap",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "tests",
];

/// Modules of the data plane: `engine/src/NAME.rs` and everything under `engine/src/NAME/`.
const DATA_PLANE: &[&str] = &[
    "wire",
    "flow",
    "ring",
    "rx",
    "tx",
    "table",
    "compare",
    "release",
    "shard",
    "timer",
    "mode",
    "held",
    "spans",
    "slab",
    "digests",
    "verdict",
    "side",
    "fragments",
    "policy",
    "witness",
];

/// What those may not name: clocks, locks, logs, threads, the operating system, the control plane's formats.
const BANNED_IN_DATA_PLANE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "Mutex",
    "RwLock",
    "println!",
    "eprintln!",
    "tracing::",
    "thread::",
    "std::net",
    "std::fs",
    "std::process",
    "prometheus",
    "toml::",
];

/// A hard look is due past this many lines.
const LONG_FILE_LINES: usize = 600;
/// Files that had it and stay long, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// One file of the tree.
struct Source {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests lies in the workspace").to_owned()
}

/// The tree's text files: git's view where there is a repository, else everything that is not a build's product.
fn sources() -> Vec<Source> {
    let root = root();
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output();
    let mut paths: Vec<String> = match listed {
        Ok(output) if output.status.success() => {
            let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
            names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
        _ => walk(&root, &root),
    };
    paths.sort();
    assert!(paths.iter().any(|path| path == "Cargo.toml"), "no source tree at {}", root.display());
    // A deleted file is still listed until it is staged; a binary one has no text.
    let read = |path: String| Some(Source { text: std::fs::read_to_string(root.join(&path)).ok()?, path });
    paths.into_iter().filter_map(read).collect()
}

fn walk(root: &Path, directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the tree can be read") {
        let path = entry.expect("the tree can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if ["target", ".git", "node_modules"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            found.extend(walk(root, &path));
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.push(relative.to_string_lossy().into_owned());
        }
    }
    found
}

fn rust_sources() -> impl Iterator<Item = Source> {
    sources().into_iter().filter(|source| has_extension(&source.path, "rs"))
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|own| own == extension)
}

/// Fails with all findings at once.
fn report(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

/// Lines that are code, numbered from 1: no comment, and nothing after `#[cfg(test)]` at the file's end.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number, line.split(" // ").next().unwrap_or(line)))
}

fn is_data_plane(path: &str) -> bool {
    let Some(inside) = path.strip_prefix("engine/src/") else {
        return false;
    };
    // A module's tests may do as they like.
    let in_tests =
        inside.ends_with("/tests.rs") || inside.ends_with("_tests.rs") || inside.contains("/tests/");
    let module = inside.split(['/', '.']).next().unwrap_or_default();
    DATA_PLANE.contains(&module) && !in_tests
}

#[test]
fn nothing_new_lies_at_the_top() {
    let findings: Vec<_> = sources()
        .iter()
        .map(|source| source.path.split('/').next().unwrap_or_default().to_owned())
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()))
        .collect();
    report("beside the prescribed layout", &findings);
}

#[test]
fn the_data_plane_names_no_clock_lock_log_thread_or_file() {
    let mut findings = Vec::new();
    for source in rust_sources().filter(|source| is_data_plane(&source.path)) {
        for (number, line) in code_lines(&source.text) {
            for banned in BANNED_IN_DATA_PLANE.iter().filter(|banned| line.contains(**banned)) {
                findings.push(format!("{}:{number}: {banned}", source.path));
            }
        }
    }
    report("the data plane takes `now` as an argument and does no I/O", &findings);
}

#[test]
fn unsafe_code_lives_in_sys_only() {
    // Spelt apart, so that this file is not its own finding.
    let word = concat!("un", "safe");
    let mut findings = Vec::new();
    for source in rust_sources() {
        let name = source.path.rsplit('/').next().unwrap_or_default();
        let in_sys = name == "sys.rs" || source.path.starts_with("pmd-tap/src/sys/");
        if source.path.starts_with("pmd-tap/") && in_sys {
            continue;
        }
        for (number, line) in (1..).zip(source.text.lines()) {
            let code = line.split("//").next().unwrap_or_default();
            let starts = ["{", "fn", "impl", "extern", "trait"];
            if starts.iter().any(|start| code.contains(&format!("{word} {start}"))) {
                findings.push(format!("{}:{number}", source.path));
            }
        }
    }
    report("unsafe code outside pmd-tap's sys", &findings);
}

#[test]
fn crates_other_than_pmd_tap_forbid_unsafe_code() {
    let forbids = concat!("#![forbid(un", "safe_code)]");
    let roots = |path: &str| {
        let in_crate = ["engine/", "bench/", "tests/"].iter().any(|name| path.starts_with(name));
        let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        // Every file directly in a crate's tests/ or benches/ is a crate of its own, as is each src/bin.
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let is_target = ["tests/tests", "engine/tests", "bench/benches"].contains(&directory)
            || directory.ends_with("src/bin");
        in_crate && (is_root || is_target) && !path.starts_with("tests/fuzz/")
    };
    let findings: Vec<_> = rust_sources()
        .filter(|source| roots(&source.path) && !source.text.contains(forbids))
        .map(|source| source.path)
        .collect();
    report("crate roots that do not forbid unsafe code", &findings);
}

#[test]
fn files_stay_short() {
    let long = |source: &Source| source.text.lines().count() > LONG_FILE_LINES;
    let findings: Vec<_> = rust_sources()
        .filter(|source| long(source) && !LONG_FILES.iter().any(|(path, _)| *path == source.path))
        .map(|source| format!("{}: {} lines", source.path, source.text.lines().count()))
        .collect();
    report("over 600 lines: split them, or list them with a reason", &findings);
    let stale: Vec<_> = LONG_FILES
        .iter()
        .filter(|(path, _)| !rust_sources().any(|source| source.path == *path && long(&source)))
        .map(|(path, _)| (*path).to_owned())
        .collect();
    report("listed as long, but they are not", &stale);
}

#[test]
fn every_rust_file_says_what_it_is() {
    let findings: Vec<_> =
        rust_sources().filter(|source| !source.text.starts_with("//! ")).map(|source| source.path).collect();
    report("files that do not start with `//!`", &findings);
}

#[test]
fn links_in_the_documents_resolve() {
    let is_document =
        |path: &str| path == "README.md" || (path.starts_with("docs/") && has_extension(path, "md"));
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| is_document(&source.path)) {
        let directory = source.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        for target in link_targets(&source.text) {
            if !root().join(directory).join(target).exists() {
                findings.push(format!("{}: {target}", source.path));
            }
        }
    }
    report("links that lead nowhere", &findings);
}

/// Relative targets of `[text](target)`, without fragment; code blocks are skipped.
fn link_targets(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    let targets =
        prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split([')', ' ']).next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
        .collect()
}

#[test]
fn decisions_are_numbered() {
    let mut numbers: Vec<u32> = Vec::new();
    let mut findings = Vec::new();
    for source in sources() {
        let Some(name) = source.path.strip_prefix("docs/decisions/") else {
            continue;
        };
        if ["README.md", "index.md"].contains(&name) {
            continue;
        }
        match name.split_once('-') {
            Some((number, rest)) if number.len() == 4 && has_extension(rest, "md") => match number.parse() {
                Ok(number) => numbers.push(number),
                Err(_) => findings.push(name.to_owned()),
            },
            _ => findings.push(name.to_owned()),
        }
    }
    report("decisions that are not called NNNN-what.md", &findings);
    let doubles: Vec<_> =
        numbers.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| format!("{:04}", pair[0])).collect();
    report("two decisions with one number", &doubles);
}

/// What `tests/planted` plants, so that it is not found out only when somebody runs that.
#[test]
fn planted_faults_still_apply() {
    let mut plants = sources();
    plants.retain(|source| source.path.starts_with("tests/plants/"));
    assert!(!plants.is_empty(), "no plants to look at");
    let findings: Vec<String> = plants
        .into_iter()
        .filter(|plant| {
            let mut git = Command::new("git");
            git.current_dir(root()).args(["apply", "--check"]).arg(&plant.path);
            !git.output().expect("git runs").status.success()
        })
        .map(|plant| plant.path)
        .collect();
    report("a planted fault that does not apply plants nothing", &findings);
}

#[test]
fn no_machine_is_named() {
    // Spelt apart, so that this file is not its own finding.
    let places =
        [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let mut findings = Vec::new();
    for source in sources() {
        for (number, line) in (1..).zip(source.text.lines()) {
            if places.iter().any(|place| names_place(line, place)) {
                findings.push(format!("{}:{number}: a path of one machine", source.path));
            }
            if let Some(host) = registry_host(&source.path, line) {
                findings.push(format!("{}:{number}: the registry host {host}", source.path));
            }
        }
    }
    report("tracked files name a machine", &findings);
}

/// Whether an absolute path starts with `place` here: `a/place/` within a longer path does not.
fn names_place(line: &str, place: &str) -> bool {
    let starts_path = |at: usize| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-}/*$".contains(c))
    };
    line.match_indices(place).any(|(at, _)| starts_path(at))
}

/// Host of a package registry other than the public one that the lock files' formats name.
fn registry_host<'line>(path: &str, line: &'line str) -> Option<&'line str> {
    let (mark, public): (&str, &[&str]) = match path.rsplit('/').next()? {
        "Cargo.lock" => ("source = \"registry+https://", &["github.com"]),
        "config.toml" if path.contains(".cargo/") => ("https://", &[]),
        "package-lock.json" => ("\"resolved\": \"https://", &["registry.npmjs.org"]),
        ".npmrc" | "pip.conf" => ("https://", &[]),
        _ => return None,
    };
    let (_, rest) = line.split_once(mark)?;
    let host = rest.split(['/', '"']).next()?;
    (!public.contains(&host)).then_some(host)
}

#[test]
fn the_rules_can_fail() {
    assert!(is_data_plane("engine/src/wire/tcp.rs") && is_data_plane("engine/src/flow.rs"));
    assert!(!is_data_plane("engine/src/wire/tests.rs") && !is_data_plane("engine/src/runtime.rs"));
    let code: Vec<_> = code_lines("// Mutex\nlet a = 1; // Mutex\n#[cfg(test)]\nuse Mutex;\n").collect();
    assert_eq!(code, [(2, "let a = 1;")]);
    assert_eq!(link_targets("[a](b.md#c) [d](https://e) ```[f](g)``` [h](#i)"), ["b.md"]);
    assert!(names_place("see /spot/me", "/spot/") && !names_place("a/spot/me", "/spot/"));
    let lock = "source = \"registry+https://mirror.example/index\"";
    assert_eq!(registry_host("Cargo.lock", lock), Some("mirror.example"));
}
