//! `cargo xtask test`: stages that run in parallel unless one waits for another.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::command::{RELEASED, build_workspace, cargo, run, within};
use crate::{browser, crates, dependencies, driver, model, python, wasm};

struct Stage {
    name: &'static str,
    about: &'static str,
    /// Stages that must have passed before.
    needs: &'static [&'static str],
    run: fn() -> Result<()>,
}

/// In the order in which they start, all else being equal: those that others wait for come first.
const STAGES: [Stage; 15] = [
    Stage {
        name: "build",
        about: "compile all programs, tests and examples",
        needs: &[],
        run: build_workspace,
    },
    Stage {
        name: "set-up",
        about: "install drivers and browsers where they are missing, fetch the model and packages of npm and PyPI",
        needs: &[],
        run: set_up,
    },
    Stage {
        name: "wasm",
        about: "compile what a page runs",
        needs: &[],
        run: wasm::build,
    },
    Stage {
        name: "package",
        about: "build the npm package, the page and the browser tests' app",
        needs: &["build", "set-up", "wasm"],
        run: browser::build_all,
    },
    Stage {
        name: "browsers",
        about: "tests in Chromium and Firefox",
        needs: &["package"],
        run: browser::test,
    },
    Stage {
        name: "native",
        about: "native tests, on the CPU and on every GPU driver",
        needs: &["build", "set-up"],
        run: native,
    },
    Stage {
        name: "python",
        about: "OpenAI's Python client against the server, and answers of random schemas",
        needs: &["build", "set-up"],
        run: python::test,
    },
    Stage {
        name: "kernels",
        about: "compile the kernels with a real GPU's compiler, and check registers and spills",
        needs: &["build", "set-up"],
        run: || run(&mut tests(&["--test", "gate"])),
    },
    Stage {
        name: "docs",
        about: "examples in the documentation",
        needs: &["build"],
        run: || run(&mut tests(&["--doc"])),
    },
    Stage {
        name: "lints",
        about: "clippy",
        needs: &["build"],
        run: lints,
    },
    Stage {
        name: "wasm-lints",
        about: "clippy on what only a page runs",
        needs: &["wasm"],
        run: wasm::lint,
    },
    Stage {
        name: "checks",
        about: "the package's and the page's types, exports and size",
        needs: &["package"],
        run: browser::check,
    },
    Stage {
        name: "publish",
        about: "package the crates that are published",
        needs: &[],
        run: crates::package,
    },
    Stage {
        name: "dependencies",
        about: "unused ones, licences and sources, if cargo-machete and cargo-deny are installed",
        needs: &[],
        run: dependencies::check,
    },
    Stage {
        name: "format",
        about: "rustfmt",
        needs: &[],
        run: || run(&mut cargo(&["fmt", "--all", "--check"])),
    },
];

/// For the inner loop: what needs neither a browser nor a second compilation.
const QUICK: [&str; 3] = ["format", "lints", "publish"];

/// What `--quick` runs of the native tests: all that need no GPU, and one tiny model on each GPU.
const QUICK_NATIVE: [&str; 14] = [
    "cli::",
    "conformance_text::",
    "conformance_training::",
    "cpu_grads::",
    "cpu_ops::",
    "formats::",
    "graph::",
    "graph_grad::",
    "mutants::",
    "refusals::",
    "shaders::",
    "text::",
    "tiny_models::logits_of_llama",
    "tiny_models::a_decode_step_creates_nothing",
];

/// For `--help`.
pub fn listing() -> String {
    let lines = STAGES
        .iter()
        .map(|s| format!("  {:<12} {}", s.name, s.about));
    format!("Stages:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

pub fn names() -> Vec<&'static str> {
    STAGES.iter().map(|s| s.name).collect()
}

fn set_up() -> Result<()> {
    driver::ensure()?;
    driver::second()?;
    browser::ensure_browsers()?;
    model::fetch()?;
    browser::install_packages()?;
    python::install()
}

fn lints() -> Result<()> {
    // The profile of the tests, whose build scripts and macros are there already.
    let parts = ["--all-targets", "--", "-D", "warnings"];
    run(cargo(&["clippy"]).args(RELEASED).args(parts))?;
    let tools = ["--package", "xtask", "--package", "siskin-bindgen"];
    run(cargo(&["clippy"]).args(tools).args(parts))
}

/// The whole workspace's features, whichever tests are chosen, so that nothing is compiled again.
fn tests(chosen: &[&str]) -> std::process::Command {
    let mut test = cargo(&["test", "--no-fail-fast"]);
    test.args(RELEASED).args(chosen);
    test
}

fn native() -> Result<()> {
    let mut test = tests(&["--lib", "--bins", "--test", "native", "--test", "text"]);
    if let Some(icd) = driver::second()? {
        // Without its sorting, the loader lists Mesa's driver first, which `--device gpu` then takes.
        test.env("VK_ADD_DRIVER_FILES", icd)
            .env("VK_LOADER_DISABLE_SELECT", "1");
    }
    run(&mut test)
}

/// Format, lints, the tests without a GPU, and one tiny model on the first GPU driver.
pub fn quick() -> Result<()> {
    driver::ensure()?;
    test_stages(&QUICK, &[])?;
    run(&mut tests(&["--lib", "--bins", "--test", "text"]))?;
    run(tests(&["--test", "native", "--"]).args(QUICK_NATIVE))
}

/// The stages of these names and all that they need; all stages if no names are given.
pub fn test(only: &[String]) -> Result<()> {
    let mut wanted: Vec<&str> = match only {
        [] => names(),
        only => only.iter().map(String::as_str).collect(),
    };
    let mut at = 0;
    while let Some(name) = wanted.get(at) {
        let stage = STAGES.iter().find(|s| s.name == *name);
        for need in stage.map_or(&[][..], |s| s.needs) {
            if !wanted.contains(need) {
                wanted.push(need);
            }
        }
        at += 1;
    }
    test_stages(&wanted, only)
}

/// An optional tool is missing: its stage cannot run, which does not fail the others.
#[derive(Debug)]
pub struct NotInstalled {
    pub tool: &'static str,
}

impl std::fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tool = self.tool;
        write!(
            f,
            "{tool} is not installed; `cargo install --locked {tool}` installs it"
        )
    }
}

impl std::error::Error for NotInstalled {}

enum State {
    Waits,
    Runs(Instant),
    Passed(Duration),
    Failed(Duration, String),
    /// A stage that it needs did not pass.
    LeftOut(&'static str),
    /// What it uses is optional and not installed.
    NotInstalled(String),
}

/// Runs stages; those that are `named` must not be left out.
fn test_stages(wanted: &[&str], named: &[String]) -> Result<()> {
    let start = Instant::now();
    let stages: Vec<&Stage> = STAGES.iter().filter(|s| wanted.contains(&s.name)).collect();
    let mut states: Vec<State> = stages.iter().map(|_| State::Waits).collect();
    let at_once = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
    let (sender, ended) = mpsc::channel();
    loop {
        start_stages(&stages, &mut states, at_once, &sender);
        if !states.iter().any(|s| matches!(s, State::Runs(_))) {
            break;
        }
        let Ok((i, result)) = ended.recv() else { break };
        let State::Runs(began) = states[i] else {
            continue;
        };
        states[i] = match result {
            Ok(()) => State::Passed(began.elapsed()),
            Err(error) if error.is::<NotInstalled>() => State::NotInstalled(error.to_string()),
            Err(error) => {
                let error = format!("{error:#}");
                eprintln!("{}: {error}", stages[i].name);
                State::Failed(began.elapsed(), error)
            }
        };
    }
    report(&stages, &states, named, start.elapsed())
}

/// Starts what can start.
fn start_stages(
    stages: &[&'static Stage],
    states: &mut [State],
    at_once: usize,
    sender: &mpsc::Sender<(usize, Result<()>)>,
) {
    for (i, stage) in stages.iter().enumerate() {
        if !matches!(states[i], State::Waits) {
            continue;
        }
        let needed = |wanted: fn(&State) -> bool| {
            let mut both = stages.iter().zip(&*states);
            both.find(|(s, state)| stage.needs.contains(&s.name) && wanted(state))
                .map(|(s, _)| s.name)
        };
        if let Some(lacks) = needed(|s| matches!(s, State::Failed(..) | State::LeftOut(_))) {
            states[i] = State::LeftOut(lacks);
            continue;
        }
        let running = states.iter().filter(|s| matches!(s, State::Runs(_)));
        if running.count() >= at_once || needed(|s| !matches!(s, State::Passed(_))).is_some() {
            continue;
        }
        states[i] = State::Runs(Instant::now());
        let (sender, stage) = (sender.clone(), *stage);
        std::thread::spawn(move || {
            // The receiver is gone only when this process is ending.
            let _ = sender.send((i, within(stage.name, stage.run)));
        });
    }
}

fn report(stages: &[&Stage], states: &[State], named: &[String], total: Duration) -> Result<()> {
    println!("\n{:<12} {:>7}", "stage", "seconds");
    let mut failed = vec![];
    for (stage, state) in stages.iter().zip(states) {
        let (seconds, result) = match state {
            State::Passed(took) => (took.as_secs_f32(), "passed".to_string()),
            State::Failed(took, error) => {
                failed.push(stage.name);
                (took.as_secs_f32(), format!("FAILED: {error}"))
            }
            State::LeftOut(lacks) => {
                failed.push(stage.name);
                (0.0, format!("not run: {lacks} did not pass"))
            }
            State::NotInstalled(what) => {
                if named.iter().any(|name| name == stage.name) {
                    failed.push(stage.name);
                }
                (0.0, format!("not run: {what}"))
            }
            State::Waits | State::Runs(_) => (0.0, "not run".into()),
        };
        println!("{:<12} {seconds:>7.1}  {result}", stage.name);
    }
    println!("{:<12} {:>7.1}", "together", total.as_secs_f32());
    if !failed.is_empty() {
        bail!("not passed: {}", failed.join(", "));
    }
    Ok(())
}
