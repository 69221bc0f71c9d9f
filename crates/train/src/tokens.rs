//! Which tokens of an example are learned.

use serde::Serialize;
use siskin_text::{Message, RenderRequest, TextModel, Token};

use crate::{Example, LossOn, Result};

/// An example as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tokens {
    pub ids: Vec<u32>,
    /// For each token, whether it is to be predicted. The first never is.
    pub learned: Vec<bool>,
    /// Tokens that were cut off at the end.
    pub cut: usize,
    /// For showing: each token's bytes in `text`.
    #[serde(skip)]
    pub spans: Vec<(usize, usize)>,
    #[serde(skip)]
    pub text: String,
}

impl Tokens {
    /// Renders the model's template, or takes plain text with an end after it; cuts to `max_len` tokens.
    /// `Ok(Err(reason))` says why an example cannot be learned from.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn of(
        model: &TextModel,
        example: &Example,
        loss_on: LossOn,
        max_len: usize,
    ) -> Result<std::result::Result<Self, String>> {
        if let Some(reason) = nothing_said(example) {
            return Ok(Err(reason));
        }
        let (text, tokens, learned) = match example {
            Example::Chat { messages } if model.template().is_some() => {
                let request = RenderRequest {
                    messages,
                    ..RenderRequest::default()
                };
                let rendered = match model.render(&request) {
                    Ok(rendered) => rendered,
                    Err(e) => return Ok(Err(e.to_string())),
                };
                let tokens = model.encode_rendered(&rendered)?;
                let text = rendered.text;
                let learned = match loss_on {
                    LossOn::All => vec![true; tokens.len()],
                    LossOn::Assistant => match answers(model, messages, &text) {
                        Ok(spans) => learned_in(model, &tokens, &spans),
                        Err(reason) => return Ok(Err(reason)),
                    },
                };
                (text, tokens, learned)
            }
            Example::Chat { messages } => {
                let mut text = String::new();
                let mut spans = vec![];
                for m in messages {
                    let start = text.len();
                    text.push_str(m.content());
                    if m.role() == "assistant" || loss_on == LossOn::All {
                        spans.push(start..text.len());
                    }
                }
                let tokens = ended(model, &text)?;
                let learned = learned_in(model, &tokens, &spans);
                (text, tokens, learned)
            }
            Example::Text { text } => {
                let tokens = ended(model, text)?;
                let learned = vec![true; tokens.len()];
                (text.clone(), tokens, learned)
            }
        };
        let cut = tokens.len().saturating_sub(max_len);
        let keep = tokens.len() - cut;
        let mut out = Self {
            ids: tokens[..keep].iter().map(|t| t.id).collect(),
            learned: learned[..keep].to_vec(),
            cut,
            spans: tokens[..keep].iter().map(|t| (t.start, t.end)).collect(),
            text,
        };
        if let Some(first) = out.learned.first_mut() {
            *first = false;
        }
        if out.learned_len() > 0 {
            return Ok(Ok(out));
        }
        Ok(Err(if cut > 0 {
            format!(
                "what is to be learned begins after {max_len} tokens; raise max_seq_len (it has {})",
                tokens.len()
            )
        } else {
            "no token of it would be learned".into()
        }))
    }

    pub fn learned_len(&self) -> usize {
        self.learned.iter().filter(|l| **l).count()
    }

    /// Rows it takes in a batch: each token but the last predicts the next.
    pub fn rows(&self) -> usize {
        self.ids.len() - 1
    }
}

/// Who learned from an empty answer would learn to say nothing.
fn nothing_said(example: &Example) -> Option<String> {
    let Example::Chat { messages } = example else {
        return None;
    };
    let empty = |m: &Message| m.role() == "assistant" && m.content().trim().is_empty();
    let turn = messages.iter().position(empty)?;
    Some(format!("message {} is an empty answer", turn + 1))
}

/// Plain text with the token that ends it.
fn ended(model: &TextModel, text: &str) -> Result<Vec<Token>> {
    let mut tokens = model.encode(text)?;
    if let Some(id) = model.end_tokens().next() {
        tokens.push(Token {
            id,
            piece: model.piece(id),
            start: text.len(),
            end: text.len(),
            special: true,
        });
    }
    Ok(tokens)
}

/// Where the assistant's turns stand in the rendered conversation: from where the model would begin to
/// answer to where the next turn begins.
fn answers(
    model: &TextModel,
    messages: &[Message],
    text: &str,
) -> std::result::Result<Vec<std::ops::Range<usize>>, String> {
    let mut spans = vec![];
    for (i, _) in messages
        .iter()
        .enumerate()
        .filter(|m| m.1.role() == "assistant")
    {
        let render = |n, add_generation_prompt| {
            let request = RenderRequest {
                messages: &messages[..n],
                add_generation_prompt,
                ..RenderRequest::default()
            };
            let rendered = model.render(&request).map_err(|e| e.to_string());
            rendered.map(|r| r.text)
        };
        let (before, after) = (render(i, true)?, render(i + 1, false)?);
        if !text.starts_with(&before) || !text.starts_with(&after) || after.len() <= before.len() {
            return Err(format!(
                "the template does not render turn {} by itself; use loss_on = \"all\"",
                i + 1
            ));
        }
        spans.push(before.len()..after.len());
    }
    Ok(spans)
}

/// Tokens within the spans; what follows a turn's end token is the template's, not the answer's.
fn learned_in(model: &TextModel, tokens: &[Token], spans: &[std::ops::Range<usize>]) -> Vec<bool> {
    let mut learned = vec![false; tokens.len()];
    for span in spans {
        let inside: Vec<usize> = (0..tokens.len())
            .filter(|i| tokens[*i].start >= span.start && tokens[*i].end <= span.end)
            .collect();
        let end = inside.iter().rposition(|i| model.is_end(tokens[*i].id));
        let until = end.map_or(inside.len(), |e| e + 1);
        inside[..until].iter().for_each(|i| learned[*i] = true);
    }
    learned
}
