use std::io::{BufRead, IsTerminal};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::json;
use siskin_engine::{Adapter, Answer, FinishReason, Session};
use siskin_text::Message;

use crate::args::{ChatArgs, SamplingArgs};
use crate::asking::Wanted;
use crate::rounds::{End, Rounds};
use crate::tools::Tools;
use crate::{conversation, open, output, remedy, stop};

const HELP: &str = "\
/system TEXT   set the system message and start over (without TEXT: show it)
/reset         start over
/adapter NAME  use another of the loaded adapters, or none (without NAME: list them)
/save FILE     write the conversation as JSON
/stats         token counts and speed of the last answer
/help          this list
/exit          exit (or Ctrl-D); Ctrl-C stops an answer";

struct Chat {
    session: Session,
    /// Those given on the command line, by the names of their folders or files.
    adapters: Vec<(String, Adapter)>,
    messages: Vec<Message>,
    sampling: SamplingArgs,
    rounds: Rounds,
    last: Option<Answer>,
}

/// Lines from a terminal, with editing and history, or from a pipe.
enum Input {
    Terminal(Box<DefaultEditor>),
    Pipe(std::io::StdinLock<'static>),
}

impl Input {
    fn new() -> Result<Self> {
        Ok(if std::io::stdin().is_terminal() {
            Self::Terminal(Box::new(
                DefaultEditor::new().context("cannot open the terminal")?,
            ))
        } else {
            Self::Pipe(std::io::stdin().lock())
        })
    }

    /// `None` at the end.
    fn line(&mut self) -> Result<Option<String>> {
        match self {
            Self::Pipe(input) => {
                let mut line = vec![];
                if input.read_until(b'\n', &mut line)? == 0 {
                    return Ok(None);
                }
                match String::from_utf8(line) {
                    Ok(line) => Ok(Some(line)),
                    Err(_) => {
                        eprintln!("error: a line is not UTF-8 and was skipped");
                        Ok(Some(String::new()))
                    }
                }
            }
            Self::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => {
                    let _ = editor.add_history_entry(&line);
                    Ok(Some(line))
                }
                Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
                Err(ReadlineError::Eof) => Ok(None),
                Err(e) => Err(e.into()),
            },
        }
    }
}

pub async fn chat(args: ChatArgs) -> Result<()> {
    stop::install()?;
    let tools = Tools::of(&args.tools)?;
    let mut session = open::open(&args.model).await?;
    session.model.check_text()?;
    let mut adapters = vec![];
    for given in &args.adapters {
        let adapter = open::read_adapter(given, &session.model, &session.files().checkpoint)?;
        let name = Path::new(given).file_name().unwrap_or(given.as_ref());
        adapters.push((name.to_string_lossy().into_owned(), adapter));
    }
    if let Some((_, first)) = adapters.first() {
        session.set_adapter(Some(first.clone())).await?;
    }
    let system = args.system.iter();
    let mut messages: Vec<_> = system.map(|s| Message::new("system", s)).collect();
    if let Some(path) = &args.session {
        let saved = conversation::load(&mut session, path).await?;
        if !saved.is_empty() {
            if args.system.is_some() {
                bail!("--system is for a new conversation, and the session's has begun");
            }
            eprintln!("continuing after {} messages", saved.len());
            messages = saved;
        }
    }
    let wanted = Wanted {
        allow_special_tokens: args.allow_special_tokens,
        ..Wanted::default()
    };
    let rounds = Rounds::new(&session, tools, wanted, false)?;
    let mut chat = Chat {
        session,
        adapters,
        messages,
        sampling: args.sampling,
        rounds,
        last: None,
    };
    let mut input = Input::new()?;
    if matches!(input, Input::Terminal(_)) {
        let device = chat.session.device();
        eprintln!(
            "{} on {}; /help lists the commands",
            args.model.model.display(),
            device.name()
        );
    }
    while let Some(line) = input.line()? {
        let line = line.trim();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("", _) => {}
            ("/exit" | "/quit", _) => break,
            ("/help", _) => println!("{HELP}"),
            ("/reset", _) => chat.reset(None),
            ("/system", "") => {
                let system = chat.messages.first().filter(|m| m.role() == "system");
                println!("{}", system.map_or("(none)", |m| m.content()));
            }
            ("/system", text) => chat.reset(Some(text)),
            ("/adapter", "") => chat.list_adapters(),
            ("/adapter", name) => match chat.use_adapter(name).await {
                Ok(()) => println!("using {name}"),
                Err(e) => eprintln!("error: {}", remedy::line(&e)),
            },
            ("/stats", _) => chat.stats(),
            ("/save", path) => match chat.save(Path::new(path)) {
                Ok(()) => println!("saved to {path}"),
                Err(e) => eprintln!("error: {}", remedy::line(&e)),
            },
            (command, _) if command.starts_with('/') => {
                eprintln!("error: no command {command}; /help lists them");
            }
            _ => {
                // An error in one message (too long, say) does not end the conversation.
                if let Err(e) = chat.answer(line).await {
                    eprintln!("error: {}", remedy::line(&e));
                }
            }
        }
    }
    if let Some(path) = &args.session {
        conversation::save(&mut chat.session, path, &chat.messages).await?;
    }
    Ok(())
}

impl Chat {
    fn reset(&mut self, system: Option<&str>) {
        match system {
            Some(text) => self.messages = vec![Message::new("system", text)],
            None => self.messages.retain(|m| m.role() == "system"),
        }
        self.session.reset();
        self.last = None;
    }

    fn list_adapters(&self) {
        if self.adapters.is_empty() {
            println!("(none; use --adapter to load some)");
        }
        for (name, adapter) in &self.adapters {
            let is_used = self.session.adapter() == Some(adapter);
            println!("{} {name}", if is_used { "*" } else { " " });
        }
    }

    /// Keeps the conversation.
    async fn use_adapter(&mut self, name: &str) -> Result<()> {
        let found = self.adapters.iter().find(|a| a.0 == name);
        let adapter = match found {
            Some((_, adapter)) => Some(adapter.clone()),
            None if name == "none" => None,
            None => {
                let known: Vec<&str> = self.adapters.iter().map(|a| a.0.as_str()).collect();
                let known = [&known[..], &["none"]].concat().join(", ");
                bail!("there is no adapter `{name}`; use one of {known}");
            }
        };
        Ok(self.session.set_adapter(adapter).await?)
    }

    async fn answer(&mut self, line: &str) -> Result<()> {
        let before = self.messages.len();
        self.messages.push(Message::new("user", line));
        stop::clear();
        let options = self.sampling.options();
        let answered = self
            .rounds
            .answer(&mut self.session, &mut self.messages, &options)
            .await;
        stop::clear();
        match answered {
            Ok(answered) => {
                match answered.end {
                    End::Stopped => println!(" [stopped]"),
                    End::OutOfRounds => {
                        if !answered.parts.content.is_empty() {
                            println!();
                        }
                        let max = self.rounds.max();
                        eprintln!(
                            "note: no answer after {max} rounds of calls; raise --max-rounds"
                        );
                    }
                    End::Answered if answered.answer.finish_reason == FinishReason::Length => {
                        println!(" [length]");
                    }
                    End::Answered => println!(),
                }
                self.last = Some(answered.answer);
                Ok(())
            }
            Err(e) => {
                self.messages.truncate(before);
                Err(e)
            }
        }
    }

    fn stats(&self) {
        let (used, context) = (self.session.tokens().len(), self.session.context());
        println!("context: {used} of {context} tokens");
        if let Some(a) = &self.last {
            println!(
                "last answer: {} tokens at {:.1} tok/s; prompt: {} tokens, {} from the cache, the rest at {:.1} tok/s",
                a.ids.len(),
                a.decode_rate(),
                a.prompt_tokens,
                a.cached_tokens,
                a.prefill_rate(),
            );
        }
    }

    fn save(&self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() {
            bail!("no file name given");
        }
        if std::fs::symlink_metadata(path).is_ok() {
            bail!("{} already exists; choose another name", path.display());
        }
        let text = serde_json::to_string_pretty(&json!({ "messages": self.messages }))?;
        output::whole(path, |part| Ok(std::fs::write(part, text)?))
    }
}
