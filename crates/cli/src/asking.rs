//! What a conversation asks of a model, and what the answer consists of: reasoning, content and calls.

use serde_json::{Value, json};
use siskin_grammar::{Calls, Source};
use siskin_text::{
    AnswerFormat, AnswerParser, Message, Part, RenderRequest, TextModel, TextStream, ToolCall,
};

/// A prompt, and how the answers to it are taken apart.
#[derive(Debug)]
pub struct Asking {
    pub tokens: Vec<u32>,
    parsed: Option<Parsed>,
    /// What the answers must look like.
    shape: Option<Source>,
}

#[derive(Debug)]
struct Parsed {
    format: AnswerFormat,
    prompt: String,
    tools: Vec<Value>,
}

/// What is asked of a model besides its messages.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub tools: Vec<Value>,
    pub shape: Option<Source>,
    pub allow_special_tokens: bool,
}

impl Asking {
    /// A plain text, whose answer is its text.
    pub fn of_text(
        text: &TextModel,
        prompt: &str,
        shape: Option<Source>,
    ) -> siskin_text::Result<Self> {
        let tokens = text.encode(prompt)?;
        Ok(Self {
            tokens: tokens.iter().map(|t| t.id).collect(),
            parsed: None,
            shape,
        })
    }

    pub fn of(
        text: &TextModel,
        messages: &[Message],
        wanted: &Wanted,
    ) -> siskin_text::Result<Self> {
        let tools = &wanted.tools;
        let rendered = text.render_chat(&RenderRequest {
            messages,
            tools,
            add_generation_prompt: true,
            allow_special_tokens: wanted.allow_special_tokens,
            ..RenderRequest::default()
        })?;
        let tokens = text.encode_rendered(&rendered)?;
        let format = text.answer_format(tools)?;
        let has_reasoning = match wanted.shape {
            Some(_) => format.reasons_before_json(&rendered.text),
            None => format.has_reasoning(),
        };
        let is_parsed = has_reasoning || !tools.is_empty();
        Ok(Self {
            tokens: tokens.iter().map(|t| t.id).collect(),
            parsed: is_parsed.then(|| Parsed {
                format,
                prompt: rendered.text,
                tools: tools.clone(),
            }),
            shape: wanted.shape.clone(),
        })
    }

    /// Special tokens that are needed to take an answer apart.
    pub fn shown(&self) -> Vec<String> {
        let marks = self.parsed.as_ref().map(|p| p.format.marks());
        marks.into_iter().flatten().map(String::from).collect()
    }

    /// `None` if an answer is its text.
    pub fn parser(&self) -> Option<AnswerParser> {
        let Parsed {
            format,
            prompt,
            tools,
        } = self.parsed.as_ref()?;
        let parser = AnswerParser::new(format, prompt, tools);
        Some(match self.shape {
            Some(_) => parser.of_json(format),
            None => parser,
        })
    }

    /// What the answers follow: the shape, and calls that can be read, if there are tools.
    pub fn grammar(&self, text: &TextModel) -> Option<Source> {
        let shape = || self.shape.clone();
        let Some(parsed) = &self.parsed else {
            return shape();
        };
        if parsed.tools.is_empty() && self.shape.is_none() {
            return None;
        }
        let calls = Calls {
            tools: parsed.tools.clone(),
            format: parsed.format,
            end_of_reasoning: parsed.format.end_of_reasoning(&parsed.prompt),
            is_required: false,
            are_several: true,
            shape: shape(),
        };
        calls.source(text).or_else(shape)
    }

    /// The parts of a whole answer, from its text with [`Self::shown`].
    pub fn parts(&self, text: &str) -> Parts {
        let mut parts = Parts::default();
        match self.parser() {
            None => parts.content = text.into(),
            Some(mut parser) => {
                let all = parser.push(text).into_iter();
                all.chain(parser.finish()).for_each(|part| parts.add(part));
            }
        }
        parts
    }

    /// The parts of an answer, from its tokens.
    pub fn parts_of_tokens(&self, text: &TextModel, ids: &[u32]) -> Parts {
        let mut stream = TextStream::new(&[]).showing(&self.shown());
        let mut all: String = ids.iter().map(|id| stream.push(text, *id).text).collect();
        all.push_str(&stream.finish(text));
        self.parts(&all)
    }
}

/// What an answer consists of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub reasoning: String,
    pub content: String,
    pub calls: Vec<ToolCall>,
}

impl Parts {
    pub fn add(&mut self, part: Part) {
        match part {
            Part::Reasoning(text) => self.reasoning.push_str(&text),
            Part::Content(text) => self.content.push_str(&text),
            Part::Call(call) => self.calls.push(call),
        }
    }

    /// The reasoning for JSON: null if there is none.
    pub fn reasoning_json(&self) -> Value {
        match self.reasoning.is_empty() {
            true => Value::Null,
            false => self.reasoning.as_str().into(),
        }
    }

    /// The answer as a message, with its calls under these ids. Templates decide whether reasoning is repeated.
    pub fn message(&self, ids: &[String]) -> Message {
        let mut message = Message::new("assistant", &self.content);
        if !self.reasoning.is_empty() {
            let reasoning = self.reasoning.as_str().into();
            message.0.insert("reasoning_content".into(), reasoning);
        }
        if !ids.is_empty() {
            let call = |(id, call): (&String, &ToolCall)| {
                let function = json!({"name": call.name, "arguments": call.arguments});
                json!({"id": id, "type": "function", "function": function})
            };
            let calls: Vec<Value> = ids.iter().zip(&self.calls).map(call).collect();
            message.0.insert("tool_calls".into(), calls.into());
        }
        message
    }
}
