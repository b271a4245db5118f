//! The wiring of a pair: QEMU's arguments for each node, and the monitor's commands. Pure text; nothing is looked up.
//!
//! ```text
//! primary:   network --> filter-mirror m0 --> mirror0 ----------------> secondary's red0 --> f1 --> guest
//!            guest --> redire1 --> compare0 --> colo <-- red1 <-- f2 <-- rew0 <-- guest
//!            network <-- redire0 <-- compare_out <-- colo
//! ```

use std::fmt;

use pmd_tap::{ChardevSettings, Endpoint, Framing, Role};
use serde_json::{Value, json};

use super::super::UsageError;
use super::Node;

/// Everything the arguments are made of.
pub(super) struct Pair {
    pub(super) primary_in: ChardevSettings,
    pub(super) secondary_in: ChardevSettings,
    pub(super) out: ChardevSettings,
    /// From the primary's QEMU, which listens, to the secondary's.
    pub(super) mirror: ChardevSettings,
    /// The secondary's QEMU listens.
    pub(super) migration: ChardevSettings,
    /// The engine's monitor of this node.
    pub(super) engine_monitor: Option<ChardevSettings>,
    /// The operator's monitor of this node; QEMU listens.
    pub(super) monitor: ChardevSettings,
    /// Where QEMU finds an engine that listens on all addresses.
    pub(super) engine_host: String,
    pub(super) card: Card,
}

/// The guest's network card, and what else a guest is made of.
pub(super) struct Card {
    pub(super) tap: String,
    pub(super) mac: String,
    pub(super) model: String,
    pub(super) memory: Option<String>,
}

/// A command for a monitor.
pub(super) struct QmpCommand {
    name: &'static str,
    arguments: Option<Value>,
}

impl QmpCommand {
    fn plain(name: &'static str) -> Self {
        Self { name, arguments: None }
    }

    fn with(name: &'static str, arguments: Value) -> Self {
        Self { name, arguments: Some(arguments) }
    }

    /// An object, as it is sent.
    pub(super) fn value(&self) -> Value {
        match &self.arguments {
            Some(arguments) => json!({ "execute": self.name, "arguments": arguments }),
            None => json!({ "execute": self.name }),
        }
    }
}

impl fmt::Display for QmpCommand {
    /// One line, the name first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{\"execute\":\"{}\"", self.name)?;
        if let Some(arguments) = &self.arguments {
            write!(f, ",\"arguments\":{arguments}")?;
        }
        f.write_str("}")
    }
}

impl Pair {
    /// What no single option can tell.
    pub(super) fn check(&self, node: Node) -> Result<(), UsageError> {
        // Where this node connects, "all addresses" is no place.
        let connects_to = match node {
            Node::Primary => ("migration", &self.migration, "secondary"),
            Node::Secondary => ("mirror", &self.mirror, "primary"),
        };
        let (flag, settings, whose) = connects_to;
        if matches!(&settings.endpoint, Endpoint::Tcp { host, .. } if is_any(host)) {
            return Err(UsageError(format!(
                "--{flag} is {}, where the {whose}'s QEMU can listen but nobody can connect to; for this node write the \
                 name of the {whose}'s machine",
                settings.endpoint
            )));
        }
        let ports = [&self.primary_in, &self.secondary_in, &self.out];
        let with_header = ports.iter().filter(|port| port.framing == Framing::VnetHeader).count();
        if with_header != 0 && with_header != ports.len() {
            return Err(UsageError(
                "some ports carry virtio-net headers and some do not, and QEMU's filters of one card must agree; write \
                 ,vnet behind all three ports or behind none"
                    .to_owned(),
            ));
        }
        let model = &self.card.model;
        if model.starts_with("virtio-net") && with_header == 0 {
            return Err(UsageError(format!(
                "--device {model} puts a virtio-net header in front of every frame; write ,vnet behind all three ports, \
                 or set vnet_hdr_support = true"
            )));
        }
        let named = [
            ("--primary-in", &self.primary_in),
            ("--secondary-in", &self.secondary_in),
            ("--out", &self.out),
            ("--mirror", &self.mirror),
            ("--migration", &self.migration),
            ("--monitor", &self.monitor),
        ];
        let engine = self.engine_monitor.iter().map(|monitor| ("--checkpoint", monitor));
        let all: Vec<_> = named.into_iter().chain(engine).collect();
        for (place, (name, settings)) in all.iter().enumerate() {
            if let Some((other, _)) = all[..place].iter().find(|(_, seen)| seen.endpoint == settings.endpoint)
            {
                return Err(UsageError(format!(
                    "{name} has the address {}, and so has {other}; give each its own",
                    settings.endpoint
                )));
            }
        }
        Ok(())
    }

    /// QEMU's arguments, option and value by turns.
    pub(super) fn arguments(&self, node: Node) -> Vec<String> {
        let Card { tap, mac, model, memory } = &self.card;
        let mut options: Vec<(&str, String)> = Vec::new();
        options.extend(memory.iter().map(|size| ("-m", size.clone())));
        options.push(("-netdev", format!("tap,id=hn0,ifname={tap},script=no,downscript=no,vhost=off")));
        // Without a ROM the guest starts sooner, and its file need not be there. Only PCI cards have one.
        let rom = if model.ends_with("-device") || model.ends_with("-ccw") { "" } else { ",romfile=" };
        options.push(("-device", format!("{model},netdev=hn0,mac={mac}{rom}")));
        match node {
            Node::Primary => options.extend(self.primary_filters()),
            Node::Secondary => options.extend(self.secondary_filters()),
        }
        let engine = self.engine_monitor.as_ref().map(|monitor| self.monitor_option(monitor));
        options.extend(engine.map(|option| ("-qmp", option)));
        options.push(("-qmp", self.monitor_option(&self.monitor)));
        if node == Node::Secondary {
            options.push(("-incoming", self.migration.endpoint.to_string()));
        }
        options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect()
    }

    fn primary_filters(&self) -> [(&'static str, String); 6] {
        let vnet = self.filter_suffix();
        [
            ("-chardev", self.chardev("mirror0", &self.mirror, Role::Listen)),
            ("-chardev", self.chardev("compare0", &self.primary_in, opposite(&self.primary_in))),
            ("-chardev", self.chardev("compare_out", &self.out, opposite(&self.out))),
            ("-object", format!("filter-mirror,id=m0,netdev=hn0,queue=tx,outdev=mirror0{vnet}")),
            // Frames pass an rx queue from the last filter to the first: what redire0 lets in must not meet redire1.
            ("-object", format!("filter-redirector,id=redire0,netdev=hn0,queue=rx,indev=compare_out{vnet}")),
            ("-object", format!("filter-redirector,id=redire1,netdev=hn0,queue=rx,outdev=compare0{vnet}")),
        ]
    }

    fn secondary_filters(&self) -> [(&'static str, String); 5] {
        let vnet = self.filter_suffix();
        [
            ("-chardev", self.chardev("red0", &self.mirror, Role::Connect)),
            ("-chardev", self.chardev("red1", &self.secondary_in, opposite(&self.secondary_in))),
            ("-object", format!("filter-redirector,id=f1,netdev=hn0,queue=tx,indev=red0{vnet}")),
            ("-object", format!("filter-redirector,id=f2,netdev=hn0,queue=rx,outdev=red1{vnet}")),
            ("-object", format!("filter-rewriter,id=rew0,netdev=hn0,queue=all{vnet}")),
        ]
    }

    fn filter_suffix(&self) -> &'static str {
        match self.primary_in.framing {
            Framing::VnetHeader => ",vnet_hdr_support=on",
            Framing::Plain => "",
        }
    }

    /// A socket of QEMU's; `role` is QEMU's own.
    fn chardev(&self, id: &str, settings: &ChardevSettings, role: Role) -> String {
        let (place, delay) = match &settings.endpoint {
            Endpoint::Unix(path) => (format!("path={}", path.display()), ""),
            Endpoint::Tcp { host, port } => {
                (format!("host={},port={port}", self.reached(host, role)), ",nodelay=on")
            }
        };
        format!("socket,id={id},{place}{}{delay}", role_options(role))
    }

    fn monitor_option(&self, settings: &ChardevSettings) -> String {
        let role = opposite(settings);
        let endpoint = match &settings.endpoint {
            Endpoint::Unix(path) => Endpoint::Unix(path.clone()),
            Endpoint::Tcp { host, port } => {
                Endpoint::Tcp { host: self.reached(host, role).to_owned(), port: *port }
            }
        };
        format!("{endpoint}{}", role_options(role))
    }

    /// The host for somebody who connects: "all addresses" is none.
    fn reached<'host>(&'host self, host: &'host str, role: Role) -> &'host str {
        if role == Role::Connect && is_any(host) { &self.engine_host } else { host }
    }

    /// What starts COLO.
    pub(super) fn start(&self, node: Node) -> Vec<QmpCommand> {
        let capability = json!({ "capabilities": [{ "capability": "x-colo", "state": true }] });
        let mut commands = vec![
            QmpCommand::plain("qmp_capabilities"),
            QmpCommand::with("migrate-set-capabilities", capability),
        ];
        if node == Node::Primary {
            let uri = self.migration.endpoint.to_string();
            commands.push(QmpCommand::with("migrate", json!({ "uri": uri })));
        }
        commands
    }
}

/// What is said to this node when the other is lost; after that its guest goes on alone.
pub(super) fn failover(node: Node) -> Vec<QmpCommand> {
    let mut commands =
        vec![QmpCommand::plain("qmp_capabilities"), QmpCommand::plain("x-colo-lost-heartbeat")];
    if node == Node::Secondary {
        // The rewriter stays: open connections still need their numbers translated.
        commands.extend(removal(&["f2", "f1"], &["red1", "red0"]));
    }
    commands
}

/// What takes the engine out of the guest's way after the failover: its frames go straight to the network.
pub(super) fn detach(node: Node) -> Vec<QmpCommand> {
    match node {
        Node::Primary => removal(&["redire1", "redire0", "m0"], &["compare0", "compare_out", "mirror0"]),
        Node::Secondary => Vec::new(),
    }
}

fn removal(objects: &[&str], chardevs: &[&str]) -> Vec<QmpCommand> {
    let command = |name| move |id: &&str| QmpCommand::with(name, json!({ "id": id }));
    let objects = objects.iter().map(command("object-del"));
    objects.chain(chardevs.iter().map(command("chardev-remove"))).collect()
}

/// Whether it stands for all addresses of a machine.
fn is_any(host: &str) -> bool {
    ["0.0.0.0", "::"].contains(&host)
}

/// QEMU's end of a connection of the engine's.
fn opposite(engine: &ChardevSettings) -> Role {
    match engine.role {
        Role::Connect => Role::Listen,
        Role::Listen => Role::Connect,
    }
}

fn role_options(role: Role) -> &'static str {
    match role {
        Role::Listen => ",server=on,wait=off",
        Role::Connect => ",reconnect=1",
    }
}
