//! The source tree that is built: the commit's files, with the rewritten ones in their places. Files that are as they should
//! be are not touched, so that cargo builds no more than it must.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Unpacks a commit into an empty directory.
pub fn export(commit: &str, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot clear {}", to.display()))?;
    }
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut git = Command::new("git")
        .args(["archive", commit])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start git")?;
    let archive = git.stdout.take().context("git archive has no output")?;
    let unpacked =
        Command::new("tar").arg("-x").current_dir(to).stdin(archive).status().context("cannot start tar")?;
    ensure!(git.wait()?.success() && unpacked.success(), "cannot unpack commit {commit}");
    Ok(())
}

/// Makes `tree` equal to `original`, but for the files with a text of their own.
pub fn sync(original: &Path, tree: &Path, own: &BTreeMap<String, String>) -> Result<()> {
    let mut wanted: BTreeSet<PathBuf> = files(original)?.into_iter().collect();
    wanted.extend(own.keys().map(PathBuf::from));
    // First, because a file may lie where a directory is to be.
    for file in files(tree)?.into_iter().filter(|file| !wanted.contains(file)) {
        fs::remove_file(tree.join(file))?;
    }
    for file in wanted {
        match file.to_str().and_then(|name| own.get(name)) {
            Some(text) => write(&tree.join(&file), text.as_bytes())?,
            None => write(&tree.join(&file), &fs::read(original.join(&file))?)?,
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// All files under a directory, relative to it. A directory that is not there has none.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        if !root.join(&directory).exists() {
            continue;
        }
        for entry in fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    Ok(found)
}
