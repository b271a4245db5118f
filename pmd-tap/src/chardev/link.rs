//! The connection itself: listening or connecting, one peer at a time, taken back when it comes again.
//!
//! Control path: it may allocate and resolve names. What it costs per poll is a comparison while the link is up, and
//! while it is down too, except every 10 ms (accept) or 200 ms (connect).

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::SocketAddrUnix;

use super::socket::{Progress, UnixEar, connect_unix, listen_tcp, os, prepare, progress, start_tcp};
use super::{ChardevSettings, Endpoint, Role};
use crate::{LinkEvent, Nanos, PortError};

/// How often a listener looks for a peer, and how often a connection under way is asked whether it is there.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often a connection is tried.
const TRY_EVERY: Duration = Duration::from_millis(200);
/// How long one connection attempt may take: the kernel sends a second SYN after one second.
const TRY_FOR: Duration = Duration::from_secs(3);
/// Events kept for a reader that does not come; the oldest go first.
const MAX_EVENTS: usize = 64;

/// How the other end is reached.
#[derive(Debug)]
enum Way {
    ListenUnix(UnixEar),
    ListenTcp(TcpListener),
    ConnectUnix(SocketAddrUnix),
    ConnectTcp(Vec<SocketAddr>),
    /// It was there from the start and never comes again.
    Once,
}

#[derive(Debug)]
enum State {
    /// Nobody there. Not before `next` is it tried.
    Waiting { next: Nanos },
    /// A TCP connection is on its way to the address of that number.
    Connecting { socket: OwnedFd, address: usize, started: Nanos, next: Nanos },
    /// Somebody is there. `retry`: the earliest next attempt if it goes.
    Up { socket: OwnedFd, retry: Nanos },
    /// Over for good.
    Over,
}

/// A connection that comes and goes.
#[derive(Debug)]
pub(super) struct Link {
    name: String,
    way: Way,
    state: State,
    events: VecDeque<LinkEvent>,
    obstacle: Option<io::Error>,
}

impl Link {
    /// Listens, or gets ready to connect.
    pub(super) fn new(settings: &ChardevSettings) -> Result<Self, PortError> {
        let way = match (&settings.endpoint, settings.role) {
            (Endpoint::Unix(path), Role::Listen) => Way::ListenUnix(UnixEar::new(path)?),
            (Endpoint::Unix(path), Role::Connect) => {
                let address = SocketAddrUnix::new(path)
                    .map_err(|source| refused("connect to", settings, source.into()))?;
                Way::ConnectUnix(address)
            }
            (Endpoint::Tcp { host, port }, role) => {
                let found = (host.as_str(), *port).to_socket_addrs();
                let found: Vec<_> = found.map_err(|source| refused("resolve", settings, source))?.collect();
                match role {
                    Role::Connect => Way::ConnectTcp(found),
                    Role::Listen => Way::ListenTcp(
                        listen_tcp(&found).map_err(|source| refused("listen on", settings, source))?,
                    ),
                }
            }
        };
        Ok(Self::with(way, State::Waiting { next: Nanos::ZERO }, settings.endpoint.to_string()))
    }

    /// A connection that is there.
    pub(super) fn once(socket: OwnedFd, name: &str) -> Self {
        let mut link = Self::with(Way::Once, State::Up { socket, retry: Nanos::NEVER }, name.to_owned());
        link.tell(LinkEvent::Up { peer: name.to_owned() });
        link
    }

    fn with(way: Way, state: State, name: String) -> Self {
        Self { name, way, state, events: VecDeque::with_capacity(MAX_EVENTS), obstacle: None }
    }

    /// The socket, when somebody is at the other end.
    #[inline]
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Up { socket, .. } => Some(socket.as_fd()),
            _ => None,
        }
    }

    /// Does what is due to have a peer. Returns whether there is one.
    #[inline]
    pub(super) fn keep(&mut self, now: Nanos) -> bool {
        match self.state {
            State::Up { .. } => true,
            State::Waiting { next } | State::Connecting { next, .. } if next <= now => self.attempt(now),
            _ => false,
        }
    }

    #[cold]
    fn attempt(&mut self, now: Nanos) -> bool {
        let state = std::mem::replace(&mut self.state, State::Over);
        let result = match state {
            State::Connecting { socket, address, started, .. } => self.look(socket, address, started, now),
            _ => match &self.way {
                Way::ListenUnix(ear) => accepted(ear.listener.accept(), |_| self.name.clone()),
                Way::ListenTcp(ear) => accepted(ear.accept(), |peer| format!("tcp:{peer}")),
                Way::ConnectUnix(address) => {
                    connect_unix(address).map(|socket| Some((socket, self.name.clone())))
                }
                Way::ConnectTcp(_) => self.connect_tcp(0, now),
                Way::Once => return false,
            },
        };
        let retry = now + self.every();
        match result {
            Ok(Some((socket, peer))) => {
                prepare(&socket);
                self.obstacle = None;
                self.state = State::Up { socket, retry };
                self.tell(LinkEvent::Up { peer });
                return true;
            }
            // Not yet: `connect_tcp` and `look` have set the state, a listener goes on waiting.
            Ok(None) => {}
            Err(error) => self.obstacle = Some(error),
        }
        if let State::Over = self.state {
            self.state = State::Waiting { next: retry };
        }
        false
    }

    fn every(&self) -> Duration {
        match self.way {
            Way::ListenUnix(_) | Way::ListenTcp(_) => LOOK_EVERY,
            _ => TRY_EVERY,
        }
    }

    /// Tries the addresses from that number on, until one answers or takes its time.
    fn connect_tcp(&mut self, first: usize, now: Nanos) -> Attempt {
        let Way::ConnectTcp(addresses) = &self.way else {
            return Ok(None);
        };
        let mut last = Err(io::ErrorKind::AddrNotAvailable.into());
        for (number, address) in addresses.iter().enumerate().skip(first) {
            match start_tcp(*address) {
                Ok((socket, Progress::There)) => return Ok(Some((socket, format!("tcp:{address}")))),
                Ok((socket, Progress::Underway)) => {
                    let next = now + LOOK_EVERY;
                    self.state = State::Connecting { socket, address: number, started: now, next };
                    return Ok(None);
                }
                Err(error) => last = Err(error),
            }
        }
        last
    }

    /// Whether a connection under way is there; when it failed the next address is tried.
    fn look(&mut self, socket: OwnedFd, address: usize, started: Nanos, now: Nanos) -> Attempt {
        let failed = match progress(&socket) {
            Ok(Progress::There) => {
                let Way::ConnectTcp(addresses) = &self.way else {
                    return Ok(None);
                };
                let peer =
                    addresses.get(address).map_or_else(|| self.name.clone(), |found| format!("tcp:{found}"));
                return Ok(Some((socket, peer)));
            }
            Ok(Progress::Underway) if now.since(started) < TRY_FOR => {
                self.state = State::Connecting { socket, address, started, next: now + LOOK_EVERY };
                return Ok(None);
            }
            Ok(Progress::Underway) => io::ErrorKind::TimedOut.into(),
            Err(error) => error,
        };
        match self.connect_tcp(address + 1, now) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Err(failed),
            other => other,
        }
    }

    /// Closes the connection and says why.
    pub(super) fn close(&mut self, event: LinkEvent) {
        if let State::Up { retry, .. } = self.state {
            self.state = match self.way {
                Way::Once => State::Over,
                _ => State::Waiting { next: retry },
            };
            self.tell(event);
        }
    }

    /// Whether nobody comes any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn tell(&mut self, event: LinkEvent) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The next thing that happened.
    pub(super) fn next_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// What becomes readable when there is something to do.
    pub(super) fn readiness(&self) -> Option<BorrowedFd<'_>> {
        match (&self.state, &self.way) {
            (State::Up { socket, .. }, _) => Some(socket.as_fd()),
            (State::Waiting { .. }, Way::ListenUnix(ear)) => Some(ear.listener.as_fd()),
            (State::Waiting { .. }, Way::ListenTcp(ear)) => Some(ear.as_fd()),
            _ => None,
        }
    }

    /// When [`keep`](Self::keep) has something to do that no readiness tells.
    pub(super) fn next_attempt(&self) -> Option<Nanos> {
        match (&self.state, &self.way) {
            (State::Waiting { next }, Way::ConnectUnix(_) | Way::ConnectTcp(_))
            | (State::Connecting { next, .. }, _) => Some(*next),
            _ => None,
        }
    }

    /// Where it listens, when that is TCP.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.way {
            Way::ListenTcp(ear) => ear.local_addr().ok(),
            _ => None,
        }
    }

    /// Why the last attempt failed.
    pub(super) fn obstacle(&self) -> Option<String> {
        self.obstacle.as_ref().map(|error| format!("cannot connect to {}: {error}", self.name))
    }
}

/// A peer and its name; `None`: not yet.
type Attempt = io::Result<Option<(OwnedFd, String)>>;

fn accepted<S: Into<OwnedFd>, A>(result: io::Result<(S, A)>, name: impl FnOnce(A) -> String) -> Attempt {
    match result {
        Ok((socket, peer)) => Ok(Some((socket.into(), name(peer)))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn refused(action: &'static str, settings: &ChardevSettings, source: io::Error) -> PortError {
    os(action, settings.endpoint.to_string(), source)
}
