//! Addresses of ports and of the checkpoint notifier: syntax only.
//!
//! Nothing is opened, resolved or looked up here; the port that gets the address does that.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use pmd_tap::{DpdkAddress, DpdkAddressError, PacketSettings, PortError, TapSettings, VirtioHeader};

/// Longest path of a unix socket that the kernel takes (`sun_path` without its final zero), bytes.
const UNIX_PATH_BYTES: usize = 107;

/// What a port address looks like, for messages.
pub(super) const PORT_SYNTAX: &str = "unix:PATH[,listen][,vnet], tcp:HOST:PORT[,listen][,vnet], \
                                      tap:NAME[,queues=N][,persist][,vnet], packet:IFACE[,promisc][,vnet], \
                                      dpdk:DEVICE[,ARGS] or pcap:FILE";
/// What a control connection's address looks like, for messages.
pub(super) const SOCKET_SYNTAX: &str = "unix:PATH[,listen] or tcp:HOST:PORT[,listen]";

/// Where frames come from or go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortAddress {
    /// QEMU socket framing: `unix:PATH[,listen][,vnet]` or `tcp:HOST:PORT[,listen][,vnet]`, checked.
    Chardev(String),
    /// A TAP device: `tap:NAME[,queues=N][,persist][,vnet[=10|12]]`.
    Tap(TapSettings),
    /// A network interface: `packet:IFACE[,promisc][,queues=N][,fanout=hash|queue][,ring=MIB][,vnet[=10|12]]`.
    Packet(PacketSettings),
    /// A device of DPDK: `dpdk:net_tap0,iface=x`, `dpdk:0000:af:00.0,queues=2`.
    Dpdk(DpdkAddress),
    /// A capture file.
    Pcap(PathBuf),
}

/// Where a control connection is, as QEMU's `notify_dev`: `unix:PATH[,listen]` or `tcp:HOST:PORT[,listen]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketAddress(String);

/// The monitors (QMP) of a QEMU pair: `ADDR[,secondary=ADDR][,rebuild=FILTER|auto|off]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QmpAddresses {
    /// The primary's, which takes checkpoints.
    pub primary: SocketAddress,
    /// The secondary's.
    pub secondary: Option<SocketAddress>,
    /// Whether the primary's filter that reads from the engine is built again when it has died.
    pub rebuild: Rebuild,
}

/// Which of QEMU's filters is built again after a restart of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rebuild {
    /// The one that reads from the engine's output, if that is certain.
    #[default]
    Auto,
    /// None.
    Off,
    /// The one with this name.
    Named(String),
}

/// Why an address is not one: the end of a sentence that starts with the address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// has no known kind in front; write {0}
    #[error("has no known kind in front; write {0}")]
    Kind(&'static str),
    /// names no path after `unix:`
    #[error("names no path after `unix:`")]
    NoPath,
    /// has a path of {0} bytes, more than the 107 a unix socket can have
    #[error("has a path of {0} bytes, more than the {UNIX_PATH_BYTES} a unix socket can have")]
    LongPath(usize),
    /// needs a host and a port, as in tcp:127.0.0.1:9001
    #[error("needs a host and a port, as in tcp:127.0.0.1:9001 or tcp:[::1]:9001")]
    HostPort,
    /// has the port "{0}", which is not a number from 1 to 65535
    #[error("has the port \"{0}\", which is not a number from 1 to 65535")]
    Port(String),
    /// has an option nobody knows
    #[error("has the option \"{option}\", but only {known} can follow the address")]
    Option {
        /// What was written.
        option: String,
        /// What could have been.
        known: &'static str,
    },
    /// names no file after `pcap:`
    #[error("names no file after `pcap:`")]
    NoFile,
    /// has a filter's name that none can have
    #[error(
        "has \"{0}\" behind rebuild=, which is neither auto, off nor a filter's name and ends the address"
    )]
    Filter(String),
    /// What the port that it names says of it.
    #[error("is no such port: {problem}; write {usage}")]
    Device {
        /// What is wrong.
        problem: String,
        /// What would be right.
        usage: &'static str,
    },
    /// is no device of DPDK
    #[error("{0}")]
    Dpdk(#[from] DpdkAddressError),
    /// contains a zero byte or a line break
    #[error("contains a control character")]
    Control,
}

impl PortAddress {
    /// The socket or file without options: equal for two addresses that mean the same thing.
    pub(super) fn endpoint(&self) -> String {
        match self {
            Self::Chardev(text) => endpoint(text),
            Self::Tap(settings) => format!("tap:{}", settings.name),
            Self::Packet(settings) => format!("packet:{}", settings.name),
            Self::Dpdk(device) => format!("dpdk:{}", device.device()),
            Self::Pcap(path) => format!("pcap:{}", path.display()),
        }
    }

    /// The same port, with virtio-net headers announced; a capture file stays as it is.
    pub(super) fn with_virtio_headers(&self) -> Self {
        match self {
            Self::Chardev(text) if text.split(',').skip(1).all(|option| option != "vnet") => {
                Self::Chardev(format!("{text},vnet"))
            }
            Self::Tap(settings) if settings.header.is_empty() => {
                Self::Tap(TapSettings { header: VirtioHeader::MERGEABLE, ..*settings })
            }
            Self::Packet(settings) if settings.header.is_empty() => {
                Self::Packet(PacketSettings { header: VirtioHeader::MERGEABLE, ..*settings })
            }
            other => other.clone(),
        }
    }
}

impl SocketAddress {
    /// The address as it was written, without what stands in front of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The socket without options.
    pub(super) fn endpoint(&self) -> String {
        endpoint(&self.0)
    }
}

/// What stands between the two addresses.
const SECONDARY: &str = ",secondary=";
/// What stands in front of the filter, behind the addresses.
const REBUILD: &str = ",rebuild=";

impl FromStr for QmpAddresses {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (addresses, rebuild) = match text.split_once(REBUILD) {
            Some((addresses, rebuild)) => (addresses, rebuild.parse()?),
            None => (text, Rebuild::Auto),
        };
        match addresses.split_once(SECONDARY) {
            Some((primary, secondary)) => {
                Ok(Self { primary: primary.parse()?, secondary: Some(secondary.parse()?), rebuild })
            }
            None => Ok(Self { primary: addresses.parse()?, secondary: None, rebuild }),
        }
    }
}

impl FromStr for Rebuild {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            name if !name.is_empty() && name.chars().all(fits) => Ok(Self::Named(name.to_owned())),
            other => Err(AddressError::Filter(other.to_owned())),
        }
    }
}

impl fmt::Display for QmpAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.primary)?;
        if let Some(secondary) = &self.secondary {
            write!(f, "{SECONDARY}{secondary}")?;
        }
        match &self.rebuild {
            Rebuild::Auto => Ok(()),
            Rebuild::Off => write!(f, "{REBUILD}off"),
            Rebuild::Named(name) => write!(f, "{REBUILD}{name}"),
        }
    }
}

impl FromStr for PortAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(file) = text.strip_prefix("pcap:") {
            no_control(file)?;
            return if file.is_empty() { Err(AddressError::NoFile) } else { Ok(Self::Pcap(file.into())) };
        }
        if text.starts_with("tap:") {
            return text.parse().map(Self::Tap).map_err(device);
        }
        if text.starts_with("packet:") {
            return text.parse().map(Self::Packet).map_err(device);
        }
        if let Some(device) = text.strip_prefix("dpdk:") {
            no_control(device)?;
            return Ok(Self::Dpdk(device.parse()?));
        }
        check_socket(text, PORT_SYNTAX, &["listen", "vnet"])?;
        Ok(Self::Chardev(text.to_owned()))
    }
}

impl FromStr for SocketAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        check_socket(text, SOCKET_SYNTAX, &["listen"])?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PortAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chardev(text) => f.write_str(text),
            Self::Tap(settings) => settings.fmt(f),
            Self::Packet(settings) => settings.fmt(f),
            Self::Dpdk(device) => device.fmt(f),
            Self::Pcap(path) => write!(f, "pcap:{}", path.display()),
        }
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn endpoint(text: &str) -> String {
    text.split(',').next().unwrap_or_default().to_owned()
}

/// What a port says of its address.
fn device(error: PortError) -> AddressError {
    match error {
        PortError::Address { problem, usage, .. } => AddressError::Device { problem, usage },
        PortError::Os { .. } => AddressError::Kind(PORT_SYNTAX),
    }
}

fn no_control(text: &str) -> Result<(), AddressError> {
    if text.chars().any(char::is_control) { Err(AddressError::Control) } else { Ok(()) }
}

fn check_socket(text: &str, syntax: &'static str, options: &[&str]) -> Result<(), AddressError> {
    no_control(text)?;
    let mut parts = text.split(',');
    let address = parts.next().unwrap_or_default();
    if let Some(path) = address.strip_prefix("unix:") {
        match path.len() {
            0 => return Err(AddressError::NoPath),
            1..=UNIX_PATH_BYTES => {}
            long => return Err(AddressError::LongPath(long)),
        }
    } else if let Some(host_port) = address.strip_prefix("tcp:") {
        check_host_port(host_port)?;
    } else {
        return Err(AddressError::Kind(syntax));
    }
    let mut seen = Vec::new();
    for option in parts {
        if !options.contains(&option) || seen.contains(&option) {
            let known = if options.contains(&"vnet") {
                "\",listen\" and \",vnet\", once each,"
            } else {
                "\",listen\""
            };
            return Err(AddressError::Option { option: option.to_owned(), known });
        }
        seen.push(option);
    }
    Ok(())
}

fn check_host_port(text: &str) -> Result<(), AddressError> {
    let (host, port) = text.rsplit_once(':').ok_or(AddressError::HostPort)?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_is_fine = match bare {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '[', ']', ' ']),
    };
    if !host_is_fine {
        return Err(AddressError::HostPort);
    }
    match port.parse::<u16>() {
        Ok(1..) if port.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        _ => Err(AddressError::Port(port.to_owned())),
    }
}
