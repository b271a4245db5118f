//! What a service manager wants to hear: readiness, the end, and signs of life while every thread is alive.
//!
//! The protocol is `sd_notify(3)`: a datagram of `KEY=VALUE` to the unix socket in `$NOTIFY_SOCKET`; `@` begins an
//! abstract address. Without a service manager nothing is said.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Service {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
}

/// When the next sign of life is due, and what must have grown by then.
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    next: Instant,
    beats: Vec<u64>,
}

/// What the service manager said in the environment.
#[derive(Clone, Debug, Default)]
struct Wishes {
    /// `$NOTIFY_SOCKET`.
    socket: Option<OsString>,
    /// `$WATCHDOG_USEC`.
    watchdog: Option<Duration>,
}

impl Wishes {
    fn from_environment() -> Self {
        let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        // For another process than this one: nothing to us.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0);
        Self {
            socket: std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()),
            watchdog: watchdog.map(Duration::from_micros),
        }
    }
}

impl Service {
    /// As the environment says. A manager that cannot be reached is said so once, and is none.
    pub(super) fn from_environment() -> Self {
        Self::new(&Wishes::from_environment(), Instant::now())
    }

    fn new(wishes: &Wishes, now: Instant) -> Self {
        let Some(address) = &wishes.socket else { return Self::default() };
        match connect(address) {
            Ok(socket) => {
                // Twice as often as asked for, as sd_watchdog_enabled(3) recommends.
                let every = wishes.watchdog.map(|asked| asked / 2);
                let watchdog = every.map(|every| Watchdog { every, next: now + every, beats: Vec::new() });
                Self { socket: Some(socket), watchdog }
            }
            Err(error) => {
                tracing::warn!("no service manager at {}: {error}", address.display());
                Self::default()
            }
        }
    }

    /// Ports are open, threads run.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// A sign of life, if one is due and every thread has shown one since the last: `beats` has a number for each that
    /// grows while it is alive.
    pub(super) fn watch(&mut self, now: Instant, beats: impl FnOnce() -> Vec<u64>) {
        let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| now >= watchdog.next) else { return };
        let beats = beats();
        let seen = &watchdog.beats;
        let all = beats.iter().enumerate().all(|(at, beat)| seen.get(at).is_none_or(|seen| beat > seen));
        if all {
            watchdog.beats = beats;
            watchdog.next = now + watchdog.every;
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, what: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(what.as_bytes()) {
            tracing::warn!("the service manager was not told {what}: {error}");
        }
    }
}

fn connect(address: &OsString) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not listen must not hold up the engine.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USEC: Duration = Duration::from_millis(400);

    fn heard(manager: &UnixDatagram) -> Option<String> {
        let mut text = [0; 64];
        let length = manager.recv(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text[..length]).into_owned())
    }

    fn manager(address: &SocketAddr) -> UnixDatagram {
        let manager = UnixDatagram::bind_addr(address).unwrap();
        manager.set_nonblocking(true).unwrap();
        manager
    }

    #[test]
    fn it_is_told_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("colo-test-{}", std::process::id());
        for (address, wish) in [
            (SocketAddr::from_pathname(&path).unwrap(), path.into_os_string()),
            (SocketAddr::from_abstract_name(&name).unwrap(), format!("@{name}").into()),
        ] {
            let manager = manager(&address);
            let service = Service::new(&Wishes { socket: Some(wish), watchdog: None }, Instant::now());
            service.ready();
            service.stopping();
            assert_eq!(heard(&manager).as_deref(), Some("READY=1"));
            assert_eq!(heard(&manager).as_deref(), Some("STOPPING=1"));
        }
    }

    #[test]
    fn a_thread_that_stands_still_stops_the_watchdog() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = manager(&SocketAddr::from_pathname(&path).unwrap());
        let start = Instant::now();
        let wishes = Wishes { socket: Some(path.into_os_string()), watchdog: Some(USEC) };
        let mut service = Service::new(&wishes, start);
        let mut watch = |halves: u32, beats: [u64; 2]| {
            service.watch(start + USEC / 2 * halves, || beats.to_vec());
            heard(&manager)
        };
        let alive = Some("WATCHDOG=1".to_owned());
        assert_eq!(watch(0, [1, 1]), None, "not yet");
        assert_eq!(watch(1, [1, 1]), alive);
        assert_eq!(watch(2, [5, 2]), alive);
        assert_eq!(watch(3, [9, 2]), None, "the second stands still");
        assert_eq!(watch(5, [99, 2]), None);
        assert_eq!(watch(6, [99, 3]), alive, "it was only slow");
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        let mut service = Service::new(&Wishes::default(), Instant::now());
        service.ready();
        service.watch(Instant::now(), || unreachable!("nobody asks"));
        let nobody = Wishes { socket: Some("/nonexistent/notify".into()), watchdog: Some(USEC) };
        Service::new(&nobody, Instant::now()).stopping();
    }
}
