//! Where the page comes from.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::ctl::{self, Order};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// An engine that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Its metrics server.
    Http(SocketAddr),
    /// Its control socket.
    Socket(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(address) => write!(f, "http://{address}/status"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Source {
    /// The object at `/status`.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn status(&self) -> Result<Value, String> {
        match self {
            Self::Socket(path) => ctl::ask(path, &Order::Status).map_err(|error| error.to_string()),
            Self::Http(address) => {
                let page = get(*address).map_err(|error| format!("no colo answers at {self}: {error}"))?;
                let (_, body) = page.split_once("\r\n\r\n").unwrap_or_default();
                serde_json::from_str(body).map_err(|_| format!("what answers at {self} is no colo"))
            }
        }
    }
}

fn get(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /status HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}
