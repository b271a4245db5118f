//! What is put around ports: faults for trials, and a capture of what crosses. Keys, values, and how they are shown.

use std::path::PathBuf;

use pmd_tap::{FaultSettings, Rotation};

use super::keys::{FILE_BYTES, Key, file};
use super::value::{Expected, Shown, Value, count, number};

/// What `--fault` looks like, for messages.
const FAULT_SYNTAX: &str = "SIDE:FAULT=SHARE[,...] with SIDE primary, secondary or out, as in \
                            primary:drop=0.01,seed=7; several with spaces between, or as a list; or off";

/// What is put around a pair's ports. Nothing by default, and then it costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrapperSettings {
    /// Faults at the primary's input.
    pub primary: Option<FaultSpec>,
    /// Faults at the secondary's input.
    pub secondary: Option<FaultSpec>,
    /// Faults at the output.
    pub out: Option<FaultSpec>,
    /// Where what crosses the ports is written down.
    pub capture: CaptureSettings,
}

/// A capture of what crosses the ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSettings {
    /// The file; `None`: none.
    pub path: Option<PathBuf>,
    /// How much is kept.
    pub rotation: Rotation,
}

impl Default for CaptureSettings {
    fn default() -> Self {
        Self { path: None, rotation: Rotation { max_bytes: 1 << 30, files: 4 } }
    }
}

/// Faults, and how they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSpec {
    text: String,
    /// What goes wrong, and how often.
    pub settings: FaultSettings,
}

/// The keys, in the order `dump-config` prints them.
pub(super) static WRAPPER_KEYS: [Key; 4] = [
    Key {
        name: "fault",
        meaning: "for trials: what goes wrong at ports, \"SIDE:drop=0.01,duplicate=0.01,reorder=0.05,corrupt=0.001,\
                  truncate=0.001,delay=5ms,stall=0.001,seed=7\" with SIDE primary, secondary or out; several with spaces \
                  between, or as a list; or \"off\"",
        example: "\"primary:drop=0.01,seed=7\"",
        set: |s, v| {
            faults(v)
                .map(|faults| s.wrappers = WrapperSettings { capture: s.wrappers.capture.clone(), ..faults })
        },
        show: |s| show(&s.wrappers),
    },
    Key {
        name: "capture",
        meaning: "pcapng file for every frame that crosses the ports; or \"off\"",
        example: "\"/var/lib/colo/capture.pcapng\"",
        set: |s, v| file(v).map(|path| s.wrappers.capture.path = path),
        show: |s| {
            let path = s.wrappers.capture.path.as_ref();
            path.map_or_else(|| Shown::text("off"), |path| Shown::text(path.display()))
        },
    },
    Key {
        name: "capture_max_bytes",
        meaning: "bytes of the capture, at which a new file is begun",
        example: "1073741824",
        set: |s, v| {
            number(v, &FILE_BYTES, "bytes").map(|bytes| s.wrappers.capture.rotation.max_bytes = bytes)
        },
        show: |s| Shown::Integer(s.wrappers.capture.rotation.max_bytes.into()),
    },
    Key {
        name: "capture_files",
        meaning: "files of the capture that are kept, the current one included",
        example: "4",
        set: |s, v| count(v, &(1..=1_000), "files").map(|files| s.wrappers.capture.rotation.files = files),
        show: |s| s.wrappers.capture.rotation.files.into(),
    },
];

impl WrapperSettings {
    fn places(&self) -> [(&'static str, &Option<FaultSpec>); 3] {
        [("primary", &self.primary), ("secondary", &self.secondary), ("out", &self.out)]
    }
}

fn show(wrappers: &WrapperSettings) -> Shown {
    let said = wrappers.places().into_iter();
    let said: Vec<_> =
        said.filter_map(|(side, spec)| Some(format!("{side}:{}", spec.as_ref()?.text))).collect();
    if said.is_empty() { Shown::text("off") } else { Shown::Text(said.join(" ")) }
}

fn faults(value: &Value) -> Result<WrapperSettings, Expected> {
    let expected = || FAULT_SYNTAX.to_owned();
    let mut wrappers = WrapperSettings::default();
    let texts = match value {
        Value::List(items) => items.iter().map(|item| item.as_text().ok_or_else(expected)).collect(),
        one => one.as_text().map(|text| text.split_whitespace().collect()).ok_or_else(expected),
    };
    let texts: Vec<&str> = texts?;
    if texts == ["off"] {
        return Ok(wrappers);
    }
    if texts.is_empty() {
        return Err(expected());
    }
    for text in texts {
        let (side, spec) = text.split_once(':').ok_or_else(expected)?;
        let place = match side {
            "primary" => &mut wrappers.primary,
            "secondary" => &mut wrappers.secondary,
            "out" => &mut wrappers.out,
            other => return Err(format!("{FAULT_SYNTAX} ({other:?} is no side)")),
        };
        if place.is_some() {
            return Err(format!("{FAULT_SYNTAX} ({side} is there twice)"));
        }
        let settings = spec.parse().map_err(|error| format!("{FAULT_SYNTAX} ({error})"))?;
        *place = Some(FaultSpec { text: spec.to_owned(), settings });
    }
    Ok(wrappers)
}

#[cfg(test)]
mod tests {
    use pmd_tap::{Fault, Rate};

    use super::*;

    #[test]
    fn faults_are_read_shown_and_read_again() {
        let word = Value::Word("primary:drop=0.01,seed=7 out:delay=5ms".to_owned());
        let read = faults(&word).unwrap();
        let primary = read.primary.as_ref().unwrap().settings;
        assert_eq!((primary.seed, primary.rate(Fault::Drop)), (7, Rate::millionths(10_000)));
        assert!(read.secondary.is_none());
        let Shown::Text(shown) = show(&read) else { panic!("shown otherwise") };
        assert_eq!(shown, "primary:drop=0.01,seed=7 out:delay=5ms");
        let list = ["primary:drop=0.01,seed=7", "out:delay=5ms"].map(|text| Value::Text(text.to_owned()));
        assert_eq!(faults(&Value::List(list.into())), Ok(read));
        assert_eq!(faults(&Value::Word("off".to_owned())), Ok(WrapperSettings::default()));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, problem) in [
            ("", "with SIDE primary, secondary or out"),
            ("drop=0.01", "with SIDE primary, secondary or out"),
            ("third:drop=0.01", "\"third\" is no side"),
            ("out:drop=2", "drop=2 is no share from 0 to 1"),
            ("out:drop=0.1 out:drop=0.2", "out is there twice"),
        ] {
            let expected = faults(&Value::Word(text.to_owned())).unwrap_err();
            assert!(expected.contains(problem), "{expected}");
        }
        assert!(faults(&Value::Boolean(true)).is_err());
    }
}
