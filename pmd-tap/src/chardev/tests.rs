//! The socket port against peers that send in pieces, lie about lengths, stop reading and come back.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::{BURST_FRAMES, Frame, PoolSettings};

const MS: Duration = Duration::from_millis(1);

fn pool() -> FramePool {
    FramePool::new(PoolSettings { small: 256, mtu: 256, jumbo: 8, gso: 8 }).unwrap()
}

/// A port with its pool and a clock that goes on 1 ms a poll.
struct Bench {
    port: ChardevPort,
    pool: FramePool,
    now: Nanos,
    /// Received while waiting for a link event.
    early: Vec<Vec<u8>>,
}

impl Bench {
    fn new(port: ChardevPort) -> Self {
        Self { port, pool: pool(), now: Nanos::ZERO, early: Vec::new() }
    }

    fn on(address: &str) -> Self {
        Self::new(ChardevPort::new(&address.parse().unwrap()).unwrap())
    }

    fn pair(framing: Framing) -> (Self, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Self::new(ChardevPort::from_stream(ours, framing, "pair")), theirs)
    }

    fn poll(&mut self) -> (RxState, Vec<Vec<u8>>) {
        self.now = self.now + MS;
        let mut burst = Burst::new();
        let state = self.port.rx_burst(&mut self.pool, self.now, &mut burst);
        let frames = burst.iter().map(|frame| frame.bytes().to_vec()).collect();
        burst.drain(..).for_each(|frame| self.pool.recycle(frame));
        (state, frames)
    }

    /// Polls until there are so many frames.
    fn frames(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut frames = std::mem::take(&mut self.early);
        until(|| {
            frames.extend(self.poll().1);
            frames.len() >= count
        });
        frames
    }

    /// Polls until the link says something.
    fn event(&mut self) -> LinkEvent {
        let mut event = None;
        until(|| {
            let (_, frames) = self.poll();
            self.early.extend(frames);
            event = self.port.poll_link();
            event.is_some()
        });
        event.unwrap()
    }

    fn up(&mut self) {
        assert!(matches!(self.event(), LinkEvent::Up { .. }));
    }

    /// Offers the frames in order, as often as it takes while there is progress. Returns how many were taken.
    fn send(&mut self, frames: &[Vec<u8>]) -> usize {
        let mut taken = 0;
        for chunk in frames.chunks(BURST_FRAMES) {
            let mut burst: Burst = chunk.iter().map(|frame| self.pool.frame_from(frame).unwrap()).collect();
            self.port.tx_burst(&mut self.pool, self.now, &mut burst);
            taken += chunk.len() - burst.len();
            if !burst.is_empty() {
                break;
            }
        }
        taken
    }
}

fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "it never came");
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn framed(frame: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(frame);
    bytes
}

/// Frame number `n`: its bytes tell its number and its length.
fn numbered(n: u32, len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = n.to_be_bytes().iter().copied().cycle().take(len).collect();
    frame[0] = u8::try_from(len % 251).unwrap();
    frame
}

fn read_frame(stream: &mut impl Read) -> Vec<u8> {
    let mut word = [0; 4];
    stream.read_exact(&mut word).unwrap();
    let mut frame = vec![0; usize::try_from(u32::from_be_bytes(word)).unwrap()];
    stream.read_exact(&mut frame).unwrap();
    frame
}

fn read_all(stream: &mut impl Read, frames: &[Vec<u8>]) {
    for frame in frames {
        assert_eq!(&read_frame(stream), frame);
    }
}

fn socket_path(folder: &tempfile::TempDir) -> (PathBuf, String) {
    let path = folder.path().join("s");
    let address = format!("unix:{}", path.display());
    (path, address)
}

#[test]
fn golden_bytes_both_ways() {
    // spec/qemu.md, section 1: what QEMU's comparer puts on notify_dev.
    let golden = b"\x00\x00\x00\x0dDO_CHECKPOINT";
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    peer.write_all(golden).unwrap();
    assert_eq!(bench.frames(1), [b"DO_CHECKPOINT"]);
    assert_eq!(bench.send(&[b"DO_CHECKPOINT".to_vec()]), 1);
    assert!(bench.port.flush());
    let mut got = [0; 17];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, golden);
}

#[test]
fn byte_by_byte() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    for byte in framed(&[7; 60]) {
        assert_eq!(bench.poll(), (RxState::Empty, vec![]));
        peer.write_all(&[byte]).unwrap();
    }
    assert_eq!(bench.poll(), (RxState::Empty, vec![vec![7; 60]]));
}

#[test]
fn many_frames_in_one_read_are_stamped_in_order() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    let stream: Vec<u8> = (0..80).flat_map(|n| framed(&numbered(n, 64))).collect();
    peer.write_all(&stream).unwrap();
    let mut ordinals = Vec::new();
    for (count, state) in [(32, RxState::More), (32, RxState::More), (16, RxState::Empty)] {
        let mut burst = Burst::new();
        let now = Nanos(u64::try_from(ordinals.len()).unwrap());
        assert_eq!(bench.port.rx_burst(&mut bench.pool, now, &mut burst), state);
        assert_eq!(burst.len(), count);
        assert!(burst.iter().all(|frame| frame.arrival() == now));
        ordinals.extend(burst.iter().map(Frame::ordinal));
    }
    assert_eq!(ordinals, (0..80).collect::<Vec<u64>>());
    assert_eq!(bench.port.received(), 80);
}

#[test]
fn the_longest_frames_pass_both_ways() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    let frames: Vec<_> = (0..20).map(|n| numbered(n, MAX_FRAME_BYTES)).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for frame in &frames {
                peer.write_all(&framed(frame)).unwrap();
            }
            let back: Vec<_> = (0..20).map(|_| read_frame(&mut peer)).collect();
            assert_eq!(back, frames);
        });
        assert_eq!(bench.frames(20), frames);
        let mut sent = 0;
        until(|| {
            sent += bench.send(&frames[sent..(sent + 1).min(20)]);
            bench.port.flush() && sent == 20
        });
    });
}

#[test]
fn an_impossible_length_closes_and_the_next_peer_is_welcome() {
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket_path(&folder);
    let mut bench = Bench::on(&format!("{address},listen"));
    for (refused, length) in [(1, 0_u32), (2, 69_633), (3, u32::MAX)] {
        let mut peer = UnixStream::connect(&path).unwrap();
        bench.up();
        peer.write_all(&framed(b"good")).unwrap();
        peer.write_all(&length.to_be_bytes()).unwrap();
        assert_eq!(bench.frames(1), [b"good"]);
        let LinkEvent::Refused { reason } = bench.event() else { panic!("not refused") };
        assert!(reason.contains(&format!("a frame length of {length}, legal are 1 to 69632")), "{reason}");
        assert_eq!(bench.port.refused(), refused);
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0, "closed");
    }
}

#[test]
fn the_virtio_header_is_told_and_written_back() {
    let (mut bench, mut peer) = Bench::pair(Framing::VnetHeader);
    let mut golden = vec![0, 0, 0, 72, 0, 0, 0, 12];
    golden.extend(numbered(5, 72));
    peer.write_all(&golden).unwrap();
    let mut burst = Burst::new();
    assert_eq!(bench.port.rx_burst(&mut bench.pool, Nanos(1), &mut burst), RxState::Empty);
    assert_eq!((burst[0].virtio_header().len(), burst[0].ethernet().len()), (12, 60));
    bench.port.tx_burst(&mut bench.pool, Nanos(1), &mut burst);
    assert!(bench.port.flush());
    let mut got = vec![0; golden.len()];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(got, golden);
    assert!(bench.port.caps().virtio_header);
}

#[test]
fn an_impossible_virtio_header_is_refused() {
    for (length, header, sentence) in
        [(60, 11, "length of 11, legal are 0, 10, 12 and 20"), (14, 20, "of 20 bytes in a frame of 14")]
    {
        let (mut bench, mut peer) = Bench::pair(Framing::VnetHeader);
        bench.up();
        peer.write_all(&[0, 0, 0, length, 0, 0, 0, header]).unwrap();
        let LinkEvent::Refused { reason } = bench.event() else { panic!("not refused") };
        assert!(reason.contains(sentence), "{reason}");
    }
}

#[test]
fn the_second_word_may_be_there_in_one_direction_only() {
    let (mut bench, mut peer) = Bench::pair(Framing::VnetHeader);
    bench.port = bench.port.sending(Framing::Plain).receiving_at_most(100);
    bench.up();
    peer.write_all(b"\0\0\0\x02\0\0\0\0hi").unwrap();
    assert_eq!(bench.frames(1), [b"hi"]);
    assert_eq!(bench.send(&[b"hello".to_vec(), vec![7; 1000]]), 2, "the bound is for what is received");
    assert!(bench.port.flush());
    read_all(&mut peer, &[b"hello".to_vec(), vec![7; 1000]]);
    peer.write_all(&[0, 0, 0, 101]).unwrap();
    let LinkEvent::Refused { reason } = bench.event() else { panic!("not refused") };
    assert!(reason.contains("a frame length of 101, legal are 1 to 100 bytes"), "{reason}");
}

#[test]
fn what_was_meant_for_the_last_peer_can_be_forgotten_and_only_between_two() {
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket_path(&folder);
    let mut bench = Bench::on(&format!("{address},listen"));
    assert_eq!(bench.port.next_attempt(), None, "readiness tells");
    bench.send(&[b"nobody".to_vec()]);
    bench.port.forget_unsent();
    let mut peer = UnixStream::connect(&path).unwrap();
    bench.up();
    bench.send(&[b"somebody".to_vec()]);
    bench.port.forget_unsent();
    assert!(bench.port.flush());
    assert_eq!(read_frame(&mut peer), b"somebody");
}

#[test]
fn an_empty_pool_leaves_the_frame_in_the_port() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    bench.pool = FramePool::new(PoolSettings { small: 1, mtu: 0, jumbo: 0, gso: 0 }).unwrap();
    peer.write_all(&framed(b"one")).unwrap();
    peer.write_all(&framed(b"two")).unwrap();
    let mut burst = Burst::new();
    assert_eq!(bench.port.rx_burst(&mut bench.pool, Nanos(1), &mut burst), RxState::PoolEmpty);
    assert_eq!(burst[0].bytes(), b"one");
    burst.clear();
    assert_eq!(bench.port.rx_burst(&mut bench.pool, Nanos(2), &mut burst), RxState::Empty);
    assert_eq!((burst[0].bytes(), burst[0].ordinal()), (&b"two"[..], 1));
}

#[test]
fn the_peer_may_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket_path(&folder);
    let mut bench = Bench::on(&format!("{address},listen"));
    assert_eq!(bench.poll().0, RxState::Down);
    assert!(bench.port.readiness().is_some(), "the listener");
    let mut first = UnixStream::connect(&path).unwrap();
    bench.up();
    // The second waits in the queue while the first is there, and what it sent waits too.
    let mut second = UnixStream::connect(&path).unwrap();
    second.write_all(&framed(b"second")).unwrap();
    first.write_all(&framed(b"first")).unwrap();
    first.write_all(&framed(b"torn")[..6]).unwrap();
    assert_eq!(bench.frames(1), [b"first"]);
    (0..50).for_each(|_| assert_eq!(bench.poll(), (RxState::Empty, vec![])));
    drop(first);
    let LinkEvent::Down { reason } = bench.event() else { panic!("not down") };
    assert_eq!(reason, "closed by the other end, in the middle of a frame (6 of 8 bytes)");
    bench.up();
    assert_eq!(bench.frames(1), [b"second"]);
}

#[test]
fn a_partly_written_frame_goes_whole_to_the_next_peer() {
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket_path(&folder);
    let mut bench = Bench::on(&format!("{address},listen"));
    let mut first = UnixStream::connect(&path).unwrap();
    bench.up();
    let frames: Vec<_> = (0..8).map(|n| numbered(n, MAX_FRAME_BYTES)).collect();
    let mut taken = 0;
    // Until neither the socket nor the port takes more.
    while let now @ 1.. = bench.send(&frames[taken..]) {
        taken += now;
    }
    assert!(!bench.port.flush());
    assert!((3..8).contains(&taken), "{taken}");
    assert_eq!(read_frame(&mut first), frames[0]);
    drop(first);
    assert!(matches!(bench.event(), LinkEvent::Down { .. }));
    // Nobody there: what was taken stays, nothing more is taken than there is room for.
    taken += bench.send(&frames[taken..]);
    let kept = bench.port.unsent_bytes();
    assert_eq!(kept % (MAX_FRAME_BYTES + 4), 0, "whole frames");
    let first_kept = taken - kept / (MAX_FRAME_BYTES + 4);
    assert!(first_kept >= 1);
    let mut second = UnixStream::connect(&path).unwrap();
    bench.up();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            read_all(&mut second, &frames[first_kept..]);
        });
        until(|| {
            taken += bench.send(&frames[taken..]);
            bench.port.flush() && taken == frames.len()
        });
    });
}

#[test]
fn nothing_is_lost_while_nobody_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket_path(&folder);
    let mut bench = Bench::on(&format!("{address},listen"));
    let frames: Vec<_> = (0..400).map(|n| numbered(n, 1500)).collect();
    let mut taken = bench.send(&frames);
    assert!((100..400).contains(&taken), "{taken}");
    assert_eq!(bench.send(&frames[taken..]), 0);
    assert!(!bench.port.flush());
    let mut peer = UnixStream::connect(&path).unwrap();
    bench.up();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            read_all(&mut peer, &frames);
        });
        until(|| {
            taken += bench.send(&frames[taken..]);
            bench.port.flush() && taken == frames.len()
        });
    });
    bench.pool.collect();
    assert_eq!(bench.pool.frames_out(), 0);
}

#[test]
fn a_peer_that_reads_slowly_gets_everything_in_order() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    let frames: Vec<_> =
        (0..5000).map(|n| numbered(n, 20 + usize::try_from(n * 37 % 1400).unwrap())).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (number, frame) in frames.iter().enumerate() {
                if number % 500 == 0 {
                    std::thread::sleep(MS);
                }
                assert_eq!(&read_frame(&mut peer), frame);
            }
        });
        let mut sent = 0;
        until(|| {
            sent += bench.send(&frames[sent..(sent + 32).min(frames.len())]);
            bench.port.flush() && sent == frames.len()
        });
    });
}

#[test]
fn what_a_peer_sent_before_it_went_is_received_though_writing_fails() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    bench.up();
    peer.write_all(&framed(b"last words")).unwrap();
    drop(peer);
    bench.send(&[b"too late".to_vec()]);
    assert!(!bench.port.flush());
    assert_eq!(bench.frames(1), [b"last words"]);
    assert!(matches!(bench.event(), LinkEvent::Down { .. }));
    assert_eq!(bench.poll().0, RxState::Down);
    assert!(bench.port.readiness().is_none(), "a pair is over for good");
}

#[test]
fn a_peer_that_only_stops_reading_is_gone_too() {
    let (mut bench, peer) = Bench::pair(Framing::Plain);
    bench.up();
    peer.shutdown(std::net::Shutdown::Read).unwrap();
    bench.send(&[b"hello".to_vec()]);
    assert!(!bench.port.flush());
    assert!(matches!(bench.event(), LinkEvent::Down { .. }));
}

#[test]
fn connecting_is_tried_every_200_ms() {
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket_path(&folder);
    let mut bench = Bench::on(&address);
    assert_eq!(bench.poll().0, RxState::Down);
    assert!(bench.port.obstacle().unwrap().starts_with(&format!("cannot connect to {address}: ")));
    assert!(bench.port.readiness().is_none());
    assert_eq!(bench.port.next_attempt(), Some(bench.now + 200 * MS));
    let server = UnixListener::bind(&path).unwrap();
    (0..199).for_each(|_| assert_eq!(bench.poll().0, RxState::Down, "not yet"));
    assert_eq!(bench.poll().0, RxState::Empty);
    bench.up();
    assert_eq!(bench.port.obstacle(), None);
    // A server that hangs up at once is not connected to more often.
    drop(server.accept().unwrap());
    assert!(matches!(bench.event(), LinkEvent::Down { .. }));
    let before = bench.now;
    bench.up();
    assert!(bench.now.since(before) > 190 * MS, "{before} {}", bench.now);
    drop(server.accept().unwrap());
}

#[test]
fn tcp_connects_and_connects_again_without_delay() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bench = Bench::on(&format!("tcp:127.0.0.1:{}", server.local_addr().unwrap().port()));
    for round in 0..2 {
        bench.up();
        assert!(rustix::net::sockopt::tcp_nodelay(bench.port.readiness().unwrap()).unwrap());
        let (mut peer, _) = server.accept().unwrap();
        peer.write_all(&framed(&[round; 100])).unwrap();
        assert_eq!(bench.frames(1), [[round; 100]]);
        assert_eq!(bench.send(&[vec![round; 9000]]), 1);
        assert!(bench.port.flush());
        assert_eq!(read_frame(&mut peer), [round; 9000]);
        drop(peer);
        assert!(matches!(bench.event(), LinkEvent::Down { .. }));
    }
}

#[test]
fn tcp_listens_for_names_and_ipv6() {
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let mut bench = Bench::on(&format!("tcp:{host}:0,listen"));
        let address = bench.port.local_addr().unwrap();
        for round in 0..2 {
            let mut peer = TcpStream::connect(address).unwrap();
            let LinkEvent::Up { peer: name } = bench.event() else { panic!("not up") };
            assert_eq!(name, format!("tcp:{}", peer.local_addr().unwrap()));
            assert!(rustix::net::sockopt::tcp_nodelay(bench.port.readiness().unwrap()).unwrap());
            peer.write_all(&framed(&[round; 70])).unwrap();
            assert_eq!(bench.frames(1), [[round; 70]]);
            drop(peer);
            assert!(matches!(bench.event(), LinkEvent::Down { .. }));
        }
    }
}

#[test]
fn tcp_finds_the_address_of_a_name_that_answers() {
    // localhost may be ::1 first; only 127.0.0.1 listens.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bench = Bench::on(&format!("tcp:localhost:{}", server.local_addr().unwrap().port()));
    bench.up();
    assert!(server.accept().is_ok());
}

#[test]
fn a_stale_socket_file_goes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = socket_path(&folder);
    let settings: ChardevSettings = format!("{address},listen").parse().unwrap();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead process leaves its file");
    let port = ChardevPort::new(&settings).unwrap();
    let sentence = ChardevPort::new(&settings).unwrap_err().to_string();
    assert!(sentence.contains("another process listens there"), "{sentence}");
    drop(port);
    assert!(!path.exists(), "its own file goes with it");
    std::fs::write(&path, "precious").unwrap();
    let sentence = ChardevPort::new(&settings).unwrap_err().to_string();
    assert!(sentence.contains("a file that is no socket is in the way"), "{sentence}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let nowhere = folder.path().join("no/such/folder");
    let settings: ChardevSettings = format!("unix:{},listen", nowhere.display()).parse().unwrap();
    let sentence = ChardevPort::new(&settings).unwrap_err().to_string();
    assert!(sentence.ends_with("; make its folder first"), "{sentence}");
    let settings: ChardevSettings = format!("unix:/{},listen", "x".repeat(200)).parse().unwrap();
    let sentence = ChardevPort::new(&settings).unwrap_err().to_string();
    assert!(sentence.ends_with("; a socket's path has 107 bytes at most"), "{sentence}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the stream is cut, the same frames come out; and what comes in goes out the same.
    #[test]
    fn any_chunking_gives_the_same_frames(
        lens in prop::collection::vec(prop_oneof![6 => 1_usize..200, 2 => 1400_usize..1600, 1 => 8000_usize..69_632], 1..60),
        cuts in prop::collection::vec(prop_oneof![1_usize..9, 100_usize..5000, 60_000_usize..90_000], 1..50),
        vnet in any::<bool>(),
    ) {
        let framing = if vnet { Framing::VnetHeader } else { Framing::Plain };
        let header = |len: usize| if vnet && len >= 12 { 12_u8 } else { 0 };
        let frames: Vec<_> = lens.iter().zip(0..).map(|(&len, n)| numbered(n, len)).collect();
        let mut stream = Vec::new();
        for frame in &frames {
            stream.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
            if vnet {
                stream.extend([0, 0, 0, header(frame.len())]);
            }
            stream.extend(frame);
        }
        let (mut bench, mut peer) = Bench::pair(framing);
        let (mut out, mut copy) = Bench::pair(framing);
        copy.set_nonblocking(true).unwrap();
        let (mut got, mut back) = (Vec::new(), Vec::new());
        let mut rest = &stream[..];
        let mut cuts = cuts.iter().cycle();
        let mut burst = Burst::new();
        while got.len() < frames.len() {
            let (chunk, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            peer.write_all(chunk).unwrap();
            rest = later;
            loop {
                let before = burst.len();
                let state = bench.port.rx_burst(&mut bench.pool, Nanos(1), &mut burst);
                for frame in &burst[before..] {
                    prop_assert_eq!(frame.virtio_header().len(), usize::from(header(frame.len())));
                    got.push(frame.bytes().to_vec());
                }
                out.port.tx_burst(&mut bench.pool, Nanos(1), &mut burst);
                out.port.flush();
                let _ = copy.read_to_end(&mut back);
                if state == RxState::Empty && burst.is_empty() {
                    break;
                }
            }
        }
        prop_assert_eq!(got, frames);
        while !out.port.flush() {
            let _ = copy.read_to_end(&mut back);
        }
        let _ = copy.read_to_end(&mut back);
        prop_assert_eq!(back, stream);
    }
}
