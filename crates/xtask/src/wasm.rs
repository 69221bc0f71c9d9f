//! A toolchain that builds for wasm32. rustup's own target is used wherever it can be fetched; where
//! it cannot, Debian's packages provide a compiler that supports the target, and the standard library is
//! built with it once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{bindgen, cargo, root, run, say};
use crate::driver::apt;

const TARGET: &str = "wasm32-unknown-unknown";
/// rustup's name for Debian's toolchain, and its folder.
const DEBIAN: &str = "debian";
const SYSROOT: &str = "/usr";

/// A cargo whose toolchain has the target.
pub fn wasm_cargo() -> Result<Command> {
    let flags = without_folders()?;
    if has_target()? || add_target() {
        return Ok(cargo(&["--config", &flags]));
    }
    if !debian_std().is_ok_and(|lib| holds_std(&lib)) || !is_linked()? {
        install_debian()?;
    }
    let mut command = Command::new("rustup");
    let run = ["run", DEBIAN, "cargo", "--config", &flags];
    command.args(run).current_dir(root());
    Ok(command)
}

/// Panics name the source file that they are in. A page need not know, and download, in which folder of this computer the
/// sources of libraries were.
fn without_folders() -> Result<String> {
    run(&mut cargo(&["fetch", "--quiet", "--target", TARGET]))?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let sources = home
        .context("there is no home folder")?
        .join("registry/src");
    let entries = fs::read_dir(&sources);
    let entries = entries.with_context(|| format!("cannot read {}", sources.display()))?;
    let flag = |entry: std::io::Result<fs::DirEntry>| {
        let folder = entry?.path();
        Ok(format!("'--remap-path-prefix={}/='", folder.display()))
    };
    let mut flags = entries.map(flag).collect::<std::io::Result<Vec<_>>>()?;
    flags.sort();
    Ok(format!("target.{TARGET}.rustflags=[{}]", flags.join(", ")))
}

/// A wasm file that a page may download.
pub struct File {
    /// Of its bindings.
    pub name: &'static str,
    package: &'static str,
    features: &'static [&'static str],
}

/// All of them: what answers, and what a page downloads when it first trains, or restricts answers by a grammar.
pub const FILES: [File; 3] = [
    File {
        name: "siskin_wasm",
        package: "siskin-wasm",
        features: &[],
    },
    File {
        name: "siskin_training",
        package: "siskin-wasm",
        features: &["--features", "training"],
    },
    File {
        name: "siskin_grammar",
        package: "siskin-grammar-wasm",
        features: &[],
    },
];

/// Where [`build`] puts a file.
pub fn path(name: &str) -> PathBuf {
    root().join(format!("target/wasm/{name}.wasm"))
}

/// Compiles the wasm that a page runs, and what generates its bindings.
pub fn build() -> Result<()> {
    bindgen()?;
    for file in FILES {
        let mut command = wasm_cargo()?;
        command.args(["build", "--profile", "wasm", "--target", TARGET]);
        run(command
            .args(["--package", file.package])
            .args(file.features))?;
        // They come out under their crates' names.
        let built = file.package.replace('-', "_");
        let built = root().join(format!("target/{TARGET}/wasm/{built}.wasm"));
        let to = path(file.name);
        fs::create_dir_all(to.with_file_name(""))?;
        fs::copy(&built, &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// Lints it: the workspace's other lints do not cover what is compiled for wasm32 alone.
pub fn lint() -> Result<()> {
    if wasm_cargo()?.get_program() == "rustup" {
        say("Debian's toolchain has no clippy: crates/wasm is not linted here");
        return Ok(());
    }
    // The second has all of the first.
    for file in &FILES[1..] {
        let mut command = wasm_cargo()?;
        command.args(["clippy", "--profile", "wasm", "--target", TARGET]);
        command
            .args(["--package", file.package])
            .args(file.features);
        run(command.args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

fn output(program: &str, args: &[&str]) -> Result<String> {
    let out = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("cannot start `{program}`"))?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn has_target() -> Result<bool> {
    let sysroot = output("rustc", &["--print", "sysroot"])?;
    Ok(holds_std(
        &Path::new(sysroot.trim())
            .join("lib/rustlib")
            .join(TARGET)
            .join("lib"),
    ))
}

fn holds_std(lib: &Path) -> bool {
    let files = lib.read_dir().into_iter().flatten().flatten();
    files
        .map(|f| f.file_name())
        .any(|f| f.to_string_lossy().starts_with("libstd-"))
}

/// Silent when it fails: there is an alternative.
fn add_target() -> bool {
    Command::new("rustup")
        .args(["target", "add", TARGET])
        .output()
        .is_ok_and(|o| o.status.success())
}

fn is_linked() -> Result<bool> {
    Ok(output("rustup", &["toolchain", "list"])?
        .lines()
        .any(|l| l.starts_with(DEBIAN)))
}

fn debian_std() -> Result<PathBuf> {
    Ok(Path::new(SYSROOT)
        .join("lib/rustlib")
        .join(TARGET)
        .join("lib"))
}

fn install_debian() -> Result<()> {
    say(&format!(
        "building the standard library for {TARGET} with Debian's compiler"
    ));
    apt(&["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm"])?;
    // The linker must have the compiler's LLVM version.
    let version = output("/usr/bin/rustc", &["-vV"])?;
    let llvm = version
        .lines()
        .find_map(|l| l.strip_prefix("LLVM version: "));
    let major = llvm
        .and_then(|v| v.split('.').next())
        .context("rustc does not report its LLVM version")?;
    apt(&[&format!("lld-{major}")])?;

    let work = root().join("target/wasm-std");
    fs::create_dir_all(work.join("src"))?;
    fs::write(
        work.join("Cargo.toml"),
        "[package]\nname = \"empty\"\nedition = \"2021\"\n[workspace]\n",
    )?;
    fs::write(work.join("src/lib.rs"), "")?;
    let mut build = Command::new("/usr/bin/cargo");
    build
        .current_dir(&work)
        .args(["build", "--release", "--target", TARGET]);
    build.args(["-Zbuild-std=std,panic_abort", "--target-dir", "target"]);
    build
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", "/usr/bin/rustc")
        .env_remove("RUSTUP_TOOLCHAIN");
    run(&mut build)?;

    let to = debian_std()?;
    fs::create_dir_all(&to).with_context(|| format!("cannot create {}", to.display()))?;
    // An older compiler's output would be incompatible.
    for old in to.read_dir()?.flatten() {
        if old.path().extension().is_some_and(|e| e == "rlib") {
            fs::remove_file(old.path())?;
        }
    }
    for file in work
        .join("target")
        .join(TARGET)
        .join("release/deps")
        .read_dir()?
        .flatten()
    {
        let path = file.path();
        let name = file.file_name();
        let is_own = name.to_string_lossy().starts_with("libempty");
        if path.extension().is_some_and(|e| e == "rlib") && !is_own {
            fs::copy(&path, to.join(name))?;
        }
    }
    if !holds_std(&to) {
        bail!("the standard library for {TARGET} was not built");
    }
    run(Command::new("rustup").args(["toolchain", "link", DEBIAN, SYSROOT]))
}
