//! Benchmarks of the data plane: what a pair costs when nothing but memory is around the shard, and what a whole
//! comparer costs between its sockets ([`load`], [`peer`], [`report`]).
//!
//! A *pair* is one frame of the primary and its twin of the secondary, compared and released. Frames are filled outside
//! of what is measured; see `bench/README.md` for the commands.
#![forbid(unsafe_code)]

pub mod cpu_time;
pub mod frames;
pub mod load;
pub mod parts;
pub mod peer;
pub mod report;
pub mod rig;
pub mod scenario;
