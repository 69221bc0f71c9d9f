//! The input of a chat template, and its result.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// One turn of a conversation, as passed to the chat template: a JSON object with a `role`, a `content`, and
/// other fields that templates read (`tool_calls`, `reasoning_content`, `name`, …).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(pub Map<String, Json>);

impl Message {
    /// A message with a role (`system`, `user`, `assistant`) and a text.
    pub fn new(role: &str, content: &str) -> Self {
        let fields = [("role", role), ("content", content)];
        Self(
            fields
                .map(|(key, value)| (key.into(), value.into()))
                .into_iter()
                .collect(),
        )
    }

    /// `system`, `user`, `assistant`, `tool`, …; empty if missing.
    pub fn role(&self) -> &str {
        self.0
            .get("role")
            .and_then(Json::as_str)
            .unwrap_or_default()
    }

    /// The content if it is a string; otherwise empty.
    pub fn content(&self) -> &str {
        self.0
            .get("content")
            .and_then(Json::as_str)
            .unwrap_or_default()
    }
}

/// The arguments of transformers' `apply_chat_template`.
#[derive(Debug, Clone, Default)]
pub struct RenderRequest<'a> {
    /// The conversation, oldest turn first.
    pub messages: &'a [Message],
    /// Tools that the model may call, as JSON schemas; the template has no variable `tools` if there are none.
    pub tools: &'a [Json],
    /// Whether the text ends at the beginning of the assistant's answer.
    pub add_generation_prompt: bool,
    /// More variables for the template, such as `enable_thinking`.
    pub kwargs: Map<String, Json>,
    /// Whether control tokens in the text of messages are control tokens, rather than text.
    pub allow_special_tokens: bool,
}

/// A rendered conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The prompt, with the template's control tokens spelled out.
    pub text: String,
    /// Byte ranges that spell control tokens but come from a message: they are tokenised as plain text.
    pub plain: Vec<Range<usize>>,
    /// Byte ranges of `{% generation %}` blocks; `None` for a template without any.
    pub generation: Option<Vec<Range<usize>>>,
}
