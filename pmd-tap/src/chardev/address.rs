//! `unix:PATH[,listen][,vnet]` and `tcp:HOST:PORT[,listen][,vnet]`: what a chardev port is made from, as people write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::Framing;
use crate::PortError;

/// Where the socket is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A unix stream socket at that path.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// Name or address; IPv6 without brackets.
        host: String,
        /// Port number. 0 lets the kernel choose, when listening.
        port: u16,
    },
}

/// Which end of the connection a port is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// The other end listens; tried again every 200 ms.
    #[default]
    Connect,
    /// The other end connects (QEMU's `server=on` is then for us).
    Listen,
}

/// What a [`ChardevPort`](crate::ChardevPort) is made from. Parses from and displays as `unix:PATH[,listen][,vnet]`
/// or `tcp:HOST:PORT[,listen][,vnet]`, IPv6 hosts in brackets. Paths with a comma cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChardevSettings {
    /// Where.
    pub endpoint: Endpoint,
    /// Which end.
    pub role: Role,
    /// What stands in front of every frame.
    pub framing: Framing,
}

const UNIX_USAGE: &str = "unix:PATH[,listen][,vnet]";
const TCP_USAGE: &str = "tcp:HOST:PORT[,listen][,vnet]";
const USAGE: &str = "unix:PATH[,listen][,vnet] or tcp:HOST:PORT[,listen][,vnet]";

/// A problem, and what would be right.
type Refusal = (String, &'static str);

impl FromStr for ChardevSettings {
    type Err = PortError;

    fn from_str(address: &str) -> Result<Self, PortError> {
        parse(address).map_err(|(problem, usage)| PortError::Address {
            address: address.to_owned(),
            problem,
            usage,
        })
    }
}

fn parse(address: &str) -> Result<ChardevSettings, Refusal> {
    let Some((kind, rest)) = address.split_once(':') else {
        return Err(("it names no kind of socket".to_owned(), USAGE));
    };
    let mut parts = rest.split(',');
    let place = parts.next().unwrap_or_default();
    let (endpoint, usage) = match kind {
        "unix" => (unix(place), UNIX_USAGE),
        "tcp" => (tcp(place), TCP_USAGE),
        _ => return Err((format!("{kind:?} is no kind of socket"), USAGE)),
    };
    let endpoint = endpoint.map_err(|problem| (problem, usage))?;
    let mut settings = ChardevSettings { endpoint, role: Role::Connect, framing: Framing::Plain };
    for option in parts {
        let repeated = match option {
            "listen" => std::mem::replace(&mut settings.role, Role::Listen) == Role::Listen,
            "vnet" => std::mem::replace(&mut settings.framing, Framing::VnetHeader) == Framing::VnetHeader,
            _ => return Err((no_option(option), usage)),
        };
        if repeated {
            return Err((format!("{option:?} is there twice"), usage));
        }
    }
    if settings.role == Role::Connect && matches!(settings.endpoint, Endpoint::Tcp { port: 0, .. }) {
        return Err(("port 0 can only be listened on".to_owned(), usage));
    }
    Ok(settings)
}

fn no_option(option: &str) -> String {
    let known = match option.split('=').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "" => return "a comma has no option behind it".to_owned(),
        "server" | "listen" | "listening" => "the word is \"listen\"",
        "vnet_hdr" | "vnet_hdr_support" | "vnet-hdr" | "vnet" => "the word is \"vnet\"",
        "client" | "connect" | "reconnect" => {
            "connecting, again and again, is what it does without \"listen\""
        }
        "nodelay" | "wait" => "it is always so, leave it out",
        _ => "there are \"listen\" and \"vnet\"",
    };
    format!("{option:?} is no option ({known})")
}

fn unix(place: &str) -> Result<Endpoint, String> {
    if place.is_empty() {
        return Err("the path is missing".to_owned());
    }
    Ok(Endpoint::Unix(PathBuf::from(place)))
}

fn tcp(place: &str) -> Result<Endpoint, String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("the bracket is not closed")?;
            (host, port.strip_prefix(':').ok_or("the port is missing")?)
        }
        None => place.rsplit_once(':').ok_or("the port is missing")?,
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    if host.contains(':') && !place.starts_with('[') {
        return Err("an IPv6 host needs brackets".to_owned());
    }
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| port.parse().ok()).flatten();
    let port = port.ok_or("the port is no number from 0 to 65535")?;
    Ok(Endpoint::Tcp { host: host.to_owned(), port })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

impl fmt::Display for ChardevSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)?;
        if self.role == Role::Listen {
            f.write_str(",listen")?;
        }
        if self.framing == Framing::VnetHeader {
            f.write_str(",vnet")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(address: &str) -> String {
        address.parse::<ChardevSettings>().unwrap_err().to_string()
    }

    #[test]
    fn addresses_round_trip() {
        for address in [
            "unix:/run/colo/pri.sock",
            "unix:relative,listen",
            "unix:/a:b,vnet",
            "unix:/a,listen,vnet",
            "tcp:127.0.0.1:9001",
            "tcp:localhost:9004,listen",
            "tcp:[::1]:0,listen,vnet",
            "tcp:[fe80::1%eth0]:1,vnet",
        ] {
            let settings: ChardevSettings = address.parse().unwrap();
            assert_eq!(settings.to_string(), address);
            assert_eq!(settings.to_string().parse::<ChardevSettings>().unwrap(), settings);
        }
        let settings: ChardevSettings = "tcp:[::1]:7,vnet,listen".parse().unwrap();
        assert_eq!(settings.endpoint, Endpoint::Tcp { host: "::1".to_owned(), port: 7 });
        assert_eq!((settings.role, settings.framing), (Role::Listen, Framing::VnetHeader));
    }

    #[test]
    fn refusals_say_what_is_wrong_and_what_is_right() {
        for (address, problem) in [
            ("pri.sock", "it names no kind of socket"),
            ("udp:1.2.3.4:5", "\"udp\" is no kind of socket"),
            ("unix:", "the path is missing"),
            ("unix:,listen", "the path is missing"),
            ("unix:/a,", "a comma has no option behind it"),
            ("unix:/a,server=on", "\"server=on\" is no option (the word is \"listen\")"),
            ("tcp:h:1,vnet_hdr_support", "(the word is \"vnet\")"),
            ("tcp:h:1,blue", "\"blue\" is no option (there are \"listen\" and \"vnet\")"),
            ("tcp:h:1,vnet,vnet", "\"vnet\" is there twice"),
            ("tcp:h", "the port is missing"),
            ("tcp:[::1]", "the port is missing"),
            ("tcp:[::1:9", "the bracket is not closed"),
            ("tcp::9", "the host is missing"),
            ("tcp:::1:9", "an IPv6 host needs brackets"),
            ("tcp:h:65536", "the port is no number from 0 to 65535"),
            ("tcp:h:+5", "the port is no number"),
            ("tcp:h:0", "port 0 can only be listened on"),
        ] {
            let sentence = sentence(address);
            assert!(sentence.contains(problem), "{sentence}");
            assert!(sentence.contains("; write "), "{sentence}");
        }
    }
}
