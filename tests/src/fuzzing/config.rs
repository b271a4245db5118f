//! The configuration against any text: settings or one clear sentence, and what is dumped loads to the same.

use colo_engine::config::{ConfigError, Purpose, Settings, Sources, dump_json};

use super::bytes::Bytes;
use super::scratch::Scratch;

/// A file or lines of `--set`, for one of the commands; the first byte says which.
pub fn config(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let kind = bytes.u8();
    let purpose = match kind % 3 {
        0 => Purpose::Compare,
        1 => Purpose::Replay,
        _ => Purpose::Demo,
    };
    let mut sources = Sources::new(purpose);
    let file;
    if kind & 0x80 == 0 {
        file = Scratch::file(bytes.rest());
        sources.file = Some(file.path());
    } else {
        sources.set = String::from_utf8_lossy(bytes.rest()).lines().map(str::to_owned).collect();
    }
    match sources.load() {
        Ok(settings) => judge_dump(&sources, &settings),
        Err(error) => judge_sentence(&error),
    }
    if let Err(error) = sources.load_pairs() {
        judge_sentence(&error);
    }
}

/// One line that a terminal shows as it is.
fn judge_sentence(error: &ConfigError) {
    let sentence = error.to_string();
    assert!(!sentence.is_empty() && !sentence.contains(char::is_control), "{sentence:?}");
}

fn judge_dump(sources: &Sources, settings: &Settings) {
    let dump = |sources: &Sources| sources.dump_toml().unwrap_or_else(|error| panic!("a dump: {error}"));
    let text = dump(sources);
    let file = Scratch::file(text.as_bytes());
    let mut again = Sources::new(sources.purpose);
    again.file = Some(file.path());
    assert_eq!(again.load().as_ref(), Ok(settings), "{text}");
    assert_eq!(dump(&again), text, "a dump of the dump");
    if let Ok(pairs) = sources.load_pairs() {
        let loaded = again
            .load_pairs()
            .map(|pairs| pairs.into_iter().map(|pair| (pair.name, pair.settings)).collect());
        let pairs: Vec<_> = pairs.into_iter().map(|pair| (pair.name, pair.settings)).collect();
        assert_eq!(loaded, Ok(pairs), "{text}");
    }
    assert!(dump_json(settings).is_object());
}
