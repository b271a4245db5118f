//! The far end of one of QEMU's sockets: length-framed frames and control messages over unix or TCP, written from the
//! wire description, apart from the engine's own code.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::process::free_tcp_address;
use crate::wait;

/// Longest legal length word: a frame and its virtio header, bytes.
pub const LONGEST: usize = 69_632;
/// Bound of connecting, accepting and of a single write.
const LINK_LIMIT: Duration = Duration::from_secs(10);
const READ_CHUNK_BYTES: usize = 256 << 10;

/// Where a link is, seen from the test.
#[derive(Debug, Clone)]
pub enum Place {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP socket.
    Tcp(SocketAddr),
}

impl Place {
    /// A unix socket called `name` in a directory.
    pub fn unix(directory: &Path, name: &str) -> Self {
        Self::Unix(directory.join(name))
    }

    /// A free TCP port on loopback.
    pub fn tcp() -> Result<Self> {
        Ok(Self::Tcp(free_tcp_address()?))
    }

    /// The address in the engine's syntax, without options.
    pub fn address(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix:{}", path.display()),
            Self::Tcp(address) => format!("tcp:{address}"),
        }
    }

    /// Connects, however often it takes until the engine listens.
    pub fn connect(&self, framing: Framing) -> Result<Link> {
        wait::until(&format!("connecting to {}", self.address()), LINK_LIMIT, || {
            let stream: Box<dyn Stream> = match self {
                Self::Unix(path) => Box::new(UnixStream::connect(path)?),
                Self::Tcp(address) => Box::new(TcpStream::connect(address)?),
            };
            Link::new(stream, framing)
        })
    }

    /// Listens there.
    pub fn listen(&self) -> Result<Listener> {
        Ok(match self {
            Self::Unix(path) => Listener::Unix(UnixListener::bind(path)?),
            Self::Tcp(address) => Listener::Tcp(TcpListener::bind(address)?),
        })
    }
}

/// The test's own listening end, for an engine that connects.
pub enum Listener {
    /// Unix.
    Unix(UnixListener),
    /// TCP.
    Tcp(TcpListener),
}

impl Listener {
    /// Waits for the engine to connect.
    pub fn accept(&self, framing: Framing) -> Result<Link> {
        let stream: Box<dyn Stream> = match self {
            Self::Unix(listener) => {
                wait::readable(listener, LINK_LIMIT).context("the engine did not connect")?;
                Box::new(listener.accept()?.0)
            }
            Self::Tcp(listener) => {
                wait::readable(listener, LINK_LIMIT).context("the engine did not connect")?;
                Box::new(listener.accept()?.0)
            }
        };
        Link::new(stream, framing)
    }
}

/// What stands before each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The length.
    Plain,
    /// The length and the length of a virtio header, which leads the frame.
    Vnet,
}

/// The virtio header that tests put before a frame: no offload, one buffer. Twelve bytes, as virtio-net sends.
pub const VIRTIO_HEADER: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

impl Framing {
    /// Appends a frame, framed, to `out`.
    pub fn encode(self, frame: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Plain => out.extend_from_slice(&word(frame.len())?),
            Self::Vnet => {
                out.extend_from_slice(&word(frame.len() + VIRTIO_HEADER.len())?);
                out.extend_from_slice(&word(VIRTIO_HEADER.len())?);
                out.extend_from_slice(&VIRTIO_HEADER);
            }
        }
        out.extend_from_slice(frame);
        Ok(())
    }

    /// A control message to the comparer: with virtio framing it has a zero header length.
    pub fn message(self, text: &str) -> Result<Vec<u8>> {
        let mut bytes = word(text.len())?.to_vec();
        if self == Self::Vnet {
            bytes.extend_from_slice(&[0; 4]);
        }
        bytes.extend_from_slice(text.as_bytes());
        Ok(bytes)
    }

    /// First whole frame in `bytes` and how many bytes it took.
    fn decode(self, bytes: &[u8]) -> Result<Option<(&[u8], usize)>> {
        let prefix = if self == Self::Vnet { 8 } else { 4 };
        let Some(words) = bytes.get(..prefix) else {
            return Ok(None);
        };
        let length = number(words)?;
        ensure!((1..=LONGEST).contains(&length), "the engine sent the length {length}");
        let Some(body) = bytes.get(prefix..prefix + length) else {
            return Ok(None);
        };
        let frame = if self == Self::Vnet {
            let header = number(&words[4..])?;
            ensure!(header == VIRTIO_HEADER.len(), "the engine sent a virtio header of {header} bytes");
            body.strip_prefix(&VIRTIO_HEADER).ok_or_else(|| anyhow!("another virtio header than went in"))?
        } else {
            body
        };
        Ok(Some((frame, prefix + length)))
    }
}

fn word(length: usize) -> Result<[u8; 4]> {
    Ok(u32::try_from(length)?.to_be_bytes())
}

fn number(bytes: &[u8]) -> Result<usize> {
    let word = bytes.first_chunk().context("four bytes")?;
    Ok(usize::try_from(u32::from_be_bytes(*word))?)
}

/// Both kinds of socket.
trait Stream: Read + Write + Send {
    fn limit_reads(&self, limit: Duration) -> std::io::Result<()>;
    fn limit_writes(&self, limit: Duration) -> std::io::Result<()>;
    fn hang_up(&self) -> std::io::Result<()>;
}

impl Stream for UnixStream {
    fn limit_reads(&self, limit: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
    fn limit_writes(&self, limit: Duration) -> std::io::Result<()> {
        self.set_write_timeout(Some(limit))
    }
    fn hang_up(&self) -> std::io::Result<()> {
        self.shutdown(Shutdown::Both)
    }
}

impl Stream for TcpStream {
    fn limit_reads(&self, limit: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
    fn limit_writes(&self, limit: Duration) -> std::io::Result<()> {
        self.set_write_timeout(Some(limit))?;
        self.set_nodelay(true)
    }
    fn hang_up(&self) -> std::io::Result<()> {
        self.shutdown(Shutdown::Both)
    }
}

/// One connected socket.
pub struct Link {
    stream: Box<dyn Stream>,
    framing: Framing,
    received: Vec<u8>,
    taken: usize,
}

impl Link {
    fn new(stream: Box<dyn Stream>, framing: Framing) -> Result<Self> {
        stream.limit_writes(LINK_LIMIT)?;
        Ok(Self { stream, framing, received: Vec::new(), taken: 0 })
    }

    /// Hangs up in both directions.
    pub fn close(&self) -> Result<()> {
        self.stream.hang_up().context("cannot hang up")
    }

    /// Writes bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("the engine does not take what is sent to it")
    }

    /// Sends frames in one write.
    pub fn send<'a>(&mut self, frames: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        let mut bytes = Vec::new();
        for frame in frames {
            self.framing.encode(frame, &mut bytes)?;
        }
        self.send_raw(&bytes)
    }

    /// The next frame; `None` when none comes within `limit`. End of stream is an error.
    pub fn receive(&mut self, limit: Duration) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some((frame, taken)) = self.framing.decode(&self.received[self.taken..])? {
                let frame = frame.to_vec();
                self.taken += taken;
                return Ok(Some(frame));
            }
            match self.fill(deadline)? {
                Filled::Some => {}
                Filled::Late => return Ok(None),
                Filled::End => bail!("the engine closed the link"),
            }
        }
    }

    /// Exactly `count` frames, or an error that says how many came.
    pub fn receive_all(&mut self, count: usize, limit: Duration) -> Result<Vec<Vec<u8>>> {
        let deadline = Instant::now() + limit;
        let mut frames = Vec::new();
        while frames.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(frame) = self.receive(left)? else {
                bail!("{} of {count} frames came within {limit:?}", frames.len());
            };
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Fails when a frame comes within `quiet`.
    pub fn expect_silence(&mut self, quiet: Duration) -> Result<()> {
        let frame = self.receive(quiet)?;
        ensure!(frame.is_none(), "a frame that should not leave: {:02x?}", frame.unwrap_or_default());
        Ok(())
    }

    /// Exactly `count` bytes as they come.
    pub fn receive_raw(&mut self, count: usize, limit: Duration) -> Result<Vec<u8>> {
        let deadline = Instant::now() + limit;
        while self.received.len() - self.taken < count {
            match self.fill(deadline)? {
                Filled::Some => {}
                Filled::Late | Filled::End => {
                    bail!("{:02x?} instead of {count} bytes", &self.received[self.taken..])
                }
            }
        }
        let bytes = self.received[self.taken..self.taken + count].to_vec();
        self.taken += count;
        Ok(bytes)
    }

    /// Everything that comes until nothing has come for `quiet`, as bytes.
    pub fn drain_raw(&mut self, quiet: Duration) -> Result<Vec<u8>> {
        while matches!(self.fill(Instant::now() + quiet)?, Filled::Some) {}
        Ok(self.received.split_off(std::mem::take(&mut self.taken)))
    }

    /// Waits until the engine closes the link.
    pub fn expect_closed(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            match self.fill(deadline)? {
                Filled::Some => {}
                Filled::End => return Ok(()),
                Filled::Late => bail!("the engine keeps the link open"),
            }
        }
    }

    fn fill(&mut self, deadline: Instant) -> Result<Filled> {
        self.received.drain(..self.taken);
        self.taken = 0;
        // A read timeout of zero would mean none.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.limit_reads(left)?;
        let old = self.received.len();
        self.received.resize(old + READ_CHUNK_BYTES, 0);
        let result = self.stream.read(&mut self.received[old..]);
        let (read, filled) = match result {
            Ok(0) => (0, Filled::End),
            Ok(read) => (read, Filled::Some),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => (0, Filled::Late),
                ErrorKind::Interrupted => (0, Filled::Some),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => (0, Filled::End),
                _ => return Err(error).context("cannot read the link"),
            },
        };
        self.received.truncate(old + read);
        Ok(filled)
    }
}

enum Filled {
    Some,
    Late,
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_qemus_bytes() {
        let expected = [&[0, 0, 0, 13][..], b"DO_CHECKPOINT"].concat();
        assert_eq!(Framing::Plain.message("DO_CHECKPOINT").unwrap(), expected);
        let expected = [&[0, 0, 0, 15, 0, 0, 0, 0][..], b"COLO_CHECKPOINT"].concat();
        assert_eq!(Framing::Vnet.message("COLO_CHECKPOINT").unwrap(), expected);
    }

    #[test]
    fn frames_survive_both_framings() {
        for framing in [Framing::Plain, Framing::Vnet] {
            let mut bytes = Vec::new();
            framing.encode(b"frame", &mut bytes).unwrap();
            assert_eq!(framing.decode(&bytes).unwrap(), Some((&b"frame"[..], bytes.len())));
            assert_eq!(framing.decode(&bytes[..bytes.len() - 1]).unwrap(), None);
        }
    }
}
