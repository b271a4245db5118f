//! Sockets made, judged and prepared, and the unix listener with its file. Each function is one step; when to take it
//! is `link.rs`'s.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::PortError;

/// TCP keep-alive: a peer whose host vanished without a word is given up after this and `KEEP_ALIVE_PROBES` seconds.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_PROBES: u32 = 3;
/// How far a connection is.
pub(super) enum Progress {
    There,
    Underway,
}

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A unix connection is there at once or not at all.
pub(super) fn connect_unix(address: &SocketAddrUnix) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    rustix::net::connect(&socket, address)?;
    Ok(socket)
}

pub(super) fn start_tcp(address: SocketAddr) -> io::Result<(OwnedFd, Progress)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, FLAGS, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let progress = progress(&socket)?;
    Ok((socket, progress))
}

pub(super) fn progress(socket: &OwnedFd) -> io::Result<Progress> {
    let mut polled = [PollFd::new(socket, PollFlags::OUT)];
    if rustix::event::poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
        return Ok(Progress::Underway);
    }
    sockopt::socket_error(socket)??;
    // On one machine, when nobody listens, TCP may connect a socket to itself: the port it got is the one it asks for.
    if rustix::net::getpeername(socket)? == Some(rustix::net::getsockname(socket)?) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(Progress::There)
}

/// TCP without delay, and with an end when the peer's host vanishes. On a unix socket all of it fails, harmlessly.
pub(super) fn prepare(socket: &OwnedFd) {
    if sockopt::set_tcp_nodelay(socket, true).is_ok() {
        let _ = sockopt::set_tcp_keepidle(socket, KEEP_ALIVE_IDLE);
        let _ = sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE_INTERVAL);
        let _ = sockopt::set_tcp_keepcnt(socket, KEEP_ALIVE_PROBES);
        let _ = sockopt::set_socket_keepalive(socket, true);
    }
}

pub(super) fn listen_tcp(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addresses)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

pub(super) fn os(action: &'static str, address: String, source: io::Error) -> PortError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there: stop it, or take another address",
        io::ErrorKind::AddrNotAvailable => {
            "; this machine has no such address: 0.0.0.0 stands for all it has"
        }
        io::ErrorKind::NotFound => "; make its folder first",
        io::ErrorKind::PermissionDenied => "; take an address this user may use",
        _ if Errno::from_io_error(&source) == Some(Errno::NAMETOOLONG) => {
            "; a socket's path has 107 bytes at most"
        }
        _ => "",
    };
    PortError::Os { action, address, source, hint: hint.to_owned() }
}

/// A unix listener with its file, which goes when it goes.
#[derive(Debug)]
pub(super) struct UnixEar {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file: another process may have put its own there since.
    identity: Option<(u64, u64)>,
}

impl UnixEar {
    pub(super) fn new(path: &Path) -> Result<Self, PortError> {
        let failed = |source| os("listen on", format!("unix:{}", path.display()), source);
        // Judged here because `bind` calls it an invalid argument.
        SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
        remove_stale(path).map_err(failed)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), identity: identity(path) })
    }
}

impl Drop for UnixEar {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Removes what a dead process left: a socket that nobody answers on, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::other("a file that is no socket is in the way"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match connect_unix(&SocketAddrUnix::new(path)?) {
        // Would block: its queue is full.
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}
