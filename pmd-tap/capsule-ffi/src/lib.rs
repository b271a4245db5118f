//! What `capsule` 0.1.5 calls of DPDK, bound by hand to the DPDK 22.11 that Debian 12 has. It takes the place of the
//! published `capsule-ffi`, which generates its binding from DPDK 19.11.
//!
//! It is not a binding of DPDK: it has what `capsule` names without its feature `pcap-dump`, and a few calls more for the
//! hot path of pmd-tap's own port. Structures that DPDK reads on the way of a frame have its layout, checked when the shim
//! is compiled; the others are small ones of our own, which the shim translates.

#![cfg(target_os = "linux")]

mod sys;

pub use sys::*;
