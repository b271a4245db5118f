//! The pair as QEMU's own documentation sets it up: the comparer is QEMU's colo-compare inside the primary, and `colo` is
//! nowhere. Everything else (guests, network, machine) is that of [`Guests`](super::Guests), for comparison.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::client::Client;
use super::guests::{BOOT_LIMIT, Listener, PAIRS, Processes, STEP_LIMIT, Secondary, Stage};
use super::initramfs;
use super::wiring::{Node, Wiring};

/// Settings of QEMU's comparer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    /// Its own: 3,000 ms, looked at every 1,000 ms.
    Defaults,
    /// These instead.
    Times {
        /// `compare_timeout`.
        compare_timeout: Duration,
        /// `expired_scan_cycle`.
        scan_cycle: Duration,
    },
}

/// How often the primary was paused.
type Pauses = Arc<AtomicUsize>;

/// A pair in COLO with QEMU's own comparer.
pub struct Builtin {
    pauses: Pauses,
    // Before the stage: the sockets and logs are in that.
    _processes: Processes,
    stage: Stage,
}

impl Builtin {
    /// Boots a pair, brings it into COLO, and has `work` done with it; another pair, three at most, when the secondary's
    /// kernel has panicked.
    ///
    /// # Errors
    /// Whatever failed, with the last words of everybody involved.
    #[expect(clippy::print_stderr, reason = "for whoever waits for the run")]
    pub fn run<T>(seed: u64, tuning: Tuning, work: impl Fn(&Self) -> Result<T>) -> Result<T> {
        let mut pair = 1;
        loop {
            let stage = Stage::new(seed)?;
            let mut processes = Processes::default();
            let builtin = match start(&stage, &mut processes, tuning) {
                Ok(pauses) => Self { pauses, _processes: processes, stage },
                Err(error) => return Err(stage.explain(&error.context("the pair did not come up"), None)),
            };
            let error = match work(&builtin) {
                Ok(done) => return Ok(done),
                Err(error) => builtin.stage.explain(&error, None),
            };
            if pair == PAIRS || !builtin.stage.secondary_has_panicked() {
                return Err(error);
            }
            eprintln!("pair {pair} is given up: {error:#}");
            pair += 1;
        }
    }

    /// Makes connections to the guest.
    pub fn client(&self) -> Client<'_> {
        Client::new(&self.stage.namespace)
    }

    /// How the secondary's kernel has fared so far.
    pub fn secondary(&self) -> Secondary {
        self.stage.secondary()
    }

    /// Pauses of the primary so far: QEMU pauses it for checkpoints alone here.
    pub fn checkpoints(&self) -> usize {
        self.pauses.load(Ordering::Relaxed)
    }
}

/// The primary with its comparer: the ends of the engine's sockets are QEMU's own.
fn primary(stage: &Stage, tuning: Tuning) -> Result<Wiring> {
    let mut wiring = stage.wiring(Node::Primary, Listener::Comparer)?;
    let [primary, secondary, out] = ["pri", "sec", "out"].map(|name| stage.socket(name));
    let times = match tuning {
        Tuning::Defaults => String::new(),
        Tuning::Times { compare_timeout, scan_cycle } => format!(
            ",compare_timeout={},expired_scan_cycle={}",
            compare_timeout.as_millis(),
            scan_cycle.as_millis()
        ),
    };
    let comparer = format!(
        "colo-compare,id=comp0,primary_in=compare0-0,secondary_in=compare1,outdev=compare_out0,iothread=io1{times}"
    );
    let more = [
        ("-chardev", format!("socket,id=compare1,path={secondary},server=on,wait=off")),
        ("-chardev", format!("socket,id=compare0-0,path={primary}")),
        ("-chardev", format!("socket,id=compare_out0,path={out}")),
        ("-object", "iothread,id=io1".to_owned()),
        ("-object", comparer),
    ];
    wiring.arguments.extend(more.into_iter().flat_map(|(option, value)| [option.to_owned(), value]));
    Ok(wiring)
}

/// Everything up to COLO.
fn start(stage: &Stage, processes: &mut Processes, tuning: Tuning) -> Result<Pauses> {
    let (first, second) = (primary(stage, tuning)?, stage.wiring(Node::Secondary, Listener::Comparer)?);
    processes.qemus.push(stage.qemu(Node::Primary, &first)?);
    let mut primary = stage.monitor(processes, Node::Primary)?;
    processes.qemus.push(stage.qemu(Node::Secondary, &second)?);
    let mut secondary = stage.monitor(processes, Node::Secondary)?;
    processes.until("the guest", BOOT_LIMIT, || {
        let console = fs::read(stage.path("p-console.log"))?;
        ensure!(String::from_utf8_lossy(&console).contains(initramfs::READY), "it is still booting");
        Ok(())
    })?;
    secondary.ask_all(&second.start)?;
    primary.ask_all(&first.start)?;
    processes.until("COLO", STEP_LIMIT, || {
        let found = primary.ask("query-migrate", &json!({}))?;
        ensure!(found["status"] == "colo", "the migration is {found}");
        Ok(())
    })?;
    // From here on, so that the migration's own pause is not counted.
    let pauses = Pauses::default();
    let events = UnixStream::connect(stage.path("p.qmp")).context("QEMU's second monitor")?;
    watch(events, Arc::clone(&pauses))?;
    Ok(pauses)
}

/// Counts pauses on a monitor of its own until QEMU ends.
fn watch(mut stream: UnixStream, pauses: Pauses) -> Result<()> {
    writeln!(stream, "{}", json!({ "execute": "qmp_capabilities" }))?;
    std::thread::Builder::new().name("events".to_owned()).spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            if said["event"] == "STOP" {
                pauses.fetch_add(1, Ordering::Relaxed);
            }
        }
    })?;
    Ok(())
}
