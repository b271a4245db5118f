//! Benchmarks of the data plane.
#![forbid(unsafe_code)]
