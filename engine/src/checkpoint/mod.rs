//! Checkpoints: when one is asked for, who takes it, and what becomes of the request.

mod backend;
mod exec;
mod lifecycle;
mod none;
mod notify;
mod qmp;

pub use backend::{Backend, BackendEvent, BackendLink, ExitReason, FailOver};
pub use exec::ExecBackend;
pub use lifecycle::{Lifecycle, LifecycleSettings, Request};
pub use none::NoBackend;
pub use notify::{NotifyBackend, NotifyError};
pub use qmp::QmpBackend;
