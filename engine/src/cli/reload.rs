//! SIGHUP: the configuration is read again, and its rules, class policies, modes and pace of checkpoints are put in force
//! without a pause. What else has changed needs a restart, and is said so.

use super::CompareOptions;
use crate::config::{Settings, Sources};
use crate::runtime::{Engine, Reload};
use crate::wiring::rule_set;

/// What is needed to read the configuration again.
#[derive(Debug)]
pub(super) struct Reloader {
    sources: Sources,
    /// What is in force.
    settings: Settings,
}

impl Reloader {
    pub(super) fn new(options: &CompareOptions) -> Self {
        Self { sources: options.sources.clone(), settings: options.settings.clone() }
    }

    /// Reads the configuration again. A mistake in it changes nothing.
    pub(super) fn run(&mut self, engine: &Engine) {
        let loaded = match self.sources.load_live() {
            Ok((settings, _)) => settings,
            Err(error) => {
                engine.count_reload(Reload::Refused);
                tracing::error!("SIGHUP: nothing is changed: {error}");
                return;
            }
        };
        let changed = Sources::changed_keys(&self.settings, &loaded);
        if !changed.is_empty() {
            tracing::warn!("SIGHUP: restart to change {}", changed.join(", "));
        }
        self.settings.policy.rules = loaded.policy.rules;
        self.settings.policy.classes = loaded.policy.classes;
        self.settings.modes = loaded.modes;
        self.settings.quarantine = loaded.quarantine;
        self.settings.loss = loaded.loss;
        let pace = &mut self.settings.checkpoint;
        (pace.delay, pace.min_interval, pace.max_interval) =
            (loaded.checkpoint.delay, loaded.checkpoint.min_interval, loaded.checkpoint.max_interval);
        engine.replace_rules(rule_set(&self.settings));
        engine.order(&self.settings);
        engine.count_reload(Reload::Done);
        tracing::info!("SIGHUP: rules in force: {}", self.settings.policy.rules.len());
        warn_of_masks(&self.settings);
    }
}

/// Says which rules leave something uncompared that looks compared.
pub(super) fn warn_of_masks(settings: &Settings) {
    let rules = settings.policy.rules.iter().enumerate();
    let masked: Vec<_> =
        rules.filter(|(_, rule)| !rule.mask.is_empty()).map(|(place, _)| (place + 1).to_string()).collect();
    if !masked.is_empty() {
        tracing::warn!(
            "unsafe: payload masked by rule {} is not compared, and may change at a failover",
            masked.join(", ")
        );
    }
}
