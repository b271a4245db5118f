//! Settings written out again: commented TOML that loads to the same settings, and JSON.

use std::fmt::Write;

use serde_json::{Map, Value as Json};

use super::error::ConfigError;
use super::keys::{self, NOTIFY_DEV};
use super::load::{Given, Sources};
use super::rules;
use super::settings::{Purpose, Settings};
use super::validate::Machine;
use super::value::Shown;

impl Sources {
    /// The settings these sources give, as TOML with the meaning, the unit and the default of every key in a comment.
    pub fn dump_toml(&self) -> Result<String, ConfigError> {
        let (settings, given) = self.load_on(&Machine::this())?;
        Ok(toml_text(&settings, self.purpose, &given))
    }
}

pub(super) fn toml_text(settings: &Settings, purpose: Purpose, given: &Given) -> String {
    let defaults = Settings::defaults(purpose);
    let mut text = String::from("# Settings in effect; colo check-config reads this file again.\n");
    for key in keys::all().filter(|key| key.name != NOTIFY_DEV.name) {
        let mut shown = (key.show)(settings);
        let default = (key.show)(&defaults);
        // A dumped default must not pass for the operator's word that nobody takes checkpoints: see `load_live`.
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
    text.push_str(&rules::to_toml(&settings.policy.rules));
    text
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
