//! Examples, once they are read.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use siskin_text::Message;

use crate::{Preference, Prompt, Rated};

/// One example to learn from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Example {
    /// A conversation, of which the assistant's turns are learned.
    Chat(Conversation),
    /// A better and a worse answer.
    Preference(Preference),
    /// A good or a bad answer.
    Rated(Rated),
    /// A question without an answer, which the model is to find.
    Prompt(Prompt),
    /// Plain text, all of which is learned.
    Text { text: String },
}

impl Example {
    /// Reads a record in any of the formats of [`RecordFormat`].
    ///
    /// # Errors
    /// Why it is not a valid example.
    pub fn read(json: &Json) -> Result<Self, String> {
        crate::record::example(json).map(|(_, example)| example)
    }
}

/// Turns, and the other inputs of the chat template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// An assistant's turn with `weight: 0` or `train: false` is read but not learned.
    pub messages: Vec<Message>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Json>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Json>,
    /// A prompt and its completion: a model without a chat template reads them as one text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_completion: bool,
}

impl Conversation {
    pub fn of(messages: Vec<Message>) -> Self {
        Self {
            messages,
            ..Self::default()
        }
    }
}

/// The format of a file's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordFormat {
    /// `{"messages": [{"role", "content"}]}`, as in OpenAI's and TRL's formats.
    Messages,
    /// `{"conversations": [{"from", "value"}]}`.
    ShareGpt,
    /// `{"instruction", "input", "output"}`, and Dolly's `{"instruction", "context", "response"}`.
    Alpaca,
    /// `{"prompt", "completion"}`: a user's turn and an assistant's, or lists of turns.
    PromptCompletion,
    /// `{"text"}`, or a text file with an empty line between examples.
    Text,
    /// `{"prompt", "chosen", "rejected"}`, or without a prompt, with which both then begin.
    Preference,
    /// `{"prompt", "completion", "label"}`.
    Rated,
    /// `{"prompt"}` without an answer, and further columns that a reward may read.
    Prompt,
}

impl fmt::Display for RecordFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages => "messages",
            Self::ShareGpt => "ShareGPT",
            Self::Alpaca => "Alpaca",
            Self::PromptCompletion => "prompt and completion",
            Self::Text => "text",
            Self::Preference => "chosen and rejected",
            Self::Rated => "prompt, completion and label",
            Self::Prompt => "prompt",
        })
    }
}

/// An example and its position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Line of the file, or position in a JSON array; from 1.
    pub line: usize,
    #[serde(flatten)]
    pub example: Example,
}

/// A record that is not a valid example, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadRecord {
    pub line: usize,
    pub reason: String,
}
