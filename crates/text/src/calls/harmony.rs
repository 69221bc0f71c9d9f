//! Answers of messages in channels: <https://github.com/openai/harmony>.
//! `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>commentary to=functions.NAME<|message|>…<|call|>`

use super::{Part, ToolCall};

pub(super) const MARKS: [&str; 8] = [
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|constrain|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
];

/// What ends a message.
const ENDS: [&str; 4] = ["<|end|>", "<|return|>", "<|call|>", "<|start|>"];

#[derive(Debug, Default)]
enum State {
    /// Before a message's text.
    #[default]
    Header,
    Content,
    Reasoning,
    /// Arguments of a tool of this name.
    Call(String),
}

#[derive(Debug, Default)]
pub(super) struct Harmony {
    state: State,
    pending: String,
}

impl Harmony {
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.pending.push_str(text);
        let mut parts = vec![];
        loop {
            if let State::Header = self.state {
                let Some((header, rest)) = self.pending.split_once("<|message|>") else {
                    return parts;
                };
                self.state = of_header(header);
                self.pending = rest.into();
            }
            let ends = ENDS
                .iter()
                .filter_map(|end| Some((self.pending.find(end)?, end)));
            let Some((at, end)) = ends.min() else { break };
            let text = self.pending[..at].to_string();
            self.pending.drain(..at + end.len());
            self.add(&text, &mut parts);
            self.state = State::Header;
        }
        if !matches!(self.state, State::Call(_)) {
            let held = super::parser::beginning_of(&self.pending, ENDS);
            let text: String = self.pending.drain(..self.pending.len() - held).collect();
            self.add(&text, &mut parts);
        }
        parts
    }

    pub fn finish(&mut self) -> Vec<Part> {
        let mut parts = vec![];
        let text = std::mem::take(&mut self.pending);
        match self.state {
            // No message has begun in it: what there is, is said.
            State::Header if !text.contains("<|") && !text.is_empty() => {
                parts.push(Part::Content(text));
            }
            _ => self.add(&text, &mut parts),
        }
        self.state = State::Header;
        parts
    }

    fn add(&mut self, text: &str, parts: &mut Vec<Part>) {
        match &self.state {
            State::Header => {}
            _ if text.is_empty() => {}
            State::Content => parts.push(Part::Content(text.into())),
            State::Reasoning => parts.push(Part::Reasoning(text.into())),
            State::Call(name) => parts.push(match serde_json::from_str(text) {
                Ok(arguments) => Part::Call(ToolCall::new(name, &arguments)),
                Err(_) => Part::Content(text.into()),
            }),
        }
    }
}

fn of_header(header: &str) -> State {
    let to = header.split_once("to=functions.").map(|(_, to)| to);
    let name = to.and_then(|to| to.split([' ', '<', '\n']).next());
    match name.filter(|name| !name.is_empty()) {
        Some(name) => State::Call(name.into()),
        None if header.contains("analysis") => State::Reasoning,
        None => State::Content,
    }
}
