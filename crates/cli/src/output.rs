//! Files that commands write: existing files are not lost, and no file is left half written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Refuses a path that already exists, unless it may be replaced: a file by a file, and the files of a
/// folder by files of the same names. A link, a pipe or a device is never replaced.
pub fn check(out: &Path, force: bool) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(out) else {
        return Ok(());
    };
    let out = out.display();
    if !found.is_file() && !found.is_dir() {
        bail!("{out} is not a regular file and will not be replaced; choose another --out");
    }
    if !force {
        bail!("{out} already exists; choose another --out, or use --force to replace it");
    }
    Ok(())
}

/// Refuses to overwrite the input: the file, or one of the files of the folder.
pub fn apart(out: &Path, input: &Path) -> Result<()> {
    let (Ok(out), Ok(input)) = (out.canonicalize(), input.canonicalize()) else {
        return Ok(());
    };
    if out.starts_with(&input) {
        bail!("{} is the input; choose another --out", out.display());
    }
    Ok(())
}

/// Writes a file under a temporary name and renames it once it is complete.
pub fn whole(out: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if out.is_dir() {
        bail!("{} is a folder", out.display());
    }
    let part = part_of(out);
    // The writer may create a new file with permissions other than those of the user's umask.
    let written = || -> Result<()> {
        let permissions = fs::File::create(&part)?.metadata()?.permissions();
        write(&part)?;
        fs::set_permissions(&part, permissions)?;
        Ok(fs::rename(&part, out)?)
    };
    let result = written();
    if result.is_err() {
        // A partial file is of no use.
        let _ = fs::remove_file(&part);
    }
    result.with_context(|| format!("cannot write {}", out.display()))
}

/// A temporary file next to `out`, used by this process alone.
fn part_of(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    out.with_file_name(name)
}
