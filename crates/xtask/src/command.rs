use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The folder of the workspace.
pub fn root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).unwrap_or(crate_dir).into()
}

pub fn cargo(args: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args).current_dir(root());
    cargo
}

/// The command line, built if need be.
pub fn siskin() -> Command {
    cargo(&[
        "run",
        "--quiet",
        "--release",
        "--package",
        "siskin-cli",
        "--",
    ])
}

/// Builds a part of the workspace: tests run the program itself.
pub fn build(args: &[&str]) -> Result<()> {
    run(cargo(&["build", "--release", "--package"]).args(args))
}

/// Runs a command with this process's terminal, and fails if it does.
pub fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot start `{name}`; is it installed?"))?;
    if !status.success() {
        let args: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
        bail!("`{name} {}` failed ({status})", args.join(" "));
    }
    Ok(())
}
