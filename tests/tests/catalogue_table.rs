//! The table of promises in docs/COMPARISON.md, held against the tests that it names: every number of the catalogue
//! has a test, and table and tests name each other. Reads text only.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Numbers of the case catalogue.
const CASES: std::ops::RangeInclusive<u32> = 1..=94;
/// Where the tests are.
const SUITES: [&str; 2] = ["tests/tests/catalogue", "tests/tests/catalogue_live"];
/// How the names of tests begin that the table has to list.
const PREFIXES: [&str; 3] = ["case_", "fine_point_", "padding_trap_"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the workspace").to_owned()
}

/// Names of the test functions in a source text: what stands behind `#[test]`, attributes between them or not. A test
/// that is ignored is none.
fn test_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for after in text.split("#[test]\n").skip(1) {
        let mut lines = after.lines().skip_while(|line| line.trim_start().starts_with("#["));
        let ignored = after.lines().take_while(|line| line.trim_start().starts_with("#[")).any(is_ignored);
        let name = lines.next().and_then(|line| line.trim_start().strip_prefix("fn ")?.split('(').next());
        if let (Some(name), false) = (name, ignored) {
            names.push(name.to_owned());
        }
    }
    names
}

fn is_ignored(line: &str) -> bool {
    line.trim_start().starts_with("#[ignore")
}

/// All tests of both suites; a name that two files use is an error, because the table could mean either.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for suite in SUITES {
        let directory = root().join(suite);
        for entry in std::fs::read_dir(&directory).expect("the suite is there") {
            let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a source file");
            for name in test_names(&text) {
                assert!(found.insert(name.clone()), "two tests are called {name}");
            }
        }
    }
    found
}

/// The number a test's name begins with.
fn number(name: &str) -> Option<u32> {
    name.strip_prefix("case_")?.split('_').next()?.parse().ok()
}

/// Rows of the tables: number or point, and the tests named in its last column.
fn rows(document: &str) -> Vec<(String, Vec<String>)> {
    let cells = document.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        (cells.len() == 3).then_some(cells)
    });
    let named = |cell: &str| -> Vec<String> {
        let words = cell.split('`').skip(1).step_by(2);
        words
            .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
            .map(str::to_owned)
            .collect()
    };
    cells.map(|cells| (cells[0].to_owned(), named(cells[2]))).filter(|(_, tests)| !tests.is_empty()).collect()
}

fn document() -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(root().join("docs/COMPARISON.md")).expect("the document is there");
    rows(&text)
}

#[test]
fn every_number_of_the_catalogue_has_a_test() {
    let tests = tests();
    let have: BTreeSet<u32> = tests.iter().filter_map(|name| number(name)).collect();
    let missing: Vec<u32> = CASES.filter(|case| !have.contains(case)).collect();
    assert!(missing.is_empty(), "cases without a test: {missing:?}");
    let beyond: Vec<u32> = have.into_iter().filter(|case| !CASES.contains(case)).collect();
    assert!(beyond.is_empty(), "tests for cases that the catalogue does not have: {beyond:?}");
}

#[test]
fn the_table_names_every_test_and_no_other() {
    let tests = tests();
    let mut named = BTreeMap::new();
    for (row, names) in document() {
        for name in names {
            let before = named.insert(name.clone(), row.clone());
            assert!(before.is_none(), "{name} is named twice, in row {row} too");
        }
    }
    let gone: Vec<_> = named.keys().filter(|name| !tests.contains(*name)).collect();
    assert!(gone.is_empty(), "named in docs/COMPARISON.md, but there is no such test: {gone:?}");
    let unnamed: Vec<_> = tests.iter().filter(|name| !named.contains_key(*name)).collect();
    assert!(unnamed.is_empty(), "tests that docs/COMPARISON.md does not name: {unnamed:?}");
}

#[test]
fn every_test_stands_in_the_row_of_its_number() {
    let mut rows_seen = BTreeSet::new();
    for (row, names) in document() {
        for name in names {
            if let Some(number) = number(&name) {
                assert_eq!(row, number.to_string(), "{name} stands in another row");
                rows_seen.insert(number);
            }
        }
    }
    assert!(rows_seen.into_iter().eq(CASES), "the table has a row for every number");
}

/// Names of tests in the specification: all that looks like one behind "Tests:".
fn promised(text: &str) -> Vec<(u32, Vec<String>)> {
    let mut promises: Vec<(u32, Vec<String>)> = Vec::new();
    for paragraph in text.split("\n\n") {
        if let Some(number) = paragraph
            .strip_prefix("**")
            .and_then(|rest| rest.split_once(". "))
            .and_then(|(n, _)| n.parse().ok())
        {
            promises.push((number, Vec::new()));
        } else if let (Some(tests), Some((_, names))) =
            (paragraph.strip_prefix("Tests: "), promises.last_mut())
        {
            let words = tests.split('`').skip(1).step_by(2);
            names.extend(words.filter(|word| !word.contains(['/', ' '])).map(str::to_owned));
        }
    }
    promises
}

/// Every Rust file of the workspace's packages.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the tree") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_promise_of_the_specification_names_tests_that_exist() {
    let mut files = Vec::new();
    for package in ["engine", "pmd-tap", "tests"] {
        sources(&root().join(package), &mut files);
    }
    let mut known = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).expect("a source file");
        // Generated tests stand in a macro, deeper than others.
        known.extend(test_names(&text.replace("    #[test]", "#[test]")));
    }
    let specification =
        std::fs::read_to_string(root().join("docs/SPECIFICATION.md")).expect("the document is there");
    let promises = promised(&specification);
    assert!(promises.iter().map(|(number, _)| *number).eq(1..=16), "numbered from 1 to 16");
    for (number, tests) in promises {
        assert!(!tests.is_empty(), "promise {number} names no test");
        let gone: Vec<_> = tests.iter().filter(|name| !known.contains(*name)).collect();
        assert!(gone.is_empty(), "promise {number} names tests that are not there: {gone:?}");
    }
}

#[test]
fn the_checks_can_fail() {
    let text = "**7. It is so.** Always.\n\nTests: `a_b`,\n`c`; counted by `bench/x`.\n\n**8. Also.**\n";
    assert_eq!(promised(text), [(7, vec!["a_b".to_owned(), "c".to_owned()]), (8, vec![])]);
    let text = "#[test]\nfn case_07_a() {}\nfn case_08_helper() {}\n#[test]\n#[ignore = \"slow\"]\nfn case_09_b() {}\n";
    assert_eq!(test_names(text), ["case_07_a"]);
    assert_eq!(test_names("    #[test]\n    #[should_panic]\n    fn case_1_x() {}\n"), ["case_1_x"]);
    assert_eq!((number("case_07_a"), number("fine_point_01_x"), number("case_x")), (Some(7), None, None));
    let table = "| number | what | tests |\n|---|---|---|\n| 7 | a `word` | `case_07_a`<br>`case_07_b` |\n| 8 | none | |\n";
    assert_eq!(rows(table), [("7".to_owned(), vec!["case_07_a".to_owned(), "case_07_b".to_owned()])]);
}
