//! Both QEMUs and `colo` between them, from the first process to the last. Everything ends with the value, or with the
//! test's process however that ends: each QEMU is killed when its parent goes.
//!
//! ```text
//! client -- br0 -- tapP -- primary --> filter-mirror ------------------------> secondary
//!                    ^       |                                                    |
//!                    |       +--> redire1 --> pri --> colo <-- sec <-- f2 <-- filter-rewriter
//!                    +-- redire0 <-- out <-----------------+
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cache::Cache;
use super::client::Client;
use super::initramfs::{self, Cards};
use super::monitor::Monitor;
use super::wiring::{Node, Wiring};
use crate::metrics::Scrape;
use crate::netns::Namespace;
use crate::process::{Colo, Finished, free_tcp_address, tail};
use crate::wait;

/// A guest boots in seconds; a loaded machine without KVM may take much longer.
pub(super) const BOOT_LIMIT: Duration = Duration::from_mins(4);
/// The first transfer of the guest's memory, and each single step of the start.
pub(super) const STEP_LIMIT: Duration = Duration::from_mins(2);
/// How long `colo` may take to end.
const END_LIMIT: Duration = Duration::from_secs(30);
/// QEMU's own checkpoints come that rarely, ms: all others are `colo`'s.
const OWN_CHECKPOINTS: u64 = 3_600_000;

/// What a guest's kernel is told.
pub(super) const BOOT_WORDS: &str = "console=ttyS0 quiet ipv6.disable=1";
/// Pairs that are tried.
pub(super) const PAIRS: u32 = 3;
/// What a guest's kernel says at its end; docs/TESTING.md says what is known of it.
const PANIC: &str = "Kernel panic";
/// What it says before, or instead.
const OOPS: &str = "Oops: ";

/// The network of the namespace: a bridge with the client's address, and the primary's TAP device on it.
const NETWORK: [&str; 10] = [
    "link set lo up",
    "link add br0 type bridge",
    "tuntap add tapP mode tap",
    "tuntap add tapS mode tap",
    "link set tapP master br0",
    "addr add 10.77.0.1/24 dev br0",
    "link set br0 up",
    "link set tapP up",
    "link set tapS up",
    "neigh add 10.77.0.2 lladdr 52:54:00:77:00:02 dev br0",
];

/// A pair in COLO.
pub struct Guests {
    metrics: SocketAddr,
    /// The test's own connections to the monitors; `colo` has others.
    monitors: Monitors,
    /// More arguments of `colo compare`.
    settings: Vec<String>,
    processes: Processes,
    // Goes last: the sockets and logs are in it.
    stage: Stage,
}

/// Of both QEMUs, and what is said to them when the other is lost.
struct Monitors {
    primary: Monitor,
    primary_wiring: Wiring,
    secondary: Monitor,
    secondary_wiring: Wiring,
}

/// Where it all happens.
pub(super) struct Stage {
    folder: TempDir,
    pub(super) namespace: Namespace,
    cache: Cache,
}

/// How the secondary's kernel fares: QEMU without KVM now and then gives it a memory that does not fit together. A
/// checkpoint sends only what has changed since the last, so what does not fit may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secondary {
    /// It runs.
    Sound,
    /// It has complained of a fault of its own.
    Broken,
}

/// Who listens for the secondary's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    /// The secondary's QEMU.
    Secondary,
    /// Who compares.
    Comparer,
}

#[derive(Default)]
pub(super) struct Processes {
    pub(super) qemus: Vec<Child>,
    colo: Option<Colo>,
}

impl Processes {
    pub(super) fn check_alive(&mut self) -> Result<()> {
        for child in &mut self.qemus {
            let ended = child.try_wait()?;
            ensure!(ended.is_none(), "a QEMU ended before it was told to: {ended:?}");
        }
        self.colo.as_mut().map_or(Ok(()), Colo::check_alive)
    }

    /// Waits for a step of the start; at once over when somebody has ended.
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        wait::until(what, limit, || match self.check_alive() {
            Ok(()) => attempt().map(Ok),
            Err(error) => Ok(Err(error)),
        })?
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.qemus {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Guests {
    /// Boots a pair, brings it into COLO, has `work` done with it, interrupts `colo`, and returns its end. The guests'
    /// pages are those of `seed`; `settings` are more arguments of `colo compare`.
    ///
    /// A pair whose secondary's kernel has panicked says nothing about `colo`: that is told on standard output, and another
    /// pair is tried, three at most.
    ///
    /// # Errors
    /// Whatever failed, with the last words of everybody involved.
    #[expect(clippy::print_stdout, reason = "for whoever reads why a run took so long")]
    pub fn run<T>(
        seed: u64,
        settings: &[&str],
        work: impl Fn(&mut Self) -> Result<T>,
    ) -> Result<(T, Finished)> {
        let mut pair = 1;
        loop {
            let mut guests = Self::boot(Stage::new(seed)?, settings)?;
            let error = match work(&mut guests).and_then(|result| Ok((result, guests.interrupt()?))) {
                Ok(done) => return Ok(done),
                Err(error) => guests.stage.explain(&error, guests.processes.colo.as_ref()),
            };
            if pair == PAIRS || !guests.stage.secondary_has_panicked() {
                return Err(error);
            }
            println!("pair {pair} is given up: {error:#}");
            pair += 1;
        }
    }

    /// Makes connections to the guest.
    pub fn client(&self) -> Client<'_> {
        Client::new(&self.stage.namespace)
    }

    /// The same, and the primary's monitor at the same time.
    pub fn client_and_monitor(&mut self) -> (Client<'_>, &mut Monitor) {
        (Client::new(&self.stage.namespace), &mut self.monitors.primary)
    }

    /// Ends `colo` by a signal, waits, and starts another with the same arguments. Everything goes on meanwhile.
    pub fn restart_colo(&mut self, signal: Signal, pause: Duration) -> Result<()> {
        let colo = self.processes.colo.take().context("colo runs")?;
        colo.signal(signal)?;
        colo.finish(END_LIMIT).context("after the signal")?;
        std::thread::sleep(pause);
        let settings: Vec<_> = self.settings.iter().map(String::as_str).collect();
        self.processes.colo = Some(self.stage.colo(self.metrics, &settings)?);
        Ok(())
    }

    /// Waits for a line of `colo`'s log.
    pub fn wait_for_log(&self, needle: &str) -> Result<String> {
        let colo = self.processes.colo.as_ref().context("colo runs")?;
        colo.wait_for_log(needle, STEP_LIMIT)
    }

    /// Kills one QEMU.
    pub fn kill(&mut self, node: Node) -> Result<()> {
        let mut child = self.processes.qemus.remove(match node {
            Node::Primary => 0,
            Node::Secondary => self.processes.qemus.len() - 1,
        });
        let killed = child.kill();
        child.wait()?;
        Ok(killed?)
    }

    /// What an operator does on the node that is left: its monitor's commands, and its TAP device onto the bridge.
    pub fn fail_over_to(&mut self, node: Node) -> Result<()> {
        let monitors = &mut self.monitors;
        match node {
            Node::Primary => {
                monitors.primary.ask_all(&monitors.primary_wiring.failover)?;
                monitors.primary.ask_all(&monitors.primary_wiring.detach)
            }
            Node::Secondary => {
                monitors.secondary.ask_all(&monitors.secondary_wiring.failover)?;
                self.stage.namespace.ip("link set tapS master br0")
            }
        }
    }

    /// A sum over a metric of `colo`.
    pub fn metric(&self, name: &str) -> Result<u64> {
        Scrape::get(self.metrics)?.sum(name, &[])
    }

    /// How the secondary's kernel has fared so far.
    pub fn secondary(&self) -> Secondary {
        self.stage.secondary()
    }

    fn boot(stage: Stage, settings: &[&str]) -> Result<Self> {
        let mut processes = Processes::default();
        match stage.start(&mut processes, settings) {
            Ok((monitors, metrics)) => {
                let settings = settings.iter().map(|&word| word.to_owned()).collect();
                Ok(Self { metrics, monitors, settings, processes, stage })
            }
            Err(error) => {
                Err(stage.explain(&error.context("the pair did not come up"), processes.colo.as_ref()))
            }
        }
    }

    /// Ctrl-C.
    fn interrupt(&mut self) -> Result<Finished> {
        self.processes.check_alive()?;
        let colo = self.processes.colo.take().context("colo is interrupted once")?;
        colo.signal(Signal::INT)?;
        colo.finish(END_LIMIT).context("after SIGINT")
    }
}

impl Stage {
    pub(super) fn new(seed: u64) -> Result<Self> {
        crate::netns::require_root()?;
        let cache = Cache::get()?;
        let stage = Self { folder: tempfile::tempdir()?, namespace: Namespace::new()?, cache };
        fs::write(stage.path("initramfs"), initramfs::archive(&stage.cache, seed, Cards::OneRtl8139)?)?;
        for arguments in NETWORK {
            stage.namespace.ip(arguments)?;
        }
        Ok(stage)
    }

    /// Everything up to COLO; returns the monitors and where `colo` serves its metrics.
    fn start(&self, processes: &mut Processes, settings: &[&str]) -> Result<(Monitors, SocketAddr)> {
        let [primary_wiring, secondary_wiring] =
            [Node::Primary, Node::Secondary].map(|node| self.wiring(node, Listener::Secondary));
        let (primary_wiring, secondary_wiring) = (primary_wiring?, secondary_wiring?);
        processes.qemus.push(self.qemu(Node::Primary, &primary_wiring)?);
        let mut primary = self.monitor(processes, Node::Primary)?;
        primary.ask("migrate-set-parameters", &json!({ "x-checkpoint-delay": OWN_CHECKPOINTS }))?;
        let metrics = free_tcp_address()?;
        processes.colo = Some(self.colo(metrics, settings)?);
        processes.qemus.push(self.qemu(Node::Secondary, &secondary_wiring)?);
        let mut secondary = self.monitor(processes, Node::Secondary)?;

        processes.until("the guest", BOOT_LIMIT, || {
            let console = fs::read(self.path("p-console.log"))?;
            ensure!(String::from_utf8_lossy(&console).contains(initramfs::READY), "it is still booting");
            Ok(())
        })?;
        let colo = processes.colo.as_ref().context("colo was started")?;
        colo.wait_for_log("the secondary's monitor is up", STEP_LIMIT)?;
        secondary.ask_all(&secondary_wiring.start)?;
        primary.ask_all(&primary_wiring.start)?;
        processes.until("COLO", STEP_LIMIT, || {
            let found = primary.ask("query-migrate", &json!({}))?;
            ensure!(found["status"] == "colo", "the migration is {found}");
            Ok(())
        })?;
        processes.until("the first checkpoint", STEP_LIMIT, || {
            let page = Scrape::get(metrics)?;
            // The migration is one, or one that colo saw too late.
            let seen = page.sum("colo_checkpoints_completed_total", &[])?
                + page.sum("colo_checkpoints_abandoned_total", &[])?;
            ensure!(seen > 0, "none was seen");
            Ok(())
        })?;
        Ok((Monitors { primary, primary_wiring, secondary, secondary_wiring }, metrics))
    }

    pub(super) fn monitor(&self, processes: &mut Processes, node: Node) -> Result<Monitor> {
        let path = self.own_monitor(node);
        let connect = || Ok(UnixStream::connect(&path)?);
        Monitor::new(processes.until("QEMU's monitor", STEP_LIMIT, connect)?)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same, to be built into a command line.
    pub(super) fn socket(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn own_monitor(&self, node: Node) -> PathBuf {
        self.path(&format!("{}-own.qmp", node.letter()))
    }

    /// What `colo compare` and `colo qemu-args` are both told.
    fn engine_ports(&self) -> [String; 4] {
        let ports = ["pri", "out", "sec", "p.qmp", "s.qmp"].map(|name| format!("unix:{}", self.socket(name)));
        let [primary, out, secondary, primary_monitor, secondary_monitor] = ports;
        [
            format!("--primary-in={primary}"),
            format!("--out={out}"),
            format!("--secondary-in={secondary}"),
            format!("--checkpoint=qmp:{primary_monitor},secondary={secondary_monitor}"),
        ]
    }

    /// What a QEMU is told; who listens for the secondary's frames says `listener`.
    pub(super) fn wiring(&self, node: Node, listener: Listener) -> Result<Wiring> {
        let mut ports = self.engine_ports();
        if listener == Listener::Comparer {
            ports[2] += ",listen";
        }
        let own = [
            format!("--mirror=unix:{}", self.socket("mirror")),
            format!("--migration=unix:{}", self.socket("migration")),
            format!("--monitor=unix:{}", self.own_monitor(node).display()),
            "--mac=52:54:00:77:00:02".to_owned(),
            // No multiple of 256 KiB: docs/TESTING.md says why.
            "--memory=131080K".to_owned(),
        ];
        Wiring::of(node, ports.into_iter().chain(own))
    }

    fn colo(&self, metrics: SocketAddr, settings: &[&str]) -> Result<Colo> {
        let ports = self.engine_ports();
        let metrics = format!("--metrics={metrics}");
        let arguments = ["compare", "--json", &metrics].into_iter().chain(ports.iter().map(String::as_str));
        Colo::start(arguments.chain(settings.iter().copied()))
    }

    pub(super) fn secondary(&self) -> Secondary {
        let console = fs::read(self.path("s-console.log")).unwrap_or_default();
        let said = String::from_utf8_lossy(&console);
        if said.contains(PANIC) || said.contains(OOPS) { Secondary::Broken } else { Secondary::Sound }
    }

    pub(super) fn secondary_has_panicked(&self) -> bool {
        let console = fs::read(self.path("s-console.log")).unwrap_or_default();
        String::from_utf8_lossy(&console).contains(PANIC)
    }

    /// A failure with the ends of all logs.
    pub(super) fn explain(&self, error: &Error, colo: Option<&Colo>) -> Error {
        let said = colo.map(Colo::stderr_so_far).unwrap_or_default();
        let mut words = format!("{error:#}");
        if self.secondary_has_panicked() {
            words +=
                "\nThe secondary's kernel has panicked: QEMU gave it a memory that does not fit together";
        }
        words = format!("{words}\ncolo's stderr: {}", tail(&said));
        for name in ["p-qemu.log", "p-console.log", "s-qemu.log", "s-console.log"] {
            let text = fs::read(self.path(name)).unwrap_or_default();
            words = format!("{words}\n{name}: {}", tail(&String::from_utf8_lossy(&text)));
        }
        Error::msg(words)
    }

    /// Starts one of the two, inside the namespace. Its machine is given here, all else is `colo`'s.
    pub(super) fn qemu(&self, node: Node, wiring: &Wiring) -> Result<Child> {
        let (cache, name) = (&self.cache, node.letter());
        let log = File::create(self.path(&format!("{name}-qemu.log")))?;
        let mut command = cache.qemu_in(&self.namespace, &[assignment("LD_PRELOAD", &cache.shim())]);
        command.args(["-machine", "pc", "-append", BOOT_WORDS]).arg("-initrd").arg(self.path("initramfs"));
        command.arg("-serial").arg(format!("file:{}", self.socket(&format!("{name}-console.log"))));
        command.args(&wiring.arguments).stdout(log.try_clone()?).stderr(log);
        command.spawn().context("cannot run `nsenter` (Debian package util-linux)")
    }
}

fn assignment(name: &str, value: &Path) -> OsString {
    let mut word = OsString::from(name);
    word.push("=");
    word.push(value);
    word
}

/// A count in `colo`'s summary.
pub fn count(summary: &Value, name: &str) -> Result<u64> {
    summary[name].as_u64().with_context(|| format!("no count {name} in the summary {summary}"))
}
