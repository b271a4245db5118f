//! `colo qemu-args`: what QEMU must be told to run a pair with `colo compare` in the middle, made from the engine's own
//! configuration. Prints, and touches nothing: no socket, no QEMU.

mod pair;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::process::ExitCode;

use clap::ValueEnum;
use pmd_tap::{ChardevSettings, Framing, Role};
use serde_json::json;

use super::UsageError;
use super::common::{JsonArg, PortArgs, SettingArgs};
use super::output::{Format, print, print_json};
use crate::config::{CheckpointBackend, PairSettings, PortAddress, Purpose, SocketAddress};
use pair::{Card, Pair, QmpCommand};

/// Print QEMU's arguments and monitor commands for a pair with colo in the middle
///
/// Made from what `colo compare` is told, so give it the same file and flags. Without --json it is a shell script that
/// takes the rest of QEMU's arguments: machine, memory, kernel and disks are yours, and the same on both sides. The
/// commands that start COLO and those of a failover stand in it as comments.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  colo qemu-args primary --config colo.toml > primary.sh
  sh primary.sh -machine pc,accel=kvm -m 256 -display none -kernel vmlinuz -initrd initrd
  colo qemu-args secondary --config colo.toml --tap tap1 --mac 52:54:00:aa:bb:cc
  colo qemu-args secondary --config colo.toml --json | jq -c '.failover[]'")]
pub(super) struct Args {
    /// Whose arguments
    #[arg(value_enum, value_name = "primary|secondary")]
    node: Node,
    #[command(flatten)]
    ports: PortArgs,
    /// TAP device of the guest's network card [default: tapP for the primary, tapS for the secondary]
    #[arg(long, value_name = "NAME")]
    tap: Option<String>,
    /// Ethernet address of the card; the same on both sides
    #[arg(long, value_name = "MAC", default_value = "52:54:00:12:34:56")]
    mac: String,
    /// QEMU's model of the card. rtl8139 runs well; the secondary's QEMU aborts with e1000; virtio-net-pci needs ,vnet
    /// behind all ports, and QEMU 7.2 becomes slow with it after some thirty checkpoints
    #[arg(long, value_name = "MODEL", default_value = "rtl8139")]
    device: String,
    /// Adds `-m SIZE`; the same on both sides
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Where the primary's QEMU hands the secondary's what the guest receives: unix:PATH or tcp:HOST:PORT; the primary
    /// listens
    #[arg(long, value_name = "ADDR", default_value = "tcp:127.0.0.1:9003")]
    mirror: String,
    /// Where the secondary's QEMU waits for the guest's memory. A unix socket makes checkpoints several times shorter
    /// than TCP
    #[arg(long, value_name = "ADDR", default_value = "unix:/run/colo/migration.sock")]
    migration: String,
    /// Your own monitor (QMP), beside the engine's [default: `unix:/run/colo/primary-own.qmp`, secondary-own.qmp]
    #[arg(long, value_name = "ADDR")]
    monitor: Option<String>,
    /// Where QEMU finds the engine, when a port listens on all addresses
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    engine_host: String,
    /// Which [[pair]] of the file, if there are several
    #[arg(long = "pair", value_name = "NAME")]
    of: Option<String>,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    json: JsonArg,
}

/// Which of the two QEMUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Node {
    Primary,
    Secondary,
}

impl Node {
    fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }

    fn other(self) -> &'static str {
        match self {
            Self::Primary => Self::Secondary.name(),
            Self::Secondary => Self::Primary.name(),
        }
    }
}

impl Args {
    fn pair(&self) -> anyhow::Result<Pair> {
        let sources = self.ports.add_to(self.settings.sources(Purpose::Compare));
        let PairSettings { settings, ports, .. } = self.one_of(sources.load_pairs()?)?;
        let monitors = match &settings.checkpoint.backend {
            CheckpointBackend::Qmp(monitors) => [Some(&monitors.primary), monitors.secondary.as_ref()],
            _ => [None, None],
        };
        let engine_monitor = match self.node {
            Node::Primary => monitors[0],
            Node::Secondary => monitors[1],
        };
        let name = self.node.name();
        let own = || format!("unix:/run/colo/{name}-own.qmp");
        let pair = Pair {
            primary_in: port("primary-in", &ports.primary_in)?,
            secondary_in: port("secondary-in", &ports.secondary_in)?,
            out: port("out", &ports.out)?,
            mirror: address("mirror", &self.mirror)?,
            migration: address("migration", &self.migration)?,
            engine_monitor: engine_monitor.map(|text| chardev(text.as_str())).transpose()?,
            monitor: address("monitor", &self.monitor.clone().unwrap_or_else(own))?,
            engine_host: word("engine-host", &self.engine_host)?,
            card: self.card()?,
        };
        pair.check(self.node)?;
        Ok(pair)
    }

    /// The pair that is meant.
    fn one_of(&self, pairs: Vec<PairSettings>) -> Result<PairSettings, UsageError> {
        let names: Vec<_> = pairs.iter().map(|pair| pair.name.clone()).collect();
        let mut pairs = pairs.into_iter();
        let found = match &self.of {
            Some(name) => pairs.find(|pair| pair.name == *name),
            None => pairs.next().filter(|_| names.len() == 1),
        };
        found.ok_or_else(|| {
            let said =
                self.of.as_ref().map_or("is missing".to_owned(), |name| format!("names no pair: {name}"));
            UsageError(format!("--pair {said}; say one of {}", names.join(", ")))
        })
    }

    fn card(&self) -> Result<Card, UsageError> {
        let default = match self.node {
            Node::Primary => "tapP",
            Node::Secondary => "tapS",
        };
        let parts: Vec<_> = self.mac.split(':').collect();
        let is_pair = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if parts.len() != 6 || !parts.iter().all(is_pair) {
            return Err(UsageError(format!(
                "--mac is {:?}, but must be six pairs of hexadecimal digits; for example --mac 52:54:00:12:34:56",
                self.mac
            )));
        }
        let memory = self.memory.as_ref().map(|size| word("memory", size)).transpose()?;
        Ok(Card {
            tap: word("tap", self.tap.as_deref().unwrap_or(default))?,
            mac: self.mac.clone(),
            model: word("device", &self.device)?,
            memory,
        })
    }
}

/// A port that QEMU can be at the other end of.
fn port(flag: &str, address: &PortAddress) -> Result<ChardevSettings, UsageError> {
    match address {
        PortAddress::Chardev(text) => chardev(text),
        PortAddress::Tap(_) | PortAddress::Packet(_) | PortAddress::Dpdk(_) => Err(UsageError(format!(
            "--{flag} is {address}, and QEMU's filters speak over sockets only; give it unix:PATH or tcp:HOST:PORT, or let \
             QEMU have the device without filters (docs/PORTS.md)"
        ))),
        PortAddress::Pcap(_) => Err(UsageError(format!(
            "--{flag} is {address}, and QEMU cannot be at the other end of a file; give it unix:PATH or tcp:HOST:PORT"
        ))),
    }
}

fn chardev(text: &str) -> Result<ChardevSettings, UsageError> {
    text.parse().map_err(|error: pmd_tap::PortError| UsageError(error.to_string()))
}

/// An address between the QEMUs, or between QEMU and an operator: who listens is not the caller's choice.
fn address(flag: &str, text: &str) -> Result<ChardevSettings, UsageError> {
    let wrong = |problem: String| {
        UsageError(format!("--{flag} {text} {problem}; write --{flag} unix:PATH or --{flag} tcp:HOST:PORT"))
    };
    let checked: SocketAddress = text.parse().map_err(|error| wrong(format!("{error}")))?;
    let settings = chardev(checked.as_str())?;
    if settings.role == Role::Listen || settings.framing == Framing::VnetHeader {
        return Err(wrong("has an option, but takes none".to_owned()));
    }
    Ok(settings)
}

/// A value that is one word of QEMU's own syntax.
fn word(flag: &str, text: &str) -> Result<String, UsageError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
    if text.is_empty() || !text.chars().all(fits) {
        return Err(UsageError(format!(
            "--{flag} is {text:?}, but must be letters, digits, and any of . _ - : %, without commas or spaces"
        )));
    }
    Ok(text.to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let pair = args.pair()?;
    let arguments = pair.arguments(args.node);
    match Format::from_flag(&args.json) {
        Format::Text => print(&script(&pair, args.node, &arguments))?,
        Format::Json => {
            let values =
                |commands: Vec<QmpCommand>| commands.iter().map(QmpCommand::value).collect::<Vec<_>>();
            print_json(&json!({
                "args": arguments,
                "qmp": values(pair.start(args.node)),
                "failover": values(pair::failover(args.node)),
                "detach": values(pair::detach(args.node)),
                "monitor": pair.monitor.endpoint.to_string(),
            }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The arguments as a script, the commands as comments.
fn script(pair: &Pair, node: Node, arguments: &[String]) -> String {
    let (name, other) = (node.name(), node.other());
    let mut text = format!(
        "# The {name} of a COLO pair with colo in the middle. Machine, memory, kernel and disks are yours, the same on\n\
         # both sides:  sh {name}.sh -machine pc -m 256 -kernel ...\n\
         exec \"${{QEMU:-qemu-system-x86_64}}\" \"$@\""
    );
    for option in arguments.chunks(2) {
        let words: Vec<_> = option.iter().map(|word| quoted(word)).collect();
        // Into memory: that does not fail.
        let _ = write!(text, " \\\n  {}", words.join(" "));
    }
    let monitor = &pair.monitor.endpoint;
    let mut block = |title: &str, commands: &[QmpCommand]| {
        if !commands.is_empty() {
            let _ = write!(text, "\n\n# {title}");
            for command in commands {
                let _ = write!(text, "\n# {command}");
            }
        }
    };
    let start = match node {
        Node::Primary => format!("To start COLO, after the secondary, say to the monitor {monitor}:"),
        Node::Secondary => format!("To start COLO, before the primary, say to the monitor {monitor}:"),
    };
    block(&start, &pair.start(node));
    block(&format!("When the {other} is lost, say to that monitor:"), &pair::failover(node));
    block("And to take the engine out of the guest's way after that:", &pair::detach(node));
    text
}

/// A word as the shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:%,=/+@[]".contains(c);
    let brackets_match_files = word.contains(['[', ']']);
    if !word.is_empty() && word.chars().all(plain) && !brackets_match_files {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
