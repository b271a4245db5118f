//! One fixed conversation between a client and a server over the kernel's TCP and UDP. Every run says the same bytes on
//! the same ports; segmentation, timing and initial sequence numbers are the kernel's.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use crate::netns::{Pair, Segmentation, join};
use crate::sniff::{Captured, Sniffer};

/// Where the server listens, TCP and UDP.
pub const SERVER_PORT: u16 = 8080;
/// Bound of every single socket call.
const SOCKET_LIMIT: Duration = Duration::from_secs(20);
/// Bound of a whole run.
const RUN_LIMIT: Duration = Duration::from_mins(1);

/// Which end shuts its direction down first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstToClose {
    /// The client.
    Client,
    /// The server, which plays the guest.
    Server,
}

/// One connection: the client's port says which.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// Client port, the same in every run, so that flow keys are equal.
    pub client_port: u16,
    /// Request and response length of each exchange, bytes.
    pub exchanges: &'static [(usize, usize)],
    /// Who closes first.
    pub first_to_close: FirstToClose,
}

/// The connections of a run; each is held once over IPv4 and once over IPv6, all at the same time.
pub const CONNECTIONS: [Connection; 5] = [
    connection(40_001, &[(1, 1), (1, 1), (7, 100)], FirstToClose::Client),
    connection(40_002, &[(100, 1 << 20)], FirstToClose::Server),
    connection(40_003, &[(1 << 20, 1), (1, 70_000)], FirstToClose::Client),
    connection(40_004, &[(1_460, 1_460), (1_461, 2_921), (65_536, 65_535), (3, 9_000)], FirstToClose::Server),
    connection(40_005, &[(20, 1); 40], FirstToClose::Client),
];
/// The UDP exchanges, over each IP version.
const DATAGRAMS: [(usize, usize); 5] = [(1, 1), (10, 1_400), (1_400, 10), (0, 512), (33, 33)];
const UDP_CLIENT_PORT: u16 = 40_100;

const fn connection(
    client_port: u16,
    exchanges: &'static [(usize, usize)],
    first_to_close: FirstToClose,
) -> Connection {
    Connection { client_port, exchanges, first_to_close }
}

/// Number of TCP flows in a run.
pub const FLOWS: usize = CONNECTIONS.len() * 2;

/// Holds the conversation in fresh namespaces; returns what the server sent.
pub fn capture(segmentation: Segmentation) -> Result<Vec<Captured>> {
    let pair = Pair::new(segmentation)?;
    let over = AtomicBool::new(false);
    let servers = [Pair::SERVER_V4.parse::<IpAddr>()?, Pair::SERVER_V6.parse()?];
    let clients = [Pair::CLIENT_V4.parse::<IpAddr>()?, Pair::CLIENT_V6.parse()?];
    // Everything that can be refused is opened before the client starts.
    let (sniffer, listeners, datagrams) = pair.server.inside(|| {
        let listeners: Vec<_> = servers
            .iter()
            .map(|address| TcpListener::bind((*address, SERVER_PORT)))
            .collect::<std::io::Result<_>>()?;
        let datagrams: Vec<_> = servers
            .iter()
            .map(|address| UdpSocket::bind((*address, SERVER_PORT)))
            .collect::<std::io::Result<_>>()?;
        Ok((Sniffer::open()?, listeners, datagrams))
    })?;
    std::thread::scope(|scope| {
        let sniffing = scope.spawn(|| sniffer.collect(Pair::SERVER_MAC, &over, RUN_LIMIT));
        let serving: Vec<_> = listeners
            .iter()
            .map(|listener| scope.spawn(move || serve(listener, CONNECTIONS.len())))
            .collect();
        let answering: Vec<_> = datagrams.iter().map(|socket| scope.spawn(|| answer(socket))).collect();
        let mut asking = Vec::new();
        for (client, server) in clients.into_iter().zip(servers) {
            for connection in CONNECTIONS {
                asking.push(pair.client.spawn(scope, move || ask(client, server, connection)));
            }
            asking.push(pair.client.spawn(scope, move || ask_datagrams(client, server)));
        }
        let clients_done: Result<()> = asking.into_iter().try_for_each(join);
        // A client that failed leaves servers waiting; their own limits end them.
        let servers_done: Result<()> = serving.into_iter().chain(answering).try_for_each(join);
        over.store(true, Ordering::Release);
        let frames = join(sniffing)?;
        clients_done.context("client")?;
        servers_done.context("server")?;
        Ok(frames)
    })
}

/// The byte at `offset` of what one side says on a connection. No two ports and no two directions agree for long.
pub fn spoken(port: u16, offset: usize) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b1).rotate_left(9) ^ (usize::from(port) * 31) ^ (offset >> 8);
    mixed.to_le_bytes()[0]
}

fn say(stream: &mut TcpStream, port: u16, said: &mut usize, length: usize) -> Result<()> {
    let bytes: Vec<u8> = (*said..*said + length).map(|offset| spoken(port, offset)).collect();
    *said += length;
    stream.write_all(&bytes).with_context(|| format!("port {port}: writing {length} bytes"))
}

fn hear(stream: &mut TcpStream, port: u16, heard: &mut usize, length: usize) -> Result<()> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).with_context(|| format!("port {port}: reading {length} bytes"))?;
    let wrong = bytes.iter().zip(*heard..).position(|(byte, offset)| *byte != spoken(port, offset));
    ensure!(wrong.is_none(), "port {port}: wrong byte {wrong:?} after {heard}");
    *heard += length;
    Ok(())
}

fn hear_the_end(stream: &mut TcpStream, port: u16) -> Result<()> {
    let left = stream.read(&mut [0]).with_context(|| format!("port {port}: waiting for the end"))?;
    ensure!(left == 0, "port {port}: more than was agreed");
    Ok(())
}

fn limit(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(SOCKET_LIMIT))?;
    stream.set_write_timeout(Some(SOCKET_LIMIT))?;
    Ok(())
}

fn serve(listener: &TcpListener, connections: usize) -> Result<()> {
    std::thread::scope(|scope| {
        let mut serving = Vec::new();
        for _ in 0..connections {
            let (stream, peer) = accept(listener)?;
            serving.push(scope.spawn(move || serve_one(stream, peer)));
        }
        serving.into_iter().try_for_each(join)
    })
}

/// Accept with a deadline, so that a client that never came cannot hang the test.
pub fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    crate::wait::readable(listener, SOCKET_LIMIT).context("nobody connected")?;
    Ok(listener.accept()?)
}

fn serve_one(mut stream: TcpStream, peer: SocketAddr) -> Result<()> {
    limit(&stream)?;
    let port = peer.port();
    let connection = CONNECTIONS
        .iter()
        .find(|connection| connection.client_port == port)
        .with_context(|| format!("unexpected client port {port}"))?;
    let (mut heard, mut said) = (0, 0);
    for (request, response) in connection.exchanges {
        hear(&mut stream, port, &mut heard, *request)?;
        say(&mut stream, SERVER_PORT ^ port, &mut said, *response)?;
    }
    if connection.first_to_close == FirstToClose::Server {
        stream.shutdown(Shutdown::Write)?;
    }
    // Reading to the end first: a socket closed with unread bytes resets instead of finishing.
    hear_the_end(&mut stream, port)
}

fn ask(client: IpAddr, server: IpAddr, connection: Connection) -> Result<()> {
    let port = connection.client_port;
    let mut stream = connect_from(SocketAddr::new(client, port), SocketAddr::new(server, SERVER_PORT))?;
    limit(&stream)?;
    let (mut said, mut heard) = (0, 0);
    for (request, response) in connection.exchanges {
        say(&mut stream, port, &mut said, *request)?;
        hear(&mut stream, SERVER_PORT ^ port, &mut heard, *response)?;
    }
    if connection.first_to_close == FirstToClose::Client {
        stream.shutdown(Shutdown::Write)?;
    }
    hear_the_end(&mut stream, port)
}

/// A TCP connection whose local port is chosen; the standard library has none.
fn connect_from(local: SocketAddr, remote: SocketAddr) -> Result<TcpStream> {
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket: OwnedFd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &local).with_context(|| format!("cannot bind {local}"))?;
    connect(&socket, &remote).with_context(|| format!("cannot connect to {remote}"))?;
    Ok(TcpStream::from(socket))
}

fn ask_datagrams(client: IpAddr, server: IpAddr) -> Result<()> {
    let socket = UdpSocket::bind((client, UDP_CLIENT_PORT))?;
    socket.connect((server, SERVER_PORT))?;
    socket.set_read_timeout(Some(SOCKET_LIMIT))?;
    let mut buffer = [0; 2_048];
    for (request, response) in DATAGRAMS {
        socket.send(&vec![0x55; request])?;
        let length = socket.recv(&mut buffer).context("no UDP answer")?;
        ensure!(length == response, "a UDP answer of {length} bytes instead of {response}");
    }
    Ok(())
}

fn answer(socket: &UdpSocket) -> Result<()> {
    socket.set_read_timeout(Some(SOCKET_LIMIT))?;
    let mut buffer = [0; 2_048];
    for (request, response) in DATAGRAMS {
        let (length, peer) = socket.recv_from(&mut buffer).context("no UDP request")?;
        ensure!(length == request, "a UDP request of {length} bytes instead of {request}");
        let bytes: Vec<u8> = (0..response).map(|offset| spoken(UDP_CLIENT_PORT, offset)).collect();
        socket.send_to(&bytes, peer)?;
    }
    Ok(())
}
