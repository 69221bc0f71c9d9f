//! Set-up, demo, tests and reports. `cargo xtask help` lists the commands.

mod browser;
mod command;
mod crates;
mod dependencies;
mod driver;
mod encoder;
mod model;
mod picture;
mod python;
mod stages;
mod terminal_svg;
mod vocab_suite;
mod wasm;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use command::{program, run, siskin};

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
    /// Fetch the default model, fine-tune it on the example, and compare its answers before and after
    Train {
        /// More arguments for `siskin train`, such as `--device gpu`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Set up what the tests need, then run format, lints and all tests
    #[command(after_help = stages::listing())]
    Test {
        /// Format, lints, the tests without a GPU, and one tiny model on each GPU driver
        #[arg(long)]
        quick: bool,
        /// One stage with what it needs; may be given several times
        #[arg(long, value_name = "STAGE", value_parser = stages::names(), conflicts_with = "quick")]
        only: Vec<String>,
    },
    /// Fetch the default model, or verify the existing one
    Model,
    /// Fetch llama.cpp's tests of tokenizers (77 MB), and tokenise all of their texts
    VocabSuite,
    /// Fetch a sentence encoder (all-MiniLM-L6-v2, 83 MB), and compare its similarities with sentence-transformers'
    Encoder,
    /// Draw the README's picture from the program's actual output
    Picture,
    /// Compile the kernels with a real GPU's compiler and report its statistics: needs Mesa's RADV, but no GPU
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
    /// Build the page into web/dist
    Page,
    /// Take screenshots of each of the page's views
    Shots,
    /// Measure siskin and other engines in one browser
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
            run(siskin()?.arg("run").arg(model).arg(prompt).args(args))
        }
        Task::Train { args } => train(&args),
        Task::Test { quick: true, .. } => stages::quick(),
        Task::Test { only, .. } => stages::test(&only),
        Task::Web { port } => {
            model::fetch()?;
            browser::serve(port)
        }
        Task::Npm => browser::package(),
        Task::Page => browser::page(),
        Task::Shots => {
            model::fetch()?;
            browser::shots()
        }
        Task::BrowserBench { args } => {
            model::fetch()?;
            browser::peers(&args)
        }
        Task::Model => model::fetch().map(|path| println!("{}", path.display())),
        Task::VocabSuite => vocab_suite::check(),
        Task::Encoder => encoder::check(),
        Task::Picture => picture::draw(),
        Task::KernelReport { args } => {
            driver::ensure()?;
            run(program("siskin-kernel-report")?.args(args))
        }
    }
}

/// Trains an adapter on the page's example, and asks it questions.
fn train(args: &[String]) -> Result<()> {
    let model = model::fetch()?;
    let out = command::root().join("target/pip");
    if out.exists() {
        std::fs::remove_dir_all(&out)
            .with_context(|| format!("cannot remove {}", out.display()))?;
    }
    let data = command::root().join("web/public/pip.jsonl");
    let mut train = siskin()?;
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
        let mut ask = siskin()?;
        ask.arg("run")
            .arg(&model)
            .arg(question)
            .arg("--adapter")
            .arg(&out);
        run(&mut ask)?;
    }
    Ok(())
}
