//! The protocols between threads under model checkers: every order of a few steps, or very many of more steps. Each
//! model has variants with a planted fault that the checker must find, so that it is known to look.
//!
//! `engine/src/runtime/{wake,epochs}.rs` are compiled here as they are, against the checker's atomics. What stands
//! around them is a model; each file says what it stands for. Decision 0019 says why so.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
#![expect(clippy::duplicate_mod, reason = "each checker has its own copy of the engine's files")]

mod boundary;
mod engine;
mod pool;
mod wake;

/// For `runtime/epochs.rs`, which names it so.
use colo_engine::side;
