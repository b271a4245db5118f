//! What `colo compare` and `colo demo` share: ports, metrics, signals, the end.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use pmd_tap::{ChardevPort, ChardevSettings, Port, ReplayPort};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::ending::CaptureEnd;
use super::reload::{Reloader, warn_of_masks};
use super::service::Service;
use super::{CompareOptions, Format, UsageError, print, print_json};
use crate::checkpoint::{Backend, ExecBackend, NoBackend, NotifyBackend, QmpBackend};
use crate::config::{CheckpointBackend, CommitAfter, PortAddress, Settings};
use crate::metrics::{MetricsServer, Source};
use crate::runtime::{Engine, EngineError, EnginePorts};
use crate::summary::Summary;

/// How often the main thread looks for signals.
const SIGNAL_TICK: Duration = Duration::from_millis(50);

/// Runs `colo compare` until a signal ends it, or both inputs are captures and over.
pub(super) fn compare(options: &CompareOptions) -> anyhow::Result<ExitCode> {
    // Before anything is opened, so that no signal finds the default action.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for signals")?;
    let ports = EnginePorts {
        primary: open_input(&options.ports.primary_in)?,
        secondary: open_input(&options.ports.secondary_in)?,
        out: open_output(&options.ports.out)?,
    };
    check_headers(&ports, options)?;
    let engine =
        Engine::start(&options.settings, ports, backend(&options.settings)?).map_err(
            |error| match error {
                EngineError::Diverged(error) => {
                    anyhow::Error::from(UsageError(format!("--diverged: {error}")))
                }
                error => error.into(),
            },
        )?;
    let metrics = serve_metrics(&options.settings, engine.source())?;
    tracing::info!(
        "comparing {} with {} into {}",
        options.ports.primary_in,
        options.ports.secondary_in,
        options.ports.out
    );
    warn_of_masks(&options.settings);
    let mut service = Service::from_environment();
    service.ready();
    let mut end = CaptureEnd::new(&options.settings);
    let (mut failed, mut lost) = (false, false);
    let mut reload = Reloader::new(options);
    while !is_told_to_end(&mut signals, || reload.run(&engine)) {
        failed = engine.has_failed();
        lost = engine.has_lost_primary();
        let over = || engine.inputs_are_over().then(|| Summary::new(engine.snapshot()));
        if failed || lost || over().is_some_and(|summary| end.has_come(&summary, Instant::now())) {
            break;
        }
        service.watch(Instant::now(), || engine.beats());
        std::thread::sleep(SIGNAL_TICK);
    }
    service.stopping();
    tracing::info!("ending: what has left goes out, nothing new comes in");
    let summary = Summary::new(engine.stop());
    drop(metrics);
    match options.format {
        Format::Text => print(&summary.to_text())?,
        Format::Json => print_json(&summary.to_json().into())?,
    }
    anyhow::ensure!(
        !failed,
        "a thread of the engine ended by itself: this is a fault of colo, please report it"
    );
    anyhow::ensure!(
        !lost,
        "the primary is lost, and on_primary_loss = \"exit\": what was held of it never left"
    );
    Ok(ExitCode::SUCCESS)
}

/// Refuses to let virtio-net headers out where nobody expects them: they would stand in front of every frame.
fn check_headers(ports: &EnginePorts, options: &CompareOptions) -> Result<(), UsageError> {
    let to_socket = matches!(options.ports.out, PortAddress::Chardev(_));
    if to_socket && ports.primary.caps().virtio_header && !ports.out.caps().virtio_header {
        return Err(UsageError(format!(
            "--primary-in {} carries virtio-net headers, but --out {} does not; write ,vnet behind both or neither",
            options.ports.primary_in, options.ports.out
        )));
    }
    Ok(())
}

/// Whether a signal that ends us has come; one that asks for a reload is heeded.
fn is_told_to_end(signals: &mut Signals, mut reload: impl FnMut()) -> bool {
    signals.pending().any(|signal| {
        if signal == SIGHUP {
            reload();
        }
        signal != SIGHUP
    })
}

/// Who takes checkpoints.
fn backend(settings: &Settings) -> anyhow::Result<Box<dyn Backend>> {
    Ok(match &settings.checkpoint.backend {
        CheckpointBackend::None => Box::new(NoBackend::new(match settings.checkpoint.none_commit_after {
            CommitAfter::After(after) => Some(after),
            CommitAfter::Never => None,
        })),
        CheckpointBackend::Qmp(monitors) => {
            let backend = QmpBackend::new(monitors).map_err(|error| UsageError(error.to_string()))?;
            let output = match &settings.ports.out {
                Some(PortAddress::Chardev(address)) => address.parse::<ChardevSettings>().ok(),
                _ => None,
            };
            match output {
                Some(output) => Box::new(backend.with_output(output.endpoint)),
                None => Box::new(backend),
            }
        }
        CheckpointBackend::Exec(command) => Box::new(ExecBackend::new(command)),
        CheckpointBackend::Notify(address) => {
            let framing = if settings.ports.vnet_hdr_support {
                pmd_tap::Framing::VnetHeader
            } else {
                pmd_tap::Framing::Plain
            };
            Box::new(NotifyBackend::new(address, framing).map_err(|error| UsageError(error.to_string()))?)
        }
    })
}

/// Starts the metrics server, unless it is off.
pub(super) fn serve_metrics(settings: &Settings, source: Source) -> anyhow::Result<Option<MetricsServer>> {
    let Some(address) = settings.metrics else { return Ok(None) };
    let server = MetricsServer::start(address, source).map_err(|error| UsageError(error.to_string()))?;
    tracing::info!("metrics at http://{}/metrics", server.address());
    Ok(Some(server))
}

fn open_input(address: &PortAddress) -> anyhow::Result<Box<dyn Port>> {
    match address {
        PortAddress::Chardev(address) => open_chardev(address),
        PortAddress::Pcap(path) => {
            Ok(Box::new(ReplayPort::input(path).map_err(|error| UsageError(error.to_string()))?))
        }
    }
}

fn open_output(address: &PortAddress) -> anyhow::Result<Box<dyn Port>> {
    match address {
        PortAddress::Chardev(address) => open_chardev(address),
        PortAddress::Pcap(path) => {
            Ok(Box::new(ReplayPort::output(path).map_err(|error| UsageError(error.to_string()))?))
        }
    }
}

/// What a socket port cannot do at its start is a mistake in its address: a path that is taken, a host nobody knows.
fn open_chardev(address: &str) -> anyhow::Result<Box<dyn Port>> {
    let usage = |error: pmd_tap::PortError| UsageError(error.to_string());
    let settings: ChardevSettings = address.parse().map_err(usage)?;
    Ok(Box::new(ChardevPort::new(&settings).map_err(usage)?))
}
