//! What stands behind a name in an address: `,key` or `,key=value`, each at most once. Which keys there are is the port's
//! matter.

/// An option as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written<'a> {
    /// All of it.
    pub(crate) text: &'a str,
    pub(crate) key: &'a str,
    pub(crate) value: Option<&'a str>,
}

/// The name, and the options behind it.
pub(crate) fn split(rest: &str) -> Result<(&str, Vec<Written<'_>>), String> {
    let mut parts = rest.split(',');
    let name = parts.next().unwrap_or_default();
    let mut options: Vec<Written<'_>> = Vec::new();
    for text in parts {
        let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
        if options.iter().any(|known| known.key == key) {
            return Err(format!("{key:?} is there twice"));
        }
        options.push(Written { text, key, value });
    }
    Ok((name, options))
}

/// A number from 1 to `most`.
pub(crate) fn number(key: &str, text: &str, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("{key}={text} is no number from 1 to {most}"))
}
