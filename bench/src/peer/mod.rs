//! `colo` beside QEMU's colo-compare: the same load on both, in turns, on the same core, and tables of both columns.

pub mod command;
pub mod plan;
pub mod table;
