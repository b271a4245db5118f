//! QEMU's socket framing against any bytes in any pieces: the port must give what a naive decoder of the whole stream
//! gives, refuse where that finds something impossible, and write the same bytes again.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use pmd_tap::{
    Burst, ChardevPort, Frame, FramePool, Framing, LinkEvent, MAX_FRAME_BYTES, Nanos, PoolSettings, Port,
    RxState,
};

use super::bytes::Bytes;

/// Longest piece, bytes: far less than a socket holds.
const MOST_PIECE_BYTES: usize = 16 * 1024;
/// Sizes of pieces that repeat through the stream.
const PIECES: usize = 4;
/// Frames in the pool, of any size; large frames take the places of small ones.
const SLOTS: PoolSettings = PoolSettings { small: 4, mtu: 2, jumbo: 2, gso: 2 };

/// What a whole stream says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decoded {
    /// Virtio header length and bytes of each frame.
    frames: Vec<(usize, Vec<u8>)>,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ending {
    #[default]
    Complete,
    InAFrame,
    Illegal,
}

/// Whether frames are given back at once, or only when no slot is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recycling {
    AtOnce,
    WhenEmpty,
}

/// A stream in pieces. The first bytes say which framing, how long a frame may be, and how long the pieces are.
pub fn chardev(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let kind = bytes.u8();
    let framing = if kind & 1 == 0 { Framing::Plain } else { Framing::VnetHeader };
    let longest = if kind & 2 == 0 { MAX_FRAME_BYTES } else { usize::from(bytes.u8()) + 1 };
    let recycling = if kind & 4 == 0 { Recycling::AtOnce } else { Recycling::WhenEmpty };
    let sizes: [u8; PIECES] = bytes.array();
    let stream = bytes.rest();

    let expected = naive(framing, longest, stream);
    let decoded = through_the_port(framing, longest, recycling, sizes, stream);
    assert_eq!(decoded, expected);
    written_again(framing, &expected, stream);
}

/// The framing by its definition, on a stream that is all there.
fn naive(framing: Framing, longest: usize, mut stream: &[u8]) -> Decoded {
    let mut decoded = Decoded::default();
    while !stream.is_empty() {
        let Some((frame, header, rest)) = first_frame(framing, longest, stream, &mut decoded.ending) else {
            return decoded;
        };
        decoded.frames.push((header, frame.to_vec()));
        stream = rest;
    }
    decoded
}

fn first_frame<'a>(
    framing: Framing,
    longest: usize,
    stream: &'a [u8],
    ending: &mut Ending,
) -> Option<(&'a [u8], usize, &'a [u8])> {
    let word = |at: usize| {
        let word: [u8; 4] = stream.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(word)).ok()
    };
    *ending = Ending::InAFrame;
    let length = word(0)?;
    if length == 0 || length > longest {
        *ending = Ending::Illegal;
        return None;
    }
    let mut header = 0;
    if framing == Framing::VnetHeader {
        header = word(4)?;
        if ![0, 10, 12, 20].contains(&header) || header > length {
            *ending = Ending::Illegal;
            return None;
        }
    }
    let start = framing.prefix_bytes();
    let frame = stream.get(start..start + length)?;
    *ending = Ending::Complete;
    Some((frame, header, &stream[start + length..]))
}

/// The port, and what it brought.
struct Bench {
    port: ChardevPort,
    pool: FramePool,
    recycling: Recycling,
    waiting: Vec<Frame>,
    decoded: Decoded,
}

impl Bench {
    /// Polls until nothing more comes. Returns whether the link is still there.
    fn drain(&mut self) -> bool {
        loop {
            let mut burst = Burst::new();
            let state = self.port.rx_burst(&mut self.pool, Nanos(7), &mut burst);
            let got = burst.len();
            for frame in burst.drain(..) {
                assert_eq!(frame.arrival(), Nanos(7));
                assert_eq!(usize::try_from(frame.ordinal()), Ok(self.decoded.frames.len()), "its place");
                self.decoded.frames.push((frame.virtio_header().len(), frame.bytes().to_vec()));
                self.waiting.push(frame);
            }
            if self.recycling == Recycling::AtOnce || state == RxState::PoolEmpty {
                assert!(got > 0 || state != RxState::PoolEmpty || !self.waiting.is_empty(), "a slot is lost");
                self.waiting.drain(..).for_each(|frame| self.pool.recycle(frame));
            }
            match state {
                RxState::More | RxState::PoolEmpty => {}
                RxState::Empty => return true,
                RxState::Down => return false,
            }
        }
    }

    fn ends(&mut self) {
        let mut last = None;
        while let Some(event) = self.port.poll_link() {
            last = Some(event);
        }
        self.decoded.ending = match last {
            Some(LinkEvent::Refused { reason }) => {
                assert!(!reason.is_empty() && self.port.refused() == 1);
                Ending::Illegal
            }
            Some(LinkEvent::Down { reason }) if reason.contains("in the middle of a frame") => {
                Ending::InAFrame
            }
            Some(LinkEvent::Down { .. }) => Ending::Complete,
            other => panic!("the link ended with {other:?}"),
        };
        assert!(!self.port.is_up() && self.port.is_over());
        self.waiting.drain(..).for_each(|frame| self.pool.recycle(frame));
        assert_eq!(self.pool.frames_out(), 0, "all slots are home");
    }
}

fn through_the_port(
    framing: Framing,
    longest: usize,
    recycling: Recycling,
    sizes: [u8; PIECES],
    mut stream: &[u8],
) -> Decoded {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    let port = ChardevPort::from_stream(ours, framing, "fuzzed").receiving_at_most(longest);
    let pool = FramePool::new(SLOTS).expect("memory for a few frames");
    let mut bench = Bench { port, pool, recycling, waiting: Vec::new(), decoded: Decoded::default() };
    let mut up = bench.drain();
    for size in sizes.iter().cycle() {
        if stream.is_empty() || !up {
            break;
        }
        let piece = match size {
            0..128 => usize::from(*size) + 1,
            _ => (usize::from(*size) - 127) * 128,
        };
        let (piece, rest) = stream.split_at(piece.min(MOST_PIECE_BYTES).min(stream.len()));
        theirs.write_all(piece).expect("a socket holds a piece");
        stream = rest;
        up = bench.drain();
    }
    drop(theirs);
    if up {
        assert!(!bench.drain(), "the end of the stream is the end of the link");
    }
    bench.ends();
    bench.decoded
}

/// What was decoded goes out as it came in.
fn written_again(framing: Framing, decoded: &Decoded, stream: &[u8]) {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    theirs.set_nonblocking(true).expect("a socket that does not wait");
    let mut port = ChardevPort::from_stream(ours, framing, "fuzzed");
    let mut pool = FramePool::new(SLOTS).expect("memory for a few frames");
    let (mut written, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    let mut read = |written: &mut Vec<u8>| {
        while let Ok(got @ 1..) = theirs.read(&mut buffer) {
            written.extend_from_slice(&buffer[..got]);
        }
    };
    port.rx_burst(&mut pool, Nanos::ZERO, &mut Burst::new());
    for (header, bytes) in &decoded.frames {
        let mut frame = pool.frame_from(bytes).expect("one frame is out at a time");
        frame.set_virtio_header(pmd_tap::VirtioHeader::from_len(*header).expect("a legal header"));
        let mut burst = Burst::from_iter([frame]);
        while !burst.is_empty() {
            port.tx_burst(&mut pool, Nanos::ZERO, &mut burst);
            read(&mut written);
        }
    }
    while !port.flush() {
        read(&mut written);
    }
    read(&mut written);
    let bytes = decoded.frames.iter().map(|(_, bytes)| framing.prefix_bytes() + bytes.len()).sum();
    assert!(written == stream[..bytes], "other bytes went out than came in");
}
