//! Settings written out again: commented TOML that loads to the same settings, and JSON.

use std::fmt::Write;

use serde_json::{Map, Value as Json};

use super::error::ConfigError;
use super::keys::{self, NOTIFY_DEV};
use super::load::{Given, Loaded, Sources};
use super::pairs::{LoadedPair, is_of_engine};
use super::rules;
use super::settings::{Purpose, Settings};
use super::validate::Machine;
use super::value::Shown;

impl Sources {
    /// The settings these sources give, as TOML with the meaning, the unit and the default of every key in a comment.
    pub fn dump_toml(&self) -> Result<String, ConfigError> {
        let loaded = self.load_all(&Machine::this())?;
        let mut text = toml_text(&loaded.settings, self.purpose, &loaded.given);
        for pair in &loaded.pairs {
            text.push_str(&pair_text(pair, &loaded));
        }
        Ok(text)
    }

    /// The same as one JSON object; with pairs, the settings of each of them in a list under `pair`.
    pub fn dump_json(&self) -> Result<Json, ConfigError> {
        let loaded = self.load_all(&Machine::this())?;
        let mut json = dump_json(&loaded.settings);
        if let (Json::Object(entries), false) = (&mut json, loaded.pairs.is_empty()) {
            let pairs = loaded.pairs.iter().map(|pair| pair_json(&pair.name, &pair.settings));
            entries.insert("pair".to_owned(), pairs.collect());
        }
        Ok(json)
    }
}

pub(super) fn toml_text(settings: &Settings, purpose: Purpose, given: &Given) -> String {
    let defaults = Settings::defaults(purpose);
    let mut text = String::from("# Settings in effect; colo check-config reads this file again.\n");
    for key in keys::all().filter(|key| key.name != NOTIFY_DEV.name) {
        let mut shown = (key.show)(settings);
        let default = (key.show)(&defaults);
        // A dumped default must not pass for the operator's word that nobody takes checkpoints: see `load_pairs`.
        let unsaid = key.name == "checkpoint" && shown == default && !given.contains_key("checkpoint");
        if unsaid && purpose == Purpose::Compare {
            shown = Shown::Unset;
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "\n# {} (default: {default})\n", key.meaning);
        let _ = match shown {
            Shown::Unset => writeln!(text, "# {} = {}", key.name, key.example),
            _ => writeln!(text, "{} = {shown}", key.name),
        };
    }
    let _ = writeln!(text, "\n# Rules for flows, [[rule]]: the first that matches counts (default: none).");
    text.push_str(&rules::to_toml(&settings.policy.rules, "[[rule]]"));
    text
}

/// What a pair has otherwise than the others.
fn pair_text(pair: &LoadedPair, loaded: &Loaded) -> String {
    let mut text = format!("\n[[pair]]\nname = {}\n", Shown::text(&pair.name));
    for key in keys::all().filter(|key| key.name != NOTIFY_DEV.name && !is_of_engine(key)) {
        let shown = (key.show)(&pair.settings);
        // That nobody takes checkpoints may be the default, and is said all the same.
        let said = |given: &Given| given.contains_key("checkpoint") || given.contains_key(NOTIFY_DEV.name);
        let is_new_word = key.name == "checkpoint" && said(&pair.given) && !said(&loaded.given);
        if shown != (key.show)(&loaded.settings) || is_new_word {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} = {shown}", key.name);
        }
    }
    let rules = &pair.settings.policy.rules;
    if *rules != loaded.settings.policy.rules {
        text.push_str(if rules.is_empty() { "rule = []\n" } else { "" });
        text.push_str(&rules::to_toml(rules, "[[pair.rule]]"));
    }
    text
}

/// A pair's own settings.
fn pair_json(name: &str, settings: &Settings) -> Json {
    let mut json = dump_json(settings);
    if let Json::Object(entries) = &mut json {
        keys::all().filter(|key| is_of_engine(key)).for_each(|key| drop(entries.remove(key.name)));
        entries.insert("name".to_owned(), name.into());
    }
    json
}

/// As one JSON object, key → value; `null` where nothing is set.
pub fn dump_json(settings: &Settings) -> Json {
    let shown = keys::all().filter(|key| key.name != NOTIFY_DEV.name);
    let mut entries: Map<String, Json> =
        shown.map(|key| (key.name.to_owned(), json((key.show)(settings)))).collect();
    entries.insert("rule".to_owned(), rules::to_json(&settings.policy.rules));
    Json::Object(entries)
}

fn json(shown: Shown) -> Json {
    match shown {
        Shown::Integer(number) => u64::try_from(number).map_or(Json::Null, Json::from),
        Shown::Boolean(flag) => Json::from(flag),
        Shown::Text(text) => Json::from(text),
        Shown::List(items) => Json::from(items),
        Shown::Words(words) => Json::from(words),
        Shown::Unset => Json::Null,
    }
}
