//! `colo compare` between three sockets that a test holds, with its metrics page and, when asked for, a notifier.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::metrics::Scrape;
use crate::process::{Colo, Finished, free_tcp_address, tail};
use crate::qemu_link::{Framing, Link, Listener, Place};

/// Bound of starting, of settling numbers and of the end after SIGTERM.
pub const STEP_LIMIT: Duration = Duration::from_secs(15);

/// Kind of the three sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Unix sockets.
    Unix,
    /// TCP on loopback.
    Tcp,
}

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// The engine, `,listen`.
    EngineListens,
    /// The test, as QEMU's chardevs do.
    EngineConnects,
}

/// Who hears the engine's wish for a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// Nobody.
    None,
    /// The test, in the place of QEMU's COLO-frame side.
    Notify,
}

/// How to set up a rig.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// Kind of the sockets.
    pub transport: Transport,
    /// Who listens.
    pub dial: Dial,
    /// Framing on all three.
    pub framing: Framing,
    /// Checkpoint backend.
    pub checkpoint: Checkpoint,
    /// Further arguments, split at spaces.
    pub arguments: &'a str,
}

/// The running engine with every link up.
pub struct Rig {
    /// The engine.
    pub colo: Colo,
    /// Primary's output goes in here.
    pub primary: Link,
    /// Secondary's output goes in here.
    pub secondary: Link,
    /// What leaves.
    pub out: Link,
    /// The notifier's far end.
    pub notify: Option<Link>,
    /// Where `primary`, `secondary` and `out` are.
    pub places: [Place; 3],
    /// The metrics page.
    pub metrics: SocketAddr,
    listeners: Vec<Listener>,
    framing: Framing,
    // Last, so that the sockets' files outlive the engine.
    _directory: TempDir,
}

impl Rig {
    /// Starts the engine and brings all links up.
    pub fn start(setup: &Setup<'_>) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let place = |name| match setup.transport {
            Transport::Unix => Ok(Place::unix(directory.path(), name)),
            Transport::Tcp => Place::tcp(),
        };
        let places = [place("primary")?, place("secondary")?, place("out")?];
        let metrics = free_tcp_address()?;
        let listeners: Vec<Listener> = match setup.dial {
            Dial::EngineListens => Vec::new(),
            Dial::EngineConnects => places.iter().map(Place::listen).collect::<Result<_>>()?,
        };
        let notifier = match setup.checkpoint {
            Checkpoint::None => None,
            Checkpoint::Notify => Some(Place::unix(directory.path(), "notify").listen()?),
        };
        let mut colo = Colo::start(arguments(setup, &places, directory.path(), metrics))?;
        let link = |index: usize| link_up(listeners.get(index), &places[index], setup.framing);
        let links = || -> Result<_> {
            let notify = notifier.map(|listener| listener.accept(Framing::Plain)).transpose()?;
            Ok((link(0)?, link(1)?, link(2)?, notify))
        };
        let (primary, secondary, out, notify) = match links() {
            Ok(links) => links,
            Err(error) => {
                colo.check_alive()?;
                return Err(error.context(format!("stderr: {}", tail(&colo.stderr_so_far()))));
            }
        };
        // The sockets are there before the page is.
        Scrape::wait(metrics, STEP_LIMIT, |_| true)?;
        Ok(Self {
            colo,
            primary,
            secondary,
            out,
            notify,
            places,
            metrics,
            listeners,
            framing: setup.framing,
            _directory: directory,
        })
    }

    /// The primary's socket once more, as a peer that comes back.
    pub fn new_primary(&self) -> Result<Link> {
        link_up(self.listeners.first(), &self.places[0], self.framing)
    }

    /// The secondary's socket once more.
    pub fn new_secondary(&self) -> Result<Link> {
        link_up(self.listeners.get(1), &self.places[1], self.framing)
    }

    /// The output's socket once more.
    pub fn new_out(&self) -> Result<Link> {
        link_up(self.listeners.get(2), &self.places[2], self.framing)
    }

    /// Scrapes until `done`; the error carries the engine's log.
    pub fn settled(&self, done: impl Fn(&Books) -> bool) -> Result<Books> {
        let scrape = Scrape::wait(self.metrics, STEP_LIMIT, |scrape| {
            Books::read(scrape).is_ok_and(|books| books.balance() && done(&books))
        });
        let scrape = scrape.with_context(|| format!("stderr: {}", tail(&self.colo.stderr_so_far())))?;
        Books::read(&scrape)
    }

    /// SIGTERM: exit 0, and a JSON summary whose numbers are those of the last scrape.
    pub fn stop(self, books: &Books) -> Result<Finished> {
        let finished = self.colo.terminate(STEP_LIMIT)?;
        finished.expect_code(0)?;
        let summary: Value = serde_json::from_str(&finished.stdout)
            .with_context(|| format!("stdout is not one JSON object: {:?}", tail(&finished.stdout)))?;
        for (name, expected) in [
            ("released", books.released),
            ("dropped", books.dropped_primary + books.dropped_secondary),
            ("held", books.held),
        ] {
            let said = count(&summary[name]).with_context(|| format!("no {name} in {summary}"))?;
            ensure!(said == expected, "{name}: {said} in the summary, {expected} in the metrics");
        }
        Ok(finished)
    }
}

fn link_up(listener: Option<&Listener>, place: &Place, framing: Framing) -> Result<Link> {
    match listener {
        Some(listener) => listener.accept(framing),
        None => place.connect(framing),
    }
}

fn arguments(setup: &Setup<'_>, places: &[Place; 3], directory: &Path, metrics: SocketAddr) -> Vec<OsString> {
    let listen = if setup.dial == Dial::EngineListens { ",listen" } else { "" };
    let vnet = if setup.framing == Framing::Vnet { ",vnet" } else { "" };
    let mut arguments = vec!["compare".to_owned(), "--json".to_owned()];
    for (flag, place) in ["--primary-in", "--secondary-in", "--out"].into_iter().zip(places) {
        arguments.extend([flag.to_owned(), format!("{}{listen}{vnet}", place.address())]);
    }
    let checkpoint = match setup.checkpoint {
        Checkpoint::None => "none".to_owned(),
        Checkpoint::Notify => format!("notify:unix:{}", directory.join("notify").display()),
    };
    arguments.extend(["--checkpoint".to_owned(), checkpoint, "--metrics".to_owned(), metrics.to_string()]);
    arguments.extend(setup.arguments.split_whitespace().map(str::to_owned));
    arguments.into_iter().map(Into::into).collect()
}

/// The engine's own books, from one scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Books {
    /// Frames that came in from the primary.
    pub received_primary: u64,
    /// Frames that came in from the secondary.
    pub received_secondary: u64,
    /// Frames that left.
    pub released: u64,
    /// Primary frames dropped: none, ever.
    pub dropped_primary: u64,
    /// Secondary frames dropped.
    pub dropped_secondary: u64,
    /// Frames held, both sides.
    pub held: u64,
    /// Checkpoints asked for.
    pub requested: u64,
    /// Checkpoints that came.
    pub completed: u64,
    /// Broken promises.
    pub violations: u64,
}

impl Books {
    /// Reads them off a page.
    pub fn read(scrape: &Scrape) -> Result<Self> {
        let (primary, secondary) = (&["side=\"primary\""][..], &["side=\"secondary\""][..]);
        Ok(Self {
            received_primary: scrape.sum("colo_frames_received_total", primary)?,
            received_secondary: scrape.sum("colo_frames_received_total", secondary)?,
            released: scrape.sum("colo_frames_released_total", &[])?,
            dropped_primary: scrape.sum("colo_frames_dropped_total", primary)?,
            dropped_secondary: scrape.sum("colo_frames_dropped_total", secondary)?,
            held: scrape.sum("colo_held_frames", &[])?,
            requested: scrape.sum("colo_checkpoints_requested_total", &[])?,
            completed: scrape.sum("colo_checkpoints_completed_total", &[])?,
            violations: scrape.sum("colo_invariant_violations_total", &[])?,
        })
    }

    /// received = released + held + dropped, no primary frame dropped, no promise broken. The held gauge counts both
    /// sides together, so the two equations are checked as their sum, each side's bound on its own.
    pub fn balance(&self) -> bool {
        self.received_primary + self.received_secondary
            == self.released + self.held + self.dropped_primary + self.dropped_secondary
            && self.released + self.dropped_primary <= self.received_primary
            && self.dropped_secondary <= self.received_secondary
            && self.violations == 0
    }
}

/// A number, or the sum of an object's numbers.
fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Object(parts) => parts.values().map(count).sum(),
        other => other.as_u64(),
    }
}
