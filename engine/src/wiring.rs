//! From what the configuration says to what the engine's parts want to know.

use crate::checkpoint::LifecycleSettings;
use crate::compare;
use crate::config::{AckPolicy, CommitAfter, SecondarySequence, Settings};
use crate::shard::ShardSettings;
use crate::virtual_time::VirtualSettings;

/// Settings of a shard, bounds as for the only one.
pub(crate) fn shard_settings(settings: &Settings) -> ShardSettings {
    let compare = &settings.compare;
    ShardSettings {
        compare: compare::CompareSettings {
            compare_timeout: compare.compare_timeout,
            reorder_grace: compare.reorder_grace,
            ack_policy: match compare.ack_policy {
                AckPolicy::Both => compare::AckPolicy::Both,
                AckPolicy::Any => compare::AckPolicy::Any,
            },
            secondary_sequence: match compare.secondary_sequence {
                SecondarySequence::Auto => compare::SecondarySequence::Auto,
                SecondarySequence::Translated => compare::SecondarySequence::Translated,
                SecondarySequence::Raw => compare::SecondarySequence::Raw,
            },
            max_queue_size: u32::try_from(compare.max_queue_size).unwrap_or(u32::MAX),
        },
        max_connections: settings.limits.max_connections,
        max_held_frames: settings.limits.max_held_frames,
        tick: compare.expired_scan_cycle,
    }
}

/// When checkpoints are asked for.
pub(crate) fn lifecycle_settings(settings: &Settings) -> LifecycleSettings {
    LifecycleSettings {
        min_interval: settings.checkpoint.min_interval,
        delay: settings.checkpoint.delay,
        max_interval: settings.checkpoint.max_interval,
    }
}

/// An engine in virtual time.
pub(crate) fn virtual_settings(settings: &Settings) -> VirtualSettings {
    VirtualSettings {
        shards: settings.runtime.workers,
        shard: shard_settings(settings),
        lifecycle: lifecycle_settings(settings),
        commit_after: match settings.checkpoint.none_commit_after {
            CommitAfter::After(after) => Some(after),
            CommitAfter::Never => None,
        },
        max_gso_frames: settings.limits.max_gso_frames,
    }
}
