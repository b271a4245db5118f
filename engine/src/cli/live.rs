//! What `colo compare` and `colo demo` share: ports, metrics, signals, the end.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use pmd_tap::ChardevSettings;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::desk::Desk;
use super::ending::CaptureEnd;
use super::logging::LogControl;
use super::reload::{Reloader, warn_of_masks};
use super::service::Service;
use super::{CompareOptions, Format, UsageError, ports, print, print_json, wrap};
use crate::checkpoint::{Backend, ExecBackend, NoBackend, NotifyBackend, QmpBackend};
use crate::config::{CheckpointBackend, CommitAfter, PairSettings, PortAddress, Settings};
use crate::ctl::{CtlServer, Order};
use crate::metrics::{MetricsServer, Snapshot, Source};
use crate::runtime::{Engine, EngineError, EnginePair};
use crate::summary::Summary;

/// How often the main thread looks for signals.
const SIGNAL_TICK: Duration = Duration::from_millis(50);

/// Runs `colo compare` until a signal ends it, or both inputs are captures and over.
pub(super) fn compare(options: &CompareOptions, log: &LogControl) -> anyhow::Result<ExitCode> {
    // Before anything is opened, so that no signal finds the default action.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for signals")?;
    ports::start(&options.pairs)?;
    let (mut pairs, mut wrapped) = (Vec::new(), Vec::new());
    for pair in &options.pairs {
        let (pair, around) = of_pair(pair, options.pairs.len())?;
        pairs.push(pair);
        wrapped.push(around);
    }
    let engine = Engine::start_pairs(pairs).map_err(|error| match error {
        EngineError::Diverged(error) => anyhow::Error::from(UsageError(format!("--diverged: {error}"))),
        error => error.into(),
    })?;
    let epoch = unix_time().saturating_sub(engine.snapshot().uptime);
    let wrapped = wrapped.into_iter().map(|around| around.start(epoch)).collect::<Result<Vec<_>, _>>()?;
    let metrics = serve_metrics(&options.settings, engine.source())?;
    let ctl = options.settings.ctl.as_deref().map(CtlServer::start).transpose();
    let ctl = ctl.map_err(|error| UsageError(error.to_string()))?;
    tell_beginning(options, &engine);
    let mut service = Service::from_environment();
    service.ready();
    let mut ends: Vec<_> = options.pairs.iter().map(|pair| CaptureEnd::new(&pair.settings)).collect();
    let (mut failed, mut lost) = (false, false);
    let mut reload = Reloader::new(options);
    // A mistake in the file was logged.
    while !is_told_to_end(&mut signals, || drop(reload.run(&engine, "SIGHUP"))) {
        failed = engine.has_failed();
        lost = engine.has_lost_primary();
        if failed || lost || (engine.inputs_are_over() && have_come(&mut ends, engine.snapshot())) {
            break;
        }
        service.watch(Instant::now(), || engine.beats());
        heed_orders(ctl.as_ref(), &mut Desk { engine: &engine, log, reload: &mut reload });
    }
    service.stopping();
    tracing::info!("ending: what has left goes out, nothing new comes in");
    let summaries = Summary::of_each(engine.stop());
    wrapped.into_iter().for_each(wrap::Running::finish);
    drop((metrics, ctl));
    match options.format {
        Format::Text => print(&text(&summaries))?,
        Format::Json => print_json(&json(&summaries))?,
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

/// Carries out what is ordered, or waits a while.
fn heed_orders(ctl: Option<&CtlServer>, desk: &mut Desk<'_>) {
    match ctl.map(|ctl| ctl.next(SIGNAL_TICK)) {
        None => std::thread::sleep(SIGNAL_TICK),
        Some(None) => {}
        Some(Some(pending)) => {
            let order = pending.order.clone();
            if order != Order::Status {
                tracing::info!("colo ctl: {order:?}");
            }
            pending.answer(desk.carry_out(order));
        }
    }
}

/// Whether nothing can change any more, of any pair.
fn have_come(ends: &mut [CaptureEnd], snapshot: Snapshot) -> bool {
    let now = Instant::now();
    // Each is asked, though one alone says no: they go by what they saw before.
    let come =
        ends.iter_mut().zip(Summary::of_each(snapshot)).map(|(end, summary)| end.has_come(&summary, now));
    come.filter(|come| !come).count() == 0
}

/// For people who read captures: nothing is decided by the wall clock.
#[expect(clippy::disallowed_methods)]
fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// One pair's ports and back end, and what is around the ports.
fn of_pair(pair: &PairSettings, pairs: usize) -> anyhow::Result<(EnginePair, wrap::Wrapped)> {
    let open = || {
        let (ports, wrapped) = wrap::wrap(ports::open(&pair.ports)?, &pair.settings.wrappers)?;
        let (name, settings) = (pair.name.clone(), pair.settings.clone());
        Ok((EnginePair { name, backend: backend(pair)?, settings, ports }, wrapped))
    };
    open().map_err(
        |error: anyhow::Error| if pairs > 1 { error.context(format!("pair {}", pair.name)) } else { error },
    )
}

/// Says what begins, and what it has taken for it.
fn tell_beginning(options: &CompareOptions, engine: &Engine) {
    let several = options.pairs.len() > 1;
    for PairSettings { name, settings, ports } in &options.pairs {
        let span = tracing::error_span!("pair", pair = %name);
        let span = if several { span } else { tracing::Span::none() };
        span.in_scope(|| {
            tracing::info!("comparing {} with {} into {}", ports.primary_in, ports.secondary_in, ports.out);
            warn_of_masks(settings);
        });
    }
    let each: Option<Vec<_>> =
        engine.pairs().iter().map(|pair| Some((pair.name(), pair.memory()?))).collect();
    let Some(each) = each else { return };
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let sum = mebibytes(each.iter().map(|(_, bytes)| bytes).sum());
    let resident =
        engine.resident().map(|bytes| format!("; {} MiB resident with the program", mebibytes(bytes)));
    let resident = resident.unwrap_or_default();
    if several {
        let each = each.iter().map(|(name, bytes)| format!("{} MiB of pair {name}", mebibytes(*bytes)));
        let each = each.collect::<Vec<_>>().join(", ");
        tracing::info!("memory taken: {sum} MiB: {each}{resident}");
    } else {
        tracing::info!("memory taken: {sum} MiB{resident}");
    }
}

/// For people: pair by pair, under its name if there are several.
fn text(summaries: &[Summary]) -> String {
    match summaries {
        [only] => only.to_text(),
        several => {
            let each =
                several.iter().map(|summary| format!("pair {}\n{}", summary.name(), summary.to_text()));
            each.collect::<Vec<_>>().join("\n")
        }
    }
}

/// For programs: the only pair's numbers, or several pairs' by their names.
fn json(summaries: &[Summary]) -> Value {
    match summaries {
        [only] => only.to_json().into(),
        several => {
            let each = several.iter().map(|summary| (summary.name().to_owned(), summary.to_json().into()));
            serde_json::json!({ "by_pair": each.collect::<serde_json::Map<_, _>>() })
        }
    }
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
fn backend(pair: &PairSettings) -> anyhow::Result<Box<dyn Backend>> {
    let settings = &pair.settings;
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
        CheckpointBackend::Exec(command) => Box::new(ExecBackend::new(command).for_pair(&pair.name)),
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
