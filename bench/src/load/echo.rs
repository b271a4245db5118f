//! A comparer that compares nothing: the primary's bytes go out, the secondary's are read. The floor under every
//! comparer on the same sockets, and the way to see how fast the load itself is.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use anyhow::Result;
use pmd_tap::{ChardevSettings, Endpoint};
use rustix::event::{PollFd, PollFlags, poll};

use super::socket::Stream;

const READ_BYTES: usize = 128 * 1024;

/// Listens at the three addresses, takes one peer at each, and serves until one hangs up.
///
/// # Errors
/// When an address cannot be listened on, or a peer hangs up.
pub fn serve(primary: &str, secondary: &str, out: &str) -> Result<()> {
    let listeners = [out, primary, secondary].map(listen);
    let [out, primary, secondary] = listeners.map(|listener| listener.and_then(Listener::accept));
    let (out, primary, secondary) = (out?, primary?, secondary?);
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let heard = secondary.receive(&mut bytes)?;
        let got = primary.receive(&mut bytes)?;
        let mut sent = 0;
        while sent < got {
            let took = out.send(&bytes[sent..got])?;
            sent += took;
            if took == 0 {
                let _ = poll(&mut [PollFd::new(&out, PollFlags::OUT)], None);
            }
        }
        if heard + got == 0 {
            let _ = poll(
                &mut [PollFd::new(&primary, PollFlags::IN), PollFd::new(&secondary, PollFlags::IN)],
                None,
            );
        }
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

fn listen(address: &str) -> Result<Listener> {
    let settings: ChardevSettings = address.parse()?;
    Ok(match settings.endpoint {
        Endpoint::Unix(path) => Listener::Unix(UnixListener::bind(path)?),
        Endpoint::Tcp { host, port } => Listener::Tcp(TcpListener::bind((host, port))?),
    })
}

impl Listener {
    fn accept(self) -> Result<Stream> {
        Ok(match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Stream::Unix(stream)
            }
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Stream::Tcp(stream)
            }
        })
    }
}
