//! Files that commands write: none is lost that was there, and none is left half written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Refuses a place where something is already, unless it may be replaced: a file by a file, and the files of a
/// folder by those of the same names. A link, a pipe or a device is never replaced.
pub fn check(out: &Path, force: bool) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(out) else {
        return Ok(());
    };
    let out = out.display();
    if !found.is_file() && !found.is_dir() {
        bail!("{out} is not a regular file, and is not replaced; give another --out");
    }
    if !force {
        bail!("{out} exists already; give another --out, or --force to replace it");
    }
    Ok(())
}

/// Refuses to write over what is read: the file, or one of the files of the folder.
pub fn apart(out: &Path, input: &Path) -> Result<()> {
    let (Ok(out), Ok(input)) = (out.canonicalize(), input.canonicalize()) else {
        return Ok(());
    };
    if out.starts_with(&input) {
        bail!("{} is what is read; give another --out", out.display());
    }
    Ok(())
}

/// Writes a file under another name first, and gives it its own when it is whole.
pub fn whole(out: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if out.is_dir() {
        bail!("{} is a folder", out.display());
    }
    let part = part_of(out);
    // Whatever writes it may make a new file of its own with other permissions than the user's umask gives.
    let written = || -> Result<()> {
        let permissions = fs::File::create(&part)?.metadata()?.permissions();
        write(&part)?;
        fs::set_permissions(&part, permissions)?;
        Ok(fs::rename(&part, out)?)
    };
    let result = written();
    if result.is_err() {
        // Whatever was written is of no use.
        let _ = fs::remove_file(&part);
    }
    result.with_context(|| format!("cannot write {}", out.display()))
}

/// A new file beside `out`, of this process alone.
fn part_of(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    out.with_file_name(name)
}
