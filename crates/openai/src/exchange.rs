//! A request and its answers.

use std::sync::Arc;

use serde_json::Value;
use siskin_engine::{Answer, GenerateOptions, new_seed};
use siskin_grammar::Source;
use siskin_text::TextModel;
use web_time::{SystemTime, UNIX_EPOCH};

use crate::chat::ChatRequest;
use crate::chunks::{Chunks, Completion};
use crate::error::Result;
use crate::fields::Fields;
use crate::response::ResponseRequest;
use crate::response_events::ResponseEvents;
use crate::response_shapes::ResponseHead;
use crate::stream::Stream;
use crate::text::TextRequest;

/// What is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
    /// `/v1/responses`.
    Responses,
}

/// A request that has been read.
#[derive(Debug)]
pub enum Request {
    /// Of a chat completion.
    Chat(ChatRequest),
    /// Of text completions.
    Text(TextRequest),
    /// Of a response.
    Response(ResponseRequest),
}

impl Request {
    /// Reads all fields.
    ///
    /// # Errors
    /// If one is unknown, not supported or wrong; it is named.
    pub fn read(route: Route, fields: Fields) -> Result<Self> {
        Ok(match route {
            Route::Chat => Self::Chat(ChatRequest::read(fields)?),
            Route::Text => Self::Text(TextRequest::read(fields)?),
            Route::Responses => Self::Response(ResponseRequest::read(fields)?),
        })
    }

    /// The model that it names.
    pub fn model(&self) -> Option<&str> {
        match self {
            Self::Chat(request) => request.common.model.as_deref(),
            Self::Text(request) => request.common.model.as_deref(),
            Self::Response(request) => request.model.as_deref(),
        }
    }

    /// What is to be answered by a model that clients know by this name.
    ///
    /// # Errors
    /// If its template rejects the messages, or a prompt cannot be encoded.
    pub fn exchange(self, text: &TextModel, name: &str) -> Result<Exchange> {
        match self {
            Self::Chat(request) => request.exchange(text, name),
            Self::Text(request) => request.exchange(text, name),
            Self::Response(request) => request.exchange(text, name),
        }
    }
}

/// A prompt with how it is answered.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Its tokens.
    pub tokens: Arc<[u32]>,
    /// How it is answered.
    pub options: GenerateOptions,
}

impl Prompt {
    /// For answers that differ, and can be repeated together.
    pub(crate) fn several(
        tokens: Vec<u32>,
        options: &GenerateOptions,
        n: usize,
    ) -> impl Iterator<Item = Self> {
        let tokens: Arc<[u32]> = tokens.into();
        (0..n).map(move |i| {
            let mut options = options.clone();
            options.sampling.seed = options.sampling.seed.wrapping_add(i as u64);
            let tokens = tokens.clone();
            Self { tokens, options }
        })
    }
}

/// What is to be answered, and what the answers become.
#[derive(Debug)]
pub struct Exchange {
    /// One for each answer.
    pub prompts: Vec<Prompt>,
    /// The field that they come from.
    pub field: &'static str,
    /// What each answer must look like, and the field that says so.
    pub grammar: Option<(&'static str, Source)>,
    /// Whether the answers are streamed.
    pub is_stream: bool,
    pub(crate) reply: Reply,
}

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Completion(Completion),
    Response(ResponseHead),
}

impl Exchange {
    /// What is sent back at the end, if it is not streamed.
    pub fn whole(&self, answers: &[Answer]) -> Value {
        match &self.reply {
            Reply::Completion(completion) => completion.whole(answers),
            Reply::Response(head) => head.whole(answers),
        }
    }

    /// What is sent back as it comes.
    pub fn stream(&self) -> Box<dyn Stream> {
        match self.reply.clone() {
            Reply::Completion(completion) => Box::new(Chunks::new(completion)),
            Reply::Response(head) => Box::new(ResponseEvents::new(head)),
        }
    }
}

/// A new id, such as `chatcmpl-…`.
pub fn new_id(prefix: &str) -> String {
    let [a, b, c] = [new_seed(), new_seed(), new_seed()];
    format!("{prefix}{a:08x}{b:08x}{c:08x}")
}

/// Unix seconds.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}
