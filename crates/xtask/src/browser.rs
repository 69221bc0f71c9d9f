//! The wasm, the npm package, the page, and their tests in browsers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{bindgen, build_workspace, root, run, say};
use crate::driver::apt;
use crate::wasm;

fn npm(folder: &str, args: &[&str]) -> Command {
    let mut npm = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    npm.args(["--no-audit", "--no-fund", "--loglevel=error"])
        .args(args)
        .current_dir(root().join(folder));
    npm
}

/// Installs what the lock file lists, unless it is installed.
fn install(folder: &str) -> Result<()> {
    let path = root().join(folder);
    let modified = |file: &str| path.join(file).metadata().and_then(|m| m.modified());
    let is_fresh = matches!(
        (modified("node_modules/.package-lock.json"), modified("package-lock.json")),
        (Ok(installed), Ok(locked)) if installed >= locked
    );
    if is_fresh {
        return Ok(());
    }
    say(&format!("installing the npm packages of {folder}"));
    run(&mut npm(folder, &["ci"])).context("npm is needed; it comes with Node 20")
}

/// The packages of the npm package, the page and the browser tests.
pub fn install_packages() -> Result<()> {
    ["npm", "web", "tests/browser"]
        .into_iter()
        .try_for_each(install)
}

/// The package's `dist`.
pub fn package() -> Result<()> {
    wasm::build()?;
    bundle()
}

/// The same from the wasm files that were built last: their bindings, then `dist`.
fn bundle() -> Result<()> {
    for wasm::File { name, .. } in wasm::FILES {
        let mut bindgen = bindgen()?;
        bindgen
            .arg(wasm::path(name))
            .arg(root().join("npm/src/wasm"));
        run(bindgen.arg(name))?;
    }
    install("npm")?;
    run(&mut npm("npm", &["run", "--silent", "build"]))
}

/// The page's `web/dist`.
pub fn page() -> Result<()> {
    wasm::build()?;
    bundle_page()
}

fn bundle_page() -> Result<()> {
    bundle()?;
    install("web")?;
    run(&mut npm("web", &["run", "--silent", "build"]))
}

/// Serves the page with the fetched models, until it is stopped.
pub fn serve(port: u16) -> Result<()> {
    page()?;
    let port = port.to_string();
    println!("serving http://localhost:{port}/ (Ctrl-C stops it)");
    run(&mut npm(
        "web",
        &[
            "run",
            "--silent",
            "preview",
            "--",
            "--port",
            &port,
            "--strictPort",
        ],
    ))
}

/// Installs Chromium and Firefox where they are missing and apt can provide them.
pub fn ensure_browsers() -> Result<()> {
    let missing: Vec<&str> = [("CHROMIUM", "chromium"), ("FIREFOX", "firefox-esr")]
        .into_iter()
        .filter(|(variable, package)| {
            std::env::var_os(variable).is_none() && !Path::new("/usr/bin").join(package).exists()
        })
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!(
        "installing {} for the browser tests",
        missing.join(" and ")
    ));
    apt(&missing).context(
        "the browser tests need Chromium and Firefox; CHROMIUM and FIREFOX can name programs",
    )
}

/// The packed tarball, installed in the tests' app, and the app built.
fn fixture_app() -> Result<()> {
    let target = root().join("target/npm");
    std::fs::create_dir_all(&target)?;
    let output = npm("npm", &["pack", "--silent", "--pack-destination"])
        .arg(&target)
        .output()
        .context("cannot start npm")?;
    let name = String::from_utf8_lossy(&output.stdout);
    let Some(name) = name.lines().last().filter(|_| output.status.success()) else {
        bail!(
            "npm pack failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let tarball: PathBuf = target.join(name);
    install("tests/browser")?;
    let add = ["install", "--no-save", "--no-package-lock"];
    run(npm("tests/browser", &add).arg(tarball))?;
    run(&mut npm("tests/browser", &["run", "--silent", "build"]))
}

/// Builds the package and the page, and the app that tests them in browsers, from the wasm files that were built last.
pub fn build_all() -> Result<()> {
    bundle_page()?;
    fixture_app()
}

/// Checks of the package and the page.
pub fn check() -> Result<()> {
    run(&mut npm("npm", &["run", "--silent", "check"]))?;
    run(&mut npm("web", &["run", "--silent", "check"]))
}

/// The tests in browsers.
pub fn test() -> Result<()> {
    run(&mut npm("tests/browser", &["test"]))
}

/// Builds the programs that browser tests compare with, and everything that they test.
fn build_for_browsers() -> Result<()> {
    ensure_browsers()?;
    build_workspace()?;
    wasm::build()?;
    build_all()
}

/// Screenshots of each view, with the real model.
pub fn shots() -> Result<()> {
    build_for_browsers()?;
    run(Command::new("node")
        .arg("shots.mjs")
        .current_dir(root().join("tests/browser")))
}

/// Measures siskin, Transformers.js and wllama in one browser.
pub fn peers(args: &[String]) -> Result<()> {
    build_for_browsers()?;
    // `ci` requires every platform's optional package of node-llama-cpp in the lock file; not all are published.
    run(&mut npm("benches", &["install", "--no-save"]))?;
    run(Command::new("node")
        .arg("browser.mjs")
        .args(args)
        .current_dir(root().join("benches")))
}
