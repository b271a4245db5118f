//! A whole engine on its threads, between socket pairs and with checkpoints told by the test: epochs, the end, bounds.
#![forbid(unsafe_code)]

mod abandoned;
mod alive;
mod bounds;
mod ending;
mod epochs;
mod fragments;
mod modes;
mod rig;
mod rules;
