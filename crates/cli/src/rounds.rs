//! Answers a conversation; where the model calls tools, they are run, and it is asked again with their results.

use std::ops::ControlFlow;

use anyhow::{Context, Result};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::{Value, json};
use siskin_engine::{Answer, FinishReason, GenerateOptions, Session};
use siskin_grammar::Grammars;
use siskin_text::{Message, ToolCall};

use crate::asking::{Asking, Parts, Wanted};
use crate::printer::Printer;
use crate::stop;
use crate::terminal::printable;
use crate::tools::{Outcome, Tools};

/// The most characters of a result that are shown.
const SHOWN: usize = 200;

/// How a conversation is answered.
pub struct Rounds {
    tools: Tools,
    wanted: Wanted,
    /// Makes answers of a shape, or whose calls can be read.
    grammars: Option<Grammars>,
    /// Whether answers are not printed as they come.
    is_silent: bool,
    /// Where calls are confirmed.
    editor: Option<DefaultEditor>,
}

/// Why there is no further round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Answered,
    /// By the user.
    Stopped,
    /// It calls tools again, but may not any more.
    OutOfRounds,
}

/// The last answer.
pub struct Answered {
    pub asking: Asking,
    pub answer: Answer,
    pub parts: Parts,
    /// The calls of all rounds, with their results.
    pub calls: Vec<Value>,
    pub end: End,
}

impl Answered {
    /// Without rounds.
    pub fn whole(asking: Asking, answer: Answer, parts: Parts) -> Self {
        let is_stopped = answer.finish_reason == FinishReason::Cancelled;
        Self {
            asking,
            answer,
            parts,
            calls: vec![],
            end: if is_stopped {
                End::Stopped
            } else {
                End::Answered
            },
        }
    }
}

impl Rounds {
    pub fn new(session: &Session, tools: Tools, wanted: Wanted, is_silent: bool) -> Result<Self> {
        let wanted = Wanted {
            tools: tools.described(),
            ..wanted
        };
        let has_tools = !wanted.tools.is_empty();
        let has_grammar = has_tools || wanted.shape.is_some();
        let grammars = has_grammar.then(|| Grammars::new(session.text.clone()));
        let editor = (has_tools && !tools.is_trusted).then(DefaultEditor::new);
        Ok(Self {
            tools,
            wanted,
            grammars: grammars.transpose()?,
            is_silent,
            editor: editor.transpose().context("cannot open the terminal")?,
        })
    }

    /// The most rounds of calls.
    pub fn max(&self) -> usize {
        self.tools.max_rounds
    }

    /// Answers the messages, to which calls, results and the answer are added. The line of the answer is not ended.
    pub async fn answer(
        &mut self,
        session: &mut Session,
        messages: &mut Vec<Message>,
        options: &GenerateOptions,
    ) -> Result<Answered> {
        let mut calls = vec![];
        let mut round = 0;
        loop {
            let asking = Asking::of(&session.text, messages, &self.wanted)?;
            let mut options = options.clone();
            if let (Some(grammars), Some(source)) = (&self.grammars, asking.grammar(&session.text))
            {
                options.grammar = Some(grammars.compile_source(&source)?);
            }
            let (answer, parts, is_open) =
                generate(session, &asking, options, self.is_silent).await?;
            let has_calls = !parts.calls.is_empty() && answer.finish_reason == FinishReason::Stop;
            let mut end = match answer.finish_reason {
                FinishReason::Cancelled => End::Stopped,
                _ => End::Answered,
            };
            if has_calls && round < self.tools.max_rounds {
                if is_open && !self.is_silent {
                    println!();
                }
                end = self.call(&parts, messages, &mut calls)?;
                round += 1;
                if end == End::Answered {
                    continue;
                }
            } else if has_calls {
                end = End::OutOfRounds;
            } else {
                messages.push(parts.message(&[]));
            }
            return Ok(Answered {
                asking,
                answer,
                parts,
                calls,
                end,
            });
        }
    }

    /// Runs the calls of an answer, unless the user does not want it or stops one.
    fn call(
        &mut self,
        parts: &Parts,
        messages: &mut Vec<Message>,
        calls: &mut Vec<Value>,
    ) -> Result<End> {
        // Some templates want nine letters and digits.
        let id = |n: usize| format!("call{n:05}");
        let before = messages.iter().filter(|m| m.role() == "tool").count();
        let ids: Vec<String> = (0..parts.calls.len()).map(|i| id(before + i)).collect();
        messages.push(parts.message(&ids));
        let mut end = End::Answered;
        for (id, call) in ids.iter().zip(&parts.calls) {
            let outcome = match end {
                End::Answered => self.outcome(call)?,
                _ => stopped(),
            };
            if outcome.is_stopped {
                end = End::Stopped;
            }
            let mut result = Message::new("tool", &outcome.text);
            result.0.insert("tool_call_id".into(), id.as_str().into());
            messages.push(result);
            calls.push(json!({
                "name": call.name, "arguments": call.arguments, "result": outcome.text,
            }));
        }
        Ok(end)
    }

    /// Shows a call, and runs it if it may be.
    fn outcome(&mut self, call: &ToolCall) -> Result<Outcome> {
        eprintln!(
            "call: {} {}",
            printable(&call.name),
            printable(&call.arguments)
        );
        // What does not exist does nothing.
        let outcome = match &mut self.editor {
            Some(editor) if self.tools.has(&call.name) => match is_confirmed(editor)? {
                Some(true) => self.tools.run(call),
                Some(false) => Outcome {
                    text: "The user does not allow this call.".into(),
                    is_stopped: false,
                },
                None => stopped(),
            },
            _ => self.tools.run(call),
        };
        let mut shown: String = outcome.text.chars().take(SHOWN).collect();
        if shown.len() < outcome.text.len() {
            shown.push('…');
        }
        eprintln!("result: {}", printable(&shown));
        Ok(outcome)
    }
}

fn stopped() -> Outcome {
    Outcome {
        text: "The user stopped before this call.".into(),
        is_stopped: true,
    }
}

/// Whether the user wants a call to be run; `None` to stop.
fn is_confirmed(editor: &mut DefaultEditor) -> Result<Option<bool>> {
    match editor.readline("run it? [y/N] ") {
        Ok(line) => Ok(Some(
            ["y", "yes"].contains(&line.trim().to_lowercase().as_str()),
        )),
        Err(ReadlineError::Interrupted) => Ok(None),
        Err(ReadlineError::Eof) => Ok(Some(false)),
        Err(e) => Err(e.into()),
    }
}

/// One answer, printed as it comes: with its parts, and whether its last line is to be ended.
pub async fn generate(
    session: &mut Session,
    asking: &Asking,
    mut options: GenerateOptions,
    is_silent: bool,
) -> Result<(Answer, Parts, bool)> {
    options.shown = asking.shown();
    let mut printer = Printer::new(asking, is_silent);
    let mut broken = None;
    let answer = session.generate(&asking.tokens, &options, async |event| {
        if let Err(e) = printer.push(event.text()) {
            broken = Some(e);
            return ControlFlow::Break(());
        }
        stop::flow()
    });
    let answer = answer.await?;
    if let Some(e) = broken {
        return Err(e.into());
    }
    let (parts, is_open) = printer.finish()?;
    Ok((answer, parts, is_open))
}
