//! Bytes over the kernels' own TCP and UDP, each of them checked where it arrives: down from the server, up to it, and
//! datagrams there and back.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Kernels, timed};
use crate::conversation::accept;
use crate::netns::{Namespace, join};

const PORT: u16 = 8_080;
/// Bound of a single socket call.
const SOCKET_LIMIT: Duration = Duration::from_secs(30);
/// Bytes a second at least, and seconds beside that: a crawl of retransmissions is a failure, too.
const SLOWEST: u64 = 4_000_000;
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes written and checked at once.
const BLOCK: usize = 1 << 18;
const WORD: usize = 8;

/// What is transferred.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// Bytes from the server, which plays the guest, to the client.
    pub down: u64,
    /// Bytes from the client to the server.
    pub up: u64,
    /// Datagrams there and back, of growing lengths.
    pub datagrams: u16,
}

/// How fast it was.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    /// Bytes and time of the way down.
    pub down: (u64, Duration),
    /// Bytes and time of the way up.
    pub up: (u64, Duration),
}

/// Transfers everything.
pub fn run(client: &Namespace, server: &Namespace, order: &Order) -> Result<Speed> {
    let (listener, echo) = server.inside(|| {
        let echo = UdpSocket::bind((Kernels::SERVER, PORT))?;
        echo.set_read_timeout(Some(SOCKET_LIMIT))?;
        Ok((TcpListener::bind((Kernels::SERVER, PORT))?, echo))
    })?;
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&listener, &echo, order));
        let asking = client.spawn(scope, || ask(order));
        let speed = join(asking).context("client");
        let served = join(serving).context("server");
        served.and(speed)
    })
}

fn serve(listener: &TcpListener, echo: &UdpSocket, order: &Order) -> Result<()> {
    let mut buffer = [0; 2_048];
    for number in 0..order.datagrams {
        let (len, peer) = echo.recv_from(&mut buffer).with_context(|| format!("datagram {number}"))?;
        echo.send_to(&buffer[..len], peer)?;
    }
    let (mut stream, _) = accept(listener)?;
    limit(&stream)?;
    say(&mut stream, order.down).context("down")?;
    hear(&mut stream, order.up).context("up")?;
    stream.write_all(&order.up.to_le_bytes())?;
    ensure!(stream.read(&mut [0])? == 0, "more than was agreed");
    Ok(())
}

fn ask(order: &Order) -> Result<Speed> {
    let socket = UdpSocket::bind((Kernels::CLIENT, 0))?;
    socket.set_read_timeout(Some(SOCKET_LIMIT))?;
    socket.connect((Kernels::SERVER, PORT))?;
    let mut buffer = [0; 2_048];
    for number in 0..order.datagrams {
        let length = 8 + u64::from(number) * 31 % 1_440;
        let sent: Vec<u8> = (0..length).map(|at| word(u64::from(number) + at).to_le_bytes()[0]).collect();
        socket.send(&sent)?;
        let got = socket.recv(&mut buffer).with_context(|| format!("datagram {number}"))?;
        ensure!(buffer[..got] == sent[..], "datagram {number} came back otherwise");
    }
    let mut stream = TcpStream::connect((Kernels::SERVER, PORT)).context("connecting")?;
    limit(&stream)?;
    let ((), down) = timed(|| hear(&mut stream, order.down).context("down"))?;
    let ((), up) = timed(|| {
        say(&mut stream, order.up).context("up")?;
        let mut heard = [0; WORD];
        stream.read_exact(&mut heard)?;
        ensure!(u64::from_le_bytes(heard) == order.up, "the server heard another length");
        Ok(())
    })?;
    Ok(Speed { down: (order.down, down), up: (order.up, up) })
}

fn limit(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(SOCKET_LIMIT))?;
    stream.set_write_timeout(Some(SOCKET_LIMIT))?;
    Ok(())
}

/// The eight bytes at that place of a stream, counted in eights.
fn word(place: u64) -> u64 {
    let mixed = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn say(stream: &mut TcpStream, bytes: u64) -> Result<()> {
    let mut block = vec![0; BLOCK];
    let mut place = 0;
    let mut left = bytes;
    let deadline = Instant::now() + PATIENCE + Duration::from_secs(bytes / SLOWEST);
    while left > 0 {
        ensure!(Instant::now() < deadline, "too slow: {left} of {bytes} bytes are left");
        for bytes in block.chunks_exact_mut(WORD) {
            bytes.copy_from_slice(&word(place).to_le_bytes());
            place += 1;
        }
        let take = usize::try_from(left)?.min(BLOCK);
        stream.write_all(&block[..take]).with_context(|| format!("{left} bytes before the end"))?;
        left -= u64::try_from(take)?;
    }
    Ok(())
}

fn hear(stream: &mut TcpStream, bytes: u64) -> Result<()> {
    let mut block = vec![0; BLOCK];
    let mut place = 0;
    let mut left = bytes;
    let deadline = Instant::now() + PATIENCE + Duration::from_secs(bytes / SLOWEST);
    while left > 0 {
        ensure!(Instant::now() < deadline, "too slow: {left} of {bytes} bytes are left");
        let take = usize::try_from(left)?.min(BLOCK);
        stream.read_exact(&mut block[..take]).with_context(|| format!("{left} bytes before the end"))?;
        for said in block[..take].chunks(WORD) {
            ensure!(
                said == &word(place).to_le_bytes()[..said.len()],
                "a wrong byte in the eight at {}",
                place * 8
            );
            place += 1;
        }
        left -= u64::try_from(take)?;
    }
    Ok(())
}
