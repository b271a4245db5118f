//! `dpdk:NAME[,args]` as a port: any virtual device or PCI device that the installed DPDK has a driver for.
//!
//! DPDK is one for a process, and its devices are named when it starts: [`start_dpdk`] is told all of them, once, and
//! [`open_dpdk`] then gives each out as a [`Port`](crate::Port). What starts, configures and closes them is `capsule`
//! ([`eal`]); frames go the short way, burst by burst, without it ([`port`]). Without the feature `dpdk` this module knows
//! addresses, and a sentence about the feature.

mod address;

#[cfg(feature = "dpdk")]
mod eal;
#[cfg(feature = "dpdk")]
mod memory;
#[cfg(feature = "dpdk")]
mod port;
#[cfg(feature = "dpdk")]
#[allow(unsafe_code)]
mod sys;

#[cfg(not(feature = "dpdk"))]
mod absent;
#[cfg(not(feature = "dpdk"))]
use absent as eal;

use crate::PortError;

pub use address::{DpdkAddress, DpdkAddressError};
pub use eal::{open_dpdk, start_dpdk};

/// Why there is no port on a device.
fn refusal(address: &DpdkAddress, problem: String) -> PortError {
    PortError::Os {
        action: "open",
        address: address.to_string(),
        source: std::io::Error::other(problem),
        hint: String::new(),
    }
}
