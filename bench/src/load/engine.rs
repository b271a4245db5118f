//! A comparer as a process of its own: `colo compare`, QEMU's colo-compare object without a guest, or an echo. All three
//! listen on the same kinds of socket, on a core that the load leaves to them, and end with the value.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use colo_tests::pair::cache::Cache;
use colo_tests::pair::monitor::Monitor;
use colo_tests::process::{colo_binary, tail};
use pmd_tap::Framing;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

use super::cpu::{Cores, stay_on};
use super::driver::Links;
use super::notify::Notify;
use super::shape::Shape;
use super::socket::Stream;

/// Bound of starting.
const START_LIMIT: Duration = Duration::from_secs(30);
/// TCP ports that comparers are given.
const FIRST_PORT: u32 = 20_000;
const PORTS: u32 = 12_000;
const AGAIN: Duration = Duration::from_millis(5);

/// Which comparer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `colo compare`, the binary beside this one
    Colo,
    /// QEMU's colo-compare object, fetched into the target directory
    Qemu,
    /// No comparison: the primary's bytes go out
    Echo,
    /// One that runs already, at --primary-in, --secondary-in and --out
    Given,
}

/// What kind of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Unix sockets
    Unix,
    /// TCP on loopback, without delay
    Tcp,
}

/// Where a comparer listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Primary's output.
    pub primary: String,
    /// Secondary's output.
    pub secondary: String,
    /// What leaves.
    pub out: String,
    /// Who hears requests.
    pub notify: Option<String>,
}

impl Places {
    /// Connects to all of them, the output first, so that nothing is lost.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(&self, framing: Framing) -> Result<Links> {
        let out = Stream::connect(&self.out)?;
        let notify = self.notify.as_deref().map(Stream::connect).transpose()?;
        Ok(Links {
            primary: Stream::connect(&self.primary)?,
            secondary: Stream::connect(&self.secondary)?,
            out,
            notify: notify.map(|stream| Notify::new(stream, framing)),
        })
    }
}

/// How to start one.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// Which.
    pub kind: Kind,
    /// Its sockets.
    pub transport: Transport,
    /// What it will have to do: bounds are chosen to suit.
    pub shape: &'a Shape,
    /// Further settings, `KEY=VALUE`: keys of colo's configuration, properties of QEMU's object.
    pub settings: &'a [String],
    /// Where it runs.
    pub cores: Cores,
}

/// A running comparer.
pub struct Engine {
    child: Child,
    log: PathBuf,
    /// Where it listens.
    pub places: Places,
    /// Settings that are not its defaults.
    pub settings: Vec<String>,
    // Last, so that the sockets' files outlive the process.
    folder: TempDir,
}

impl Engine {
    /// Starts it; the sockets are to be connected with [`connect`](Self::connect).
    ///
    /// # Errors
    /// When a program is missing or cannot be started.
    pub fn start(start: &Start<'_>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let place = |name: &str| -> Result<String> {
            Ok(match start.transport {
                Transport::Unix => format!("unix:{}", folder.path().join(name).display()),
                Transport::Tcp => format!("tcp:{}", free_address()?),
            })
        };
        let notify = if start.kind == Kind::Echo { None } else { Some(place("notify")?) };
        let (primary, secondary, out) = (place("pri")?, place("sec")?, place("out")?);
        let places = Places { primary, secondary, out, notify };
        let mut settings = match start.kind {
            Kind::Colo => room(start.shape),
            _ => Vec::new(),
        };
        settings.extend(start.settings.iter().cloned());
        let log = folder.path().join("log");
        // Dies with the thread that started it, whatever becomes of that; Ctrl-C is not for it.
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL").process_group(0);
        match start.kind {
            Kind::Colo => colo(&mut command, start, &places, &settings)?,
            Kind::Qemu => qemu(&mut command, start, &places, &settings, folder.path())?,
            Kind::Echo => {
                command.arg(std::env::current_exe()?).arg("echo");
                command.args([&places.primary, &places.secondary, &places.out]);
            }
            Kind::Given => bail!("a given comparer is not started"),
        }
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        if let Some(core) = start.cores.engine {
            stay_on(core)?;
        }
        let child = command.spawn().context("cannot run `setpriv` (Debian package util-linux)");
        if let Some(core) = start.cores.driver {
            stay_on(core)?;
        }
        Ok(Self { child: child?, log, places, settings, folder })
    }

    /// Connects to its sockets and waits until it has taken the connections.
    ///
    /// # Errors
    /// With the program's last words.
    pub fn connect(&mut self, kind: Kind, framing: Framing) -> Result<Links> {
        let links = self.places.connect(framing).and_then(|links| {
            if kind == Kind::Qemu {
                self.wait_for_qemu()?;
            }
            Ok(links)
        });
        links.map_err(|error| self.explain(error))
    }

    /// It accepts at its leisure, and drops what it releases before it has accepted the output's reader.
    fn wait_for_qemu(&mut self) -> Result<()> {
        let started = Instant::now();
        // It is made last of all.
        let stream = loop {
            match UnixStream::connect(self.folder.path().join("qmp")) {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > START_LIMIT || self.child.try_wait()?.is_some() => {
                    return Err(error).context("QEMU's monitor");
                }
                Err(_) => std::thread::sleep(AGAIN),
            }
        };
        let mut monitor = Monitor::new(stream)?;
        loop {
            let found = monitor.ask("query-chardev", &json!({}))?;
            let found = found.as_array().context("no list of chardevs")?;
            let is_up = |one: &&serde_json::Value| {
                one["filename"].as_str().is_some_and(|name| !name.starts_with("disconnected"))
            };
            let up = found
                .iter()
                .filter(|one| ["pri", "sec", "out", "notify"].iter().any(|name| one["label"] == *name));
            if up.filter(is_up).count() == 4 {
                return Ok(());
            }
            ensure!(started.elapsed() < START_LIMIT, "QEMU did not take the connections");
            std::thread::sleep(AGAIN);
        }
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// The same error, with what the program said last.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let words = fs::read_to_string(&self.log).unwrap_or_default();
        if words.is_empty() {
            error
        } else {
            error.context(format!("the comparer said: {}", tail(&words).trim()))
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Both fail harmlessly when it has ended before.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Bounds of `colo` that suit the load: it asks for a checkpoint when half of one is taken.
fn room(shape: &Shape) -> Vec<String> {
    let held = 4 * shape.in_flight();
    let wanted = [
        ("max_queue_size", held, 1024),
        ("max_held_frames", held, 16_384),
        ("max_gso_frames", if shape.is_super() { held } else { 0 }, 256),
        ("max_connections", 2 * u64::from(shape.flows), 65_536),
    ];
    let more = wanted.into_iter().filter(|(_, wanted, default)| wanted > default);
    more.map(|(key, wanted, _)| format!("{key}={wanted}")).collect()
}

fn colo(command: &mut Command, start: &Start<'_>, places: &Places, settings: &[String]) -> Result<()> {
    let virtio = start.shape.framing() == Framing::VnetHeader;
    let vnet = if virtio { ",vnet" } else { "" };
    command.arg(colo_binary()?).arg("compare");
    command.arg(format!("--primary-in={},listen{vnet}", places.primary));
    command.arg(format!("--secondary-in={},listen{vnet}", places.secondary));
    command.arg(format!("--out={},listen{vnet}", places.out));
    let notify = places.notify.as_deref().unwrap_or_default();
    command.arg(format!("--checkpoint=notify:{notify},listen"));
    command.arg(format!("--set=vnet_hdr_support={virtio}"));
    // A checkpoint for its own sake is none that the traffic asked for.
    command.args(["--metrics=off", "--log=warn", "--set=max_checkpoint_interval=off"]);
    if let Some(core) = start.cores.engine {
        command.arg(format!("--cores={core}"));
    }
    command.args(settings.iter().map(|setting| format!("--set={setting}")));
    Ok(())
}

/// QEMU's object with everything of a machine left away.
fn qemu(
    command: &mut Command,
    start: &Start<'_>,
    places: &Places,
    settings: &[String],
    folder: &Path,
) -> Result<()> {
    let cache = Cache::get()?;
    // The libraries are QEMU's, not setpriv's.
    command.arg("env").arg(format!("LD_LIBRARY_PATH={}", cache.library_path())).arg(cache.qemu());
    command.args(["-machine", "none", "-display", "none", "-nodefaults", "-S"]);
    let notify = places.notify.as_deref().unwrap_or_default();
    let chardevs =
        [("pri", &*places.primary), ("sec", &places.secondary), ("out", &places.out), ("notify", notify)];
    for (name, place) in chardevs {
        let place = match place.split_once(':') {
            Some(("unix", path)) => format!("path={path}"),
            Some(("tcp", address)) => {
                let (host, port) = address.rsplit_once(':').unwrap_or_default();
                format!("host={host},port={port},nodelay=on")
            }
            _ => bail!("{place} is no place for QEMU"),
        };
        command.arg("-chardev").arg(format!("socket,id={name},{place},server=on,wait=off"));
    }
    let virtio = start.shape.framing() == Framing::VnetHeader;
    let vnet = if virtio { ",vnet_hdr_support=on" } else { "" };
    let more = [&[String::new()], settings].concat().join(",");
    command.args(["-object", "iothread,id=io1"]);
    command.arg("-object").arg(format!(
        "colo-compare,id=comp0,primary_in=pri,secondary_in=sec,outdev=out,notify_dev=notify,iothread=io1{vnet}{more}"
    ));
    command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", folder.join("qmp").display()));
    Ok(())
}

/// A loopback address that nobody listens on, and that no outgoing connection is given by the kernel meanwhile: its
/// number lies below those.
fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..PORTS {
        let offset = std::process::id().wrapping_mul(16).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST_PORT + offset % PORTS)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free TCP port on loopback")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bounds_that_are_too_small_are_set() {
        assert!(room(&Shape { window: 128, ..Shape::default() }).is_empty());
        let deep = Shape { window: 4096, skew: 1000, flows: 100_000, ..Shape::default() };
        let expected = ["max_queue_size=20384", "max_held_frames=20384", "max_connections=200000"];
        assert_eq!(room(&deep), expected);
        let large = Shape { window: 100, frame: 60_000, ..Shape::default() };
        assert_eq!(room(&large), ["max_gso_frames=400"]);
    }
}
