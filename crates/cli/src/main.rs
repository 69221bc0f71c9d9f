//! `siskin`: chat with, inspect, measure and fine-tune language models.

mod args;
mod asking;
mod bench;
mod certify;
mod chat;
mod command;
mod conversation;
mod devices;
mod embed;
mod encode;
mod eval;
mod export;
mod export_folder;
mod export_gguf;
mod export_plan;
mod file_type;
mod imatrix;
mod importance;
mod inspect;
mod logits;
mod mixture;
mod models_folder;
mod open;
mod output;
mod page_folder;
mod printer;
mod project;
mod recipe;
mod remedy;
mod requantise;
mod rewards;
mod rounds;
mod run;
mod samples;
mod serve;
mod serving_folder;
mod shape;
mod stop;
mod terminal;
mod tokenize;
mod tools;
mod train;
mod train_folder;
mod train_report;
mod train_rewards;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    quiet_mesa();
    let cli = Cli::parse();
    let result = pollster::block_on(async {
        set_threads(cli.threads)?;
        match cli.command {
            Command::Run(args) => run::run(args).await,
            Command::Chat(args) => chat::chat(args).await,
            Command::Serve(args) => serve::serve(args).await,
            Command::Embed(args) => embed::embed(args).await,
            Command::Rerank(args) => embed::rerank(args).await,
            Command::Tokenize(args) => tokenize::tokenize(&args),
            Command::Inspect(args) => inspect::inspect(&args),
            Command::Logits(args) => logits::logits(args).await,
            Command::Train(args) => train::train(*args).await,
            Command::Recipe(args) => project::recipe(&args),
            Command::CheckRecipe(args) => project::check(&args).await,
            Command::Merge(args) => export::merge(&args),
            Command::Imatrix(args) => imatrix::imatrix(args).await,
            Command::Quantize(args) => export::quantize(&args),
            Command::Convert(args) => export::convert(&args),
            Command::Eval(args) => eval::eval(*args).await,
            Command::Bench(args) => bench::bench(args).await,
            Command::Certify(args) => certify::certify(args).await,
            Command::Devices(args) => devices::devices(&args).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that stops early (`| head`) is not an error.
        Err(e) if is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", remedy::line(&e));
            ExitCode::FAILURE
        }
    }
}

/// Mesa's device-select layer looks for a Wayland display and complains on stderr where there is
/// none; siskin ranks adapters itself.
fn quiet_mesa() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the program still has only one thread.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// A thread for each core: two on one core share what computes, and each waits for the other. `RAYON_NUM_THREADS` has
/// its usual meaning.
fn set_threads(wanted: Option<u16>) -> Result<()> {
    let threads = match wanted {
        Some(wanted) => wanted.into(),
        None if std::env::var_os("RAYON_NUM_THREADS").is_some() => return Ok(()),
        // The second is also limited by the cores that the process may use.
        None => num_cpus::get_physical().min(num_cpus::get()),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().context("cannot start the threads")
}

fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .filter_map(|c| c.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
