//! A source file with all its mutants in it, and a choice between them at run time. Knows nothing of building or running.
//!
//! What a mutant changes is taken as text, as cargo-mutants takes it: `a && b && c` with the first `&&` made `||` is
//! `a || b && c`, which means something else than changing a tree. So an operator's alternatives are copies of the
//! whole chain of operators that it stands in.

mod places;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Result, anyhow};

use crate::list::{Genre, Lines, Mutant};
use places::{Body, Places};

/// The function that gives the chosen mutant's number, called with the place that asks.
const CHOSEN: &str = "crate::mutant_switch::chosen";

/// What `COLO_MUTANT` says when no mutant is chosen and the places that are reached are written down.
pub const TRACE: u32 = u32::MAX;

/// The module that goes with rewritten files, `engine/src/mutant_switch.rs`.
pub const SWITCH: &str = r#"//! Which mutant runs.
use std::io::Write as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

static CHOSEN: LazyLock<u32> =
    LazyLock::new(|| std::env::var("COLO_MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0));
static SEEN: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

#[inline(always)]
pub(crate) fn chosen(place: u32) -> u32 {
    let chosen = *CHOSEN;
    if chosen == u32::MAX {
        trace(place);
    }
    chosen
}

#[cold]
fn trace(place: u32) {
    let bit = 1 << (place % 64);
    if SEEN[usize::try_from(place / 64).unwrap()].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        let path = std::env::var_os("COLO_MUTANT_TRACE").unwrap();
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.unwrap().write_all(format!("{place}\n").as_bytes()).unwrap();
    }
}

/// Iterators of two types, where one is promised.
pub(crate) enum Either<A, B> {
    This(A),
    Other(B),
}

impl<T, A: Iterator<Item = T>, B: Iterator<Item = T>> Iterator for Either<A, B> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Self::This(one) => one.next(),
            Self::Other(other) => other.next(),
        }
    }
}
"#;

/// A mutant by its number, from 1: what `COLO_MUTANT` says. 0 is the code as it is.
pub type Number = usize;

/// Which mutants a compiler's complaint is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Their own text does not compile.
    Unviable(Vec<Number>),
    /// They have no choice at run time there, whatever their text: a constant, say.
    Unswitchable(Vec<Number>),
}

/// A file with its mutants.
pub struct Rewritten {
    pub text: String,
    regions: Vec<(Range<usize>, Blame)>,
    /// Mutants that could not be put in.
    pub left_out: Vec<Number>,
    /// Mutants and the places where they are chosen; a place has the number of one of its mutants.
    pub places: Vec<(Number, Number)>,
}

impl Rewritten {
    /// What lies at the bytes `at`: the innermost regions around them.
    pub fn blame(&self, at: &Range<usize>) -> impl Iterator<Item = &Blame> {
        let around = || self.regions.iter().filter(|(region, _)| contains(region, at));
        let innermost = around().map(|(region, _)| region.len()).min();
        around().filter(move |(region, _)| Some(region.len()) == innermost).map(|(_, blame)| blame)
    }
}

/// Puts the mutants, each with its number, into the text of their file.
pub fn rewrite(text: &str, mutants: &[(Number, &Mutant)]) -> Result<Rewritten> {
    let lines = Lines::of(text);
    let file =
        syn::parse_file(text).map_err(|error| anyhow!("{error} in line {}", error.span().start().line))?;
    let places = Places::of(&file, &lines);
    let mut edits = Edits::default();
    let mut left_out = Vec::new();
    for &(number, mutant) in mutants {
        if edits.add(text, &places, number, mutant, lines.bytes(mutant.span)).is_none() {
            left_out.push(number);
        }
    }
    let places = edits.places();
    let marked = edits.render(text);
    let (text, regions) = take_marks(&marked);
    Ok(Rewritten { text, regions, left_out, places })
}

/// Texts that stand in one place, each with its mutant.
type Alternatives = Vec<(Number, String)>;

/// What is put in at a place of the text.
enum Edit {
    /// Instead of an expression: a choice between it and its changed copies.
    Choice { at: Range<usize>, alternatives: Alternatives },
    /// Around a text, which may be empty.
    Around { at: Range<usize>, before: String, after: String },
}

impl Edit {
    fn at(&self) -> &Range<usize> {
        match self {
            Self::Choice { at, .. } | Self::Around { at, .. } => at,
        }
    }
}

#[derive(Default)]
struct Edits {
    edits: Vec<Edit>,
    /// Functions that promise an iterator, with the values to give instead.
    iterators: Vec<(Range<usize>, Alternatives)>,
}

impl Edits {
    /// `None`: there is no way to put it in.
    fn add(
        &mut self,
        text: &str,
        places: &Places,
        number: Number,
        mutant: &Mutant,
        span: Range<usize>,
    ) -> Option<()> {
        let scope = match mutant.genre {
            Genre::BinaryOperator | Genre::UnaryOperator => places.operators.get(&span.start)?.clone(),
            Genre::StructField => innermost(places.structs.iter(), &span)?.clone(),
            Genre::MatchArmGuard => places.guards.iter().find(|guard| **guard == span)?.clone(),
            Genre::MatchArm => {
                self.delete_arm(places, number, &span)?;
                return Some(());
            }
            Genre::FnValue => {
                let body = places.bodies.iter().filter(|body| contains(&body.statements, &span));
                self.replace_body(body.min_by_key(|body| body.statements.len())?, number, mutant);
                return Some(());
            }
            Genre::Other => return None,
        };
        let changed =
            format!("{}{}{}", &text[scope.start..span.start], mutant.replacement, &text[span.end..scope.end]);
        let choice = self.edits.iter_mut().find_map(|edit| match edit {
            Edit::Choice { at, alternatives } if *at == scope => Some(alternatives),
            _ => None,
        });
        match choice {
            Some(alternatives) => alternatives.push((number, changed)),
            None => self.edits.push(Edit::Choice { at: scope, alternatives: vec![(number, changed)] }),
        }
        Some(())
    }

    /// Deleting an arm is the same as never taking it.
    fn delete_arm(&mut self, places: &Places, number: Number, span: &Range<usize>) -> Option<()> {
        let arm = places.arms.iter().find(|arm| arm.pattern.start == span.start)?;
        let unless = own(number, &format!("{CHOSEN}({number}) != {number}"));
        // Without this arm, and without the others that are deleted, something may match no arm.
        let (before, after) = place_marks(std::iter::once(number));
        self.edits.push(Edit::Around { at: arm.matched.clone(), before, after });
        self.edits.push(match &arm.guard {
            Some(guard) if arm.binds_in_guard => {
                Edit::Around { at: guard.clone(), before: format!("{unless} && "), after: String::new() }
            }
            Some(guard) => {
                Edit::Around { at: guard.clone(), before: format!("{unless} && ("), after: ")".into() }
            }
            None => {
                let end = arm.pattern.end;
                Edit::Around { at: end..end, before: format!(" if {unless}"), after: String::new() }
            }
        });
        Some(())
    }

    fn replace_body(&mut self, body: &Body, number: Number, mutant: &Mutant) {
        let value = mutant.replacement.clone();
        if body.gives_iterator {
            match self.iterators.iter_mut().find(|(at, _)| *at == body.statements) {
                Some((_, values)) => values.push((number, value)),
                None => self.iterators.push((body.statements.clone(), vec![(number, value)])),
            }
            return;
        }
        let start = body.statements.start;
        let before = format!("if {CHOSEN}({number}) == {number} {{ return {}; }}\n", own(number, &value));
        self.edits.push(Edit::Around { at: start..start, before, after: String::new() });
    }

    /// Mutants and the places where they are chosen. All others are chosen at a place of their own.
    fn places(&self) -> Vec<(Number, Number)> {
        let choices = self.edits.iter().filter_map(|edit| match edit {
            Edit::Choice { alternatives, .. } => Some(alternatives),
            Edit::Around { .. } => None,
        });
        let together = choices.chain(self.iterators.iter().map(|(_, values)| values));
        together.flat_map(|all| all.iter().map(|(number, _)| (*number, place_of(all)))).collect()
    }

    fn render(mut self, text: &str) -> String {
        for (at, values) in std::mem::take(&mut self.iterators) {
            let mut before = format!("match {CHOSEN}({}) {{\n", place_of(&values));
            let (mut open, mut close) = (String::new(), String::new());
            for (number, value) in values {
                let value = format!("crate::mutant_switch::Either::This({})", own(number, &value));
                before.push_str(&format!("{number} => {open}{value}{close},\n"));
                open.push_str("crate::mutant_switch::Either::Other(");
                close.push(')');
            }
            before.push_str(&format!("_ => {open}{{\n"));
            self.edits.push(Edit::Around { at, before, after: format!("\n}}{close}\n}}") });
        }
        // Outer ones come before inner ones: by where they begin; what is empty, or goes around, first.
        self.edits.sort_by_key(|edit| {
            let (at, inner) = (edit.at(), matches!(edit, Edit::Choice { .. }));
            (at.start, !at.is_empty(), usize::MAX - at.end, inner)
        });
        let mut out = String::new();
        let mut rest = self.edits.as_slice();
        render_range(text, 0..text.len(), &mut rest, &mut out);
        out
    }
}

/// Writes the text of a range with the edits that lie in it, which it takes from `edits`.
fn render_range(text: &str, range: Range<usize>, edits: &mut &[Edit], out: &mut String) {
    let mut done = range.start;
    while let Some((edit, rest)) = edits.split_first() {
        let at = edit.at().clone();
        if at.start >= range.end || at.end > range.end {
            break;
        }
        *edits = rest;
        out.push_str(&text[done..at.start]);
        done = at.end;
        match edit {
            Edit::Around { before, after, .. } => {
                out.push_str(before);
                if !at.is_empty() {
                    render_range(text, at, edits, out);
                }
                out.push_str(after);
            }
            Edit::Choice { alternatives, .. } => {
                let numbers = alternatives.iter().map(|(number, _)| *number);
                let chosen = format!("{CHOSEN}({})", place_of(alternatives));
                out.push_str(&format!("(match {} {{\n", place(numbers, &chosen)));
                for (number, changed) in alternatives {
                    out.push_str(&format!("{number} =>\n{},\n", own(*number, &format!("({changed}\n)"))));
                }
                out.push_str("_ =>\n(");
                render_range(text, at, edits, out);
                out.push_str(")\n})");
            }
        }
    }
    out.push_str(&text[done..range.end]);
}

fn place_of(alternatives: &Alternatives) -> Number {
    alternatives.first().map_or(0, |(number, _)| *number)
}

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn innermost<'range>(
    ranges: impl Iterator<Item = &'range Range<usize>>,
    inner: &Range<usize>,
) -> Option<&'range Range<usize>> {
    ranges.filter(|range| contains(range, inner)).min_by_key(|range| range.len())
}

// Marks in the rendered text: which bytes are whose. They are taken out again.
const OPEN: char = '\u{e000}';
const SAYS: char = '\u{e001}';
const CLOSE: char = '\u{e002}';

/// A mutant's own text.
fn own(number: Number, text: &str) -> String {
    format!("{OPEN}u{number}{SAYS}{text}{CLOSE}")
}

/// The text by which one of these is chosen.
fn place(numbers: impl Iterator<Item = Number>, text: &str) -> String {
    let (before, after) = place_marks(numbers);
    format!("{before}{text}{after}")
}

fn place_marks(numbers: impl Iterator<Item = Number>) -> (String, String) {
    let numbers: Vec<_> = numbers.map(|number| number.to_string()).collect();
    (format!("{OPEN}s{}{SAYS}", numbers.join(",")), CLOSE.to_string())
}

fn take_marks(marked: &str) -> (String, Vec<(Range<usize>, Blame)>) {
    let mut text = String::with_capacity(marked.len());
    let mut regions = Vec::new();
    let mut open: Vec<(usize, Blame)> = Vec::new();
    let mut rest = marked;
    while let Some(at) = rest.find([OPEN, CLOSE]) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix(OPEN) {
            let (label, after) = after.split_once(SAYS).unwrap_or((after, ""));
            let (kind, numbers) = label.split_at(1);
            let numbers: BTreeSet<Number> =
                numbers.split(',').filter_map(|number| number.parse().ok()).collect();
            let numbers = numbers.into_iter().collect();
            let blame = if kind == "u" { Blame::Unviable(numbers) } else { Blame::Unswitchable(numbers) };
            open.push((text.len(), blame));
            rest = after;
        } else {
            if let Some((start, blame)) = open.pop() {
                regions.push((start..text.len(), blame));
            }
            rest = &rest[CLOSE.len_utf8()..];
        }
    }
    text.push_str(rest);
    (text, regions)
}
