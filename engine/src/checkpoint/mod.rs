//! Checkpoints: when one is asked for, and what becomes of the request.

mod lifecycle;

pub use lifecycle::{Lifecycle, LifecycleSettings, Request};
