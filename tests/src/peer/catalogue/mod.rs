//! The scripts that both comparers are fed, and what explains the answers where they differ. The frames are made by the
//! catalogue's own builder; the times are real, so a gap is wide enough for both to see the sides in one order.

mod load;
mod others;
mod tcp;

use super::play::{Circumstance, Script};
use crate::case::Case;

/// One script.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What happens, in a few words; unique.
    pub name: &'static str,
    /// The frames.
    pub script: Script,
    /// Numbers of the faults and deliberate differences that explain why the answers differ; none: they agree.
    pub why: &'static [&'static str],
}

fn entry(name: &'static str, why: &'static [&'static str], case: Case) -> Entry {
    Entry { name, script: Script { case, circumstance: Circumstance::None }, why }
}

impl Entry {
    fn with(mut self, circumstance: Circumstance) -> Self {
        self.script.circumstance = circumstance;
        self
    }
}

/// All of them, in the order of the document.
pub fn entries() -> Vec<Entry> {
    [
        tcp::streams(),
        tcp::fields(),
        tcp::acks(),
        tcp::ends(),
        others::datagrams(),
        others::messages(),
        others::carriage(),
        others::links(),
        load::entries(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::faults;

    #[test]
    fn names_are_unique_and_explanations_exist() {
        let entries = entries();
        for (index, entry) in entries.iter().enumerate() {
            assert!(
                entries[..index].iter().all(|other| other.name != entry.name),
                "{} is there twice",
                entry.name
            );
            for code in entry.why {
                assert!(faults::find(code).is_some(), "{}: nothing is numbered {code}", entry.name);
            }
        }
        for known in faults::ALL {
            let used =
                entries.iter().any(|entry| entry.why.contains(&known.code)) || known.elsewhere.is_some();
            assert!(used, "{} explains nothing", known.code);
        }
    }
}
