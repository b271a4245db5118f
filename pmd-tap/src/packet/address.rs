//! `packet:IFACE[,promisc][,queues=N][,fanout=hash|queue][,ring=MIB][,vnet[=BYTES]]`: what an `AF_PACKET` port is made from,
//! as people write it.

use std::fmt;
use std::str::FromStr;

use crate::interface::InterfaceName;
use crate::interface::header::{parse_header, write_header};
use crate::interface::options::{Written, number, split};
use crate::sys::packet::Fanout;
use crate::{PortError, VirtioHeader};

/// Sockets of a port, at most.
const MOST_QUEUES: usize = 16;
/// MiB of ring for each socket, unless told otherwise: 50,000 tiny frames, or 120 super-frames.
const DEFAULT_RING: usize = 8;
const MOST_RING: usize = 1_024;

const USAGE: &str = "packet:IFACE[,promisc][,queues=N][,fanout=hash|queue][,ring=MIB][,vnet[=10|12]]";

/// What a [`PacketPort`](crate::PacketPort) is made from. Parses from and displays as
/// `packet:IFACE[,promisc][,queues=N][,fanout=hash|queue][,ring=MIB][,vnet[=10|12]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PacketSettings {
    /// The interface.
    pub name: InterfaceName,
    /// Whose frames are received.
    pub reach: Reach,
    /// Sockets, each with a ring: 1 to 16. Several share out the interface's frames.
    pub queues: usize,
    /// How they do.
    pub sharing: Sharing,
    /// MiB of ring for each socket.
    pub ring_mib: usize,
    /// The header in front of every frame. With one, the kernel may leave checksums open and hand over super-frames.
    pub header: VirtioHeader,
}

/// Whose frames are received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Those for the interface's own address, and for groups it is in.
    #[default]
    Own,
    /// All.
    Promiscuous,
}

/// How several sockets share out the interface's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// By the kernel's hash of the flow.
    #[default]
    Hash,
    /// By the card's receive queue.
    Queue,
}

impl Sharing {
    pub(super) fn fanout(self) -> Fanout {
        match self {
            Self::Hash => Fanout::Hash,
            Self::Queue => Fanout::Queue,
        }
    }
}

impl PacketSettings {
    /// A port on that interface with everything else as it is without options.
    pub fn new(name: InterfaceName) -> Self {
        Self {
            name,
            reach: Reach::Own,
            queues: 1,
            sharing: Sharing::Hash,
            ring_mib: DEFAULT_RING,
            header: VirtioHeader::NONE,
        }
    }
}

impl FromStr for PacketSettings {
    type Err = PortError;

    fn from_str(address: &str) -> Result<Self, PortError> {
        let refused = |problem| PortError::Address { address: address.to_owned(), problem, usage: USAGE };
        parse(address).map_err(refused)
    }
}

fn parse(address: &str) -> Result<PacketSettings, String> {
    let rest = address.strip_prefix("packet:").ok_or("it does not begin with packet:")?;
    let (name, options) = split(rest)?;
    let mut settings = PacketSettings::new(name.parse()?);
    for &Written { text: option, key, value } in &options {
        match (key, value) {
            ("promisc", None) => settings.reach = Reach::Promiscuous,
            ("queues", Some(text)) => settings.queues = number(key, text, MOST_QUEUES)?,
            ("ring", Some(text)) => settings.ring_mib = number(key, text, MOST_RING)?,
            ("fanout", Some("hash")) => settings.sharing = Sharing::Hash,
            ("fanout", Some("queue")) => settings.sharing = Sharing::Queue,
            ("vnet", bytes) => settings.header = parse_header(bytes)?,
            _ => {
                return Err(format!(
                    "{option:?} is no option (there are \"promisc\", \"queues=N\", \"fanout=hash\" or \"fanout=queue\", \
                     \"ring=MIB\" and \"vnet\")"
                ));
            }
        }
    }
    if options.iter().any(|option| option.key == "fanout") && settings.queues == 1 {
        return Err(
            "fanout shares frames out among several queues, and there is one; add queues=N".to_owned()
        );
    }
    Ok(settings)
}

impl fmt::Display for PacketSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packet:{}", self.name)?;
        if self.reach == Reach::Promiscuous {
            f.write_str(",promisc")?;
        }
        if self.queues > 1 {
            write!(f, ",queues={}", self.queues)?;
            if self.sharing == Sharing::Queue {
                f.write_str(",fanout=queue")?;
            }
        }
        if self.ring_mib != DEFAULT_RING {
            write!(f, ",ring={}", self.ring_mib)?;
        }
        write_header(f, self.header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for address in [
            "packet:eth0",
            "packet:eth0,promisc,vnet",
            "packet:e,queues=4",
            "packet:e,promisc,queues=4,fanout=queue,ring=64,vnet=10",
        ] {
            let settings: PacketSettings = address.parse().unwrap();
            assert_eq!(settings.to_string(), address);
        }
        let settings: PacketSettings = "packet:a,fanout=hash,queues=2,ring=8".parse().unwrap();
        assert_eq!(settings.to_string(), "packet:a,queues=2");
    }

    #[test]
    fn refusals_say_what_is_wrong_and_what_is_right() {
        for (address, problem) in [
            ("packet:", "the interface's name is missing"),
            ("packet:e,queues=0", "queues=0 is no number from 1 to 16"),
            ("packet:e,ring=x", "ring=x is no number from 1 to 1024"),
            ("packet:e,fanout=queue", "there is one; add queues=N"),
            ("packet:e,fanout=rr", "\"fanout=rr\" is no option"),
            ("packet:e,promisc=1", "\"promisc=1\" is no option"),
            ("packet:e,promisc,promisc", "\"promisc\" is there twice"),
            ("packet:e,vnet=11", "vnet=11 is no length of a header here"),
        ] {
            let sentence = address.parse::<PacketSettings>().unwrap_err().to_string();
            assert!(sentence.contains(problem), "{sentence}");
            assert!(sentence.contains("; write packet:IFACE"), "{sentence}");
        }
    }
}
