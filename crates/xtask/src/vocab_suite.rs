//! llama.cpp's tests of tokenizers, which are in a Python package's source.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{RELEASED, cargo, root, run};
use crate::model::{download_package, find, matches};

const PACKAGE: &str = "llama-cpp-python==0.3.36";
const BYTES: u64 = 76_589_250;
const SHA256: &str = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e";

/// Tokenises every text of the suite, and prints how many are right for each vocabulary.
pub fn check() -> Result<()> {
    let folder = fetch()?;
    let mut build = cargo(&["build", "--quiet"]);
    run(build.args(RELEASED).args(["--example", "ask"]))?;
    run(Command::new("python3")
        .arg(root().join("tests/fixtures/check_vocabs.py"))
        .arg(folder))
    .context("not every text is tokenised as by llama.cpp")
}

/// The folder of vocabularies and texts, fetched where it is missing.
fn fetch() -> Result<PathBuf> {
    let models = root().join("models");
    let folder = models.join("vocab-suite");
    if folder.exists() {
        return Ok(folder);
    }
    let download = models.join("download-suite");
    eprintln!("fetching llama.cpp's vocabularies (77 MB) with pip");
    download_package(&download, PACKAGE, &["--no-binary", "llama-cpp-python"])?;
    let archive = find(&download, "gz")?;
    if !matches(&archive, BYTES, SHA256)? {
        fs::remove_dir_all(&download)?;
        bail!("the fetched package is damaged or another one; run the command again");
    }
    let partial = models.join("vocab-suite.partial");
    fs::create_dir_all(&partial)?;
    let script = "import pathlib, shutil, sys, tarfile\n\
                  with tarfile.open(sys.argv[1]) as source:\n\
                  \x20   for member in source:\n\
                  \x20       path = pathlib.PurePath(member.name)\n\
                  \x20       if path.match('vendor/llama.cpp/models/ggml-vocab-*') and member.isfile():\n\
                  \x20           with open(pathlib.Path(sys.argv[2]) / path.name, 'wb') as to:\n\
                  \x20               shutil.copyfileobj(source.extractfile(member), to)";
    run(Command::new("python3")
        .args(["-c", script])
        .arg(&archive)
        .arg(&partial))
    .context("cannot unpack the vocabularies")?;
    fs::rename(&partial, &folder)?;
    fs::remove_dir_all(&download)?;
    Ok(folder)
}
