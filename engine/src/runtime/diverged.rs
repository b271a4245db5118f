//! The thread that writes down what the witnesses saw. It has a thread of its own because a disk may be slow: neither
//! a core nor the control thread ever waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pmd_tap::{Clock, Former};
use tracing::Span;

use super::EngineError;
use super::control::unix_time;
use crate::diverged::{DivergedFile, DivergedSettings};
use crate::metrics::Diverged;
use crate::witness::Exchange;

/// How often the thread looks for records. Nobody waits for it; cores do not wake it, which would cost them a system
/// call.
const LOOK: Duration = Duration::from_millis(20);

/// What the thread counts.
#[derive(Debug)]
pub(super) struct DivergedCounts {
    exchange: Arc<Exchange>,
    records: AtomicU64,
    write_errors: AtomicU64,
}

impl DivergedCounts {
    pub(super) fn snapshot(&self) -> Diverged {
        Diverged {
            records: self.records.load(Ordering::Relaxed),
            skipped: self.exchange.skipped(),
            write_errors: self.write_errors.load(Ordering::Relaxed),
        }
    }
}

/// The running thread.
#[derive(Debug)]
pub(super) struct DivergedThread {
    counts: Arc<DivergedCounts>,
    ending: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl DivergedThread {
    /// Makes the file and starts the thread, if a file is named. Its log lines are marked with `span`.
    pub(super) fn start(
        settings: &DivergedSettings,
        shards: usize,
        clock: &Clock,
        span: &Span,
    ) -> Result<Option<Self>, EngineError> {
        let Some(path) = &settings.path else { return Ok(None) };
        let unix_ns = unix_time().unwrap_or_default().as_nanos();
        let zero_unix_ns = u64::try_from(unix_ns).unwrap_or(0).saturating_sub(clock.now().0);
        let file = DivergedFile::create(path, settings, Former::Keep, zero_unix_ns)?;
        let exchange = Exchange::new(shards);
        let counts = Arc::new(DivergedCounts {
            exchange,
            records: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
        });
        let ending = Arc::new(AtomicBool::new(false));
        let mut writer = Writer { file, counts: Arc::clone(&counts), state: State::Fine };
        let (told, span) = (Arc::clone(&ending), span.clone());
        let thread = std::thread::Builder::new()
            .name("colo-diverged".to_owned())
            .spawn(move || {
                let _pair = span.entered();
                // Said before the last look, so that nothing that came before it is left behind.
                while !told.load(Ordering::Acquire) {
                    writer.write_all();
                    std::thread::park_timeout(LOOK);
                }
                writer.write_all();
            })
            .map_err(|source| EngineError::Start { what: "a thread", source })?;
        Ok(Some(Self { counts, ending, thread }))
    }

    /// Where the witnesses leave their records.
    pub(super) fn exchange(&self) -> Arc<Exchange> {
        Arc::clone(&self.counts.exchange)
    }

    pub(super) fn counts(&self) -> Arc<DivergedCounts> {
        Arc::clone(&self.counts)
    }

    /// Writes what is there, when no witness has anything more.
    pub(super) fn finish(self) {
        self.ending.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // Its panic has been printed by the hook.
        let _ = self.thread.join();
    }
}

/// Whether the last record could be written: a full disk is said once, not once a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fine,
    Failing,
}

struct Writer {
    file: DivergedFile,
    counts: Arc<DivergedCounts>,
    state: State,
}

impl Writer {
    fn write_all(&mut self) {
        while let Some(record) = self.counts.exchange.next() {
            match (self.file.write(&record), self.state) {
                (Ok(()), state) => {
                    self.counts.records.fetch_add(1, Ordering::Relaxed);
                    if state == State::Failing {
                        tracing::info!("--diverged: writing again");
                    }
                    self.state = State::Fine;
                }
                (Err(error), state) => {
                    self.counts.write_errors.fetch_add(1, Ordering::Relaxed);
                    if state == State::Fine {
                        tracing::warn!("--diverged: {error}; what differs meanwhile is not written down");
                    }
                    self.state = State::Failing;
                }
            }
            self.counts.exchange.give_back(record);
        }
    }
}
