//! Examples that say which answers are better: pairs of answers, and answers with a rating.

use serde::Serialize;
use serde_json::{Map, Value as Json};
use siskin_text::Message;

use crate::{Conversation, Example};

/// Plain text, or turns of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Said {
    Text(String),
    Turns(Vec<Message>),
}

/// A prompt with two answers, of which one is preferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preference {
    /// None if the answers are whole texts, whose common beginning is the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Said>,
    pub chosen: Said,
    pub rejected: Said,
    #[serde(flatten)]
    pub inputs: TemplateInputs,
}

/// A prompt with an answer that is desirable or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rated {
    pub prompt: Said,
    pub completion: Said,
    /// Whether the answer is desirable.
    pub label: bool,
    #[serde(flatten)]
    pub inputs: TemplateInputs,
}

/// The other inputs of the chat template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TemplateInputs {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Json>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Json>,
}

/// A prompt with one answer, and where the answer begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answered {
    /// The turn, counted from 0.
    Chat(Conversation, usize),
    /// The byte.
    Text(String, usize),
}

impl Said {
    /// As turns: a text is one turn of this role.
    pub(crate) fn turns(&self, role: &str) -> Vec<Message> {
        match self {
            Self::Text(text) => vec![Message::new(role, text)],
            Self::Turns(turns) => turns.clone(),
        }
    }
}

impl TemplateInputs {
    pub(crate) fn conversation(&self, messages: Vec<Message>) -> Conversation {
        Conversation {
            messages,
            tools: self.tools.clone(),
            chat_template_kwargs: self.chat_template_kwargs.clone(),
            is_completion: false,
        }
    }

    fn answered(&self, prompt: &Said, answer: &Said) -> Answered {
        let mut messages = prompt.turns("user");
        let turn = messages.len();
        messages.extend(answer.turns("assistant"));
        let mut conversation = self.conversation(messages);
        conversation.is_completion = matches!((prompt, answer), (Said::Text(_), Said::Text(_)));
        Answered::Chat(conversation, turn)
    }
}

impl Preference {
    /// The prompt with the chosen answer, and with the rejected one.
    pub(crate) fn answers(&self) -> [Answered; 2] {
        [&self.chosen, &self.rejected].map(|answer| match (&self.prompt, answer) {
            (Some(prompt), answer) => self.inputs.answered(prompt, answer),
            (None, Said::Text(text)) => Answered::Text(text.clone(), self.shared()),
            (None, turns) => self.inputs.answered(&Said::Turns(vec![]), turns),
        })
    }

    /// The bytes with which both texts begin, up to a space before the first difference, as TRL's `extract_prompt` has it.
    pub(crate) fn shared(&self) -> usize {
        let (Said::Text(a), Said::Text(b)) = (&self.chosen, &self.rejected) else {
            return 0;
        };
        let both = a.char_indices().zip(b.chars());
        let same = both.take_while(|((_, a), b)| a == b);
        let end = same.last().map_or(0, |((at, c), _)| at + c.len_utf8());
        let has_space = a[..end].ends_with(' ') && end < a.len() && end < b.len();
        end - usize::from(has_space)
    }
}

impl Rated {
    pub(crate) fn answered(&self) -> Answered {
        self.inputs.answered(&self.prompt, &self.completion)
    }
}

impl Example {
    /// The turns before the first answer that is learned from, for the model to answer by itself; none of plain text.
    pub fn question(&self) -> Option<Conversation> {
        let (mut conversation, turn) = match self {
            Self::Chat(c) => {
                let is_learned = |m: &Message| {
                    m.role() == "assistant" && m.0.get("weight").is_none_or(|w| *w != 0)
                };
                (c.clone(), c.messages.iter().position(is_learned)?)
            }
            Self::Preference(p) => {
                let [Answered::Chat(conversation, turn), _] = p.answers() else {
                    return None;
                };
                (conversation, turn)
            }
            Self::Rated(r) => {
                let Answered::Chat(conversation, turn) = r.answered() else {
                    return None;
                };
                (conversation, turn)
            }
            Self::Prompt(p) => return Some(p.conversation()),
            Self::Text { .. } => return None,
        };
        conversation.messages.truncate(turn);
        Some(conversation)
    }
}
