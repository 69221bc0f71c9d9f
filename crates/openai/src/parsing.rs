//! Chat answers in parts: reasoning, content and calls.

use serde_json::{Map, Value, json};
use siskin_engine::{Answer, FinishReason};
use siskin_grammar::{Calls, Source};
use siskin_text::{AnswerFormat, AnswerParser, Part, TextModel};

use crate::conversation::Conversation;
use crate::error::Result;
use crate::shape::Wanted;
use crate::tools::{Choice, Tools, call_of_answer};

/// A conversation that is to be answered.
pub struct Turn {
    pub prompt: Vec<u32>,
    pub parsing: Option<Parsing>,
    /// What the answer must look like.
    pub grammar: Option<Wanted>,
}

impl Turn {
    /// `wanted` is what the request itself asks for.
    pub fn of(
        text: &TextModel,
        conversation: Conversation,
        tools: &Tools,
        wanted: Option<Wanted>,
    ) -> Result<Self> {
        let (rendered, prompt) = conversation.prompt(text)?;
        let (field, shape) = wanted.unzip();
        let parsing = Parsing::of(text, &rendered, tools, shape.is_some());
        let source = parsing
            .as_ref()
            .and_then(|p| p.grammar(text, tools, shape.clone()));
        let grammar = source.or(shape).map(|g| (field.unwrap_or("tools"), g));
        Ok(Self {
            prompt,
            parsing,
            grammar,
        })
    }
}

/// How the answers to a prompt are taken apart.
#[derive(Debug, Clone)]
pub struct Parsing {
    format: AnswerFormat,
    prompt: String,
    tools: Vec<Value>,
    /// Whether an answer without calls has a shape.
    has_shape: bool,
}

impl Parsing {
    /// `None` if an answer is its text. One that has a shape is, unless it may call tools or begins with reasoning.
    pub fn of(text: &TextModel, prompt: &str, tools: &Tools, has_shape: bool) -> Option<Self> {
        let format = text.answer_format(&tools.all).ok()?;
        let has_reasoning = match has_shape {
            true => format.reasons_before_json(prompt),
            false => format.has_reasoning(),
        };
        (has_reasoning || !tools.all.is_empty()).then(|| Self {
            format,
            prompt: prompt.into(),
            tools: tools.all.clone(),
            has_shape,
        })
    }

    /// Special tokens that it needs to see.
    pub fn shown(&self) -> Vec<String> {
        self.format.marks().into_iter().map(String::from).collect()
    }

    /// What the grammar of the parts is; `None` if they may be anything.
    fn grammar(&self, text: &TextModel, tools: &Tools, shape: Option<Source>) -> Option<Source> {
        let named = |t: &&Value| match &tools.choice {
            Choice::Named(name) => t["function"]["name"] == **name,
            _ => true,
        };
        if tools.all.is_empty() && shape.is_none() {
            return None;
        }
        let calls = Calls {
            tools: self.tools.iter().filter(named).cloned().collect(),
            format: self.format,
            end_of_reasoning: self.format.end_of_reasoning(&self.prompt),
            is_required: !matches!(tools.choice, Choice::Auto | Choice::None),
            are_several: tools.are_parallel && !matches!(tools.choice, Choice::Named(_)),
            shape,
        };
        calls.source(text)
    }

    pub fn parser(&self) -> AnswerParser {
        let parser = AnswerParser::new(&self.format, &self.prompt, &self.tools);
        match self.has_shape {
            true => parser.of_json(&self.format),
            false => parser,
        }
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
#[derive(Debug)]
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
