//! Chat answers in parts: reasoning, content and calls.

use serde_json::{Map, Value, json};
use siskin_engine::{Answer, FinishReason};
use siskin_grammar::Calls;
use siskin_text::{AnswerFormat, AnswerParser, Part, TextModel};

use crate::tools::{Choice, Tools, call_of_answer};

/// How the answers to a prompt are taken apart.
#[derive(Debug, Clone)]
pub struct Parsing {
    format: AnswerFormat,
    prompt: String,
    tools: Vec<Value>,
}

impl Parsing {
    /// `None` if an answer is its text.
    pub fn of(text: &TextModel, prompt: &str, tools: &Tools) -> Option<Self> {
        let format = text.answer_format(&tools.all).ok()?;
        (format.has_reasoning() || !tools.all.is_empty()).then(|| Self {
            format,
            prompt: prompt.into(),
            tools: tools.all.clone(),
        })
    }

    /// Special tokens that it needs to see.
    pub fn shown(&self) -> Vec<String> {
        self.format.marks().into_iter().map(String::from).collect()
    }

    /// The calls that an answer may or must have.
    pub fn calls(&self, tools: &Tools) -> Option<Calls> {
        let named = |t: &&Value| match &tools.choice {
            Choice::Named(name) => t["function"]["name"] == **name,
            _ => true,
        };
        let allowed: Vec<Value> = self.tools.iter().filter(named).cloned().collect();
        (!allowed.is_empty()).then(|| Calls {
            tools: allowed,
            format: self.format,
            end_of_reasoning: self.format.end_of_reasoning(&self.prompt),
            is_required: tools.choice != Choice::Auto,
            are_several: tools.are_parallel && !matches!(tools.choice, Choice::Named(_)),
        })
    }

    fn parser(&self) -> AnswerParser {
        AnswerParser::new(&self.format, &self.prompt, &self.tools)
    }

    /// A whole answer's message, and why it ended.
    pub fn message(&self, answer: &Answer) -> (Value, &'static str) {
        let mut parser = self.parser();
        let mut parts = parser.push(&answer.text);
        parts.extend(parser.finish());
        let (mut content, mut reasoning, mut calls) = (String::new(), String::new(), vec![]);
        for part in parts {
            match part {
                Part::Content(text) => content.push_str(&text),
                Part::Reasoning(text) => reasoning.push_str(&text),
                Part::Call(call) => calls.push(call_of_answer(&call)),
            }
        }
        let reason = finish_reason(answer.finish_reason, !calls.is_empty());
        let mut message = Map::new();
        message.insert("role".into(), "assistant".into());
        let content = match content.is_empty() && !calls.is_empty() {
            true => Value::Null,
            false => content.into(),
        };
        message.insert("content".into(), content);
        if !reasoning.is_empty() {
            message.insert("reasoning_content".into(), reasoning.into());
        }
        if !calls.is_empty() {
            message.insert("tool_calls".into(), calls.into());
        }
        message.insert("refusal".into(), Value::Null);
        (Value::Object(message), reason)
    }
}

/// An answer that is streamed, in parts if there may be any.
pub struct Deltas {
    parser: Option<AnswerParser>,
    n_calls: usize,
}

impl Deltas {
    pub fn new(parsing: Option<&Parsing>) -> Self {
        Self {
            parser: parsing.map(Parsing::parser),
            n_calls: 0,
        }
    }

    /// What new text adds to the message.
    pub fn push(&mut self, text: &str) -> Vec<Value> {
        match &mut self.parser {
            Some(parser) => {
                let parts = parser.push(text);
                self.deltas(parts)
            }
            None if text.is_empty() => vec![],
            None => vec![json!({"content": text})],
        }
    }

    /// The rest, and why the answer ended.
    pub fn finish(&mut self, reason: FinishReason) -> (Vec<Value>, &'static str) {
        let parts = self.parser.as_mut().map(AnswerParser::finish);
        let deltas = self.deltas(parts.unwrap_or_default());
        (deltas, finish_reason(reason, self.n_calls > 0))
    }

    fn deltas(&mut self, parts: Vec<Part>) -> Vec<Value> {
        let deltas = parts.into_iter().map(|part| match part {
            Part::Content(text) => json!({"content": text}),
            Part::Reasoning(text) => json!({"reasoning_content": text}),
            Part::Call(call) => {
                let mut call = call_of_answer(&call);
                call["index"] = self.n_calls.into();
                self.n_calls += 1;
                json!({"tool_calls": [call]})
            }
        });
        deltas.collect()
    }
}

pub fn finish_reason(reason: FinishReason, has_calls: bool) -> &'static str {
    match reason {
        FinishReason::Stop if has_calls => "tool_calls",
        FinishReason::Stop => "stop",
        // A cancelled answer has nobody who reads it.
        FinishReason::Length | FinishReason::Cancelled => "length",
    }
}
