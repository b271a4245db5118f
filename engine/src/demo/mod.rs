//! The embedded world of `colo demo`: two guests with real TCP/IP stacks that serve the same requests, and a
//! client that checks every byte. Everything but the engine, which sits between the guests' output and the client:
//!
//! ```text
//!  client ──┬─► primary ───► [primary_out]  ─► engine ─► [client_in] ─► client
//!           └─► secondary ─► [secondary_out] ─►
//! ```
//!
//! It is not a simulator: it runs in real time, in one thread. [`World::spawn`] starts it.

mod address;
mod app;
mod backend;
mod client;
mod codec;
mod content;
mod due;
mod event_loop;
mod flow;
mod guest;
mod pacer;
mod random;
mod side;
mod stack;
mod totals;
mod world;

#[cfg(test)]
mod tests;

pub use backend::WorldBackend;
pub use totals::{WorldProgress, WorldReport};
pub use world::{
    CheckpointReport, Checkpointer, Paused, World, WorldEnded, WorldHandle, WorldLinks, WorldSettings,
};
