//! The COLO proxy engine.
//!
//! Two VMs run side by side on the same input; this crate compares what they send and lets a frame of the primary
//! leave only when the secondary could take over right after it without any client noticing. `docs/ARCHITECTURE.md`
//! has the walk of a frame through these modules.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod cli;
pub mod compare;
pub mod config;
pub mod ctl;
pub mod demo;
pub mod digests;
pub mod diverged;
pub mod explain;
pub mod flow;
pub mod fragments;
pub mod held;
pub mod metrics;
pub mod modes;
pub mod policy;
mod reason;
mod release;
pub mod replay;
pub mod ring;
pub mod runtime;
pub mod rx;
pub mod shard;
pub mod side;
pub mod spans;
pub mod stats;
pub mod summary;
pub mod table;
pub mod timer;
pub mod top;
pub mod tx;
pub mod verdict;
pub mod virtual_time;
pub mod wire;
mod wiring;
pub mod witness;
