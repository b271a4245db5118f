//! Faults and captures around a pair's ports, as the command line asks for them, and the thread that writes a capture.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use pmd_tap::{CaptureFile, Fault, FaultCounts, FaultPort, Port};

use super::UsageError;
use crate::config::{FaultSpec, WrapperSettings};
use crate::runtime::EnginePorts;

/// How often the file is written to.
const LOOK: Duration = Duration::from_millis(20);
/// Who writes the file.
const APPLICATION: &str = concat!("colo ", env!("CARGO_PKG_VERSION"));
/// The interfaces of a capture, in the order in which ports are wrapped.
const PORTS: [&str; 3] = ["primary_in", "secondary_in", "out"];

/// What is around one pair's ports.
#[derive(Debug, Default)]
pub(super) struct Wrapped {
    faults: Vec<(&'static str, Arc<FaultCounts>)>,
    capture: Option<CaptureFile>,
}

/// Puts around the ports what the settings ask for: a capture has what the engine sees, faults and all.
pub(super) fn wrap(ports: EnginePorts, settings: &WrapperSettings) -> anyhow::Result<(EnginePorts, Wrapped)> {
    let mut wrapped = Wrapped::default();
    let EnginePorts { primary, secondary, out } = ports;
    let primary = wrapped.add_faults("primary", primary, settings.primary.as_ref());
    let secondary = wrapped.add_faults("secondary", secondary, settings.secondary.as_ref());
    let out = wrapped.add_faults("out", out, settings.out.as_ref());
    let Some(path) = &settings.capture.path else {
        return Ok((EnginePorts { primary, secondary, out }, wrapped));
    };
    let mut file = CaptureFile::create(path, APPLICATION, &PORTS, settings.capture.rotation)
        .map_err(|error| UsageError(format!("--capture: {error}")))?;
    let mut captured = |port| file.wrap(port).map(|port| -> Box<dyn Port> { Box::new(port) });
    let ports =
        EnginePorts { primary: captured(primary)?, secondary: captured(secondary)?, out: captured(out)? };
    wrapped.capture = Some(file);
    Ok((ports, wrapped))
}

impl Wrapped {
    fn add_faults(
        &mut self,
        side: &'static str,
        port: Box<dyn Port>,
        spec: Option<&FaultSpec>,
    ) -> Box<dyn Port> {
        let Some(spec) = spec else { return port };
        let port = FaultPort::new(port, &spec.settings);
        self.faults.push((side, port.counts()));
        Box::new(port)
    }

    /// Writes the capture from now on. `epoch` is the time of the day, since 1970, at which the engine's clock read zero.
    pub(super) fn start(self, epoch: Duration) -> anyhow::Result<Running> {
        for (side, _) in &self.faults {
            tracing::warn!("--fault: things go wrong at {side} on purpose");
        }
        let ending = Arc::new(AtomicBool::new(false));
        let writer = self.capture.map(|file| {
            let ending = Arc::clone(&ending);
            std::thread::Builder::new()
                .name("colo-capture".to_owned())
                .spawn(move || write(file, epoch, &ending))
                .context("cannot start a thread for --capture")
        });
        Ok(Running { faults: self.faults, ending, writer: writer.transpose()? })
    }
}

/// Writes what comes, until it is told that nothing more does.
fn write(mut file: CaptureFile, epoch: Duration, ending: &AtomicBool) {
    let mut failing = false;
    loop {
        // Asked before the last look, so that nothing that came before is left behind.
        let last = ending.load(Ordering::Acquire);
        let result = file.write_waiting(epoch);
        if let (Err(error), false) = (&result, failing) {
            tracing::warn!("--capture: {error}; what crosses meanwhile is not written down");
        }
        failing = result.is_err();
        if last {
            break;
        }
        std::thread::park_timeout(LOOK);
    }
    let (written, skipped) = (file.written(), file.skipped());
    tracing::info!("--capture: {written} frames in {}, {skipped} left out", file.path().display());
}

/// The same while the engine runs.
#[derive(Debug)]
pub(super) struct Running {
    faults: Vec<(&'static str, Arc<FaultCounts>)>,
    ending: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Running {
    /// After the engine has stopped: writes the rest, and says what went wrong on purpose.
    pub(super) fn finish(mut self) {
        for (side, counts) in &self.faults {
            let done = Fault::ALL.into_iter().map(|fault| (fault.label(), counts.of(fault)));
            let done: Vec<_> =
                done.filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")).collect();
            let done = if done.is_empty() { "nothing".to_owned() } else { done.join(", ") };
            tracing::info!("--fault: at {side}: {done}");
        }
        self.end();
    }

    fn end(&mut self) {
        self.ending.store(true, Ordering::Release);
        if let Some(writer) = self.writer.take() {
            writer.thread().unpark();
            // Its panic has been printed by the hook.
            let _ = writer.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
