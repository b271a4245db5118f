//! Runs that were saved become tables in a document and drawings beside it. Measures nothing.

pub mod command;
pub mod drawing;
