//! Running programs: with this process's terminal, or within a stage, whose name precedes each line.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

thread_local! {
    /// The stage that runs on this thread.
    static STAGE: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Runs something as a stage: each printed line is preceded by its name.
pub fn within<T>(stage: &'static str, work: impl FnOnce() -> T) -> T {
    STAGE.set(Some(stage));
    let done = work();
    STAGE.set(None);
    done
}

/// Prints a line, preceded by the stage's name.
pub fn say(line: &str) {
    match STAGE.get() {
        Some(stage) => println!("{stage:>12} │ {line}"),
        None => println!("{line}"),
    }
}

/// The workspace's root folder.
pub fn root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).unwrap_or(crate_dir).into()
}

pub fn cargo(args: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args).current_dir(root());
    cargo
}

/// What is compiled in a release, with the features that all of it has, whichever part is chosen, so that nothing is
/// compiled twice. Tools, which are quicker to compile than to optimise, are not part of it.
pub const RELEASED: [&str; 6] = [
    "--release",
    "--workspace",
    "--exclude",
    "siskin-bindgen",
    "--exclude",
    "xtask",
];

fn built(name: &str, folder: &str, args: &[&str]) -> Result<Command> {
    run(cargo(&["build", "--quiet", "--bin", name]).args(args))?;
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let mut program = Command::new(root().join("target").join(folder).join(file));
    program.current_dir(root());
    Ok(program)
}

/// A program, built if necessary.
pub fn program(name: &str) -> Result<Command> {
    built(name, "release", &RELEASED)
}

/// The generator of the wasm's bindings, built if necessary.
pub fn bindgen() -> Result<Command> {
    built("siskin-bindgen", "debug", &["--package", "siskin-bindgen"])
}

/// The command line.
pub fn siskin() -> Result<Command> {
    program("siskin")
}

/// Builds all programs, tests and examples.
pub fn build_workspace() -> Result<()> {
    let parts = ["--bins", "--tests", "--examples"];
    run(cargo(&["build"]).args(RELEASED).args(parts))
}

/// Runs a command, and fails if it does.
pub fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let cannot_start = || format!("cannot start `{name}`; is it installed?");
    let status = match STAGE.get() {
        None => command.status().with_context(cannot_start)?,
        Some(stage) => {
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut child = command.spawn().with_context(cannot_start)?;
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            std::thread::scope(|scope| {
                scope.spawn(|| prefix(stage, stdout));
                prefix(stage, stderr);
            });
            child.wait()?
        }
    };
    if !status.success() {
        let args: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
        bail!("`{name} {}` failed ({status})", args.join(" "));
    }
    Ok(())
}

/// Prints a program's output line by line.
fn prefix(stage: &str, from: Option<impl Read>) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from);
    let mut line = vec![];
    while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        println!(
            "{stage:>12} │ {}",
            String::from_utf8_lossy(&line).trim_end()
        );
        line.clear();
    }
}
