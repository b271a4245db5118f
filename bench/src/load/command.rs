//! `colo-bench load`: one run, from flags to summary.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::cpu::{Cores, Memory, stay_on};
use super::driver::{Driver, Links};
use super::engine::{Engine, Kind, Places, Start, Transport};
use super::outcome::Outcome;
use super::progress::Progress;
use super::shape::Shape;

/// Flags of `colo-bench load`.
#[derive(Clone, Debug, Args)]
pub struct Load {
    #[command(flatten)]
    shape: Shape,
    /// The comparer
    #[arg(long, value_enum, default_value = "colo")]
    engine: Kind,
    /// Sockets of a comparer that is started
    #[arg(long, value_enum, default_value = "unix")]
    transport: Transport,
    /// A setting of the comparer: a key of colo's configuration, or a property of QEMU's object. Repeatable
    #[arg(long = "engine-set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Of a given comparer: where the primary's output goes, unix:PATH or tcp:HOST:PORT
    #[arg(long, value_name = "ADDR", requires_all = ["secondary_in", "out"])]
    primary_in: Option<String>,
    /// Of a given comparer: where the secondary's output goes
    #[arg(long, value_name = "ADDR")]
    secondary_in: Option<String>,
    /// Of a given comparer: where released frames come from
    #[arg(long, value_name = "ADDR")]
    out: Option<String>,
    /// Of a given comparer: its notifier
    #[arg(long, value_name = "ADDR")]
    notify_dev: Option<String>,
    /// Of a given comparer: its process, whose time and memory count
    #[arg(long, value_name = "PID")]
    engine_pid: Option<u32>,
    /// Print one JSON line instead
    #[arg(long)]
    pub json: bool,
}

impl Load {
    /// Runs it.
    ///
    /// # Errors
    /// When the flags contradict each other, or the comparer ends or breaks the protocol.
    pub fn run(&self, stop: &Arc<AtomicBool>) -> Result<Outcome> {
        self.shape.check()?;
        let mut progress = Progress::new("load");
        if let (Some(primary), Some(secondary), Some(out)) = (&self.primary_in, &self.secondary_in, &self.out)
        {
            let [primary, secondary, out] = [primary, secondary, out].map(Clone::clone);
            let places = Places { primary, secondary, out, notify: self.notify_dev.clone() };
            let links = places.connect(self.shape.framing())?;
            if let Some(core) = Cores::apart().driver {
                stay_on(core)?;
            }
            let who = (Kind::Given, transport(&places.primary));
            return drive(&self.shape, links, self.engine_pid, who, &self.settings, stop, &mut progress);
        }
        if self.engine == Kind::Given {
            bail!("--engine given needs --primary-in, --secondary-in and --out");
        }
        let start = Start {
            kind: self.engine,
            transport: self.transport,
            shape: &self.shape,
            settings: &self.settings,
            cores: Cores::apart(),
        };
        measure(&start, stop, &mut progress)
    }
}

/// Starts a comparer, loads it, ends it.
///
/// # Errors
/// As for [`Load::run`].
pub fn measure(start: &Start<'_>, stop: &Arc<AtomicBool>, progress: &mut Progress) -> Result<Outcome> {
    let mut engine = Engine::start(start)?;
    let links = engine.connect(start.kind, start.shape.framing())?;
    let who = (start.kind, start.transport);
    let settings = engine.settings.clone();
    drive(start.shape, links, Some(engine.process()), who, &settings, stop, progress)
        .map_err(|error| engine.explain(error))
}

fn drive(
    shape: &Shape,
    links: Links,
    process: Option<u32>,
    who: (Kind, Transport),
    settings: &[String],
    stop: &AtomicBool,
    progress: &mut Progress,
) -> Result<Outcome> {
    let measured = Driver::new(shape, links, process).run(stop, &mut |live| progress.draw(live))?;
    let memory = process.map(Memory::of).transpose().context("the comparer has ended")?;
    Ok(Outcome::new(who, settings.to_vec(), shape, &measured, memory))
}

fn transport(address: &str) -> Transport {
    if address.starts_with("tcp:") { Transport::Tcp } else { Transport::Unix }
}
