//! What the fuzz targets check: one function a target, from any bytes to nothing or a panic. `tests/fuzz` feeds them
//! with what libFuzzer makes up, `tests/tests/fuzz_corpus.rs` with what was kept. Nothing here makes up bytes but
//! [`seeds`], where the corpora began.

mod bytes;
mod captures;
mod chardev;
mod comparer;
mod config;
mod fragments;
mod scratch;
mod seeds;
mod wire;

pub use captures::captures;
pub use chardev::chardev;
pub use comparer::comparer;
pub use config::config;
pub use fragments::fragments;
pub use seeds::seeds;
pub use wire::wire;

/// A target: its name, which is that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("captures", captures),
    ("chardev", chardev),
    ("comparer", comparer),
    ("config", config),
    ("fragments", fragments),
    ("wire", wire),
];
