//! Questions whose answers the model is to find by itself.

use serde::Serialize;
use serde_json::{Map, Value as Json};
use siskin_text::{RenderRequest, TextModel};

use crate::{Conversation, Example, Limit, Result, Said, TemplateInputs, Tokens};

/// A prompt, and further columns of its record, which only a reward reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prompt {
    pub prompt: Said,
    #[serde(flatten)]
    pub columns: Map<String, Json>,
    #[serde(flatten)]
    pub inputs: TemplateInputs,
}

impl Prompt {
    pub(crate) fn conversation(&self) -> Conversation {
        let mut conversation = self.inputs.conversation(self.prompt.turns("user"));
        conversation.is_completion = matches!(self.prompt, Said::Text(_));
        conversation
    }
}

/// The tokens of turns that the model is to answer: by the chat template, or without one those of a single text.
/// `Ok(Err(reason))` states why they cannot be asked.
///
/// # Errors
/// If the tokenizer fails.
pub fn render_question(
    model: &TextModel,
    question: &Conversation,
) -> Result<std::result::Result<Vec<u32>, String>> {
    let messages = &question.messages;
    let tokens = match (model.template().is_some(), &messages[..]) {
        (true, _) => {
            let request = RenderRequest {
                messages,
                tools: &question.tools,
                add_generation_prompt: true,
                kwargs: question.chat_template_kwargs.clone(),
                ..RenderRequest::default()
            };
            match model.render(&request) {
                Ok(rendered) => model.encode_rendered(&rendered)?,
                Err(e) => return Ok(Err(e.to_string())),
            }
        }
        (false, [only]) => model.encode(only.content())?,
        (false, _) => {
            return Ok(Err(
                "the model has no chat template, which conversations need".into(),
            ));
        }
    };
    Ok(Ok(tokens.iter().map(|t| t.id).collect()))
}

/// The prompt's tokens, none of which is learned; an answer of `most` tokens must fit behind them.
pub(crate) fn prompt_tokens(
    model: &TextModel,
    example: &Example,
    most: usize,
    limit: Limit,
) -> Result<std::result::Result<Tokens, String>> {
    let Some(question) = example.question().filter(|q| !q.messages.is_empty()) else {
        return Ok(Err("it has no prompt before the answer".into()));
    };
    let ids = match render_question(model, &question)? {
        Ok(ids) => ids,
        Err(reason) => return Ok(Err(reason)),
    };
    let (len, kept) = (ids.len(), limit.tokens);
    if ids.is_empty() || len + most > kept {
        return Ok(Err(format!(
            "its prompt has {len} tokens; with an answer of up to {most} (max_completion_length) it must have 1 to {}, \
             as {kept} {}",
            kept.saturating_sub(most),
            match limit.is_the_models {
                true => "is the model's limit",
                false => "is the limit set by max_seq_len",
            }
        )));
    }
    Ok(Ok(Tokens {
        learned: vec![false; len],
        ids,
        cut: 0,
        spans: vec![],
        text: String::new(),
    }))
}

impl Example {
    /// The answer that a record has, for a reward to compare with: that of a conversation, or the column `solution`.
    pub fn reference_answer(&self) -> Option<String> {
        match self {
            Self::Chat(conversation) => {
                let turn = self.question()?.messages.len();
                Some(conversation.messages.get(turn)?.content().into())
            }
            Self::Prompt(prompt) => match prompt.columns.get("solution")? {
                Json::String(text) => Some(text.clone()),
                Json::Null => None,
                other => Some(other.to_string()),
            },
            _ => None,
        }
    }
}
