//! SIGHUP and `colo ctl reload`: the configuration is read again, and its rules, class policies, modes and pace of checkpoints are put in force
//! without a pause. What else has changed needs a restart, and is said so.

use super::CompareOptions;
use crate::config::{PairSettings, Settings, Sources};
use crate::runtime::{Engine, Pair, Reload};
use crate::wiring::rule_set;

/// What is needed to read the configuration again.
#[derive(Debug)]
pub(super) struct Reloader {
    sources: Sources,
    /// What is in force, pair by pair.
    pairs: Vec<PairSettings>,
}

impl Reloader {
    pub(super) fn new(options: &CompareOptions) -> Self {
        Self { sources: options.sources.clone(), pairs: options.pairs.clone() }
    }

    /// Reads the configuration again, for whoever asked. A mistake in it, of whichever pair, changes nothing.
    pub(super) fn run(&mut self, engine: &Engine, who: &str) -> Result<(), String> {
        let loaded = match self.read() {
            Ok(loaded) => loaded,
            Err(why) => {
                engine.pairs().iter().for_each(|pair| pair.count_reload(Reload::Refused));
                tracing::error!("{who}: nothing is changed: {why}");
                return Err(format!("nothing is changed: {why}"));
            }
        };
        let several = self.pairs.len() > 1;
        for ((own, pair), loaded) in self.pairs.iter_mut().zip(engine.pairs()).zip(loaded) {
            let span = tracing::error_span!("pair", pair = %own.name);
            let span = if several { span } else { tracing::Span::none() };
            span.in_scope(|| adopt(&mut own.settings, loaded.settings, pair, who));
        }
        Ok(())
    }

    /// What is in force, pair by pair.
    pub(super) fn pairs(&mut self) -> &mut [PairSettings] {
        &mut self.pairs
    }

    /// What is to be in force, for the same pairs.
    fn read(&self) -> Result<Vec<PairSettings>, String> {
        let loaded = self.sources.load_pairs().map_err(|error| error.to_string())?;
        let names = |pairs: &[PairSettings]| pairs.iter().map(|pair| pair.name.clone()).collect::<Vec<_>>();
        let (now, before) = (names(&loaded), names(&self.pairs));
        if now == before {
            return Ok(loaded);
        }
        let (now, before) = (now.join(", "), before.join(", "));
        Err(format!(
            "the file has the pairs {now}, the engine {before}; restart to add, remove or move pairs"
        ))
    }
}

/// Puts in force what can be changed while it runs, and says what cannot.
fn adopt(settings: &mut Settings, loaded: Settings, pair: &Pair, who: &str) {
    let changed = Sources::changed_keys(settings, &loaded);
    if !changed.is_empty() {
        tracing::warn!("{who}: restart to change {}", changed.join(", "));
    }
    settings.policy.rules = loaded.policy.rules;
    settings.policy.classes = loaded.policy.classes;
    settings.modes = loaded.modes;
    settings.quarantine = loaded.quarantine;
    settings.loss = loaded.loss;
    let pace = &mut settings.checkpoint;
    (pace.delay, pace.min_interval, pace.max_interval) =
        (loaded.checkpoint.delay, loaded.checkpoint.min_interval, loaded.checkpoint.max_interval);
    pair.replace_rules(rule_set(settings));
    pair.order(settings);
    pair.count_reload(Reload::Done);
    tracing::info!("{who}: rules in force: {}", settings.policy.rules.len());
    warn_of_masks(settings);
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
