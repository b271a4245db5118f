//! `[[pair]]`: several pairs of VMs in one engine, each with settings of its own over those of all.
//!
//! Reads what a pair says and checks pairs against each other. What one pair says is checked where it always was.

use toml::de::DeValue;

use super::error::{ConfigError, Place, Subject};
use super::keys::{self, Key, NOTIFY_DEV};
use super::load::{Apart, File, Given, Loaded, apply_table};
use super::settings::{OnPrimaryLoss, Ports, Purpose, Settings};
use super::validate::{self, Machine, endpoints};
use super::value::Value;

/// Name of the only pair of a configuration without `[[pair]]`.
pub const DEFAULT_PAIR: &str = "default";
/// Most pairs of an engine. A thread that sleeps waits for the links of all of them.
pub const MAX_PAIRS: usize = 64;
/// Longest name, bytes.
const NAME_BYTES: usize = 32;

/// Keys of the whole engine. All others are a pair's.
const ENGINE_KEYS: [&str; 8] = ["workers", "cores", "run_mode", "poll", "memory", "metrics", "ctl", "log"];
/// Keys that are a pair's alone: what stands outside of pairs would be all pairs'.
const PORT_KEYS: [&str; 3] = ["primary_in", "secondary_in", "outdev"];

/// One pair of VMs, ready for `colo compare`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairSettings {
    /// Its name, as in metrics and log lines: unique, letters, digits, dots, dashes and underscores.
    pub name: String,
    /// Its settings; those of the whole engine are the same in all pairs.
    pub settings: Settings,
    /// Its three ports, none missing.
    pub ports: Ports,
}

/// One pair as it was read.
#[derive(Debug)]
pub(super) struct LoadedPair {
    pub(super) name: String,
    pub(super) settings: Settings,
    pub(super) given: Given,
    /// Where it stands.
    place: Place,
}

/// Whether a key is the whole engine's, not a pair's.
pub(super) fn is_of_engine(key: &Key) -> bool {
    ENGINE_KEYS.contains(&key.name)
}

/// Reads the value of `pair` in a file, over what holds for all pairs.
pub(super) fn read(
    file: &File<'_>,
    (place, value): &Apart<'_, '_>,
    settings: &Settings,
    given: &Given,
) -> Result<Vec<LoadedPair>, ConfigError> {
    let DeValue::Array(tables) = value else {
        return Err(ConfigError::NoPairs { place: place.clone() });
    };
    if tables.len() > MAX_PAIRS {
        return Err(ConfigError::TooManyPairs { place: place.clone(), count: tables.len(), most: MAX_PAIRS });
    }
    let mut pairs: Vec<LoadedPair> = Vec::new();
    for table in tables {
        let pair = read_one(file, table, settings, given)?;
        if pairs.iter().any(|other| other.name == pair.name) {
            return Err(ConfigError::PairTwice { place: pair.place, name: pair.name });
        }
        pairs.push(pair);
    }
    let outside = PORT_KEYS.into_iter().find_map(|key| Some((key, given.get(key)?)));
    if let Some((key, place)) = outside.filter(|_| !pairs.is_empty()) {
        let subject = Subject { place: place.clone(), key: key.to_owned() };
        return Err(ConfigError::PortOutsidePairs { subject });
    }
    Ok(pairs)
}

fn read_one(
    file: &File<'_>,
    table: &toml::Spanned<DeValue<'_>>,
    settings: &Settings,
    given: &Given,
) -> Result<LoadedPair, ConfigError> {
    let place = file.place(table.span().start);
    let DeValue::Table(fields) = table.get_ref() else { return Err(ConfigError::NoPairs { place }) };
    for (name, _) in fields {
        let key = name.get_ref();
        if key == "pair" || keys::find(key).is_some_and(is_of_engine) {
            return Err(ConfigError::EngineKey {
                place: file.place(name.span().start),
                key: key.to_string(),
            });
        }
    }
    let (mut settings, mut given) = (settings.clone(), given.clone());
    let name = apply_table(&mut settings, &mut given, file, fields, "name")?;
    let Some((name_place, name)) = name else { return Err(ConfigError::NoPairName { place }) };
    let name = Value::from_toml(name);
    let Some(fine) = name.as_text().filter(|name| is_name(name)) else {
        return Err(ConfigError::BadPairName { place: name_place, got: name.to_string() });
    };
    validate::adjust_defaults(&mut settings, &given);
    Ok(LoadedPair { name: fine.to_owned(), settings, given, place })
}

/// Whether a text can be a label, a part of a log line and of a file name as it is.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins
        && name.len() <= NAME_BYTES
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Checks each pair, and that no two have what only one can have.
pub(super) fn check(pairs: &[LoadedPair], machine: &Machine) -> Result<(), ConfigError> {
    let mut taken: Vec<(&'static str, String, &str)> = Vec::new();
    for pair in pairs {
        validate::check(&pair.settings, &pair.given, machine, Purpose::Compare)?;
        let subject = |key: &str| Subject {
            place: pair.given.get(key).cloned().unwrap_or_default(),
            key: key.to_owned(),
        };
        if pairs.len() > 1 && pair.settings.loss.on_primary == OnPrimaryLoss::Exit {
            let subject = subject("on_primary_loss");
            return Err(ConfigError::ExitOfPair { subject, pair: pair.name.clone() });
        }
        let file = pair.settings.diverged.path.as_ref();
        let file = file.map(|path| ("diverged", path.display().to_string()));
        let capture = pair.settings.wrappers.capture.path.as_ref();
        let file = file.into_iter().chain(capture.map(|path| ("capture", path.display().to_string())));
        for (key, value) in endpoints(&pair.settings).into_iter().chain(file) {
            let shared = taken.iter().find(|(_, other, _)| *other == value);
            if let Some((other, _, other_pair)) = shared {
                let (subject, pair) = (subject(key), pair.name.clone());
                let other = format!("{other} of pair {other_pair}").into();
                return Err(ConfigError::SharedByPairs { subject, pair, value: value.into(), other });
            }
            taken.push((key, value, &pair.name));
        }
    }
    Ok(())
}

/// Pairs for live traffic: nothing is missing.
pub(super) fn complete(loaded: Loaded) -> Result<Vec<PairSettings>, ConfigError> {
    let is_said = |given: &Given| given.contains_key("checkpoint") || given.contains_key(NOTIFY_DEV.name);
    let Loaded { settings, given, pairs } = loaded;
    if pairs.is_empty() {
        let ports = settings.ports.complete()?;
        if !is_said(&given) {
            return Err(ConfigError::MissingCheckpoint);
        }
        return Ok(vec![PairSettings { name: DEFAULT_PAIR.to_owned(), settings, ports }]);
    }
    let complete = |pair: LoadedPair| {
        let LoadedPair { name, settings, given, place } = pair;
        let missing = PORT_KEYS.into_iter().chain(["checkpoint"]).find(|key| match *key {
            "checkpoint" => !is_said(&given),
            key => !given.contains_key(key),
        });
        if let Some(key) = missing {
            let example = keys::find(key).map_or("", |key| key.example);
            return Err(ConfigError::MissingInPair { place, pair: name, key, example });
        }
        let ports = settings.ports.complete()?;
        Ok(PairSettings { name, settings, ports })
    };
    pairs.into_iter().map(complete).collect()
}

#[cfg(test)]
mod tests;
