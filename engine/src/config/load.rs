//! File, flags and `--set`, one over the other, into [`Settings`].
//!
//! Reads one file and nothing else of the world but the number of cores.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place, Subject};
use super::keys::{self, Key, NOTIFY_DEV};
use super::mode_keys;
use super::pairs::{self, LoadedPair, PairSettings};
use super::rules;
use super::settings::{Purpose, Settings};
use super::validate::{self, Machine};
use super::value::Value;

/// Longest configuration file that is read, bytes.
const FILE_BYTES: u64 = 1 << 20;

/// What the settings are made of, later over earlier: defaults for the purpose, file, flags, `--set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Which command asks.
    pub purpose: Purpose,
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Flags that were given: key as in the file, and the text after the flag.
    pub flags: Vec<(&'static str, String)>,
    /// `--set`, each `key=value`; the last one of a key wins.
    pub set: Vec<String>,
}

/// Where each key that was set came from; keys that nobody set are absent.
pub(super) type Given = BTreeMap<&'static str, Place>;

impl Sources {
    /// Nothing but defaults.
    pub fn new(purpose: Purpose) -> Self {
        Self { purpose, file: None, flags: Vec::new(), set: Vec::new() }
    }

    /// Adds a flag when it was given.
    #[must_use]
    pub fn flag(mut self, key: &'static str, value: Option<impl ToString>) -> Self {
        self.flags.extend(value.map(|value| (key, value.to_string())));
        self
    }

    /// Reads, merges and validates everything; ports may be missing.
    pub fn load(&self) -> Result<Settings, ConfigError> {
        self.load_on(&Machine::this()).map(|(settings, _)| settings)
    }

    /// As [`Sources::load`], for live traffic: every pair of VMs with its own settings, `[[pair]]` or the one there is
    /// without. No port may be missing, and somebody must have said who takes checkpoints, because by default nobody
    /// does and frames that differ would leave all the same.
    pub fn load_pairs(&self) -> Result<Vec<PairSettings>, ConfigError> {
        pairs::complete(self.load_all(&Machine::this())?)
    }

    /// Keys whose values differ between two settings, rules and class policies aside.
    pub fn changed_keys(before: &Settings, after: &Settings) -> Vec<&'static str> {
        let live = |key: &Key| {
            key.name.starts_with("class.") || key.name == "allow_unsafe_masks" || mode_keys::is_live(key)
        };
        let changed = |key: &&Key| !live(key) && (key.show)(before) != (key.show)(after);
        keys::all().filter(changed).map(|key| key.name).collect()
    }

    /// Everything of [`Sources::load`], for a machine with given cores.
    pub(super) fn load_on(&self, machine: &Machine) -> Result<(Settings, Given), ConfigError> {
        self.load_all(machine).map(|loaded| (loaded.settings, loaded.given))
    }

    /// What holds for all pairs, and each `[[pair]]`.
    pub(super) fn load_all(&self, machine: &Machine) -> Result<Loaded, ConfigError> {
        let mut settings = Settings::defaults(self.purpose);
        let mut given = Given::new();
        let text = self.file.as_ref().map(|path| read(path)).transpose()?;
        let file = self.file.as_ref().zip(text.as_ref()).map(|(path, text)| File { path, text });
        let table = file.as_ref().map(File::parse).transpose()?;
        let mut tables = None;
        if let (Some(file), Some(table)) = (&file, &table) {
            tables = apply_table(&mut settings, &mut given, file, table.get_ref(), "pair")?;
        }
        for (key, text) in &self.flags {
            apply(&mut settings, &mut given, Place::Flag, key, &Value::Word(text.clone()))?;
        }
        for text in &self.set {
            let (key, value) = text
                .split_once('=')
                .filter(|(key, _)| !key.trim().is_empty())
                .ok_or_else(|| ConfigError::BadSet { text: text.clone() })?;
            let value = Value::Word(bare(value).to_owned());
            apply(&mut settings, &mut given, Place::Set, key.trim(), &value)?;
        }
        let mut pairs = Vec::new();
        if let Some((file, tables)) = file.as_ref().zip(tables) {
            pairs = pairs::read(file, &tables, &settings, &given)?;
        }
        validate::adjust_defaults(&mut settings, &given);
        if pairs.is_empty() || self.purpose != Purpose::Compare {
            validate::check(&settings, &given, machine, self.purpose)?;
        } else {
            pairs::check(&pairs, machine)?;
        }
        Ok(Loaded { settings, given, pairs })
    }
}

/// What sources come to.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Of the whole engine, and what pairs have that do not say otherwise.
    pub(super) settings: Settings,
    pub(super) given: Given,
    /// Each `[[pair]]`; empty when there is none.
    pub(super) pairs: Vec<LoadedPair>,
}

/// A file that was read.
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl<'a> File<'a> {
    pub(super) fn parse(&self) -> Result<toml::Spanned<DeTable<'a>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| {
            let (line, column) = position(self.text, error.span().map_or(0, |span| span.start));
            let reason = error.message().lines().collect::<Vec<_>>().join(", ");
            ConfigError::Syntax { path: self.path.to_owned(), line, column, reason }
        })
    }

    /// The line of a byte.
    pub(super) fn place(&self, byte: usize) -> Place {
        Place::File(self.path.to_owned(), line_of(self.text, byte))
    }
}

/// A value that its reader leaves to somebody else, and where its key stands.
pub(super) type Apart<'t, 'a> = (Place, &'t DeValue<'a>);

/// The value of `--set`, without the quotes or brackets of somebody who pasted TOML.
fn bare(value: &str) -> &str {
    let value = value.trim();
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let listed = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    quoted.or(listed).unwrap_or(value)
}

fn apply(
    settings: &mut Settings,
    given: &mut Given,
    place: Place,
    name: &str,
    value: &Value,
) -> Result<&'static Key, ConfigError> {
    let Some(key) = keys::find(name) else {
        return Err(ConfigError::UnknownKey { place, key: name.to_owned(), nearest: keys::nearest(name) });
    };
    (key.set)(settings, value).map_err(|wanted| {
        let subject = Subject { place: place.clone(), key: name.to_owned() };
        ConfigError::BadValue { subject, got: value.to_string(), wanted }
    })?;
    given.insert(key.name, place);
    Ok(key)
}

/// Reads the keys of a whole file, or of one `[[pair]]`; the value of the key `apart` is handed back.
pub(super) fn apply_table<'t, 'a>(
    settings: &mut Settings,
    given: &mut Given,
    file: &File<'_>,
    table: &'t DeTable<'a>,
    apart: &str,
) -> Result<Option<Apart<'t, 'a>>, ConfigError> {
    // In the order of the file, so that the first mistake is the one that is told.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut seen: BTreeMap<&'static str, String> = BTreeMap::new();
    let mut left = None;
    for (name, value) in entries {
        let place = file.place(name.span().start);
        let written = name.get_ref().to_string();
        if written == apart {
            left = Some((place, value.get_ref()));
            continue;
        }
        if written == "rule" {
            settings.policy.rules = rules::read(file.path, file.text, &place, value.get_ref())?;
            given.insert("rule", place);
            continue;
        }
        if let DeValue::Table(fields) = value.get_ref()
            && keys::is_table(&written)
        {
            apply_fields(settings, given, file, &written, fields)?;
            continue;
        }
        let key = apply(settings, given, place.clone(), &written, &Value::from_toml(value.get_ref()))?;
        let target = if key.name == NOTIFY_DEV.name { "checkpoint" } else { key.name };
        if let Some(first) = seen.insert(target, written.clone()) {
            return Err(ConfigError::SameKey { place, first, second: written });
        }
    }
    Ok(left)
}

/// A table such as `[class]`: each of its keys has a row of its own, with a dot in its name.
fn apply_fields(
    settings: &mut Settings,
    given: &mut Given,
    file: &File<'_>,
    table: &str,
    fields: &DeTable<'_>,
) -> Result<(), ConfigError> {
    let mut entries: Vec<_> = fields.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (name, value) in entries {
        let place = file.place(name.span().start);
        let key = format!("{table}.{}", name.get_ref());
        apply(settings, given, place, &key, &Value::from_toml(value.get_ref()))?;
    }
    Ok(())
}

/// Line of a byte, counted from 1.
pub(super) fn line_of(text: &str, byte: usize) -> usize {
    position(text, byte).0
}

/// Line and column of a byte, both counted from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.as_bytes().get(..byte).unwrap_or(text.as_bytes());
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let line = before.split(|b| *b == b'\n').count();
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |error: std::io::Error| ConfigError::Read { path: path.to_owned(), reason: plain(&error) };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES {
        return Err(ConfigError::TooLong { path: path.to_owned(), limit: FILE_BYTES });
    }
    String::from_utf8(bytes).map_err(|error| {
        let fine = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = fine.split(|b| *b == b'\n').count();
        ConfigError::NotText { path: path.to_owned(), line }
    })
}

/// An OS error without its number: "No such file or directory".
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
