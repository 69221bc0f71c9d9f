//! The crates that others can use.

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;

use crate::command::{cargo, run};

/// The names of the workspace's crates that may be published.
fn published() -> Result<Vec<String>> {
    let metadata = ["metadata", "--no-deps", "--format-version", "1"];
    let out = cargo(&metadata).output().context("cannot start `cargo`")?;
    let json: Json = serde_json::from_slice(&out.stdout).context("`cargo metadata` failed")?;
    let packages = json["packages"].as_array().into_iter().flatten();
    // `publish = false` is an empty list of registries.
    let names = packages.filter(|p| p["publish"].is_null());
    let names: Option<_> = names.map(|p| Some(p["name"].as_str()?.into())).collect();
    names.context("`cargo metadata` lists a package without a name")
}

/// Packages them as for publishing, which checks metadata, versions and files, but compiles nothing and needs no
/// network. A release compiles the packages, too.
pub fn package() -> Result<()> {
    let names = published()?;
    if names.is_empty() {
        bail!("no crate of the workspace may be published");
    }
    let mut package = cargo(&["package", "--no-verify", "--allow-dirty"]);
    package.args(["--offline", "--exclude-lockfile"]);
    package.args(names.iter().flat_map(|name| ["--package", name]));
    run(&mut package)
}
