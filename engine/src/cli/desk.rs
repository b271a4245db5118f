//! Orders over the control socket, carried out on the thread that has the engine.

use serde_json::{Value, json};

use super::logging::LogControl;
use super::reload::Reloader;
use crate::config::{PairSettings, Settings, mode_from_word, rule_from_text, rules_json};
use crate::ctl::{Order, Outcome};
use crate::metrics::status_json;
use crate::policy::MAX_RULES;
use crate::runtime::{Engine, Pair};
use crate::wiring::rule_set;

/// What orders are carried out with.
pub(super) struct Desk<'a> {
    pub(super) engine: &'a Engine,
    pub(super) log: &'a LogControl,
    pub(super) reload: &'a mut Reloader,
}

impl Desk<'_> {
    /// Does what is ordered.
    pub(super) fn carry_out(&mut self, order: Order) -> Outcome {
        match order {
            Order::Status => Ok(status_json(&self.engine.snapshot())),
            Order::Checkpoint { pair } => self.each(pair.as_deref(), |_, pair| {
                pair.checkpoint();
                Ok(json!("asked for"))
            }),
            Order::Mode { mode: None, pair } => {
                self.each(pair.as_deref(), |settings, _| Ok(json!(settings.modes.mode.label())))
            }
            Order::Mode { mode: Some(mode), pair } => {
                let mode = mode_from_word(&mode)?;
                self.each(pair.as_deref(), |settings, pair| {
                    settings.modes.mode = mode;
                    pair.order(settings);
                    Ok(json!(mode.label()))
                })
            }
            Order::Rules { pair } => self.each(pair.as_deref(), |settings, _| Ok(shown(settings))),
            Order::AddRule { rule, at, pair } => self.each(pair.as_deref(), |settings, pair| {
                let policy = &mut settings.policy;
                let rule =
                    rule_from_text(&rule, policy.allow_unsafe_masks).map_err(|error| error.to_string())?;
                let most = policy.rules.len();
                if most >= MAX_RULES {
                    return Err(format!("there are {most} rules, and there may be no more"));
                }
                let at = at.unwrap_or(most + 1);
                if !(1..=most + 1).contains(&at) {
                    return Err(format!("a new rule's place is from 1 to {}", most + 1));
                }
                policy.rules.insert(at - 1, rule);
                pair.replace_rules(rule_set(settings));
                Ok(shown(settings))
            }),
            Order::RemoveRule { number, pair } => self.each(pair.as_deref(), |settings, pair| {
                let rules = &mut settings.policy.rules;
                if !(1..=rules.len()).contains(&number) {
                    return Err(format!("there is no rule {number}: there are {}", rules.len()));
                }
                rules.remove(number - 1);
                pair.replace_rules(rule_set(settings));
                Ok(shown(settings))
            }),
            Order::Log { filter } => self.log.set(&filter).map(|()| json!(filter)),
            Order::Reload => self.reload.run(self.engine, "colo ctl").map(|()| json!("done")),
        }
    }

    /// Does something for the pair of that name, or for all of them; the answer has the pairs' names. The first that is
    /// refused ends it.
    fn each(&mut self, name: Option<&str>, mut act: impl FnMut(&mut Settings, &Pair) -> Outcome) -> Outcome {
        let pairs = self.reload.pairs().iter_mut().zip(self.engine.pairs());
        let mut answers = serde_json::Map::new();
        for (own, pair) in pairs.filter(|(own, _)| name.is_none_or(|name| own.name == name)) {
            let PairSettings { name, settings, .. } = own;
            answers.insert(name.clone(), act(settings, pair)?);
        }
        if answers.is_empty() {
            let known: Vec<_> = self.engine.pairs().iter().map(Pair::name).collect();
            return Err(format!(
                "there is no pair {}; there is {}",
                name.unwrap_or_default(),
                known.join(", ")
            ));
        }
        Ok(answers.into())
    }
}

fn shown(settings: &Settings) -> Value {
    rules_json(&settings.policy.rules)
}
