//! Checks of the dependencies by tools that are optional: `cargo machete` and `cargo deny`, whose rules are in
//! `deny.toml`.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::command::{cargo, run};
use crate::stages::NotInstalled;

pub fn check() -> Result<()> {
    for tool in ["cargo-machete", "cargo-deny"] {
        ensure(tool)?;
    }
    run(&mut cargo(&["machete"]))?;
    // Advisories need a database from the network: CI checks them.
    run(&mut cargo(&[
        "deny",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))
}

fn ensure(tool: &'static str) -> Result<()> {
    let mut version = Command::new(tool);
    version.arg("--version").stdout(Stdio::null());
    match version.stderr(Stdio::null()).status() {
        Ok(_) => Ok(()),
        Err(_) => Err(NotInstalled { tool }.into()),
    }
}
