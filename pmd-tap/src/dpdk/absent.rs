//! What stands in for DPDK in a build without it: a sentence.

use super::DpdkAddress;
use crate::{Port, PortError};

/// Nothing to start, unless there is an address.
///
/// # Errors
/// [`PortError::Os`], which says how to build with the feature, for any address.
pub fn start_dpdk(addresses: &[DpdkAddress]) -> Result<(), PortError> {
    addresses.first().map_or(Ok(()), |address| Err(absent(address)))
}

/// No port.
///
/// # Errors
/// [`PortError::Os`], which says how to build with the feature.
pub fn open_dpdk(address: &DpdkAddress) -> Result<Box<dyn Port>, PortError> {
    Err(absent(address))
}

fn absent(address: &DpdkAddress) -> PortError {
    let problem = "this colo is built without DPDK; install libdpdk-dev, pkg-config and gcc, and build it with \
                   `cargo build --features dpdk`";
    super::refusal(address, problem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_an_address_says_how_to_get_it() {
        start_dpdk(&[]).unwrap();
        let address: DpdkAddress = "net_tap0,iface=x".parse().unwrap();
        let error = start_dpdk(std::slice::from_ref(&address)).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot open dpdk:net_tap0,iface=x: this colo is built without DPDK"),
            "{error}"
        );
        assert!(error.contains("--features dpdk"), "{error}");
        assert_eq!(open_dpdk(&address).err().unwrap().to_string(), error);
    }
}
