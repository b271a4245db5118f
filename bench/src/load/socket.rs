//! Sockets of a load: unix or TCP, never waiting once they are connected.

use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pmd_tap::{ChardevSettings, Endpoint};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// How long the other end may take to listen.
const LIMIT: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(5);

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// Unix.
    Unix(UnixStream),
    /// TCP, without delay.
    Tcp(TcpStream),
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Stream {
    /// Connects to `unix:PATH` or `tcp:HOST:PORT`, however often it takes until somebody listens.
    ///
    /// # Errors
    /// When the address is none, or nobody listens for ten seconds.
    pub fn connect(address: &str) -> Result<Self> {
        let settings: ChardevSettings = address.parse()?;
        let started = Instant::now();
        loop {
            match Self::attempt(&settings.endpoint) {
                Ok(stream) => return Ok(stream),
                Err(error) if started.elapsed() > LIMIT => {
                    return Err(error)
                        .with_context(|| format!("cannot connect to {address}: is the comparer up?"));
                }
                Err(_) => std::thread::sleep(AGAIN),
            }
        }
    }

    fn attempt(endpoint: &Endpoint) -> std::io::Result<Self> {
        Ok(match endpoint {
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Self::Unix(stream)
            }
            Endpoint::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Self::Tcp(stream)
            }
        })
    }

    /// Bytes that the socket took; 0 when it is full.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn send(&self, bytes: &[u8]) -> Result<usize> {
        match rustix::net::send(self, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(took) => Ok(took),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(0),
            Err(error) => Err(std::io::Error::from(error)).context("the comparer hung up"),
        }
    }

    /// Bytes that came; 0 when there are none.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn receive(&self, room: &mut [u8]) -> Result<usize> {
        match rustix::net::recv(self, room, RecvFlags::DONTWAIT) {
            Ok((0, _)) => bail!("the comparer hung up"),
            Ok((got, _)) => Ok(got),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(std::io::Error::from(error)).context("the comparer hung up"),
        }
    }
}

/// Bytes of a stream, cut at its length words. Partial frames are kept.
#[derive(Debug)]
pub struct Inlet {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes in front of a frame: 4, or 8 with a virtio header's length.
    prefix: usize,
    /// System calls that brought something.
    pub calls: u64,
}

/// Longest legal frame.
const LONGEST: usize = 69_632;
const READ_BYTES: usize = 256 * 1024;

impl Inlet {
    /// For frames with so many bytes in front.
    pub fn new(prefix: usize) -> Self {
        Self { bytes: vec![0; LONGEST + 8 + READ_BYTES], start: 0, end: 0, prefix, calls: 0 }
    }

    /// One read; whether it brought anything.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn fill(&mut self, stream: &Stream) -> Result<bool> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let got = stream.receive(&mut self.bytes[self.end..][..READ_BYTES])?;
        self.end += got;
        self.calls += u64::from(got > 0);
        Ok(got > 0)
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// When what came cannot be a frame.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>> {
        let waiting = &self.bytes[self.start..self.end];
        let Some(length) = waiting.first_chunk() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length))?;
        if length == 0 || length > LONGEST {
            bail!("the comparer sent a frame length of {length}: do both ends agree on --vnet?");
        }
        let whole = self.prefix + length;
        if waiting.len() < whole {
            return Ok(None);
        }
        let frame = self.start + self.prefix..self.start + whole;
        self.start += whole;
        Ok(Some(&self.bytes[frame]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_however_the_stream_is_cut() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (ours, theirs) = (Stream::Unix(ours), Stream::Unix(theirs));
        let stream: Vec<u8> =
            (1..100_u8).flat_map(|n| [vec![0, 0, 0, n], vec![n; n.into()]].concat()).collect();
        let mut inlet = Inlet::new(4);
        let mut seen = Vec::new();
        for piece in stream.chunks(37) {
            assert_eq!(ours.send(piece).unwrap(), piece.len());
            assert!(inlet.fill(&theirs).unwrap());
            while let Some(frame) = inlet.next_frame().unwrap() {
                seen.push(frame.to_vec());
            }
        }
        assert!(!inlet.fill(&theirs).unwrap(), "nothing more");
        assert_eq!(seen, (1..100).map(|n| vec![n; n.into()]).collect::<Vec<_>>());
        ours.send(&[1, 0, 0, 0]).unwrap();
        inlet.fill(&theirs).unwrap();
        assert!(inlet.next_frame().is_err());
    }
}
