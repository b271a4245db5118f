//! From what the configuration says to what the engine's parts want to know.

use std::time::Duration;

use crate::checkpoint::LifecycleSettings;
use crate::compare::CompareSettings;
use crate::config::{CheckpointBackend, CommitAfter, Settings};
use crate::fragments::FragmentSettings;
use crate::policy::RuleSet;
use crate::shard::ShardSettings;
use crate::virtual_time::VirtualSettings;

/// What the comparison goes by.
pub(crate) fn compare_settings(settings: &Settings) -> CompareSettings {
    let quarantine = settings.quarantine.is_on.then_some(settings.quarantine.settings);
    CompareSettings { ignored: settings.header_fields.ignored(), quarantine, ..settings.compare }
}

/// Settings of a shard, bounds as for the only one.
pub(crate) fn shard_settings(settings: &Settings) -> ShardSettings {
    ShardSettings {
        compare: compare_settings(settings),
        max_connections: settings.limits.max_connections,
        max_held_frames: settings.limits.max_held_frames,
        tick: settings.runtime.timer_tick,
    }
}

/// Settings of an input's reassembly.
pub(crate) fn fragment_settings(settings: &Settings) -> FragmentSettings {
    FragmentSettings {
        max_fragments: settings.limits.max_fragments,
        compare_timeout: settings.compare.compare_timeout,
    }
}

/// What is compared and what is not.
pub(crate) fn rule_set(settings: &Settings) -> RuleSet {
    let (policy, compare) = (&settings.policy, compare_settings(settings));
    // The number of rules was checked when they were read.
    RuleSet::new(compare, policy.classes, policy.rules.clone()).unwrap_or_else(|_| RuleSet::empty(compare))
}

/// When checkpoints are asked for.
pub(crate) fn lifecycle_settings(settings: &Settings) -> LifecycleSettings {
    LifecycleSettings {
        min_interval: settings.checkpoint.min_interval,
        delay: settings.checkpoint.delay,
        max_interval: settings.checkpoint.max_interval,
    }
}

/// From a request to its commit at most. Where nobody else takes checkpoints, nobody is late.
pub(crate) fn checkpoint_deadline(settings: &Settings) -> Option<Duration> {
    let others = settings.checkpoint.backend != CheckpointBackend::None;
    others.then_some(settings.checkpoint.deadline)
}

/// An engine in virtual time.
pub(crate) fn virtual_settings(settings: &Settings) -> VirtualSettings {
    VirtualSettings {
        shards: settings.runtime.workers,
        shard: shard_settings(settings),
        lifecycle: lifecycle_settings(settings),
        modes: settings.modes,
        commit_after: match settings.checkpoint.none_commit_after {
            CommitAfter::After(after) => Some(after),
            CommitAfter::Never => None,
        },
        max_gso_frames: settings.limits.max_gso_frames,
        max_fragments: settings.limits.max_fragments,
        checksums: settings.policy.verify_checksums,
    }
}
