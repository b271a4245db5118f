//! What the tests share: how to find and run `colo`, and the case builder of the comparison catalogue.
#![forbid(unsafe_code)]

pub mod binary;
pub mod case;
