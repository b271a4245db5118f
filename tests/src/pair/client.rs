//! The pair's client: HTTP requests written by hand, lines that come back, and how long it took. It asserts nothing
//! about time; its limits only end what hangs.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::initramfs::page;
use crate::netns::Namespace;

/// The guest's address; its first process sets it.
const GUEST: [u8; 4] = [10, 77, 0, 2];
/// Two guests without KVM on a loaded machine, and a checkpoint in the middle.
const LIMIT: Duration = Duration::from_mins(1);
/// A block of a [`Stream`].
const BLOCK_BYTES: u64 = 512;
/// Blocks that are under way at a time: enough that none of the ends ever waits for a single answer.
const BLOCKS_UNDER_WAY: u64 = 32;

/// Makes connections from within a namespace.
#[derive(Clone, Copy)]
pub struct Client<'pair> {
    namespace: &'pair Namespace,
}

impl<'pair> Client<'pair> {
    /// A client that lives there.
    pub fn new(namespace: &'pair Namespace) -> Self {
        Self { namespace }
    }

    fn connect(self, port: u16) -> Result<TcpStream> {
        let stream = self.namespace.inside(|| {
            TcpStream::connect_timeout(&SocketAddr::from((GUEST, port)), LIMIT)
                .with_context(|| format!("no connection to the guest's port {port}"))
        })?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Body of a GET; status 200 and the announced length, or an error.
    pub fn get(self, path: &str) -> Result<Vec<u8>> {
        Ok(self.get_watched(path)?.0)
    }

    /// The same, and how long the client heard nothing at most, from the first SYN to the last byte.
    pub fn get_watched(self, path: &str) -> Result<(Vec<u8>, Duration)> {
        let mut heard = Instant::now();
        let mut stall = Duration::ZERO;
        let mut stream = self.connect(80)?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        let mut chunk = [0; 16 << 10];
        loop {
            let read = match stream.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read,
            };
            stall = stall.max(heard.elapsed());
            heard = Instant::now();
            match read.with_context(|| format!("GET {path}: {} bytes came", answer.len()))? {
                0 => break,
                count => answer.extend_from_slice(&chunk[..count]),
            }
        }
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let body = answer.split_off(end.with_context(|| format!("GET {path}: no head in {answer:?}"))? + 4);
        let head = String::from_utf8_lossy(&answer).to_lowercase();
        ensure!(head.split(' ').nth(1) == Some("200"), "GET {path}: {head}");
        if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length:")) {
            ensure!(length.trim().parse() == Ok(body.len()), "GET {path}: {} bytes of {length}", body.len());
        }
        Ok((body, stall))
    }

    /// The same `count` times; each body has to please `check`.
    pub fn get_often(
        self,
        path: &str,
        count: usize,
        check: impl Fn(&[u8]) -> Result<()>,
    ) -> Result<Latencies> {
        let mut latencies = Latencies::default();
        for number in 0..count {
            let start = Instant::now();
            let body = self.get(path).with_context(|| format!("request {number} of {count}"))?;
            latencies.0.push(start.elapsed());
            check(&body).with_context(|| format!("request {number} of {count} for {path}"))?;
        }
        latencies.0.sort_unstable();
        Ok(latencies)
    }

    /// Opens a connection for a steady stream of blocks.
    pub fn stream(self) -> Result<Stream> {
        Ok(Stream { connection: self.connect(7)?, came: AtomicU64::new(0), over: AtomicBool::new(false) })
    }

    /// Opens a connection to the guest's echo service.
    pub fn echo(self) -> Result<Echo> {
        Ok(Echo { stream: BufReader::new(self.connect(7)?) })
    }
}

/// A connection whose lines come back.
pub struct Echo {
    stream: BufReader<TcpStream>,
}

impl Echo {
    /// Sends a line (without its end) and fails unless it comes back.
    pub fn say(&mut self, line: &str) -> Result<()> {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer).with_context(|| format!("no echo of {line:?}"))?;
        ensure!(answer.strip_suffix('\n') == Some(line), "{line:?} came back as {answer:?}");
        Ok(())
    }
}

/// A connection to the echo service with several blocks under way, each unlike any other.
pub struct Stream {
    connection: TcpStream,
    /// Blocks that have come back.
    came: AtomicU64,
    over: AtomicBool,
}

impl Stream {
    /// Sends blocks until [`end`](Self::end), and checks each byte that comes back; returns what was seen.
    ///
    /// # Errors
    /// The first byte that is wrong, a connection that ends, or one that stands still for a minute.
    pub fn run(&self) -> Result<Streamed> {
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| self.send());
            let received = self.receive();
            self.end();
            let sent = sender.join().map_err(|_| anyhow!("the sending thread panicked"))??;
            let streamed = received?;
            ensure!(streamed.blocks == sent, "{sent} blocks went, {} came back", streamed.blocks);
            Ok(streamed)
        })
    }

    /// No more blocks are sent; those under way still come back.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Blocks that have come back.
    pub fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }

    fn send(&self) -> Result<u64> {
        let mut sent = 0;
        while !self.over.load(Ordering::Relaxed) {
            if sent < self.came() + BLOCKS_UNDER_WAY {
                (&self.connection).write_all(&block(sent)).with_context(|| format!("block {sent}"))?;
                sent += 1;
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.connection.shutdown(Shutdown::Write)?;
        Ok(sent)
    }

    fn receive(&self) -> Result<Streamed> {
        let (mut blocks, mut last, mut longest_gap) = (0, Instant::now(), Duration::ZERO);
        loop {
            let mut answer = Vec::new();
            let read = (&self.connection).take(BLOCK_BYTES).read_to_end(&mut answer);
            read.with_context(|| format!("block {blocks}: {} bytes came", answer.len()))?;
            if answer.is_empty() {
                return Ok(Streamed { blocks, longest_gap });
            }
            let expected = block(blocks);
            let wrong = answer.iter().zip(&expected).position(|(a, b)| a != b);
            ensure!(wrong.is_none(), "block {blocks}: byte {wrong:?} is wrong");
            ensure!(answer.len() == expected.len(), "block {blocks} ends after {} bytes", answer.len());
            longest_gap = longest_gap.max(last.elapsed());
            last = Instant::now();
            blocks += 1;
            self.came.store(blocks, Ordering::Relaxed);
        }
    }
}

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streamed {
    /// Blocks that went and came back.
    pub blocks: u64,
    /// The longest time without one.
    pub longest_gap: Duration,
}

/// Content of a block, from its number.
fn block(number: u64) -> Vec<u8> {
    page(number, usize::try_from(BLOCK_BYTES).unwrap_or_default())
}

/// How long each request took, ascending.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<Duration>);

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(latencies: I) -> Self {
        let mut latencies: Vec<Duration> = latencies.into_iter().collect();
        latencies.sort_unstable();
        Self(latencies)
    }
}

impl Latencies {
    /// Latency that so many percent of the requests did not exceed; zero without requests.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(rank).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let latencies = Latencies((1..=200).map(Duration::from_millis).collect());
        assert_eq!(latencies.percentile(50), Duration::from_millis(100));
        assert_eq!(latencies.percentile(99), Duration::from_millis(198));
        assert_eq!(Latencies::default().percentile(99), Duration::ZERO);
    }
}
