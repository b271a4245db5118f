//! `colo demo`: the world, the engine in between, a live line, a report.

use std::io::{IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use pmd_tap::{ChardevPort, Framing};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::live::serve_metrics;
use super::{DemoOptions, Format, print, print_json};
use crate::demo::{World, WorldBackend, WorldHandle, WorldLinks, WorldProgress, WorldReport, WorldSettings};
use crate::runtime::{Engine, EnginePorts};
use crate::summary::Summary;

/// How often the live line is drawn.
const FRAME: Duration = Duration::from_millis(250);
/// How often the main thread looks for signals and the end.
const TICK: Duration = Duration::from_millis(25);

/// Runs `colo demo` to its end.
pub(super) fn demo(options: &DemoOptions) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot watch for signals")?;
    let (world, ports) = start_world(options)?;
    let backend = WorldBackend::new(world.checkpointer());
    let engine = Engine::start(&options.settings, ports, Box::new(backend))?;
    let metrics = serve_metrics(&options.settings, engine.source())?;
    super::reload::warn_of_masks(&options.settings);
    let live = LiveLine::start();
    let mut drawn = Instant::now();
    while !world.is_over() && !engine.has_failed() {
        if signals.pending().next().is_some() {
            world.stop();
        }
        if drawn.elapsed() >= FRAME {
            live.draw(&Summary::new(engine.snapshot()), &world.progress(), options.run_for);
            drawn = Instant::now();
        }
        std::thread::sleep(TICK);
    }
    live.clear();
    let failed = engine.has_failed();
    let world = world.finish();
    let summary = Summary::new(engine.stop());
    drop(metrics);
    report(options, &summary, &world)?;
    anyhow::ensure!(
        !failed,
        "a thread of the engine ended by itself: this is a fault of colo, please report it"
    );
    let clean =
        world.totals.client_errors == 0 && summary.invariant_violations() == 0 && world.broken_link.is_none();
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts the guests and the client, and makes the engine's ports to them.
fn start_world(options: &DemoOptions) -> anyhow::Result<(WorldHandle, EnginePorts)> {
    let pair = || UnixStream::pair().context("cannot make a socket pair");
    let (primary_out, primary_in) = pair()?;
    let (secondary_out, secondary_in) = pair()?;
    let (client_in, out) = pair()?;
    let settings = WorldSettings {
        seed: options.seed,
        flows: usize::try_from(options.flows).unwrap_or(usize::MAX),
        diverge: options.diverge,
        rate: options.rate,
        duration: options.run_for,
    };
    let links = WorldLinks { primary_out, secondary_out, client_in };
    let world = World::spawn(&settings, links).context("cannot start the embedded guests")?;
    let port = |stream, name| Box::new(ChardevPort::from_stream(stream, Framing::Plain, name));
    let ports = EnginePorts {
        primary: port(primary_in, "primary"),
        secondary: port(secondary_in, "secondary"),
        out: port(out, "client"),
    };
    Ok((world, ports))
}

/// One line that is drawn over itself, on a terminal only.
struct LiveLine {
    terminal: bool,
    started: Instant,
}

impl LiveLine {
    fn start() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), started: Instant::now() }
    }

    fn draw(&self, summary: &Summary, world: &WorldProgress, run_for: Duration) {
        if !self.terminal {
            return;
        }
        let elapsed = self.started.elapsed().as_secs_f64();
        let rate = per_second(summary.pairs(), elapsed);
        let checkpoints: Vec<_> = summary
            .checkpoints()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        let checkpoints = if checkpoints.is_empty() { "none".to_owned() } else { checkpoints.join(" ") };
        let [held, _] = summary.held();
        // Nobody is left to hear that stderr is gone.
        let _ = write!(
            std::io::stderr().lock(),
            "\r\x1b[2K{elapsed:4.1}/{} s  {rate} pairs/s  held {held}  p50 {:.0?} p99 {:.0?}  checkpoints: {checkpoints}  \
             client: {} answers, {} errors",
            run_for.as_secs(),
            summary.latency(0.5),
            summary.latency(0.99),
            world.responses,
            world.client_errors,
        );
    }

    fn clear(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

/// A rate, whole.
fn per_second(count: u64, seconds: f64) -> u64 {
    let millis = Duration::from_secs_f64(seconds.max(0.001)).as_millis().max(1);
    u64::try_from(u128::from(count) * 1000 / millis).unwrap_or(u64::MAX)
}

fn report(options: &DemoOptions, summary: &Summary, world: &WorldReport) -> anyhow::Result<()> {
    let totals = &world.totals;
    match options.format {
        Format::Json => {
            let mut fields = summary.to_json();
            let world_fields = json!({
                "client_errors": totals.client_errors,
                "errors": world.errors,
                "client": {
                    "requests": totals.requests,
                    "responses": totals.responses,
                    "bytes": totals.bytes,
                    "connections": totals.connections,
                },
                "diverged_responses": totals.diverged,
            });
            if let serde_json::Value::Object(world_fields) = world_fields {
                fields.extend(world_fields);
            }
            print_json(&fields.into())?;
        }
        Format::Text => print(&text(options, summary, world))?,
    }
    Ok(())
}

fn text(options: &DemoOptions, summary: &Summary, world: &WorldReport) -> String {
    let totals = &world.totals;
    let mut lines = vec![
        format!(
            "colo demo: two guests, {} connections at a time, {} s, {} worker(s), divergence {}, seed {}",
            options.flows,
            options.run_for.as_secs(),
            options.settings.runtime.workers,
            options.diverge,
            options.seed,
        ),
        String::new(),
        format!(
            "{:<12} {} answers, {} bytes, {} connections; {} errors",
            "client", totals.responses, totals.bytes, totals.connections, totals.client_errors
        ),
        format!(
            "{:<12} {} ({} a second)",
            "pairs",
            summary.pairs(),
            per_second(summary.pairs(), summary.uptime().as_secs_f64())
        ),
    ];
    lines.push(summary.to_text().trim_end().to_owned());
    lines.push(format!("{:<12} {} answers in which the secondary differed", "divergence", totals.diverged));
    lines.extend(world.broken_link.iter().map(|link| format!("{:<12} {link}", "broken link")));
    lines.extend(world.errors.iter().map(|error| format!("{:<12} {error}", "error")));
    let verdict = if totals.client_errors == 0 {
        "Every byte that the client got was right, and none is missing."
    } else {
        "THE CLIENT SAW ERRORS: this is a fault of colo, please report it with the seed."
    };
    lines.push(String::new());
    lines.push(verdict.to_owned());
    lines.join("\n")
}
