//! The shapes of answers.

use serde_json::{Value, json};
use siskin_engine::{Answer, TokenLogprob, TopLogprob};

use crate::exchange::{new_id, now};
use crate::parsing::{Parsing, finish_reason};

/// Which of OpenAI's two kinds of completions it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Chat,
    Text,
}

/// What all objects of an answer have in common.
#[derive(Debug, Clone)]
pub struct Head {
    pub kind: Kind,
    pub id: String,
    pub created: u64,
    pub model: String,
}

impl Head {
    pub fn new(kind: Kind, model: &str) -> Self {
        let prefix = match kind {
            Kind::Chat => "chatcmpl-",
            Kind::Text => "cmpl-",
        };
        Self {
            kind,
            id: new_id(prefix),
            created: now(),
            model: model.into(),
        }
    }

    fn object(&self, is_chunk: bool, choices: Vec<Value>) -> Value {
        let object = match (self.kind, is_chunk) {
            (Kind::Chat, false) => "chat.completion",
            (Kind::Chat, true) => "chat.completion.chunk",
            (Kind::Text, _) => "text_completion",
        };
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    /// The whole answer, in parts if there may be any.
    pub fn answers(&self, answers: &[Answer], parsing: Option<&Parsing>) -> Value {
        let choices = answers.iter().enumerate().map(|(index, a)| {
            let reason = finish_reason(a.finish_reason, false);
            let plain = || json!({"role": "assistant", "content": a.text, "refusal": null});
            let (message, reason) = match parsing {
                Some(parsing) => parsing.message(a),
                None => (plain(), reason),
            };
            let mut choice = json!({
                "index": index,
                "finish_reason": reason,
                "logprobs": self.logprobs(&a.logprobs),
            });
            match self.kind {
                Kind::Chat => choice["message"] = message,
                Kind::Text => choice["text"] = json!(a.text),
            }
            choice
        });
        let mut object = self.object(false, choices.collect());
        object["siskin"] = details(answers);
        object
    }

    /// The first part of a streamed chat message.
    pub fn beginning(&self, index: usize) -> Value {
        let delta = json!({"role": "assistant", "content": ""});
        let choice = json!({"index": index, "delta": delta, "finish_reason": null});
        self.object(true, vec![choice])
    }

    /// A part of a streamed answer: what it adds to a message, or a text.
    pub fn part(&self, index: usize, delta: Value, logprob: Option<&TokenLogprob>) -> Value {
        let mut choice = json!({"index": index, "finish_reason": null});
        match self.kind {
            Kind::Chat => choice["delta"] = delta,
            Kind::Text => choice["text"] = delta["content"].clone(),
        }
        if let Some(logprob) = logprob {
            choice["logprobs"] = self.logprobs(std::slice::from_ref(logprob));
        }
        self.object(true, vec![choice])
    }

    /// The end of a streamed answer.
    pub fn end(&self, index: usize, answer: &Answer, reason: &str) -> Value {
        let mut choice = json!({"index": index, "finish_reason": reason});
        match self.kind {
            Kind::Chat => choice["delta"] = json!({}),
            Kind::Text => choice["text"] = json!(""),
        }
        let mut object = self.object(true, vec![choice]);
        object["siskin"] = details(std::slice::from_ref(answer));
        object
    }

    /// The last part of a stream, if usage is wanted.
    pub fn usage(&self, answers: &[Answer], per_prompt: usize) -> Value {
        let mut object = self.object(true, vec![]);
        object["usage"] = usage(answers, per_prompt);
        object
    }

    fn logprobs(&self, logprobs: &[TokenLogprob]) -> Value {
        if logprobs.is_empty() {
            return Value::Null;
        }
        let token = |l: &TokenLogprob| String::from_utf8_lossy(&l.bytes).into_owned();
        if self.kind == Kind::Text {
            let top = |l: &TokenLogprob| -> Value {
                let pairs = l
                    .top
                    .iter()
                    .map(|t| (t.text().into_owned(), t.logprob.into()));
                Value::Object(pairs.collect())
            };
            return json!({
                "tokens": logprobs.iter().map(token).collect::<Vec<_>>(),
                "token_logprobs": logprobs.iter().map(|l| l.logprob).collect::<Vec<_>>(),
                "top_logprobs": logprobs.iter().map(top).collect::<Vec<_>>(),
                "text_offset": [],
            });
        }
        let top =
            |t: &TopLogprob| json!({"token": t.text(), "bytes": t.bytes, "logprob": t.logprob});
        let content = logprobs.iter().map(|l| {
            json!({
                "token": token(l),
                "bytes": l.bytes,
                "logprob": l.logprob,
                "top_logprobs": l.top.iter().map(top).collect::<Vec<_>>(),
            })
        });
        json!({"content": content.collect::<Vec<_>>(), "refusal": null})
    }
}

/// Tokens of all answers; those of a prompt count once for all of its answers.
pub fn usage(answers: &[Answer], per_prompt: usize) -> Value {
    let firsts = answers.iter().step_by(per_prompt.max(1));
    let (mut prompt, mut cached) = (0, 0);
    for answer in firsts {
        prompt += answer.prompt_tokens;
        cached += answer.cached_tokens;
    }
    let completion: usize = answers.iter().map(|a| a.ids.len()).sum();
    let mut usage = json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    });
    let guessed: usize = answers.iter().map(|a| a.guessed_tokens).sum();
    let right: usize = answers.iter().map(|a| a.right_guesses).sum();
    if guessed > 0 {
        usage["completion_tokens_details"] = json!({
            "accepted_prediction_tokens": right,
            "rejected_prediction_tokens": guessed - right,
        });
    }
    usage
}

/// An extension: the tokens of the first answer, what it can be repeated with, and how fast it was.
fn details(answers: &[Answer]) -> Value {
    let Some(answer) = answers.first() else {
        return Value::Null;
    };
    json!({
        "ids": answer.ids,
        "seed": answer.seed,
        "prefill_seconds": answer.prefill_time.as_secs_f64(),
        "decode_seconds": answer.decode_time.as_secs_f64(),
        "guessed_tokens": answer.guessed_tokens,
        "right_guesses": answer.right_guesses,
    })
}
