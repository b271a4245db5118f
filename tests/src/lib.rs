//! What the tests share: the binary under test as a process, the case builder of the comparison catalogue, and the far
//! ends of everything `colo` talks to.
#![forbid(unsafe_code)]

pub mod case;
pub mod conversation;
pub mod dashboards;
pub mod document;
pub mod frame;
pub mod fuzzing;
pub mod kernels;
pub mod metrics;
pub mod netns;
pub mod pair;
pub mod peer;
pub mod process;
pub mod prometheus;
pub mod qemu_link;
pub mod recording;
pub mod replayed;
pub mod rig;
pub mod sim;
pub mod sniff;
pub mod traffic;
pub mod wait;
