//! The world's end of QEMU's socket framing: a big-endian `u32` length, then the frame. Both halves are
//! non-blocking and work on large buffers; neither ever loses or splits a frame, whatever the socket accepts.
//! Only this end: the engine's ports have their own implementation.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use super::address::{ETHERNET_HEADER, ethernet_header};

/// Longest frame taken from the engine, bytes.
const FRAME_MAX: usize = 65_536 + ETHERNET_HEADER;

/// Shortest Ethernet frame without its FCS, bytes.
const FRAME_MIN: usize = 60;

/// Bytes asked for in one read.
const READ_CHUNK: usize = 256 * 1024;

/// Nothing more is produced for a writer with this backlog, bytes; what one step of a guest adds is bounded by
/// the connection's send buffer.
const BACKLOG_MAX: usize = 1024 * 1024;

/// Length prefix, bytes.
const PREFIX: usize = 4;

/// Whether short frames are filled up to Ethernet's minimum, as some NICs do and others leave to the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    /// To 60 bytes.
    Minimum,
    /// Not at all.
    None,
}

/// Frames on their way into a socket, whole and in order, however little it takes at a time.
#[derive(Debug)]
pub(super) struct FrameWriter {
    stream: UnixStream,
    padding: Padding,
    buffer: Vec<u8>,
    written: usize,
}

impl FrameWriter {
    /// Makes `stream` non-blocking and writes to it.
    pub(super) fn new(stream: UnixStream, padding: Padding) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, padding, buffer: Vec::with_capacity(READ_CHUNK), written: 0 })
    }

    /// The socket, to wait for.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Bytes not yet taken by the socket.
    pub(super) fn backlog(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// True when producers should wait for the socket.
    pub(super) fn is_full(&self) -> bool {
        self.backlog() >= BACKLOG_MAX
    }

    /// Queues a guest's IP packet as an Ethernet frame. Never fails: whoever produces looks at
    /// [`Self::is_full`] first.
    pub(super) fn push(&mut self, packet: &[u8]) {
        let plain = ETHERNET_HEADER + packet.len();
        let len = match self.padding {
            Padding::Minimum => plain.max(FRAME_MIN),
            Padding::None => plain,
        };
        self.buffer.extend_from_slice(&u32::try_from(len).unwrap_or(0).to_be_bytes());
        self.buffer.extend_from_slice(&ethernet_header(packet));
        self.buffer.extend_from_slice(packet);
        self.buffer.resize(self.buffer.len() + len - plain, 0);
    }

    /// Hands the socket as much as it takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.backlog() > 0 {
            match self.stream.write(&self.buffer[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => self.written += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Moving the rest to the front only when it is the smaller half keeps the copying linear.
        if self.written > self.buffer.len() / 2 {
            self.buffer.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }
}

/// What one [`FrameReader::fill`] brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// Bytes.
    Some,
    /// Nothing at the moment.
    Nothing,
    /// The peer is gone.
    End,
}

/// Frames out of a socket.
#[derive(Debug)]
pub(super) struct FrameReader {
    stream: UnixStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl FrameReader {
    /// Makes `stream` non-blocking and reads from it.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, buffer: vec![0; READ_CHUNK + FRAME_MAX + PREFIX], start: 0, end: 0 })
    }

    /// The socket, to wait for.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Reads once. Take all frames out before the next call.
    pub(super) fn fill(&mut self) -> io::Result<Filled> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(Filled::End),
                Ok(len) => {
                    self.end += len;
                    return Ok(Filled::Some);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Filled::Nothing),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Filled::End),
                Err(error) => return Err(error),
            }
        }
    }

    /// True when no part of a frame is left over.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The next whole frame, if there is one; an error when the length cannot be a frame's.
    pub(super) fn next_frame(&mut self) -> io::Result<Option<&[u8]>> {
        let bytes = &self.buffer[self.start..self.end];
        let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let len = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if len > FRAME_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("frame of {len} bytes")));
        }
        if rest.len() < len {
            return Ok(None);
        }
        let from = self.start + PREFIX;
        self.start = from + len;
        Ok(Some(&self.buffer[from..from + len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cross_a_full_socket_whole_and_in_order() {
        let (a, b) = UnixStream::pair().expect("socket pair");
        let mut writer = FrameWriter::new(a, Padding::None).expect("writer");
        let mut reader = FrameReader::new(b).expect("reader");
        let packets: Vec<Vec<u8>> = (0..2_000_u16)
            .map(|n| [&[0x45][..], &n.to_be_bytes(), &vec![7; usize::from(n)]].concat())
            .collect();
        for packet in &packets {
            writer.push(packet);
        }
        let mut seen = 0;
        while seen < packets.len() {
            writer.flush().expect("flush");
            assert_ne!(reader.fill().expect("fill"), Filled::End);
            while let Some(frame) = reader.next_frame().expect("frame") {
                assert_eq!(&frame[ETHERNET_HEADER..], packets[seen]);
                assert_eq!(frame[12..14], [0x08, 0x00]);
                seen += 1;
            }
        }
        assert_eq!(writer.backlog(), 0);
        drop(writer);
        assert_eq!(reader.fill().expect("fill"), Filled::End);
    }

    #[test]
    fn short_frames_are_padded_when_asked() {
        let (a, b) = UnixStream::pair().expect("socket pair");
        let mut writer = FrameWriter::new(a, Padding::Minimum).expect("writer");
        let mut reader = FrameReader::new(b).expect("reader");
        writer.push(&[0x60; 40]);
        writer.flush().expect("flush");
        reader.fill().expect("fill");
        assert_eq!(reader.next_frame().expect("frame").map(<[u8]>::len), Some(FRAME_MIN));
    }

    #[test]
    fn a_length_that_is_none_is_an_error() {
        let (mut a, b) = UnixStream::pair().expect("socket pair");
        let mut reader = FrameReader::new(b).expect("reader");
        a.write_all(&[0xff; 8]).expect("write");
        reader.fill().expect("fill");
        assert!(reader.next_frame().is_err());
    }
}
