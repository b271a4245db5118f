//! `colo replay`: two captures through the engine in virtual time, a verdict for every frame.

mod report;

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;

use pmd_tap::{Capture, CaptureError, CaptureWriter, CapturedFrame, Former, Nanos};

use crate::diverged::{DivergedFile, DivergedSettings};
use crate::policy::RuleSet;
use crate::side::BySide;
use crate::virtual_time::{Input, VirtualSettings, VirtualTime};

use report::Report;
pub use report::Summary;

/// Files of a replay.
#[derive(Clone, Debug)]
pub struct Files {
    /// What the primary sent.
    pub primary: PathBuf,
    /// What the secondary sent.
    pub secondary: PathBuf,
    /// Where released frames go, stamped with their release.
    pub released: Option<PathBuf>,
    /// Where verdicts go, one JSON object a line.
    pub verdicts: Option<PathBuf>,
    /// Where frames of both sides go when they differ.
    pub diverged: DivergedSettings,
}

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A capture cannot be used, or the released frames cannot be written.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// There is no place for the verdicts.
    #[error("cannot create {path}: {source}", path = .path.display())]
    NoVerdicts {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The verdicts cannot be written.
    #[error("cannot write verdicts to {path}: {source}", path = .path.display())]
    Verdicts {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No memory for frames.
    #[error(transparent)]
    Pool(#[from] pmd_tap::PoolError),
}

impl ReplayError {
    /// Whether what the user named is at fault, not the writing of results.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Capture(error) => !matches!(error, CaptureError::Write { .. }),
            Self::NoVerdicts { .. } => true,
            Self::Verdicts { .. } | Self::Pool(_) => false,
        }
    }
}

/// A capture as an input: time starts with the first frame of either capture.
struct Side {
    capture: Capture,
    next: Option<CapturedFrame>,
    start_ns: u64,
    snapped: u64,
}

impl Side {
    fn open(path: &PathBuf) -> Result<Self, CaptureError> {
        let mut capture = Capture::open(path)?;
        let next = capture.next_frame()?;
        Ok(Self { capture, next, start_ns: 0, snapped: 0 })
    }

    fn first_ns(&self) -> Option<u64> {
        self.next.as_ref().map(|frame| frame.timestamp_ns)
    }
}

impl Input for Side {
    type Error = ReplayError;

    fn next_time(&mut self) -> Result<Option<Nanos>, ReplayError> {
        let start_ns = self.start_ns;
        Ok(self.next.as_ref().map(|frame| Nanos(frame.timestamp_ns.saturating_sub(start_ns))))
    }

    fn take(&mut self) -> Result<Vec<u8>, ReplayError> {
        let Some(frame) = self.next.take() else { return Ok(Vec::new()) };
        self.next = self.capture.next_frame()?;
        if usize::try_from(frame.original_len).is_ok_and(|len| len > frame.bytes.len()) {
            self.snapped += 1;
        }
        Ok(frame.bytes)
    }
}

/// Runs two captures through the engine.
pub fn run(files: &Files, settings: VirtualSettings, rules: RuleSet) -> Result<Summary, ReplayError> {
    let mut inputs =
        BySide { primary: Side::open(&files.primary)?, secondary: Side::open(&files.secondary)? };
    let first = [inputs.primary.first_ns(), inputs.secondary.first_ns()];
    let start_ns = first.into_iter().flatten().min().unwrap_or(0);
    inputs.primary.start_ns = start_ns;
    inputs.secondary.start_ns = start_ns;
    let released = files.released.as_ref().map(CaptureWriter::create).transpose()?;
    let verdicts = match &files.verdicts {
        Some(path) => {
            let file = File::create(path)
                .map_err(|source| ReplayError::NoVerdicts { path: path.clone(), source })?;
            Some((path.clone(), BufWriter::new(file)))
        }
        None => None,
    };
    let diverged = match &files.diverged.path {
        Some(path) => Some(DivergedFile::create(path, &files.diverged, Former::Replace, start_ns)?),
        None => None,
    };
    let mut engine = VirtualTime::new(settings)?;
    engine.replace_rules(&Arc::new(rules));
    if diverged.is_some() {
        engine.watch();
    }
    let mut report = Report::new(start_ns, released, verdicts, diverged);
    engine.run(BySide { primary: &mut inputs.primary, secondary: &mut inputs.secondary }, &mut report)?;
    for side in [&inputs.primary, &inputs.secondary] {
        if side.snapped > 0 {
            let path = side.capture.path().display();
            tracing::warn!("{} frames of {path} were not captured whole: capture with -s 0", side.snapped);
        }
    }
    report.finish(&engine)
}

impl Input for &mut Side {
    type Error = ReplayError;

    fn next_time(&mut self) -> Result<Option<Nanos>, ReplayError> {
        Side::next_time(self)
    }

    fn take(&mut self) -> Result<Vec<u8>, ReplayError> {
        Side::take(self)
    }
}
