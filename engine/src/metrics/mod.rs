//! Metrics: a [`Snapshot`] of plain numbers, its two renderings, and the small server that shows them.
//!
//! The data plane knows nothing of this module. Whoever owns the cores' counter blocks sums them into a snapshot when
//! the server asks for one; `/metrics` shows it for Prometheus, `/status` as JSON with exact percentiles.

#[cfg(test)]
mod document;
mod family;
mod http;
mod ports;
mod render;
mod server;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;

pub use ports::LostFrames;
pub use render::{COMMIT, VERSION, render};
pub use server::{MetricsError, MetricsServer, Source};
pub use snapshot::{
    Checkpoints, ClassFrames, CoreSnapshot, DifferingFlow, Diverged, Dropped, FlowsSnapshot, HeldFlow,
    LONGEST_NS, Link, LinkState, ModesSnapshot, PairSnapshot, Polls, PoolSnapshot, ReleaseLatency, Released,
    Reloads, Requested, RingSnapshot, RulesSnapshot, SideSnapshot, Snapshot, Verdicts, VerdictsByProtocol,
    empty_histogram,
};
pub use status::{percentiles_json, status_json};
