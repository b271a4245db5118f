//! Log lines: readable on a terminal, for the journal with their level in front, JSON for whatever else collects stderr.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use anyhow::Context;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{Compact, Format, FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Changes what is logged while it runs.
pub(super) struct LogControl(Box<dyn Fn(EnvFilter) -> Result<(), String>>);

impl LogControl {
    /// Logs by another filter from here on.
    pub(super) fn set(&self, filter: &str) -> Result<(), String> {
        let filter = crate::config::log_filter(filter)?;
        (self.0)(filter)
    }
}

/// Sets up logging for the process by a filter such as `info`; once.
pub(super) fn start(filter: &str) -> anyhow::Result<LogControl> {
    let filter =
        EnvFilter::try_new(filter).with_context(|| format!("the log filter {filter:?} is not one"))?;
    let (filter, reload) = tracing_subscriber::reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let started = if io::stderr().is_terminal() {
        registry.with(lines.with_target(false)).try_init()
    } else if is_journal() {
        let plain = tracing_subscriber::fmt::format().compact().without_time().with_target(false);
        let plain = plain.with_ansi(false).with_level(false);
        registry.with(lines.with_ansi(false).event_format(Journal(plain))).try_init()
    } else {
        let lines = lines.json().flatten_event(true).with_current_span(true).with_span_list(false);
        registry.with(lines).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))?;
    Ok(LogControl(Box::new(move |filter| reload.reload(filter).map_err(|error| error.to_string()))))
}

/// Whether stderr goes to systemd's journal: it says which stream that is, as in `systemd.exec(5)`.
fn is_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let Ok(stderr) = rustix::fs::fstat(io::stderr().as_fd()) else { return false };
    stream == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}

/// Lines with their level in front as `sd-daemon(3)` has it: the journal keeps it apart, and has the time itself.
struct Journal(Format<Compact, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// As in `syslog(3)`.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}
