//! What ports on network interfaces have in common: the name, whether the interface is up, its MTU, what the kernel drops.
//!
//! The name belongs to the network namespace in which the port was made, and so does everything asked of it later.

pub(crate) mod header;
pub(crate) mod options;

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::sys::interface::{self as sys, NAME_BYTES, RawName};
use crate::{LinkEvent, Nanos};

/// How often the kernel is asked.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Bytes of the kernel's table of interfaces that are read at once.
const TABLE_BYTES: usize = 4096;
/// `IFF_UP`: the administrator wants it up.
const UP: u16 = 1;
/// Link events kept for a reader that does not come.
const MAX_EVENTS: usize = 16;
/// Columns of `/proc/net/dev` behind the name: frames dropped on receiving and on sending.
const RECEIVE_DROPS: usize = 3;
const SEND_DROPS: usize = 11;

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
    /// It was deleted, which is for good: one of the same name is another.
    Gone,
}

/// Frames dropped at an interface, by its own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drops {
    /// On the way from outside into the kernel.
    pub(crate) received: u64,
    /// On the way from the kernel to outside, which for a TAP device is us.
    pub(crate) sent: u64,
}

/// One interface, looked at now and then.
#[derive(Debug)]
pub(crate) struct Watch {
    name: InterfaceName,
    /// What people call the port.
    title: String,
    control: OwnedFd,
    table: Option<File>,
    presence: Presence,
    mtu: u32,
    first: Drops,
    drops: Drops,
    next: Nanos,
    events: VecDeque<LinkEvent>,
}

impl Watch {
    /// Looks at an interface that is there.
    pub(crate) fn new(name: InterfaceName, title: String) -> io::Result<Self> {
        let mut watch = Self {
            name,
            title,
            control: control()?,
            // Bound to the namespace of the thread that opens it.
            table: File::open("/proc/thread-self/net/dev").ok(),
            presence: Presence::Down,
            mtu: 0,
            first: Drops::default(),
            drops: Drops::default(),
            next: Nanos::ZERO,
            events: VecDeque::with_capacity(MAX_EVENTS),
        };
        sys::index(&watch.control, name.raw())?;
        watch.look();
        watch.first = watch.drops;
        Ok(watch)
    }

    /// The interface's number.
    pub(crate) fn index(&self) -> Result<i32, Errno> {
        sys::index(&self.control, self.name.raw())
    }

    pub(crate) fn presence(&self) -> Presence {
        self.presence
    }

    pub(crate) fn is_up(&self) -> bool {
        self.presence == Presence::Up
    }

    /// Longest IP packet, bytes.
    pub(crate) fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Frames dropped since the port was made.
    pub(crate) fn drops(&self) -> Drops {
        Drops {
            received: self.drops.received.saturating_sub(self.first.received),
            sent: self.drops.sent.saturating_sub(self.first.sent),
        }
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
        let presence = match sys::flags(&self.control, self.name.raw()) {
            Ok(flags) if flags & UP != 0 => Presence::Up,
            Err(Errno::NODEV) => Presence::Gone,
            _ => Presence::Down,
        };
        if let Ok(mtu) = sys::mtu(&self.control, self.name.raw()) {
            self.mtu = u32::try_from(mtu).unwrap_or(0);
        }
        if let Some(table) = &self.table
            && let Some(drops) = read_drops(table, self.name)
        {
            self.drops = drops;
        }
        self.become_present(presence);
    }

    /// The device behind the port says that it is no more.
    #[cold]
    pub(crate) fn is_gone(&mut self) {
        self.become_present(Presence::Gone);
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
        match self.presence {
            Presence::Up => None,
            Presence::Down => Some(format!("{} is down: ip link set {} up", self.title, self.name)),
            Presence::Gone => {
                Some(format!("{} was deleted: make the interface anew and start colo again", self.title))
            }
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

/// The interface's row of the kernel's table.
fn read_drops(table: &File, name: InterfaceName) -> Option<Drops> {
    let mut buffer = [0; TABLE_BYTES];
    let (mut kept, mut offset) = (0, 0_u64);
    loop {
        let got = rustix::io::pread(table, &mut buffer[kept..], offset).ok()?;
        offset += u64::try_from(got).ok()?;
        let end = kept + got;
        let whole = buffer[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let rows = std::str::from_utf8(&buffer[..whole]).ok()?;
        if let Some(drops) = rows.lines().find_map(|row| drops_of(row, name)) {
            return Some(drops);
        }
        if got == 0 {
            return None;
        }
        buffer.copy_within(whole..end, 0);
        kept = end - whole;
    }
}

/// `  name: numbers`, of which two are of interest.
fn drops_of(row: &str, name: InterfaceName) -> Option<Drops> {
    let (title, numbers) = row.split_once(':')?;
    if title.trim() != name.as_str() {
        return None;
    }
    let number = |column| numbers.split_whitespace().nth(column)?.parse().ok();
    Some(Drops { received: number(RECEIVE_DROPS)?, sent: number(SEND_DROPS)? })
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
        assert!(watch.mtu() > 0);
        assert!(watch.table.is_some() && read_drops(watch.table.as_ref().unwrap(), name).is_some());
        assert!(exists(name).unwrap());
        let none: InterfaceName = "no-such-device".parse().unwrap();
        assert!(!exists(none).unwrap());
        assert_eq!(Errno::from_io_error(&Watch::new(none, String::new()).unwrap_err()), Some(Errno::NODEV));
    }

    #[test]
    fn a_row_of_the_table_has_the_drops() {
        let name: InterfaceName = "tap0".parse().unwrap();
        let row = "  tap0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
        assert_eq!(drops_of(row, name), Some(Drops { received: 4, sent: 12 }));
        assert_eq!(drops_of("tap01: 1 2 3 4 5 6 7 8 9 10 11 12", name), None);
        assert_eq!(drops_of("tap0: 1 2 3", name), None);
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
        assert_eq!(watch.presence(), Presence::Gone, "gone is for good");
    }
}
