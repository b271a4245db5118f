//! `tap:NAME[,queues=N][,persist][,vnet[=BYTES]]`: what a TAP port is made from, as people write it.

use std::fmt;
use std::str::FromStr;

use crate::interface::InterfaceName;
use crate::interface::header::{parse_header, write_header};
use crate::interface::options::{Written, number, split};
use crate::{PortError, VirtioHeader};

/// Queues of a port, at most.
pub(super) const MOST_QUEUES: usize = 16;

const USAGE: &str = "tap:NAME[,queues=N][,persist][,vnet[=10|12]]";

/// What a [`TapPort`](crate::TapPort) is made from. Parses from and displays as
/// `tap:NAME[,queues=N][,persist][,vnet[=10|12]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TapSettings {
    /// The device.
    pub name: InterfaceName,
    /// Queues, each with a descriptor: 1 to 16. More than one makes a multi-queue device.
    pub queues: usize,
    /// Whether a device that was made outlives the port.
    pub lifetime: Lifetime,
    /// The header in front of every frame. With one, the kernel may leave checksums open and hand over super-frames.
    pub header: VirtioHeader,
}

/// How long a device lives that the port has made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lifetime {
    /// As long as the port.
    #[default]
    Port,
    /// Until somebody deletes it.
    Persistent,
}

impl FromStr for TapSettings {
    type Err = PortError;

    fn from_str(address: &str) -> Result<Self, PortError> {
        let refused = |problem| PortError::Address { address: address.to_owned(), problem, usage: USAGE };
        parse(address).map_err(refused)
    }
}

fn parse(address: &str) -> Result<TapSettings, String> {
    let rest = address.strip_prefix("tap:").ok_or("it does not begin with tap:")?;
    let (name, options) = split(rest)?;
    let mut settings =
        TapSettings { name: name.parse()?, queues: 1, lifetime: Lifetime::Port, header: VirtioHeader::NONE };
    for Written { text: option, key, value } in options {
        match (key, value) {
            ("queues", Some(text)) => settings.queues = number(key, text, MOST_QUEUES)?,
            ("persist", None) => settings.lifetime = Lifetime::Persistent,
            ("vnet", bytes) => settings.header = parse_header(bytes)?,
            _ => {
                return Err(format!(
                    "{option:?} is no option (there are \"queues=N\", \"persist\" and \"vnet\")"
                ));
            }
        }
    }
    Ok(settings)
}

impl fmt::Display for TapSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tap:{}", self.name)?;
        if self.queues > 1 {
            write!(f, ",queues={}", self.queues)?;
        }
        if self.lifetime == Lifetime::Persistent {
            f.write_str(",persist")?;
        }
        write_header(f, self.header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for address in ["tap:tap0", "tap:t,queues=4", "tap:t,persist,vnet", "tap:t,queues=16,persist,vnet=10"]
        {
            let settings: TapSettings = address.parse().unwrap();
            assert_eq!(settings.to_string(), address);
        }
        let settings: TapSettings = "tap:a,vnet=12,queues=1".parse().unwrap();
        assert_eq!(settings.to_string(), "tap:a,vnet");
        assert_eq!((settings.header.len(), settings.queues), (12, 1));
    }

    #[test]
    fn refusals_say_what_is_wrong_and_what_is_right() {
        for (address, problem) in [
            ("tap:", "the interface's name is missing"),
            ("tap:,queues=2", "the interface's name is missing"),
            ("tap:far-too-long-a-name", "has 19 bytes"),
            ("tap:a,queues=0", "queues=0 is no number from 1 to 16"),
            ("tap:a,queues=17", "queues=17 is no number from 1 to 16"),
            ("tap:a,queues", "\"queues\" is no option"),
            ("tap:a,persist=1", "\"persist=1\" is no option"),
            ("tap:a,vnet,vnet=10", "\"vnet\" is there twice"),
            ("tap:a,vnet=20", "vnet=20 is no length of a header here: 10 or 12"),
            ("tap:a,listen", "\"listen\" is no option"),
            ("tap:a,", "\"\" is no option"),
        ] {
            let sentence = address.parse::<TapSettings>().unwrap_err().to_string();
            assert!(sentence.contains(problem), "{sentence}");
            assert!(sentence.contains("; write tap:NAME"), "{sentence}");
        }
    }
}
