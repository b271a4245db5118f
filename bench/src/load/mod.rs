//! Load for any comparer that speaks QEMU's chardev framing, and the books of what came back.
//!
//! One thread, three sockets and a notifier: both sides' frames are written from buffers that hold them already
//! ([`lane`]), the output is read in large pieces and every frame of it is checked against what was sent ([`books`]).
//! Knows nothing of how a comparer decides; [`engine`] starts one, the rest only sees sockets.

pub mod books;
pub mod command;
pub mod cpu;
pub mod driver;
pub mod echo;
pub mod engine;
pub mod gate;
pub mod idle;
pub mod lane;
pub mod mould;
pub mod notify;
pub mod order;
pub mod outcome;
pub mod progress;
pub mod random;
pub mod shape;
pub mod socket;
