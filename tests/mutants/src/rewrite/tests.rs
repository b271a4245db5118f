//! What is put into a text for each kind of mutant. Whether it compiles is the compiler's to say, in each run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use super::*;
use crate::list::{Place, Span};

/// The mutant that replaces `what`, where `marker` stands once in the text and `what` comes in it.
fn mutant(text: &str, genre: Genre, marker: &str, what: &str, replacement: &str) -> Mutant {
    assert_eq!(text.matches(marker).count(), 1, "{marker}");
    let start = text.find(marker).unwrap() + marker.find(what).unwrap();
    let place = |at: usize| {
        let line = text[..at].matches('\n').count() + 1;
        let column = text[..at].rsplit('\n').next().unwrap().chars().count() + 1;
        Place { line, column }
    };
    let span = Span { start: place(start), end: place(start + what.len()) };
    Mutant { file: "a.rs".into(), name: what.into(), genre, span, replacement: replacement.into() }
}

/// The text with the mutants numbered from 1, with single blanks and a short word for the choice.
fn put_in(text: &str, mutants: &[Mutant]) -> String {
    let numbered: Vec<_> = (1..).zip(mutants).collect();
    let rewritten = rewrite(text, &numbered).unwrap();
    assert!(rewritten.left_out.is_empty(), "{:?}", rewritten.left_out);
    assert!(syn::parse_file(&rewritten.text).is_ok(), "{}", rewritten.text);
    let words: Vec<_> = rewritten.text.split_whitespace().collect();
    words.join(" ").replace(CHOSEN, "n").replace("crate::mutant_switch::", "")
}

#[test]
fn an_operator_is_changed_as_text_in_its_whole_chain() {
    let text = "fn f() { x(a && b == 1 && c); }";
    let mutants = [
        mutant(text, Genre::BinaryOperator, "a && b", "&&", "||"),
        mutant(text, Genre::BinaryOperator, "==", "==", "!="),
    ];
    assert_eq!(
        put_in(text, &mutants),
        "fn f() { x((match n(1) { 1 => (a || b == 1 && c ), 2 => (a && b != 1 && c ), _ => (a && b == 1 && c) })); }"
    );
}

#[test]
fn mutants_of_one_expression_are_chosen_at_one_place() {
    let text = "fn f() { a && b == 1 }";
    let (first, second) = (
        mutant(text, Genre::BinaryOperator, "&&", "&&", "||"),
        mutant(text, Genre::BinaryOperator, "==", "==", "!="),
    );
    assert_eq!(rewrite(text, &[(4, &first), (5, &second)]).unwrap().places, [(4, 4), (5, 4)]);
}

#[test]
fn inner_changes_stand_in_the_unchanged_copy_only() {
    let text = "fn f() { g(a < (b + 1)) }";
    let mutants = [
        mutant(text, Genre::BinaryOperator, "<", "<", ">"),
        mutant(text, Genre::BinaryOperator, "+", "+", "-"),
    ];
    assert_eq!(
        put_in(text, &mutants),
        "fn f() { g((match n(1) { 1 => (a > (b + 1) ), _ => (a < ((match n(2) { 2 => (b - 1 ), _ => (b + 1) }))) })) }"
    );
}

#[test]
fn an_operator_is_deleted_and_columns_count_characters() {
    let text = "fn f() { let é = \"ü\"; g(!a) }";
    let mutants = [mutant(text, Genre::UnaryOperator, "!", "!", "")];
    assert_eq!(put_in(text, &mutants), "fn f() { let é = \"ü\"; g((match n(1) { 1 => (a ), _ => (!a) })) }");
}

#[test]
fn chains_with_let_keep_their_let() {
    let text = "fn f() { if let Some(a) = b && a == c {} }";
    let mutants = [mutant(text, Genre::BinaryOperator, "==", "==", "!=")];
    assert_eq!(
        put_in(text, &mutants),
        "fn f() { if let Some(a) = b && (match n(1) { 1 => (a != c ), _ => (a == c) }) {} }"
    );
    let whole = mutant(text, Genre::BinaryOperator, "&&", "&&", "||");
    assert_eq!(rewrite(text, &[(1, &whole)]).unwrap().left_out, [1]);
}

#[test]
fn arms_are_deleted_and_guards_replaced_at_once() {
    let text = "fn f() { match a { 1 if b => 2, 3 => 4, _ => 5 } }";
    let mutants = [
        mutant(text, Genre::MatchArm, "1 if b => 2,", "1 if b => 2,", ""),
        mutant(text, Genre::MatchArmGuard, "if b", "b", "true"),
        mutant(text, Genre::MatchArm, "3 => 4,", "3 => 4,", ""),
    ];
    assert_eq!(
        put_in(text, &mutants),
        "fn f() { match a { 1 if n(1) != 1 && ((match n(2) { 2 => (true ), _ => (b) })) => 2, 3 if n(3) != 3 => 4, _ => 5 } }"
    );
}

#[test]
fn a_body_gives_another_value_and_its_own_mutants_stay() {
    let text = "impl A { fn f(&self) -> bool { self.a || self.b } }";
    let mutants = [
        mutant(text, Genre::FnValue, "self.a || self.b", "self.a || self.b", "true"),
        mutant(text, Genre::BinaryOperator, "||", "||", "&&"),
    ];
    assert_eq!(
        put_in(text, &mutants),
        "impl A { fn f(&self) -> bool { if n(1) == 1 { return true; } \
         (match n(2) { 2 => (self.a && self.b ), _ => (self.a || self.b) }) } }"
    );
}

#[test]
fn iterators_of_other_types_are_one_type() {
    let text = "fn f() -> impl Iterator<Item = u8> { a.iter() }";
    let body = |value| mutant(text, Genre::FnValue, "a.iter()", "a.iter()", value);
    assert_eq!(
        put_in(text, &[body("empty()"), body("once(1)")]),
        "fn f() -> impl Iterator<Item = u8> { match n(1) { 1 => Either::This(empty()), \
         2 => Either::Other(Either::This(once(1))), _ => Either::Other(Either::Other({ a.iter() })) } }"
    );
}

#[test]
fn a_field_is_left_to_the_base() {
    let text = "fn f() -> A { A { a: 1, ..b } }";
    let mutants = [mutant(text, Genre::StructField, "a: 1,", "a: 1,", "")];
    assert_eq!(
        put_in(text, &mutants),
        "fn f() -> A { (match n(1) { 1 => (A { ..b } ), _ => (A { a: 1, ..b }) }) }"
    );
}

#[test]
fn the_compilers_complaints_find_their_mutants() {
    let text = "fn f() { a == b }";
    let change = mutant(text, Genre::BinaryOperator, "==", "==", "!=");
    let rewritten = rewrite(text, &[(7, &change)]).unwrap();
    let at = |what: &str| rewritten.text.find(what).map(|at| at..at + what.len()).unwrap();
    let blame = |what: &str| rewritten.blame(&at(what)).cloned().collect::<Vec<_>>();
    assert_eq!(blame("a != b"), [Blame::Unviable(vec![7])]);
    assert_eq!(blame("mutant_switch"), [Blame::Unswitchable(vec![7])]);
    assert_eq!(blame("a == b"), []);
}

#[test]
fn a_match_that_is_not_exhaustive_finds_the_arms() {
    let text = "fn f() { match a { 1 => 2, 3 => 4, _ if b => 5 } }";
    let arm = |what| mutant(text, Genre::MatchArm, what, what, "");
    let (one, three) = (arm("1 => 2,"), arm("3 => 4,"));
    let rewritten = rewrite(text, &[(1, &one), (2, &three)]).unwrap();
    let at = rewritten.text.find("a {").unwrap();
    let blame: Vec<_> = rewritten.blame(&(at..at + 1)).cloned().collect();
    assert_eq!(blame, [Blame::Unswitchable(vec![2]), Blame::Unswitchable(vec![1])]);
}
