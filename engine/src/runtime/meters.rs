//! Frames that the kernel drops in front of a pair's inputs. Whoever takes a snapshot asks the kernel: the cores never do,
//! and an engine that nobody scrapes does not ask at all.

use std::sync::{Mutex, PoisonError};

use pmd_tap::{LossMeter, Port};

use super::EnginePorts;
use crate::metrics::LostFrames;
use crate::side::BySide;

/// The meters of both inputs, where there are any.
#[derive(Debug)]
pub(super) struct Meters(Mutex<BySide<Option<LossMeter>>>);

impl Meters {
    /// At zero.
    pub(super) fn new(ports: &EnginePorts) -> Self {
        Self(Mutex::new(BySide {
            primary: ports.primary.loss_meter(),
            secondary: ports.secondary.loss_meter(),
        }))
    }

    /// Frames dropped so far.
    pub(super) fn read(&self) -> LostFrames {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let BySide { primary, secondary } = &mut *meters;
        let read = |meter: &mut Option<LossMeter>| meter.as_mut().map_or(0, LossMeter::read);
        LostFrames { primary_in: read(primary), secondary_in: read(secondary), out: 0 }
    }
}
