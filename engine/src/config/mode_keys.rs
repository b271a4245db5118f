//! Rows of the table of keys that say what is compared when: modes, policies, quarantine, and what happens when a side is
//! lost.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::keys::Key;
use super::settings::{Failover, OnPrimaryLoss, OnSecondaryLoss};
use super::value::{Expected, Shown, Value, boolean, choice, millis, number};
use crate::modes::{Mode, PolicyKind};

const HOUR_MS: u64 = 3_600_000;
pub(super) const MODES: [(&str, Mode); 4] = [
    (Mode::Colo.label(), Mode::Colo),
    (Mode::Passive.label(), Mode::Passive),
    (Mode::Hybrid.label(), Mode::Hybrid),
    (Mode::Off.label(), Mode::Off),
];
const POLICIES: [(&str, PolicyKind); 2] =
    [(PolicyKind::Hybrid.label(), PolicyKind::Hybrid), (PolicyKind::Classic.label(), PolicyKind::Classic)];
const SECONDARY_LOSSES: [(&str, OnSecondaryLoss); 2] =
    [("hold", OnSecondaryLoss::Hold), ("pass", OnSecondaryLoss::Pass)];
const PRIMARY_LOSSES: [(&str, OnPrimaryLoss); 2] =
    [("hold", OnPrimaryLoss::Hold), ("exit", OnPrimaryLoss::Exit)];
const FAILOVERS: [(&str, Failover); 2] = [("none", Failover::None), ("primary", Failover::Primary)];

/// A mean of epochs is nothing shorter than a pause, nor longer than the longest epoch.
const LIMITS: RangeInclusive<u64> = 1..=HOUR_MS;
const EPOCHS: RangeInclusive<u64> = 1..=1_000_000;
const FEW_EPOCHS: RangeInclusive<u64> = 1..=255;

/// The rows, in the order `dump-config` prints them.
pub(super) static MODE_KEYS: [Key; 14] = [
    Key {
        name: "mode",
        meaning: "\"colo\": compare; \"passive\": hold everything to a checkpoint every passive_interval; \"hybrid\": policy \
                  chooses between the two; \"off\": let everything pass, there is no secondary; read again on SIGHUP, \
                  with the other keys of this part",
        example: "\"hybrid\"",
        set: |s, v| choice(v, &MODES).map(|mode| s.modes.mode = mode),
        show: |s| Shown::word(&s.modes.mode, &MODES),
    },
    Key {
        name: "policy",
        meaning: "who chooses with mode = \"hybrid\": \"hybrid\", or \"classic\" as published in 2015, faults included",
        example: "\"classic\"",
        set: |s, v| choice(v, &POLICIES).map(|policy| s.modes.policy = policy),
        show: |s| Shown::word(&s.modes.policy, &POLICIES),
    },
    Key {
        name: "passive_limit",
        meaning: "milliseconds: passive when COLO epochs are shorter on average",
        example: "400",
        set: |s, v| millis(v, &LIMITS).map(|limit| s.modes.passive_limit = limit),
        show: |s| s.modes.passive_limit.into(),
    },
    Key {
        name: "passive_leave_limit",
        meaning: "milliseconds: back to comparing when COLO epochs are at least as long on average; policy \"hybrid\" only",
        example: "600",
        set: |s, v| millis(v, &LIMITS).map(|limit| s.modes.passive_leave_limit = limit),
        show: |s| s.modes.passive_leave_limit.into(),
    },
    Key {
        name: "passive_count",
        meaning: "passive epochs before comparing is tried again",
        example: "100",
        set: |s, v| epochs(v, &EPOCHS).map(|count| s.modes.passive_count = count),
        show: |s| Shown::Integer(s.modes.passive_count.into()),
    },
    Key {
        name: "passive_count_max",
        meaning: "the same after trials that failed, each of which doubles it, at most; policy \"hybrid\" only",
        example: "1600",
        set: |s, v| epochs(v, &EPOCHS).map(|count| s.modes.passive_count_max = count),
        show: |s| Shown::Integer(s.modes.passive_count_max.into()),
    },
    Key {
        name: "passive_interval",
        meaning: "milliseconds from one checkpoint to the next in passive epochs; min_checkpoint_interval at least",
        example: "250",
        set: |s, v| millis(v, &LIMITS).map(|interval| s.modes.passive_interval = interval),
        show: |s| s.modes.passive_interval.into(),
    },
    Key {
        name: "quarantine",
        meaning: "whether a flow that keeps differing is put aside: it waits for checkpoints, the others stay compared",
        example: "true",
        set: |s, v| boolean(v).map(|on| s.quarantine.is_on = on),
        show: |s| Shown::Boolean(s.quarantine.is_on),
    },
    Key {
        name: "quarantine_after",
        meaning: "epochs with a mismatch of a flow, quiet ones taken off, that put it aside",
        example: "3",
        set: |s, v| few_epochs(v).map(|epochs| s.quarantine.settings.after = epochs),
        show: |s| Shown::Integer(s.quarantine.settings.after.into()),
    },
    Key {
        name: "quarantine_epochs",
        meaning: "checkpoints until a flow that was put aside is compared again",
        example: "20",
        set: |s, v| few_epochs(v).map(|epochs| s.quarantine.settings.epochs = epochs),
        show: |s| Shown::Integer(s.quarantine.settings.epochs.into()),
    },
    Key {
        name: "on_secondary_loss",
        meaning: "when the secondary's link goes, or it is silent: \"hold\" everything until a commit, until QEMU leaves COLO \
                  or until mode = \"off\"; or let it \"pass\" at once, until a checkpoint brings a secondary back",
        example: "\"pass\"",
        set: |s, v| choice(v, &SECONDARY_LOSSES).map(|action| s.loss.on_secondary = action),
        show: |s| Shown::word(&s.loss.on_secondary, &SECONDARY_LOSSES),
    },
    Key {
        name: "secondary_silence_ms",
        meaning: "milliseconds without a frame of the secondary while the primary's wait, after which it is lost; 0: links \
                  and QEMU alone tell",
        example: "200",
        set: |s, v| {
            millis(v, &(0..=HOUR_MS)).map(|silence| s.loss.silence = Some(silence).filter(|it| !it.is_zero()))
        },
        show: |s| s.loss.silence.unwrap_or(Duration::ZERO).into(),
    },
    Key {
        name: "on_primary_loss",
        meaning: "when the primary's link goes: \"hold\" what is held and wait for it, or \"exit\" with status 1, nothing of \
                  it let out",
        example: "\"exit\"",
        set: |s, v| choice(v, &PRIMARY_LOSSES).map(|action| s.loss.on_primary = action),
        show: |s| Shown::word(&s.loss.on_primary, &PRIMARY_LOSSES),
    },
    Key {
        name: "failover",
        meaning: "whether QEMU is told when the secondary is lost: \"primary\" has the primary go on alone \
                  (x-colo-lost-heartbeat; wants checkpoint = \"qmp:...\"). Make sure first that the secondary cannot go on, \
                  too: fencing is the cluster's business",
        example: "\"none\"",
        set: |s, v| choice(v, &FAILOVERS).map(|failover| s.loss.failover = failover),
        show: |s| Shown::word(&s.loss.failover, &FAILOVERS),
    },
];

fn epochs(value: &Value, range: &RangeInclusive<u64>) -> Result<u32, Expected> {
    number(value, range, "epochs").map(|epochs| u32::try_from(epochs).unwrap_or(u32::MAX))
}

fn few_epochs(value: &Value) -> Result<u8, Expected> {
    number(value, &FEW_EPOCHS, "epochs").map(|epochs| u8::try_from(epochs).unwrap_or(u8::MAX))
}

/// Whether a key is read again on SIGHUP: those of modes are, and the pace of checkpoints.
pub(super) fn is_live(key: &Key) -> bool {
    const PACE: [&str; 3] = ["checkpoint_delay", "min_checkpoint_interval", "max_checkpoint_interval"];
    PACE.contains(&key.name) || MODE_KEYS.iter().any(|row| row.name == key.name)
}
