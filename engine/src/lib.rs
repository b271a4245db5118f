//! The COLO proxy engine.
#![forbid(unsafe_code)]
