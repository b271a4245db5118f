//! What a pair's part of an engine is made of: who works on what, and the cores with all the memory they will ever use.

use std::sync::{Arc, Mutex};

use pmd_tap::{FramePool, PoolSettings};

use super::core::{Core, ShardSeat, Turns};
use super::pending::Pending;
use super::publish::Published;
use super::rings::Plan;
use super::{EngineError, EnginePorts};
use crate::config::{RunMode, RuntimeSettings, Settings};
use crate::flow::FlowHasher;
use crate::metrics::ReleaseLatency;
use crate::rx::Input;
use crate::shard::{Shard, ShardSettings};
use crate::side::{BySide, Side};
use crate::stats::Counters;
use crate::tx::{OutQueue, Output};
use crate::wiring::{fragment_settings, shard_settings};
use crate::witness::{Exchange, Witness};

/// Slots of a pool that only lends itself to an output.
const SPARE_SLOTS: PoolSettings = PoolSettings { small: 32, mtu: 32, jumbo: 4, gso: 2 };

/// Who works on what. Pairs take turns with the cores that get their ports, so that the first core has not all of them.
pub(super) fn plan(runtime: &RuntimeSettings, pair: usize) -> Plan {
    let workers = runtime.workers.max(1);
    match runtime.run_mode {
        RunMode::Workers => Plan::workers(workers, pair % workers),
        RunMode::Pipeline => Plan::pipeline(workers),
    }
}

/// What all cores of a plan are made with.
pub(super) struct Parts {
    pub(super) hasher: FlowHasher,
    /// Frames of a side that are received and not held, at most.
    pub(super) frames_under_way: usize,
    pub(super) exchange: Option<Arc<Exchange>>,
    pub(super) turns: Turns,
}

/// Makes the cores of a plan, each with what it works on.
pub(super) fn build_cores(
    settings: &Settings,
    plan: &Plan,
    ports: EnginePorts,
    parts: &Parts,
) -> Result<Vec<Core>, EngineError> {
    let hasher = parts.hasher.clone().with_tunnels(settings.compare.tunnels);
    let whole = shard_settings(settings);
    // A shard may get more than its share of the frames, hardly of the connections.
    let share = ShardSettings { max_connections: whole.max_connections.div_ceil(plan.shards), ..whole };
    let pool = PoolSettings::for_frames(
        whole.max_held_frames + parts.frames_under_way,
        settings.limits.max_gso_frames,
    );
    let mut inputs = BySide {
        primary: Some((ports.primary, FramePool::new(pool)?)),
        secondary: Some((ports.secondary, FramePool::new(pool)?)),
    };
    let mut out = Some(ports.out);
    let mut cores = Vec::new();
    for (index, shard) in plan.shard_of_core.iter().enumerate() {
        let mut own_inputs = Vec::new();
        for side in Side::BOTH {
            if plan.input_core[side] == index
                && let Some((port, pool)) = inputs[side].take()
            {
                let input = Input::new(
                    side,
                    port,
                    pool,
                    hasher.clone(),
                    whole.max_held_frames,
                    plan.shards,
                    fragment_settings(settings),
                );
                own_inputs.push(input.verifying(settings.policy.verify_checksums));
            }
        }
        cores.push(Core {
            index,
            inputs: own_inputs,
            seat: shard.map(|_| {
                let mut shard = Shard::new(share, hasher.clone());
                if let Some(exchange) = &parts.exchange {
                    shard.set_witness(Witness::new(Arc::clone(exchange)));
                }
                ShardSeat::new(shard, whole.tick)
            }),
            pending: Pending::default(),
            output: out.take_if(|_| plan.output_core == index).map(|port| Output::new(port, plan.shards)),
            queue: OutQueue::new(pool.frames()),
            spare_pool: FramePool::new(SPARE_SLOTS)?,
            counters: Counters::default(),
            latency: ReleaseLatency::default(),
            published: Arc::new(Mutex::new(Published::default())),
            turns: parts.turns,
        });
    }
    Ok(cores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Purpose;

    #[test]
    fn the_ports_of_pairs_are_dealt_round() {
        let mut runtime = Settings::defaults(Purpose::Compare).runtime;
        runtime.workers = 3;
        let cores = |pair| {
            let plan = plan(&runtime, pair);
            (plan.output_core, plan.input_core.primary, plan.input_core.secondary, plan.cores(), plan.shards)
        };
        let dealt = [0, 1, 2, 3].map(cores);
        assert_eq!(dealt, [(0, 0, 1, 3, 3), (1, 1, 2, 3, 3), (2, 2, 0, 3, 3), (0, 0, 1, 3, 3)]);
        let alone = RuntimeSettings { workers: 1, ..runtime.clone() };
        assert_eq!(plan(&alone, 7).input_core, BySide { primary: 0, secondary: 0 });
        let pipeline = RuntimeSettings { run_mode: RunMode::Pipeline, ..runtime.clone() };
        assert_eq!((plan(&pipeline, 5).output_core, plan(&pipeline, 5).cores()), (0, 4));
    }
}
