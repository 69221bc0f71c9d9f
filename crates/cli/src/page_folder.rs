//! The folder of the page that `siskin serve` serves.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use siskin_serve::Page;

/// The page in the folder that is given, or where it usually is; `None` if it is not there.
pub fn find(given: Option<&Path>) -> Result<Option<Page>> {
    if let Some(dir) = given {
        if !dir.join("index.html").is_file() {
            bail!(
                "{} has no index.html; `cargo xtask page` builds the page in web/dist",
                dir.display()
            );
        }
        return Ok(Some(open(dir)?));
    }
    let program = std::env::current_exe().and_then(fs::canonicalize);
    let beside = program.ok().and_then(|p| p.parent().map(PathBuf::from));
    // In a checkout, the program is in target/release.
    let usual = beside.map(|dir| [dir.join("page"), dir.join("../../web/dist")]);
    let found = usual
        .into_iter()
        .flatten()
        .find(|dir| dir.join("index.html").is_file());
    found.as_deref().map(open).transpose()
}

/// Only the files that are there now are served, by exactly their paths.
fn open(dir: &Path) -> Result<Page> {
    let mut files = HashMap::new();
    list(dir, "", &mut files).with_context(|| format!("cannot read {}", dir.display()))?;
    Ok(Page::new(move |path| fs::read(files.get(path)?).ok()))
}

fn list(dir: &Path, prefix: &str, files: &mut HashMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), &format!("{name}/"), files)?;
        } else if kind.is_file() {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}
