//! The COLO proxy engine.
//!
//! Two VMs run side by side on the same input; this crate compares what they send and lets a frame of the primary
//! leave only when the secondary could take over right after it without any client noticing. `docs/ARCHITECTURE.md`
//! has the walk of a frame through these modules.
#![forbid(unsafe_code)]

pub mod flow;
pub mod side;
pub mod wire;
