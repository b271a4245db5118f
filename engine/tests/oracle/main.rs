//! The engine against a naive reference comparer, against hostile input, and through all interleavings of a few
//! segments. `PROPTEST_CASES` sets how many cases run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod agreement;
mod drive;
mod fragments;
mod generate;
mod hostile;
mod interleavings;
mod reference;
mod regressions;
mod repeatable;
mod traffic;
