//! Which header fields count: the keys `syn_options`, `window_policy` and `ignore`, and what they come to together.

use super::value::{Expected, Value};
use crate::compare::{Field, IgnoredFields};

/// The fields of a SYN's options.
const SYN_OPTIONS: [Field; 4] =
    [Field::Mss, Field::WindowScale, Field::SackPermitted, Field::TimestampsPermitted];

/// What the keys said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderFields {
    /// All options of a SYN.
    pub syn_options: SynOptionsPolicy,
    /// The window.
    pub window: WindowPolicy,
    /// Single fields.
    pub ignore: IgnoredFields,
}

/// Whether the options of SYNs are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SynOptionsPolicy {
    /// They are.
    #[default]
    Compare,
    /// They may differ.
    Ignore,
}

/// What becomes of a window that the secondary does not offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowPolicy {
    /// It is lowered.
    #[default]
    Clamp,
    /// It leaves as it is.
    Ignore,
}

impl HeaderFields {
    /// The fields that do not count.
    pub fn ignored(&self) -> IgnoredFields {
        let mut ignored = self.ignore;
        if self.syn_options == SynOptionsPolicy::Ignore {
            ignored = SYN_OPTIONS.into_iter().fold(ignored, IgnoredFields::with);
        }
        if self.window == WindowPolicy::Ignore {
            ignored = ignored.with(Field::Window);
        }
        ignored
    }
}

/// A list of fields, as `["mss", "urgent"]` or `mss,urgent`.
pub(super) fn fields(value: &Value) -> Result<IgnoredFields, Expected> {
    let field = |word: &str| Field::ALL.into_iter().find(|field| field.label() == word.trim());
    let found: Option<Vec<Field>> = match value {
        Value::List(items) => items.iter().map(|item| item.as_text().and_then(field)).collect(),
        Value::Text(text) | Value::Word(text) => {
            text.split(',').filter(|word| !word.is_empty()).map(field).collect()
        }
        _ => None,
    };
    let found = found.ok_or_else(|| format!("a list of {}", Field::ALL.map(Field::label).join(", ")))?;
    Ok(found.into_iter().fold(IgnoredFields::NONE, IgnoredFields::with))
}

/// The words of those fields.
pub(super) fn words(ignored: IgnoredFields) -> Vec<&'static str> {
    Field::ALL.into_iter().filter(|field| ignored.has(*field)).map(Field::label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_add_up() {
        let mut said = HeaderFields { ignore: IgnoredFields::NONE.with(Field::Urgent), ..Default::default() };
        assert_eq!(words(said.ignored()), ["urgent"]);
        said.syn_options = SynOptionsPolicy::Ignore;
        said.window = WindowPolicy::Ignore;
        assert_eq!(words(said.ignored()).len(), Field::ALL.len());
    }

    #[test]
    fn fields_are_read_as_lists_and_words() {
        let list = Value::List(vec![Value::Text("mss".to_owned()), Value::Text("window".to_owned())]);
        let word = Value::Word("mss, window".to_owned());
        assert_eq!(fields(&list), fields(&word));
        assert_eq!(fields(&word).map(words), Ok(vec!["mss", "window"]));
        assert_eq!(fields(&Value::List(Vec::new())), Ok(IgnoredFields::NONE));
        assert!(fields(&Value::Word("ttl".to_owned())).is_err());
        assert!(fields(&Value::Boolean(true)).is_err());
    }
}
