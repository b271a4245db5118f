//! `[[rule]]` tables → [`Rule`]s, and back to text for `dump-config`.

use std::fmt::Write;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::classes::ACTIONS;
use super::error::{ConfigError, Place};
use super::load::{File, line_of};
use super::value::{Expected, Value, choice, number};
use crate::compare::{Field, IgnoredFields};
use crate::policy::{MAX_RULES, PayloadMask, Rule};

/// One row of the table of a rule's keys.
struct RuleKey {
    name: &'static str,
    example: &'static str,
    set: fn(&mut Rule, &DeValue<'_>) -> Result<(), Expected>,
}

/// Every key of a rule.
static RULE_KEYS: [RuleKey; 9] = [
    RuleKey {
        name: "protocol",
        example: "\"tcp\"",
        set: |rule, value| {
            let wanted = "any, tcp, udp, udplite, icmp, icmpv6, sctp, gre, esp, or a protocol number";
            let value = Value::from_toml(value);
            let text = value.as_integer().map(|number| number.to_string());
            let text = text.as_deref().or(value.as_text()).ok_or_else(|| wanted.to_owned())?;
            rule.protocol = text.parse().map_err(|()| wanted.to_owned())?;
            Ok(())
        },
    },
    RuleKey {
        name: "guest_ports",
        example: "\"80,443,8000-8100\"",
        set: |rule, value| {
            rule.guest_ports = parsed(value, "ports and ranges with commas between, 64 at most")?;
            Ok(())
        },
    },
    RuleKey {
        name: "peer_ports",
        example: "\"1024-65535\"",
        set: |rule, value| {
            rule.peer_ports = parsed(value, "ports and ranges with commas between, 64 at most")?;
            Ok(())
        },
    },
    RuleKey {
        name: "guest",
        example: "\"10.0.0.0/24\"",
        set: |rule, value| {
            rule.guest = Some(parsed(value, NETWORK)?);
            Ok(())
        },
    },
    RuleKey {
        name: "peer",
        example: "\"fd00::/8\"",
        set: |rule, value| {
            rule.peer = Some(parsed(value, NETWORK)?);
            Ok(())
        },
    },
    RuleKey {
        name: "vlan",
        example: "7",
        set: |rule, value| {
            let vlan = number(&Value::from_toml(value), &(0..=4095), "a VLAN")?;
            rule.vlan = u16::try_from(vlan).ok();
            Ok(())
        },
    },
    RuleKey {
        name: "action",
        example: "\"pass\"",
        set: |rule, value| choice(&Value::from_toml(value), &ACTIONS).map(|action| rule.action = action),
    },
    RuleKey {
        name: "ignore",
        example: "[\"mss\"]",
        set: |rule, value| ignored(value).map(|set| rule.ignored = set),
    },
    RuleKey {
        name: "mask",
        example: "[{ offset = 16, length = 8 }]",
        set: |rule, value| mask(value).map(|set| rule.mask = set),
    },
];

const NETWORK: &str =
    "an address with a prefix length, as in 10.0.0.0/24 or fd00::/8, and no bits set behind it";

fn parsed<T: std::str::FromStr>(value: &DeValue<'_>, wanted: &str) -> Result<T, Expected> {
    let value = Value::from_toml(value);
    let text = value.as_integer().map(|number| number.to_string());
    let text = text.as_deref().or(value.as_text());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| wanted.to_owned())
}

fn ignored(value: &DeValue<'_>) -> Result<IgnoredFields, Expected> {
    let wanted = || {
        let names: Vec<_> = Field::ALL.iter().map(|field| field.label()).collect();
        format!("a list of {}", names.join(", "))
    };
    let DeValue::Array(items) = value else { return Err(wanted()) };
    items.iter().try_fold(IgnoredFields::NONE, |set, item| {
        let item = Value::from_toml(item.get_ref());
        let field = Field::ALL.into_iter().find(|field| item.as_text() == Some(field.label()));
        field.map(|field| set.with(field)).ok_or_else(wanted)
    })
}

fn mask(value: &DeValue<'_>) -> Result<PayloadMask, Expected> {
    let wanted = || "a list of { offset = N, length = N } and { regex = \"...\" }".to_owned();
    let DeValue::Array(items) = value else { return Err(wanted()) };
    let mut mask = PayloadMask::default();
    for item in items {
        let DeValue::Table(fields) = item.get_ref() else { return Err(wanted()) };
        let field = |name: &str| {
            let found = fields.iter().find(|(key, _)| key.get_ref().as_ref() == name);
            found.map(|(_, value)| Value::from_toml(value.get_ref()))
        };
        let bytes = |value: &Value| {
            number(value, &(0..=u64::from(u32::MAX)), "bytes")
                .map(|number| u32::try_from(number).unwrap_or(u32::MAX))
        };
        let added = match (fields.len(), field("offset"), field("length"), field("regex")) {
            (2, Some(offset), Some(length), None) => mask.add_range(bytes(&offset)?, bytes(&length)?),
            (1, None, None, Some(regex)) => mask.add_expression(regex.as_text().ok_or_else(wanted)?),
            _ => return Err(wanted()),
        };
        added.map_err(|error| format!("{} ({error})", wanted()))?;
    }
    Ok(mask)
}

/// Reads the value of `rule` in a file.
pub(super) fn read(
    path: &Path,
    text: &str,
    place: &Place,
    value: &DeValue<'_>,
) -> Result<Vec<Rule>, ConfigError> {
    let DeValue::Array(tables) = value else {
        return Err(ConfigError::NoRules { place: place.clone() });
    };
    if tables.len() > MAX_RULES {
        return Err(ConfigError::TooManyRules { place: place.clone(), count: tables.len(), most: MAX_RULES });
    }
    let one = |table: &toml::Spanned<DeValue<'_>>| match table.get_ref() {
        DeValue::Table(fields) => read_one(path, text, fields),
        _ => Err(ConfigError::NoRules { place: place.clone() }),
    };
    tables.iter().map(one).collect()
}

/// One rule from its keys as in a `[[rule]]`, with commas between, for an engine that allows masks or does not.
pub fn rule_from_text(text: &str, allow_unsafe_masks: bool) -> Result<Rule, ConfigError> {
    let path = Path::new("rule");
    let text = format!("rule = [{{ {text} }}]");
    let table = File { path, text: &text }.parse()?;
    let place = Place::File(path.to_owned(), 1);
    let rules = table.get_ref().iter().filter(|(key, _)| key.get_ref().as_ref() == "rule");
    let rules = rules.map(|(_, value)| read(path, &text, &place, value.get_ref())).next();
    let mut rules = rules.unwrap_or_else(|| Err(ConfigError::NoRules { place: place.clone() }))?;
    let only = rules.pop().filter(|_| rules.is_empty());
    let rule = only.ok_or(ConfigError::NoRules { place: place.clone() })?;
    if !rule.mask.is_empty() && !allow_unsafe_masks {
        return Err(ConfigError::UnsafeMask { place, rule: 1 });
    }
    Ok(rule)
}

/// Rules as JSON: a list of objects of texts, values as in TOML.
pub fn rules_json(rules: &[Rule]) -> serde_json::Value {
    to_json(rules)
}

fn read_one(path: &Path, text: &str, fields: &DeTable<'_>) -> Result<Rule, ConfigError> {
    let mut rule = Rule::default();
    let mut entries: Vec<_> = fields.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (name, value) in entries {
        let place = Place::File(path.to_owned(), line_of(text, name.span().start));
        let written = name.get_ref().as_ref();
        let Some(key) = RULE_KEYS.iter().find(|key| key.name == written) else {
            return Err(ConfigError::UnknownRuleKey {
                place,
                key: written.to_owned(),
                nearest: nearest(written),
            });
        };
        (key.set)(&mut rule, value.get_ref()).map_err(|wanted| ConfigError::BadRuleValue {
            place,
            key: key.name,
            got: Value::from_toml(value.get_ref()).to_string(),
            wanted,
            example: key.example,
        })?;
    }
    Ok(rule)
}

fn nearest(name: &str) -> &'static str {
    let head: String = name.chars().take(64).collect();
    let near = |key: &&RuleKey| strsim::jaro_winkler(key.name, &head);
    RULE_KEYS.iter().max_by(|a, b| near(a).total_cmp(&near(b))).map_or("action", |key| key.name)
}

/// The keys of a rule that say something, each with its value as TOML.
fn fields(rule: &Rule) -> Vec<(&'static str, String)> {
    let mut found = vec![("protocol", quoted(&rule.protocol.to_string()))];
    for (name, ports) in [("guest_ports", &rule.guest_ports), ("peer_ports", &rule.peer_ports)] {
        if !ports.is_any() {
            found.push((name, quoted(&ports.to_string())));
        }
    }
    for (name, network) in [("guest", rule.guest), ("peer", rule.peer)] {
        found.extend(network.map(|network| (name, quoted(&network.to_string()))));
    }
    found.extend(rule.vlan.map(|vlan| ("vlan", vlan.to_string())));
    found.push(("action", quoted(rule.action.label())));
    let ignored: Vec<_> = Field::ALL.into_iter().filter(|field| rule.ignored.has(*field)).collect();
    if !ignored.is_empty() {
        let words: Vec<_> = ignored.iter().map(|field| quoted(field.label())).collect();
        found.push(("ignore", format!("[{}]", words.join(", "))));
    }
    if !rule.mask.is_empty() {
        let ranges = rule.mask.ranges().iter();
        let ranges = ranges
            .map(|range| format!("{{ offset = {}, length = {} }}", range.start, range.end - range.start));
        let expressions = rule.mask.expressions().map(|text| format!("{{ regex = {} }}", quoted(text)));
        let items: Vec<_> = ranges.chain(expressions).collect();
        found.push(("mask", format!("[{}]", items.join(", "))));
    }
    found
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// As TOML, to stand at the end of a file, or of a `[[pair]]` in it: each under `head`.
pub(super) fn to_toml(rules: &[Rule], head: &str) -> String {
    let mut text = String::new();
    for rule in rules {
        let _ = writeln!(text, "\n{head}");
        for (name, value) in fields(rule) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} = {value}");
        }
    }
    text
}

/// As JSON: a list of objects of texts, values as in TOML.
pub(super) fn to_json(rules: &[Rule]) -> serde_json::Value {
    let object = |rule: &Rule| {
        let entries = fields(rule).into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        serde_json::Value::Object(entries.collect())
    };
    rules.iter().map(object).collect()
}
