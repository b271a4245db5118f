//! Ports opened from their addresses, and whether they go together. What a port cannot do at its start is a mistake in its
//! address: a path that is taken, a host nobody knows, a right that is missing.

use pmd_tap::{
    ChardevPort, ChardevSettings, PacketPort, Port, PortError, ReplayPort, TapPort, open_dpdk, start_dpdk,
};

use super::UsageError;
use crate::config::{PairSettings, PortAddress, Ports};
use crate::runtime::EnginePorts;

/// What ports need before the first is opened: DPDK starts once, with the devices of all pairs.
pub(super) fn start(pairs: &[PairSettings]) -> Result<(), UsageError> {
    let ports =
        pairs.iter().flat_map(|pair| [&pair.ports.primary_in, &pair.ports.secondary_in, &pair.ports.out]);
    let devices: Vec<_> = ports
        .filter_map(|port| if let PortAddress::Dpdk(device) = port { Some(device.clone()) } else { None })
        .collect();
    start_dpdk(&devices).map_err(sentence)
}

/// A pair's ports.
pub(super) fn open(addresses: &Ports) -> Result<EnginePorts, UsageError> {
    let ports = EnginePorts {
        primary: input(&addresses.primary_in)?,
        secondary: input(&addresses.secondary_in)?,
        out: output(&addresses.out)?,
    };
    check_headers(&ports, addresses)?;
    check_mtu(&ports, addresses)?;
    Ok(ports)
}

fn input(address: &PortAddress) -> Result<Box<dyn Port>, UsageError> {
    match address {
        PortAddress::Pcap(path) => Ok(Box::new(ReplayPort::input(path).map_err(sentence)?)),
        other => both_ways(other),
    }
}

fn output(address: &PortAddress) -> Result<Box<dyn Port>, UsageError> {
    match address {
        PortAddress::Pcap(path) => Ok(Box::new(ReplayPort::output(path).map_err(sentence)?)),
        other => both_ways(other),
    }
}

/// A port that does not mind which way it is used.
fn both_ways(address: &PortAddress) -> Result<Box<dyn Port>, UsageError> {
    Ok(match address {
        PortAddress::Chardev(text) => {
            let settings: ChardevSettings = text.parse().map_err(|error: PortError| sentence(error))?;
            Box::new(ChardevPort::new(&settings).map_err(sentence)?)
        }
        PortAddress::Tap(settings) => Box::new(TapPort::new(settings).map_err(sentence)?),
        PortAddress::Packet(settings) => Box::new(PacketPort::new(settings).map_err(sentence)?),
        PortAddress::Dpdk(device) => open_dpdk(device).map_err(sentence)?,
        PortAddress::Pcap(path) => Box::new(ReplayPort::input(path).map_err(sentence)?),
    })
}

fn sentence(error: impl std::fmt::Display) -> UsageError {
    UsageError(error.to_string())
}

/// Refuses to let virtio-net headers out where nobody expects them: they would stand in front of every frame, or what they
/// ask for (a checksum to be completed, a super-frame to be cut) would not be done.
fn check_headers(ports: &EnginePorts, addresses: &Ports) -> Result<(), UsageError> {
    let to_capture = matches!(addresses.out, PortAddress::Pcap(_));
    if !to_capture && ports.primary.caps().virtio_header && !ports.out.caps().virtio_header {
        return Err(UsageError(format!(
            "--primary-in {} carries virtio-net headers, but --out {} does not; write ,vnet behind both or neither",
            addresses.primary_in, addresses.out
        )));
    }
    Ok(())
}

/// Refuses an output whose frames are shorter than the input's.
fn check_mtu(ports: &EnginePorts, addresses: &Ports) -> Result<(), UsageError> {
    if let (Some(comes), Some(goes)) = (ports.primary.caps().mtu, ports.out.caps().mtu)
        && goes < comes
    {
        return Err(UsageError(format!(
            "--primary-in {} has an MTU of {comes} bytes, but --out {} one of {goes}, so that longer frames could not leave; \
             make them equal: ip link set DEVICE mtu {comes}",
            addresses.primary_in, addresses.out
        )));
    }
    Ok(())
}
