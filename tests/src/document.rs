//! Parts of documents that a command makes: what lies between two markers is replaced, the rest is somebody's own.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Puts `made` between `<!-- NAME: begin -->` and `<!-- NAME: end -->` of the document.
///
/// # Errors
/// When the file cannot be read or written, or lacks a marker.
pub fn put(path: &Path, name: &str, made: &str) -> Result<()> {
    let document = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let replaced = replace(&document, name, made).with_context(|| path.display().to_string())?;
    fs::write(path, replaced).with_context(|| format!("cannot write {}", path.display()))
}

fn replace(document: &str, name: &str, made: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (head, rest) = document.split_once(&begin).with_context(|| format!("no {}", begin.trim_end()))?;
    let (_, tail) = rest.split_once(&end).with_context(|| format!("no {end}"))?;
    Ok(format!("{head}{begin}\n{made}\n{end}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_the_markers_is_replaced() {
        let document = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
        let new = replace(document, "x", "new").unwrap();
        assert_eq!(new, "a\n<!-- x: begin -->\n\nnew\n<!-- x: end -->\nb\n");
        assert_eq!(replace(&new, "x", "new").unwrap(), new);
        assert!(replace(document, "y", "new").is_err());
    }
}
