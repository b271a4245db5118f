//! What ports on network interfaces have in common: the name, whether the interface is there and up, its MTU, queues.
//!
//! The name belongs to the network namespace in which the port was made, and so does everything asked of it later.

pub(crate) mod header;
pub(crate) mod meter;
pub(crate) mod options;
pub(crate) mod queues;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::sys::interface::{self as sys, NAME_BYTES, RawName};
use crate::{Caps, LinkEvent, Nanos, VirtioHeader};

/// How often the kernel is asked.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// `IFF_UP`: the administrator wants it up.
const UP: u16 = 1;
/// Link events kept for a reader that does not come.
const MAX_EVENTS: usize = 16;

/// The name of a network interface: 1 to 15 bytes, as `ip link` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InterfaceName(RawName);

impl InterfaceName {
    pub(crate) fn raw(self) -> RawName {
        self.0
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        std::str::from_utf8(&self.0[..len]).unwrap_or_default()
    }
}

impl FromStr for InterfaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the interface's name is missing".to_owned());
        }
        if text.len() >= NAME_BYTES {
            return Err(format!(
                "the name {text:?} has {} bytes, more than the 15 an interface's can have",
                text.len()
            ));
        }
        let strange = |byte: u8| !byte.is_ascii_graphic() || b"/:%".contains(&byte);
        if text.bytes().any(strange) || text == "." || text == ".." {
            return Err(format!("no interface can be called {text:?}"));
        }
        let mut name = [0; NAME_BYTES];
        name[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self(name))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Where an interface stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Up,
    Down,
    /// It was deleted. One of the same name is another, which the port has to be opened on.
    Gone,
}

/// One interface, looked at now and then.
#[derive(Debug)]
pub(crate) struct Watch {
    name: InterfaceName,
    /// What people call the port.
    title: String,
    control: OwnedFd,
    /// The interface's number: another one of the same name has another.
    index: i32,
    presence: Presence,
    mtu: u32,
    next: Nanos,
    events: VecDeque<LinkEvent>,
    /// Why the port could not be opened on an interface that came in the place of one that was deleted.
    refusal: Option<String>,
}

impl Watch {
    /// Looks at an interface that is there.
    pub(crate) fn new(name: InterfaceName, title: String) -> io::Result<Self> {
        let control = control()?;
        let index = sys::index(&control, name.raw())?;
        let mut watch = Self {
            name,
            title,
            control,
            index,
            presence: Presence::Down,
            mtu: 0,
            next: Nanos::ZERO,
            events: VecDeque::with_capacity(MAX_EVENTS),
            refusal: None,
        };
        watch.look();
        Ok(watch)
    }

    /// The interface's number.
    pub(crate) fn index(&self) -> i32 {
        self.index
    }

    pub(crate) fn is_up(&self) -> bool {
        self.presence == Presence::Up
    }

    /// Longest IP packet, bytes.
    pub(crate) fn mtu(&self) -> u32 {
        self.mtu
    }

    /// What a port can do whose frames all have this header.
    pub(crate) fn caps(&self, header: VirtioHeader) -> Caps {
        Caps { virtio_header: !header.is_empty(), fixed_virtio_header: header, mtu: Some(self.mtu) }
    }

    /// Asks the kernel, if that is due.
    #[inline]
    pub(crate) fn keep(&mut self, now: Nanos) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + LOOK_EVERY;
            self.look();
        }
        due
    }

    /// Asks with the next [`keep`](Self::keep): something has just failed.
    #[cold]
    pub(crate) fn hurry(&mut self) {
        self.next = Nanos::ZERO;
    }

    #[cold]
    fn look(&mut self) {
        if self.presence == Presence::Gone {
            return;
        }
        let presence = match sys::index(&self.control, self.name.raw()) {
            Ok(index) if index == self.index => match sys::flags(&self.control, self.name.raw()) {
                Ok(flags) if flags & UP != 0 => Presence::Up,
                _ => Presence::Down,
            },
            Ok(_) | Err(Errno::NODEV) => Presence::Gone,
            Err(_) => Presence::Down,
        };
        if let Ok(mtu) = sys::mtu(&self.control, self.name.raw()) {
            self.mtu = u32::try_from(mtu).unwrap_or(0);
        }
        self.become_present(presence);
    }

    /// The device behind the port says that it is no more.
    #[cold]
    pub(crate) fn is_gone(&mut self) {
        self.become_present(Presence::Gone);
    }

    /// The number of the interface that has come in the place of the deleted one, if that is what happened.
    pub(crate) fn successor(&self) -> Option<i32> {
        if self.presence != Presence::Gone {
            return None;
        }
        sys::index(&self.control, self.name.raw()).ok()
    }

    /// The port was opened on the successor, or why it could not be.
    #[cold]
    pub(crate) fn succeed(&mut self, opened: Result<i32, String>) {
        match opened {
            Ok(index) => {
                self.index = index;
                self.refusal = None;
                // Up or down: it is told as a change.
                self.presence = Presence::Down;
                self.look();
            }
            Err(refusal) => self.refusal = Some(refusal),
        }
    }

    fn become_present(&mut self, presence: Presence) {
        let before = std::mem::replace(&mut self.presence, presence);
        if before == presence {
            return;
        }
        let event = match presence {
            Presence::Up => LinkEvent::Up { peer: format!("{} (MTU {})", self.title, self.mtu) },
            // What was never up cannot go down.
            Presence::Down | Presence::Gone if before != Presence::Up => return,
            Presence::Down => LinkEvent::Down { reason: "the interface was set down".to_owned() },
            Presence::Gone => LinkEvent::Down { reason: "the interface was deleted".to_owned() },
        };
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The next thing that happened.
    pub(crate) fn next_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// What stands in the way, for people.
    pub(crate) fn obstacle(&self) -> Option<String> {
        match (self.presence, &self.refusal) {
            (Presence::Up, _) => None,
            (Presence::Down, _) => Some(format!("{} is down: ip link set {} up", self.title, self.name)),
            (Presence::Gone, None) => Some(format!("{} was deleted: make the interface anew", self.title)),
            (Presence::Gone, Some(refusal)) => Some(refusal.clone()),
        }
    }

    /// Sets it up, if it is not.
    pub(crate) fn set_up(&mut self) -> io::Result<()> {
        let flags = sys::flags(&self.control, self.name.raw())?;
        if flags & UP == 0 {
            sys::set_flags(&self.control, self.name.raw(), flags | UP)?;
        }
        self.look();
        Ok(())
    }
}

/// Whether there is an interface of that name.
pub(crate) fn exists(name: InterfaceName) -> io::Result<bool> {
    match sys::index(control()?, name.raw()) {
        Ok(_) => Ok(true),
        Err(Errno::NODEV) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A socket to ask with: any will do.
fn control() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_kernel_takes() {
        for fine in ["eth0", "a", "fifteen-letters", "br-1.7", "veth@x"] {
            assert_eq!(fine.parse::<InterfaceName>().unwrap().as_str(), fine);
        }
        for (wrong, why) in [
            ("", "is missing"),
            ("sixteen-letters!", "has 16 bytes"),
            ("a b", "can be called"),
            ("../x", "can be called"),
            ("..", "can be called"),
            ("tap%d", "can be called"),
        ] {
            let sentence = wrong.parse::<InterfaceName>().unwrap_err();
            assert!(sentence.contains(why), "{sentence}");
        }
    }

    #[test]
    fn loopback_is_watched() {
        let name: InterfaceName = "lo".parse().unwrap();
        let watch = Watch::new(name, "packet:lo".to_owned()).unwrap();
        assert!(watch.mtu() > 0 && watch.index() > 0 && watch.successor().is_none());
        assert!(exists(name).unwrap());
        let none: InterfaceName = "no-such-device".parse().unwrap();
        assert!(!exists(none).unwrap());
        assert_eq!(Errno::from_io_error(&Watch::new(none, String::new()).unwrap_err()), Some(Errno::NODEV));
    }

    #[test]
    fn what_happens_to_an_interface_is_told_once() {
        let mut watch = Watch::new("lo".parse().unwrap(), "tap:lo".to_owned()).unwrap();
        while watch.next_event().is_some() {}
        watch.become_present(Presence::Up);
        watch.next_event();
        watch.become_present(Presence::Down);
        watch.become_present(Presence::Down);
        assert!(watch.obstacle().unwrap().contains("ip link set lo up"));
        let down = LinkEvent::Down { reason: "the interface was set down".to_owned() };
        assert_eq!((watch.next_event(), watch.next_event()), (Some(down), None));
        watch.is_gone();
        assert_eq!(watch.next_event(), None, "it was down before");
        watch.hurry();
        assert!(watch.keep(Nanos(1)));
        assert_eq!(watch.presence, Presence::Gone, "one of the same name is another");
        assert!(watch.obstacle().unwrap().contains("make the interface anew"));
    }

    #[test]
    fn an_interface_that_comes_in_the_place_of_another_is_noticed() {
        let mut watch = Watch::new("lo".parse().unwrap(), "tap:lo".to_owned()).unwrap();
        let is_up = watch.is_up();
        while watch.next_event().is_some() {}
        // The number is what tells them apart.
        watch.index += 1_000;
        assert!(watch.keep(Nanos(1)));
        let deleted = LinkEvent::Down { reason: "the interface was deleted".to_owned() };
        assert_eq!(watch.next_event(), is_up.then_some(deleted));
        let index = watch.successor().unwrap();
        watch.succeed(Err("it is no TAP device".to_owned()));
        assert!(!watch.is_up() && watch.obstacle().as_deref() == Some("it is no TAP device"));
        watch.succeed(Ok(index));
        assert_eq!((watch.is_up(), watch.index(), watch.successor()), (is_up, index, None));
        assert_eq!(watch.next_event().is_some(), is_up);
    }
}
