//! Conversations, for the chat template.

use serde_json::{Map, Value};
use siskin_text::{Message, RenderRequest, TextModel};

use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::messages::message_of;
use crate::tools::Tools;

/// A conversation, for the chat template.
#[derive(Debug)]
pub struct Conversation {
    /// The field that the messages come from.
    field: &'static str,
    messages: Vec<Message>,
    tools: Vec<Value>,
    kwargs: Map<String, Value>,
    allow_special_tokens: bool,
}

impl Conversation {
    pub fn of(fields: &mut Fields, tools: &Tools) -> Result<Self> {
        let given: Vec<Value> = fields.need("messages")?;
        if given.is_empty() {
            let message = "`messages` must be a list of at least one message";
            return Err(ApiError::field("messages", message));
        }
        let messages = given.into_iter().enumerate().map(|(i, m)| message_of(m, i));
        let messages: Vec<Message> = messages.collect::<Result<_>>()?;
        Ok(Self::new("messages", messages, fields)?.with(tools))
    }

    /// With tools that the answer may call.
    pub fn with(self, tools: &Tools) -> Self {
        let tools = tools.all.clone();
        Self { tools, ..self }
    }

    /// With what the other fields say about the template.
    pub fn new(field: &'static str, messages: Vec<Message>, fields: &mut Fields) -> Result<Self> {
        Ok(Self {
            field,
            messages,
            tools: vec![],
            kwargs: fields.take("chat_template_kwargs")?.unwrap_or_default(),
            allow_special_tokens: fields.take("allow_special_tokens")?.unwrap_or(false),
        })
    }

    /// Its text and tokens up to the beginning of the assistant's answer.
    pub fn prompt(self, text: &TextModel) -> Result<(String, Vec<u32>)> {
        let rendered = text.render_chat(&RenderRequest {
            messages: &self.messages,
            tools: &self.tools,
            add_generation_prompt: true,
            kwargs: self.kwargs,
            allow_special_tokens: self.allow_special_tokens,
        });
        let wrong = |e: siskin_text::Error| ApiError::refused(e, self.field);
        let rendered = rendered.map_err(wrong)?;
        let tokens = text.encode_rendered(&rendered).map_err(wrong)?;
        Ok((rendered.text, tokens.iter().map(|t| t.id).collect()))
    }
}
