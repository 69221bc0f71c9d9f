//! OpenAI's Python client and jsonschema, in a virtual environment, against the server.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{root, run, say};
use crate::model;

fn folder() -> PathBuf {
    root().join("target/python")
}

fn python() -> Command {
    let program = if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    };
    Command::new(folder().join(program))
}

/// Installs what `tests/python` needs, exactly as locked, unless it is installed.
pub fn install() -> Result<()> {
    let wanted = root().join("tests/python/requirements.txt");
    let installed = folder().join("requirements.txt");
    let locked = fs::read(&wanted)?;
    if fs::read(&installed).is_ok_and(|found| found == locked) {
        return Ok(());
    }
    say("installing OpenAI's Python client and jsonschema");
    let mut venv = Command::new("python3");
    run(venv.args(["-m", "venv", "--clear"]).arg(folder()))
        .context("python3 is needed, with its module venv (Debian: python3-venv)")?;
    let mut pip = python();
    pip.args(["-m", "pip", "install", "--quiet", "--no-compile"]);
    pip.args(["--disable-pip-version-check", "--require-hashes", "-r"]);
    run(pip.arg(&wanted))?;
    Ok(fs::copy(&wanted, &installed).map(drop)?)
}

pub fn test() -> Result<()> {
    install()?;
    let siskin = format!("target/release/siskin{}", std::env::consts::EXE_SUFFIX);
    let siskin = root().join(siskin);
    let run_with = |script: &str, more: Option<PathBuf>| {
        let mut test = python();
        test.arg(root().join("tests/python").join(script));
        run(test.arg(&siskin).args(more))
    };
    run_with("openai_client.py", Some(model::fetch()?))?;
    run_with("random_schemas.py", None)
}
