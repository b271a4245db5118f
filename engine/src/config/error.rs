//! What can be wrong with a configuration, each in one sentence: what, where, how to mend it.

use std::fmt;
use std::path::PathBuf;

use super::keys;

/// Where a value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nobody set it.
    #[default]
    Default,
    /// A line of a file, counted from 1.
    File(PathBuf, usize),
    /// The flag named like the key.
    Flag,
    /// `--set`.
    Set,
}

/// A key at its place: the subject of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Where it was set.
    pub place: Place,
    /// The key, as in the file.
    pub key: String,
}

/// Why there are no settings. The messages are complete: what, where, how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    Read { path: PathBuf, reason: String },
    #[error("the configuration file {} is longer than {limit} bytes, which no configuration is", path.display())]
    TooLong { path: PathBuf, limit: u64 },
    #[error("{}:{line}: not UTF-8 text; save the file as UTF-8", path.display())]
    NotText { path: PathBuf, line: usize },
    #[error("{}:{line}:{column}: not TOML: {reason}", path.display())]
    Syntax { path: PathBuf, line: usize, column: usize, reason: String },
    #[error(
        "{place}unknown key {key:?}; the nearest known one is {nearest} (colo dump-config lists them all)"
    )]
    UnknownKey { place: Place, key: String, nearest: &'static str },
    #[error("{place}unknown key {key:?} of a rule; the nearest known one is {nearest}")]
    UnknownRuleKey { place: Place, key: String, nearest: &'static str },
    #[error("{place}{key} of a rule is {got}, but must be {wanted}; for example {key} = {example}")]
    BadRuleValue { place: Place, key: &'static str, got: String, wanted: String, example: &'static str },
    #[error("{place}rule is no list of tables; write [[rule]] in front of each")]
    NoRules { place: Place },
    #[error("{place}{count} rules are more than {most}; merge some: ports take lists, networks prefixes")]
    TooManyRules { place: Place, count: usize, most: usize },
    #[error(
        "{place}rule {rule} masks payload, which is unsafe: what is masked is not compared; say \
         allow_unsafe_masks = true at the top of the file if that is what you want"
    )]
    UnsafeMask { place: Place, rule: usize },
    #[error("{subject} is {got}, but must be {wanted}; for example {}", subject.example())]
    BadValue { subject: Subject, got: String, wanted: String },
    #[error("--set {text:?} has no key and value; write --set key=value, as in --set compare_timeout=400")]
    BadSet { text: String },
    #[error("{place}{first} and {second} set the same thing; keep one of them")]
    SameKey { place: Place, first: String, second: String },
    #[error("{subject} names core {core}, which this machine does not offer; it has {have}")]
    NoSuchCore { subject: Subject, core: usize, have: String },
    #[error("{subject} names core {core} twice; name each core once")]
    CoreTwice { subject: Subject, core: usize },
    #[error("{subject} is {workers}, but cores lists only {cores}; list a core for each or lower workers")]
    TooFewCores { subject: Subject, workers: usize, cores: usize },
    #[error(
        "{subject} is {tick} ms, longer than compare_timeout with {timeout} ms; lower it to {timeout} or less"
    )]
    TickAboveTimeout { subject: Subject, tick: u128, timeout: u128 },
    #[error("{subject} is {min} ms, longer than max_checkpoint_interval with {max} ms; swap or lower it")]
    MinAboveMax { subject: Subject, min: u128, max: u128 },
    #[error(
        "{subject} is {leave} ms, less than passive_limit with {limit} ms; raise it, or lower passive_limit"
    )]
    LeaveBelowLimit { subject: Subject, leave: u128, limit: u128 },
    #[error("{subject} is {most}, less than passive_count with {count}; raise it, or lower passive_count")]
    CountAboveMost { subject: Subject, most: u32, count: u32 },
    #[error("{subject} is \"primary\", but {wanted}")]
    FailoverNeeds { subject: Subject, wanted: &'static str },
    #[error("{subject} is {queue}, more than max_held_frames with {held}; lower it or raise max_held_frames")]
    QueueAboveHeld { subject: Subject, queue: usize, held: usize },
    #[error("{subject} has the address {address}, and so has {other}; give each its own")]
    SameAddress { subject: Subject, address: String, other: &'static str },
    #[error("--{flag} is missing; say --{flag} {syntax}, or {key} = \"...\" in the file")]
    MissingPort { flag: &'static str, key: &'static str, syntax: &'static str },
    #[error(
        "nobody is named to take checkpoints; say --checkpoint qmp:ADDR (QEMU's monitor), or --checkpoint none for a trial without VMs"
    )]
    MissingCheckpoint,
    #[error("{place}pair is no list of tables; write [[pair]] in front of each")]
    NoPairs { place: Place },
    #[error("{place}{count} pairs are more than {most}; start another engine for the rest")]
    TooManyPairs { place: Place, count: usize, most: usize },
    #[error("{place}a pair has no name; write name = \"web\" under its [[pair]]")]
    NoPairName { place: Place },
    #[error(
        "{place}name of a pair is {got}, but must be 1 to 32 letters, digits, dots, dashes and underscores, the first a \
         letter or digit; for example name = \"web\""
    )]
    BadPairName { place: Place, got: String },
    #[error("{place}two pairs are called {name}; give each a name of its own")]
    PairTwice { place: Place, name: String },
    #[error("{place}{key} is the whole engine's, not a pair's; write it above the first [[pair]]")]
    EngineKey { place: Place, key: String },
    #[error(
        "{subject} is given beside [[pair]], but each pair has ports of its own; write it under its [[pair]]"
    )]
    PortOutsidePairs { subject: Subject },
    #[error("{place}pair {pair} has no {key}; write {key} = {example} under its [[pair]]")]
    MissingInPair { place: Place, pair: String, key: &'static str, example: &'static str },
    #[error("{subject} of pair {pair} is {value}, and so is {other}; give each its own")]
    SharedByPairs { subject: Subject, pair: String, value: Box<str>, other: Box<str> },
    #[error(
        "{subject} of pair {pair} is \"exit\", which would end the other pairs, too; set it to \"hold\", or give the pair \
         an engine of its own"
    )]
    ExitOfPair { subject: Subject, pair: String },
}

impl Subject {
    fn example(&self) -> String {
        let value = keys::find(&self.key).map_or("", |key| key.example);
        let bare = value.trim_matches('"');
        match self.place {
            Place::Flag => format!("{self} {}", bare.trim_matches(['[', ']']).replace(' ', "")),
            Place::Set => format!("--set {}={}", self.key, bare.trim_matches(['[', ']']).replace(' ', "")),
            Place::File(..) | Place::Default => format!("{} = {value}", self.key),
        }
    }
}

/// The flag of a key.
pub(super) fn flag_name(key: &str) -> String {
    if key == "outdev" { "out".to_owned() } else { key.replace('_', "-") }
}

impl fmt::Display for Place {
    /// The start of a sentence, with its colon; nothing for a flag, whose name is the subject anyway.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default | Self::Flag => Ok(()),
            Self::File(path, line) => write!(f, "{}:{line}: ", path.display()),
            Self::Set => f.write_str("--set: "),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Flag => write!(f, "--{}", flag_name(&self.key)),
            _ => write!(f, "{}{}", self.place, self.key),
        }
    }
}
