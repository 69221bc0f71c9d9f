//! `siskin`: chat with, inspect, measure and fine-tune language models.

mod args;
mod bench;
mod chat;
mod devices;
mod export;
mod export_folder;
mod inspect;
mod logits;
mod open;
mod run;
mod stop;
mod tokenize;
mod train;
mod train_folder;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    quiet_mesa();
    let cli = Cli::parse();
    let result = pollster::block_on(async {
        match cli.command {
            Command::Run(args) => run::run(args).await,
            Command::Chat(args) => chat::chat(args).await,
            Command::Tokenize(args) => tokenize::tokenize(&args),
            Command::Inspect(args) => inspect::inspect(&args),
            Command::Logits(args) => logits::logits(args).await,
            Command::Train(args) => train::train(*args).await,
            Command::Merge(args) => export::merge(&args),
            Command::Quantize(args) => export::quantize(&args),
            Command::Convert(args) => export::convert(&args),
            Command::Bench(args) => bench::bench(args).await,
            Command::Devices(args) => devices::devices(&args).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough (`| head`) is no failure.
        Err(e) if is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}{}", one_line(&e), remedy(&e));
            ExitCode::FAILURE
        }
    }
}

/// Mesa's device-select layer looks for a Wayland display and complains on stderr where there is
/// none; adapters are ranked here anyway.
fn quiet_mesa() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the program has one thread yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

fn one_line(e: &anyhow::Error) -> String {
    format!("{e:#}")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// What helps here, which libraries cannot know.
fn remedy(e: &anyhow::Error) -> &'static str {
    use siskin_text::Error as Text;
    let text = e.chain().find_map(|c| match c.downcast_ref() {
        Some(siskin_engine::Error::Text(text)) => Some(text),
        _ => c.downcast_ref::<Text>(),
    });
    match text {
        Some(Text::NoTemplate) => "; use --raw to give it plain text",
        Some(Text::TemplateSyntax(_) | Text::TemplateUnsupported(_) | Text::TemplateLimit(_)) => {
            "; use --raw to do without it"
        }
        _ => "",
    }
}

fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .filter_map(|c| c.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
