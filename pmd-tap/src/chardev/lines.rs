//! Lines of text over a connection that comes and goes: what control protocols such as QMP speak. No frames, no pool;
//! it knows nothing of what the lines say.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::link::Link;
use super::{ChardevSettings, explain};
use crate::{LinkEvent, Nanos, PortError};

/// Most that one poll reads, bytes: a peer that never stops talking does not hold who polls.
const READ_BYTES: usize = 65_536;

enum Stream {
    Goes,
    Ended,
}

/// A line-oriented link on a unix or TCP socket.
///
/// Nothing blocks. One peer at a time; when it goes it is tried again every 200 ms. What was to be said to a peer that
/// went is forgotten: the next one knows nothing of it.
#[derive(Debug)]
pub struct LineSocket {
    link: Link,
    /// Read and not taken yet; at most `longest` and one read.
    inbox: VecDeque<u8>,
    /// How much of the inbox holds no line end.
    searched: usize,
    outbox: VecDeque<u8>,
    /// Longest line of the peer, bytes.
    longest: usize,
}

impl LineSocket {
    /// A link as `settings` say; their framing does not matter. A peer whose line is longer than `longest` bytes loses
    /// its connection. Resolving a host name blocks, here and only here.
    ///
    /// # Errors
    /// [`PortError::Os`] when the address cannot be listened on or the host has no address.
    pub fn new(settings: &ChardevSettings, longest: usize) -> Result<Self, PortError> {
        Ok(Self {
            link: Link::new(settings)?,
            inbox: VecDeque::new(),
            searched: 0,
            outbox: VecDeque::new(),
            longest,
        })
    }

    /// Whether somebody is at the other end.
    pub fn is_up(&self) -> bool {
        self.link.socket().is_some()
    }

    /// Keeps the link, sends what waits, reads what came. Take all lines between two polls.
    pub fn poll(&mut self, now: Nanos) {
        if !self.link.keep(now) {
            return;
        }
        self.send_waiting();
        if self.searched > self.longest {
            return self.refuse(format!("sent a line longer than {} bytes", self.longest));
        }
        match self.read() {
            Ok(Stream::Goes) => {}
            // What it said before it went is taken first.
            Ok(Stream::Ended) if self.searched < self.inbox.len() => {}
            Ok(Stream::Ended) => self.close(LinkEvent::Down { reason: "closed by the other end".to_owned() }),
            Err(error) => self.close(LinkEvent::Down { reason: explain(error) }),
        }
    }

    /// The next whole line, without its end. What is no UTF-8 is replaced.
    pub fn next_line(&mut self) -> Option<String> {
        let Some(more) = self.inbox.iter().skip(self.searched).position(|byte| *byte == b'\n') else {
            self.searched = self.inbox.len();
            return None;
        };
        let end = self.searched + more;
        let line: Vec<u8> = self.inbox.drain(..=end).take(end).collect();
        self.searched = 0;
        Some(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }

    /// Says a line, now or as soon as the peer takes it. Nobody there: it is forgotten.
    pub fn say(&mut self, line: &str) {
        if !self.is_up() {
            return;
        }
        self.outbox.extend(line.bytes());
        self.outbox.push_back(b'\n');
        self.send_waiting();
    }

    /// Ends the connection for what the peer said; it is tried again.
    pub fn refuse(&mut self, reason: String) {
        self.close(LinkEvent::Refused { reason });
    }

    /// The next change of the link.
    pub fn poll_link(&mut self) -> Option<LinkEvent> {
        self.link.next_event()
    }

    /// What stands in the way of the link, for people.
    pub fn obstacle(&self) -> Option<String> {
        self.link.obstacle()
    }

    /// What becomes readable when there is something to do.
    pub fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.link.readiness()
    }

    /// When to poll at the latest, if not on readiness: the next attempt to connect.
    pub fn next_attempt(&self) -> Option<Nanos> {
        self.link.next_attempt()
    }

    /// Whether something is still to be sent.
    pub fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// An error shows when reading, behind what the peer said before it.
    fn send_waiting(&mut self) {
        while let Some(socket) = self.link.socket()
            && !self.outbox.is_empty()
        {
            match send(socket, self.outbox.as_slices().0, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.outbox.clear(),
            }
        }
    }

    fn read(&mut self) -> Result<Stream, Errno> {
        let mut chunk = [0_u8; 4096];
        let mut most = READ_BYTES.min((self.longest + 1).saturating_sub(self.inbox.len()));
        while let Some(socket) = self.link.socket()
            && most > 0
        {
            let room = most.min(chunk.len());
            match recv(socket, &mut chunk[..room], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Ok(Stream::Ended),
                Ok((_, read)) => {
                    self.inbox.extend(&chunk[..read]);
                    most -= read;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Stream::Goes)
    }

    fn close(&mut self, event: LinkEvent) {
        self.inbox.clear();
        self.outbox.clear();
        self.searched = 0;
        self.link.close(event);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    use super::*;

    const LONGEST: usize = 64;

    struct Peer {
        _folder: tempfile::TempDir,
        listener: UnixListener,
        socket: LineSocket,
        now: Nanos,
    }

    impl Peer {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s");
            let listener = UnixListener::bind(&path).unwrap();
            let settings = format!("unix:{}", path.display()).parse().unwrap();
            let socket = LineSocket::new(&settings, LONGEST).unwrap();
            Self { _folder: folder, listener, socket, now: Nanos::ZERO }
        }

        fn meet(&mut self) -> UnixStream {
            self.poll();
            let stream = self.listener.accept().unwrap().0;
            assert!(matches!(self.socket.poll_link(), Some(LinkEvent::Up { .. })));
            stream
        }

        /// Lines told at the next poll.
        fn poll(&mut self) -> Vec<String> {
            self.now = self.now + Duration::from_secs(1);
            self.socket.poll(self.now);
            std::iter::from_fn(|| self.socket.next_line()).collect()
        }
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let mut peer = Peer::new();
        let mut stream = peer.meet();
        let mut lines = Vec::new();
        for byte in b"one\r\n\ntwo\nthr" {
            stream.write_all(&[*byte]).unwrap();
            lines.extend(peer.poll());
        }
        assert_eq!(lines, ["one", "", "two"]);
        stream.write_all(b"ee\nfour\n").unwrap();
        assert_eq!(peer.poll(), ["three", "four"]);
    }

    #[test]
    fn what_was_said_before_the_end_is_told_before_it() {
        let mut peer = Peer::new();
        let mut stream = peer.meet();
        stream.write_all(b"last\nhalf").unwrap();
        drop(stream);
        peer.socket.say("to nobody");
        assert_eq!(peer.poll(), ["last"]);
        assert!(peer.poll().is_empty() && !peer.socket.is_up());
        assert!(matches!(peer.socket.poll_link(), Some(LinkEvent::Down { .. })));
        let mut again = peer.meet();
        peer.socket.say("hello");
        let mut said = [0; 6];
        again.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello\n", "nothing that was meant for the last");
    }

    #[test]
    fn a_line_without_end_costs_the_connection() {
        let mut peer = Peer::new();
        let mut stream = peer.meet();
        stream.write_all(&[b'x'; LONGEST]).unwrap();
        stream.write_all(b"\n").unwrap();
        assert_eq!(peer.poll(), ["x".repeat(LONGEST)]);
        stream.write_all(&[b'x'; 10 * LONGEST]).unwrap();
        for _ in 0..3 {
            peer.poll();
        }
        let event = peer.socket.poll_link();
        let refused = |reason: &str| reason == "sent a line longer than 64 bytes";
        assert!(matches!(&event, Some(LinkEvent::Refused { reason }) if refused(reason)), "{event:?}");
    }

    #[test]
    fn a_peer_that_does_not_read_blocks_nobody() {
        let mut peer = Peer::new();
        let mut stream = peer.meet();
        let line = "y".repeat(LONGEST);
        let count = 20_000;
        (0..count).for_each(|_| peer.socket.say(&line));
        assert!(peer.socket.has_unsent());
        let mut got = 0;
        let mut chunk = vec![0; 65_536];
        while got < count * (LONGEST + 1) {
            got += stream.read(&mut chunk).unwrap();
            peer.poll();
        }
        assert!(!peer.socket.has_unsent());
    }
}
