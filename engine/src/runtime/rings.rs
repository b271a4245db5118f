//! Who hands what to whom: the wiring of both run modes.

use crate::flow::ShardId;
use crate::ring::Ring;
use crate::rx::{Lane, RingItem};
use crate::side::{BySide, Side};
use crate::tx::{Feed, OutBurst};

/// Bursts in a ring. 64 bursts of 32 frames bridge a core's longest pause of ordinary work.
const RING_BURSTS: usize = 64;

/// What every core has, by its index.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Cores, each with the shard it has.
    pub(super) shard_of_core: Vec<Option<ShardId>>,
    /// The core of each input.
    pub(super) input_core: BySide<usize>,
    /// The core of the output.
    pub(super) output_core: usize,
    pub(super) shards: usize,
}

impl Plan {
    /// Every core receives and compares: the primary's input and the output on core `first`, the secondary's input on
    /// the next, round and round.
    pub(super) fn workers(workers: usize, first: usize) -> Self {
        Self {
            shard_of_core: (0..workers).map(|core| Some(ShardId(core))).collect(),
            input_core: BySide { primary: first, secondary: (first + 1) % workers },
            output_core: first,
            shards: workers,
        }
    }

    /// One core has the ports, the others a shard each.
    pub(super) fn pipeline(workers: usize) -> Self {
        Self {
            shard_of_core: std::iter::once(None)
                .chain((0..workers).map(|shard| Some(ShardId(shard))))
                .collect(),
            input_core: BySide { primary: 0, secondary: 0 },
            output_core: 0,
            shards: workers,
        }
    }

    pub(super) fn cores(&self) -> usize {
        self.shard_of_core.len()
    }
}

/// All rings of an engine.
#[derive(Debug)]
pub(super) struct Rings {
    plan: Plan,
    /// By shard and side; unused where the shard is on the input's own core.
    inputs: Vec<BySide<Ring<RingItem>>>,
    /// By shard; unused where the shard is on the output's own core.
    outputs: Vec<Ring<OutBurst>>,
}

impl Rings {
    pub(super) fn new(plan: Plan) -> Self {
        let size = |used: bool| if used { RING_BURSTS } else { 1 };
        let core_of =
            |shard: usize| plan.shard_of_core.iter().position(|of| *of == Some(ShardId(shard))).unwrap_or(0);
        let inputs = (0..plan.shards)
            .map(|shard| BySide {
                primary: Ring::new(size(core_of(shard) != plan.input_core.primary)),
                secondary: Ring::new(size(core_of(shard) != plan.input_core.secondary)),
            })
            .collect();
        let outputs =
            (0..plan.shards).map(|shard| Ring::new(size(core_of(shard) != plan.output_core))).collect();
        Self { plan, inputs, outputs }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The core of a shard.
    pub(super) fn core_of(&self, shard: ShardId) -> Option<usize> {
        self.plan.shard_of_core.iter().position(|of| *of == Some(shard))
    }

    pub(super) fn output_core(&self) -> usize {
        self.plan.output_core
    }

    /// Where a core's inputs hand their frames, by side and shard.
    pub(super) fn lanes(&self, core: usize) -> BySide<Vec<Lane<'_>>> {
        let lanes = |side: Side| {
            self.inputs
                .iter()
                .enumerate()
                .map(|(shard, rings)| match self.shard_of(core) {
                    Some(own) if own.0 == shard => Lane::Own,
                    _ => Lane::Ring(&rings[side]),
                })
                .collect()
        };
        BySide { primary: lanes(Side::Primary), secondary: lanes(Side::Secondary) }
    }

    fn shard_of(&self, core: usize) -> Option<ShardId> {
        *self.plan.shard_of_core.get(core)?
    }

    /// Where the output's core gets what leaves, by shard.
    pub(super) fn feeds(&self, core: usize) -> Vec<Feed<'_>> {
        (0..self.plan.shards)
            .map(|shard| match self.shard_of(core) {
                Some(own) if own.0 == shard => Feed::Own,
                _ => Feed::Ring(&self.outputs[shard]),
            })
            .collect()
    }

    /// Whether other shards have something for the output of this core.
    pub(super) fn feeds_waiting(&self, core: usize) -> bool {
        core == self.plan.output_core && self.outputs.iter().any(|ring| !ring.is_empty())
    }

    /// The ring to the shard of a core, if it has one and its input is on another core.
    pub(super) fn shard_input(&self, core: usize, side: Side) -> Option<&Ring<RingItem>> {
        let shard = self.shard_of(core)?;
        (core != self.plan.input_core[side]).then(|| &self.inputs[shard.0][side])
    }

    /// The ring from the shard of a core to the output, if that is on another core.
    pub(super) fn shard_output(&self, core: usize) -> Option<&Ring<OutBurst>> {
        let shard = self.shard_of(core)?;
        (core != self.plan.output_core).then(|| &self.outputs[shard.0])
    }
}
