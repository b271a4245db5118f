//! Untyped values on their way in and out: from a TOML file, a flag or `--set`, and back to `dump-config`.
//!
//! Conversions answer with what was *expected* when a value does not fit; the caller knows the key and the place and
//! makes the sentence.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

/// A value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// `400`
    Integer(i128),
    /// `true`
    Boolean(bool),
    /// `"busy"` in the file.
    Text(String),
    /// `busy` or `400` after a flag or `--set`, where nothing is quoted.
    Word(String),
    /// `[0, 1]`
    List(Vec<Value>),
    /// Something no key takes: its TOML type with an article.
    Other(&'static str),
}

/// What a key would have taken: the end of "must be …".
pub(super) type Expected = String;

impl Value {
    pub(super) fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(digits) => match i128::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(number) => Self::Integer(number),
                Err(_) => Self::Other("a number without end"),
            },
            DeValue::Boolean(flag) => Self::Boolean(*flag),
            DeValue::Array(items) => {
                Self::List(items.iter().map(|item| Self::from_toml(item.get_ref())).collect())
            }
            DeValue::Float(_) => Self::Other("a number with a fraction"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    pub(super) fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Word(word) => word.parse().ok(),
            _ => None,
        }
    }

    /// The text of a string, or of a bare word.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Word(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(flag) => write!(f, "{flag}"),
            // Debug quoting keeps control characters out of the terminal.
            Self::Text(text) | Self::Word(text) => write!(f, "{text:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// A whole number within `range`, of `what` (plural).
pub(super) fn number(value: &Value, range: &RangeInclusive<u64>, what: &str) -> Result<u64, Expected> {
    value
        .as_integer()
        .and_then(|number| u64::try_from(number).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("a whole number of {what} from {} to {}", range.start(), range.end()))
}

/// As [`number`], for counts of things in memory.
pub(super) fn count(value: &Value, range: &RangeInclusive<u64>, what: &str) -> Result<usize, Expected> {
    let wanted = number(value, range, what)?;
    usize::try_from(wanted).map_err(|_| format!("a number of {what} this machine can address"))
}

/// A whole number of milliseconds within `range`.
pub(super) fn millis(value: &Value, range: &RangeInclusive<u64>) -> Result<Duration, Expected> {
    number(value, range, "milliseconds").map(Duration::from_millis)
}

/// `true` or `false`; QEMU's `on` and `off` are taken too.
pub(super) fn boolean(value: &Value) -> Result<bool, Expected> {
    match (value, value.as_text()) {
        (Value::Boolean(flag), _) => Ok(*flag),
        (_, Some("on")) | (Value::Word(_), Some("true")) => Ok(true),
        (_, Some("off")) | (Value::Word(_), Some("false")) => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

/// One of the words of a table of words and meanings.
pub(super) fn choice<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, Expected> {
    let found = value.as_text().and_then(|text| words.iter().find(|(word, _)| *word == text));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        quoted.join(" or ")
    })
}

/// A list of core numbers: `[0, 1]` or `"0,1"`; ranges such as `"2-5"` too.
pub(super) fn core_list(value: &Value) -> Result<Vec<usize>, Expected> {
    let expected = || "core numbers, as in \"0,1\" or \"2-5\"".to_owned();
    let from_text = |text: &str| -> Option<Vec<usize>> {
        let mut cores = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (core_number(first)?, core_number(last)?);
            if first > last {
                return None;
            }
            cores.extend(first..=last);
        }
        Some(cores)
    };
    match value {
        Value::Integer(_) => single_core(value).map(|core| vec![core]).ok_or_else(expected),
        Value::List(items) if !items.is_empty() => {
            items.iter().map(|item| single_core(item).ok_or_else(expected)).collect()
        }
        Value::Text(text) | Value::Word(text) => from_text(text).ok_or_else(expected),
        _ => Err(expected()),
    }
}

/// Largest core number worth writing; a bound on what a range expands to.
const MAX_CORE: usize = 4095;

fn core_number(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|core| *core <= MAX_CORE)
}

fn single_core(value: &Value) -> Option<usize> {
    match value {
        Value::Integer(number) => usize::try_from(*number).ok().filter(|core| *core <= MAX_CORE),
        _ => None,
    }
}

/// A value on its way to `dump-config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Integer(u128),
    Boolean(bool),
    Text(String),
    List(Vec<usize>),
    Words(Vec<&'static str>),
    /// No value, and none is needed.
    Unset,
}

impl Shown {
    pub(super) fn text(text: impl fmt::Display) -> Self {
        Self::Text(text.to_string())
    }

    pub(super) fn optional(text: Option<&impl fmt::Display>) -> Self {
        text.map_or(Self::Unset, Self::text)
    }

    /// The word of a meaning, from the same table that [`choice`] reads.
    pub(super) fn word<T: PartialEq>(meaning: &T, words: &[(&str, T)]) -> Self {
        words.iter().find(|(_, known)| known == meaning).map_or(Self::Unset, |(word, _)| Self::text(word))
    }
}

impl From<Duration> for Shown {
    fn from(duration: Duration) -> Self {
        Self::Integer(duration.as_millis())
    }
}

impl From<usize> for Shown {
    fn from(count: usize) -> Self {
        // A usize always fits into 128 bits.
        Self::Integer(u128::try_from(count).unwrap_or(u128::MAX))
    }
}

impl fmt::Display for Shown {
    /// As TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(flag) => write!(f, "{flag}"),
            Self::Text(text) => f.write_str(&toml::Value::String(text.clone()).to_string()),
            Self::List(items) => write!(f, "{items:?}"),
            // Plain words: Debug quotes them as TOML does.
            Self::Words(words) => write!(f, "{words:?}"),
            Self::Unset => f.write_str("not set"),
        }
    }
}
