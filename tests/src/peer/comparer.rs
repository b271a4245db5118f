//! One comparer with its four sockets: the test connects to all of them, QEMU or `colo` listens. Either ends with the
//! value, and with the process that started it.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::pair::cache::Cache;
use crate::pair::monitor::Monitor;
use crate::process::{Colo, tail};
use crate::qemu_link::{Framing, Link, Place};
use crate::wait;

/// Bound of starting.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The sockets, in the order in which they are connected to: the output first, so that nothing is lost.
const SOCKETS: [&str; 4] = ["out", "notify", "pri", "sec"];

/// Which comparer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `colo compare`.
    Colo,
    /// QEMU's colo-compare object.
    Qemu,
}

/// Whether a secondary is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secondary {
    /// From the start on.
    Connected,
    /// Nobody ever connects.
    Absent,
}

/// How to start it.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Framing of the three data sockets; governs the messages to the comparer, too.
    pub framing: Framing,
    /// Longest wait of a frame for its partner.
    pub compare_timeout: Duration,
    /// How often QEMU looks for what has waited too long. `colo` keeps its own default.
    pub scan_cycle: Duration,
    /// The secondary's link.
    pub secondary: Secondary,
}

enum Program {
    Colo(Colo),
    Qemu { child: Child, log: std::path::PathBuf },
}

/// A running comparer with every link up.
pub struct Comparer {
    /// Primary's output goes in here.
    pub primary: Link,
    /// Secondary's output goes in here.
    pub secondary: Option<Link>,
    /// What leaves.
    pub out: Link,
    /// The notifier's far end; messages to the comparer are made by `framing`.
    pub notify: Link,
    /// Framing of the links.
    pub framing: Framing,
    places: Vec<Place>,
    program: Program,
    // Last, so that the sockets' files outlive the program.
    _folder: TempDir,
}

impl Comparer {
    /// Starts it and connects to its sockets. QEMU gets another try: now and then it greets and never answers.
    ///
    /// # Errors
    /// One sentence and the program's last words.
    pub fn start(kind: Kind, options: &Options) -> Result<Self> {
        let first = Self::start_once(kind, options);
        match kind {
            Kind::Qemu => first.or_else(|_| Self::start_once(kind, options)),
            Kind::Colo => first,
        }
    }

    fn start_once(kind: Kind, options: &Options) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let places: Vec<Place> = SOCKETS.iter().map(|name| Place::unix(folder.path(), name)).collect();
        let mut program = match kind {
            Kind::Colo => Program::Colo(Colo::start(colo_arguments(&folder, options))?),
            Kind::Qemu => {
                let log = folder.path().join("qemu.log");
                Program::Qemu { child: qemu(&folder, options, &log)?, log }
            }
        };
        let mut connect = || -> Result<(Link, Link, Link, Option<Link>)> {
            let link = |index: usize, framing| places[index].connect(framing);
            let links = (
                link(0, options.framing)?,
                link(1, Framing::Plain)?,
                link(2, options.framing)?,
                match options.secondary {
                    Secondary::Connected => Some(link(3, options.framing)?),
                    Secondary::Absent => None,
                },
            );
            program.wait_for_links(&folder, options)?;
            Ok(links)
        };
        let links = connect().map_err(|error| error.context(program.last_words()));
        let (out, notify, primary, secondary) = links?;
        Ok(Self {
            primary,
            secondary,
            out,
            notify,
            framing: options.framing,
            places,
            program,
            _folder: folder,
        })
    }

    /// A control message to the comparer.
    pub fn tell(&mut self, text: &str) -> Result<()> {
        self.notify.send_raw(&self.framing.message(text)?)
    }

    /// Sends frames of no interest until one comes out: it is ready then. Neither comparer compares ARP.
    ///
    /// # Errors
    /// When none comes.
    pub fn prove(&mut self) -> Result<()> {
        let mut probe = vec![0xFF; 6];
        probe.extend([2, 0, 0, 0, 0, 7, 0x08, 0x06]);
        probe.resize(60, 0);
        self.primary.send([probe.as_slice()])?;
        let came = self.out.receive(START_LIMIT)?;
        ensure!(came.as_ref() == Some(&probe), "the first frame came out as {came:02x?}");
        Ok(())
    }

    /// Where the output's reader connects.
    pub fn out_place(&self) -> &Place {
        &self.places[0]
    }

    /// Fails when it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        let ended = match &mut self.program {
            Program::Colo(colo) => return colo.check_alive(),
            Program::Qemu { child, .. } => child.try_wait()?,
        };
        ensure!(ended.is_none(), "QEMU ended ({ended:?}): {}", self.program.last_words());
        Ok(())
    }
}

impl Program {
    /// Both accept at their leisure, and QEMU drops what it releases before it has accepted the output's reader.
    fn wait_for_links(&mut self, folder: &TempDir, options: &Options) -> Result<()> {
        match self {
            Self::Colo(_) => Ok(()),
            Self::Qemu { .. } => {
                let path = folder.path().join("qmp");
                let connect = || Ok(UnixStream::connect(&path)?);
                let stream = wait::until("QEMU's monitor", START_LIMIT, connect)?;
                let mut monitor = Monitor::with_patience(stream, START_LIMIT)?;
                wait::until("QEMU's sockets", START_LIMIT, || {
                    let found = monitor.ask("query-chardev", &json!({}))?;
                    let found = found.as_array().context("a list of chardevs")?;
                    for name in SOCKETS {
                        if name == "sec" && options.secondary == Secondary::Absent {
                            continue;
                        }
                        let one = found.iter().find(|one| one["label"] == name);
                        let state = one.and_then(|one| one["filename"].as_str()).unwrap_or("disconnected");
                        if state.starts_with("disconnected") {
                            bail!("{name} is not connected");
                        }
                    }
                    Ok(())
                })
            }
        }
    }

    fn last_words(&self) -> String {
        match self {
            Self::Colo(colo) => format!("colo's stderr: {}", tail(&colo.stderr_so_far())),
            Self::Qemu { log, .. } => {
                let text = fs::read(log).unwrap_or_default();
                format!("QEMU's output: {}", tail(&String::from_utf8_lossy(&text)))
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Self::Qemu { child, .. } = self {
            // Both fail harmlessly when it has ended before.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn colo_arguments(folder: &TempDir, options: &Options) -> Vec<String> {
    let socket = |name: &str| format!("unix:{},listen", folder.path().join(name).display());
    let vnet = if options.framing == Framing::Vnet { ",vnet" } else { "" };
    vec![
        "compare".to_owned(),
        "--json".to_owned(),
        format!("--primary-in={}{vnet}", socket("pri")),
        format!("--secondary-in={}{vnet}", socket("sec")),
        format!("--out={}{vnet}", socket("out")),
        format!("--checkpoint=notify:{}", socket("notify")),
        format!("--compare-timeout={}", options.compare_timeout.as_millis()),
        format!("--set=vnet_hdr_support={}", options.framing == Framing::Vnet),
        "--metrics=off".to_owned(),
    ]
}

/// QEMU's object with everything of a machine left away.
fn qemu(folder: &TempDir, options: &Options, log: &std::path::Path) -> Result<Child> {
    let cache = Cache::get()?;
    let output = File::create(log)?;
    // Becomes QEMU itself, and dies with the thread that started it.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig=KILL", "env"]);
    command.arg(format!("LD_LIBRARY_PATH={}", cache.library_path()));
    command.arg(cache.qemu());
    command.args(["-machine", "none", "-display", "none", "-nodefaults", "-S"]);
    for name in SOCKETS {
        let path = folder.path().join(name);
        command.arg("-chardev").arg(format!("socket,id={name},path={},server=on,wait=off", path.display()));
    }
    let vnet = if options.framing == Framing::Vnet { ",vnet_hdr_support=on" } else { "" };
    command.args(["-object", "iothread,id=io1"]);
    command.arg("-object").arg(format!(
        "colo-compare,id=comp0,primary_in=pri,secondary_in=sec,outdev=out,notify_dev=notify,iothread=io1,\
         compare_timeout={},expired_scan_cycle={}{vnet}",
        options.compare_timeout.as_millis(),
        options.scan_cycle.as_millis(),
    ));
    command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", folder.path().join("qmp").display()));
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    command.spawn().context("cannot run `setpriv` (Debian package util-linux)")
}
