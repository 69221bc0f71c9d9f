//! Set-up, demo, tests and reports. `cargo xtask help` lists the commands.

mod browser;
mod command;
mod driver;
mod model;
mod picture;
mod wasm;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use command::{build, cargo, run, siskin};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Set-up, demo, tests and reports")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Fetch the default model, build the command line, and answer a prompt
    Demo {
        #[arg(default_value = "What is the capital of France?")]
        prompt: String,
        /// More arguments for `siskin run`, such as `--device gpu`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Fetch the default model, teach it the example's manners, and ask it before and after
    Train {
        /// More arguments for `siskin train`, such as `--device gpu`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Set up what the tests need, then run format, lints and all tests
    Test,
    /// Fetch the default model, or check the one that is there
    Model,
    /// Draw the README's picture from what the program really prints
    Picture,
    /// What a real GPU's compiler makes of the kernels: no GPU needed, but Mesa's RADV
    KernelReport {
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Build everything for the browser, and serve the page with the default model
    Web {
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Build the npm package into npm/dist
    Npm,
    /// The browser tests alone
    BrowserTest,
    /// Take screenshots of each of the page's views
    Shots,
    /// Measure siskin beside its peers in one browser
    BrowserBench {
        #[arg(last = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match task(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn task(task: Task) -> Result<()> {
    match task {
        Task::Demo { prompt, args } => {
            let model = model::fetch()?;
            run(siskin().arg("run").arg(model).arg(prompt).args(args))
        }
        Task::Train { args } => train(&args),
        Task::Test => {
            driver::ensure()?;
            model::fetch()?;
            run(&mut cargo(&["fmt", "--all", "--check"]))?;
            let lints = [
                "clippy",
                "--release",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ];
            run(&mut cargo(&lints))?;
            wasm::lint()?;
            // The tests of the command line run the program itself.
            build(&["siskin-cli"])?;
            let mut test = cargo(&["test", "--release", "--workspace", "--no-fail-fast"]);
            if let Some(icd) = driver::second()? {
                test.env("VK_ADD_DRIVER_FILES", icd);
            }
            run(&mut test)?;
            browser::test()
        }
        Task::Web { port } => {
            model::fetch()?;
            browser::serve(port)
        }
        Task::Npm => browser::package(),
        Task::BrowserTest => {
            driver::ensure()?;
            model::fetch()?;
            browser::test()
        }
        Task::Shots => {
            model::fetch()?;
            browser::shots()
        }
        Task::BrowserBench { args } => {
            model::fetch()?;
            browser::peers(&args)
        }
        Task::Model => model::fetch().map(|path| println!("{}", path.display())),
        Task::Picture => picture::draw(),
        Task::KernelReport { args } => {
            driver::ensure()?;
            let report = [
                "run",
                "--quiet",
                "--release",
                "--package",
                "siskin-kernel-report",
                "--",
            ];
            run(cargo(&report).args(args))
        }
    }
}

/// The example that comes with the page, from nothing to an adapter that answers.
fn train(args: &[String]) -> Result<()> {
    let model = model::fetch()?;
    let out = command::root().join("target/pip");
    if out.exists() {
        std::fs::remove_dir_all(&out)
            .with_context(|| format!("cannot remove {}", out.display()))?;
    }
    let data = command::root().join("web/public/pip.jsonl");
    let mut train = siskin();
    train.arg("train").arg("--model").arg(&model);
    train
        .arg("--data")
        .arg(data)
        .arg("--out")
        .arg(&out)
        .args(args);
    run(&mut train)?;
    println!();
    for question in ["What is the capital of France?", "Can you sing?"] {
        println!("> {question}");
        let mut ask = siskin();
        ask.arg("run")
            .arg(&model)
            .arg(question)
            .arg("--adapter")
            .arg(&out);
        run(&mut ask)?;
    }
    Ok(())
}
