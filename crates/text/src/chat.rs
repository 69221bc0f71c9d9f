//! Conversations: from messages to a prompt, and how an answer to it is written.

use serde_json::Value as Json;

use crate::calls::{AnswerFormat, Prepared, prepared, without_system};
use crate::{ChatTemplate, Error, Message, RenderRequest, Rendered, Result, TextModel};

impl TextModel {
    /// The conversation, rendered by the model's chat template.
    ///
    /// # Errors
    /// If there is no template, or it rejects the conversation.
    pub fn render(&self, request: &RenderRequest<'_>) -> Result<Rendered> {
        self.template_for(request.tools)?.render(request)
    }

    fn template_for(&self, tools: &[Json]) -> Result<&ChatTemplate> {
        let template = match &self.templates.tools {
            Some(with_tools) if !tools.is_empty() => with_tools,
            _ => &self.templates.default,
        };
        template.as_ref().map_err(Error::of_template)
    }

    /// The same for a conversation as OpenAI's API has it: arguments of calls may be text, results of tools need no name,
    /// and a template that does not know tools is told of them in the system message, or in the first message if it has
    /// no place for that.
    ///
    /// # Errors
    /// If there is no template, or it rejects the conversation.
    pub fn render_chat(&self, request: &RenderRequest<'_>) -> Result<Rendered> {
        let format = self.answer_format(request.tools)?;
        let Prepared { messages, tools } = prepared(request.messages, request.tools, &format);
        let with = |messages: &[Message]| {
            self.render(&RenderRequest {
                messages,
                tools: &tools,
                kwargs: request.kwargs.clone(),
                ..*request
            })
        };
        with(&messages).or_else(|error| {
            // Some templates want arguments as text; some have no place for a system message of ours.
            let others = match (format.knows_tools(), request.tools) {
                (true, _) => request.messages.to_vec(),
                (false, []) => return Err(error),
                (false, _) => without_system(&messages),
            };
            with(&others).map_err(|_| error)
        })
    }

    /// How this model's answers are written, with these tools or without.
    ///
    /// # Errors
    /// If there is no template.
    pub fn answer_format(&self, tools: &[Json]) -> Result<AnswerFormat> {
        Ok(AnswerFormat::of(self.template_for(tools)?.source()))
    }

    /// The tokens of a conversation up to the beginning of the assistant's answer. With `allow_special_tokens`, control
    /// tokens in the text of messages are control tokens.
    ///
    /// # Errors
    /// If there is no template, it rejects the conversation, or the tokenizer cannot encode the text.
    pub fn prompt(&self, messages: &[Message], allow_special_tokens: bool) -> Result<Vec<u32>> {
        let rendered = self.render(&RenderRequest {
            messages,
            add_generation_prompt: true,
            allow_special_tokens,
            ..RenderRequest::default()
        })?;
        Ok(self
            .encode_rendered(&rendered)?
            .iter()
            .map(|t| t.id)
            .collect())
    }
}
