//! What may stand behind `dpdk:`. Syntax only: whether there is such a driver, DPDK says when it starts.

use std::fmt;
use std::str::FromStr;

/// Longest name of a device, bytes: DPDK's `RTE_DEV_NAME_MAX_LEN` without its final zero.
const NAME_BYTES: usize = 63;
/// More queues than any device here is for.
const MAX_QUEUES: u16 = 64;

/// A device and its arguments: `net_tap0,iface=x`, `net_vhost0,iface=/run/colo.sock,queues=2`, `0000:af:00.0,queues=4`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DpdkAddress {
    device: String,
    args: String,
    queues: u16,
    is_pci: bool,
}

/// Why something is no device: the end of a sentence that starts with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DpdkAddressError {
    /// names no device
    #[error(
        "names no device; write dpdk:net_tap0,iface=NAME or another of DPDK's, or a PCI address as in dpdk:0000:af:00.0"
    )]
    Device,
    /// has a number of queues that is none
    #[error("has \"{0}\" for its queues, which is not a number from 1 to {MAX_QUEUES}")]
    Queues(String),
    /// gives a PCI device an argument
    #[error("gives a PCI device the argument \"{0}\"; only queues=N can follow its address")]
    Argument(String),
}

impl DpdkAddress {
    /// The device as DPDK names it.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What DPDK's driver is told, without what is ours.
    #[cfg_attr(not(feature = "dpdk"), allow(dead_code))]
    pub(super) fn driver_args(&self) -> Option<&str> {
        (!self.args.is_empty()).then_some(self.args.as_str())
    }

    /// Queues each way.
    pub fn queues(&self) -> u16 {
        self.queues
    }

    /// Whether it is a device of the PCI bus.
    pub fn is_pci(&self) -> bool {
        self.is_pci
    }
}

impl FromStr for DpdkAddress {
    type Err = DpdkAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (device, args) = text.split_once(',').unwrap_or((text, ""));
        let pci = full_pci_address(device);
        let is_pci = pci.is_some();
        let device = pci.unwrap_or_else(|| device.to_owned());
        if !is_pci && !is_virtual(&device) {
            return Err(DpdkAddressError::Device);
        }
        let mut queues = 1;
        let mut kept = Vec::new();
        for arg in args.split(',').filter(|arg| !arg.is_empty()) {
            let count = arg.strip_prefix("queues=").or_else(|| arg.strip_prefix("qpairs="));
            if let Some(count) = count {
                queues = match count.parse() {
                    Ok(number @ 1..=MAX_QUEUES) => number,
                    _ => return Err(DpdkAddressError::Queues(count.to_owned())),
                };
            }
            match count {
                // These take as many queues as they are configured with, and know no argument for it.
                Some(_) if is_pci || device.starts_with("net_tap") => {}
                None if is_pci => return Err(DpdkAddressError::Argument(arg.to_owned())),
                _ => kept.push(arg),
            }
        }
        Ok(Self { device, args: kept.join(","), queues, is_pci })
    }
}

impl fmt::Display for DpdkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dpdk:{}", self.device)?;
        if !self.args.is_empty() {
            write!(f, ",{}", self.args)?;
        }
        if self.queues > 1 && !self.args.contains("queues=") && !self.args.contains("qpairs=") {
            write!(f, ",queues={}", self.queues)?;
        }
        Ok(())
    }
}

/// DPDK's virtual devices begin with their driver's name: `net_`, or `eth_` as of old.
fn is_virtual(name: &str) -> bool {
    let rest = name.strip_prefix("net_").or_else(|| name.strip_prefix("eth_"));
    name.len() <= NAME_BYTES
        && rest.is_some_and(|rest| !rest.is_empty())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `af:00.0` or `0000:af:00.0`, with its domain.
fn full_pci_address(text: &str) -> Option<String> {
    let (slot, function) = text.split_once('.')?;
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (domain, bus, device) = match slot.split(':').collect::<Vec<_>>()[..] {
        [bus, device] => ("0000", bus, device),
        [domain, bus, device] => (domain, bus, device),
        _ => return None,
    };
    let fits =
        hex(domain, 4) && hex(bus, 2) && hex(device, 2) && matches!(function.as_bytes(), [b'0'..=b'7']);
    fits.then(|| format!("{domain}:{bus}:{device}.{function}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DpdkAddress {
        text.parse().unwrap_or_else(|error| panic!("{text} {error}"))
    }

    #[test]
    fn virtual_devices_keep_their_arguments() {
        let tap = parse("net_tap0,iface=x,queues=2");
        assert_eq!((tap.device(), tap.driver_args(), tap.queues()), ("net_tap0", Some("iface=x"), 2));
        let vhost = parse("net_vhost0,iface=/run/a.sock,queues=4");
        assert_eq!((vhost.driver_args(), vhost.queues()), (Some("iface=/run/a.sock,queues=4"), 4));
        let packet = parse("net_af_packet0,iface=s0,qpairs=2");
        assert_eq!((packet.driver_args(), packet.queues()), (Some("iface=s0,qpairs=2"), 2));
        let null = parse("net_null0");
        assert_eq!((null.driver_args(), null.queues(), null.is_pci()), (None, 1, false));
        for text in [
            "net_tap0,iface=x,queues=2",
            "net_vhost0,iface=/a,queues=4",
            "net_null0",
            "0000:af:00.0,queues=3",
        ] {
            assert_eq!(parse(text).to_string(), format!("dpdk:{text}"));
        }
    }

    #[test]
    fn pci_addresses_are_completed_and_take_queues_only() {
        let nic = parse("AF:00.1,queues=3");
        assert_eq!((nic.device(), nic.driver_args(), nic.queues()), ("0000:af:00.1", None, 3));
        assert!(nic.is_pci());
        let refused = "af:00.1,speed=9".parse::<DpdkAddress>();
        assert_eq!(refused, Err(DpdkAddressError::Argument("speed=9".to_owned())));
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for text in
            ["", ",iface=x", "net_", "tap0", "net_tap 0", "net_tap0;x", "af:00.8", "1:2:3:4.0", "xaf:00.0"]
        {
            assert_eq!(text.parse::<DpdkAddress>(), Err(DpdkAddressError::Device), "{text:?}");
        }
        let long = format!("net_{}", "x".repeat(60));
        assert_eq!(long.parse::<DpdkAddress>(), Err(DpdkAddressError::Device));
        for queues in ["0", "65", "x", ""] {
            let refused = format!("net_tap0,queues={queues}").parse::<DpdkAddress>();
            assert_eq!(refused, Err(DpdkAddressError::Queues(queues.to_owned())));
        }
    }
}
