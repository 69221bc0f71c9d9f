//! Windows over texts that are longer than the context.

use siskin_engine::ScoredText;

use crate::Result;
use crate::error::bad;
use crate::fields::Fields;
use crate::task::Kind;

/// Whose windows they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Of transformers' guide to perplexity: each window begins `stride` tokens after the one before, and what was not
    /// scored yet is.
    Strided,
    /// Of llama-perplexity: windows do not overlap, and the second half of each is scored.
    Chunks,
}

/// How a text's perplexity is measured.
#[derive(Debug)]
pub(crate) struct Windows {
    method: Method,
    max_length: Option<usize>,
    stride: Option<usize>,
    /// Between the records of the data, which are one text.
    pub separator: String,
}

impl Windows {
    pub fn take(fields: &mut Fields, kind: Kind) -> Result<Self> {
        let method = if kind == Kind::Perplexity {
            fields.text("method")?
        } else {
            None
        };
        let mut windows = Self {
            method: match method.as_deref() {
                None | Some("strided") => Method::Strided,
                Some("chunks") => Method::Chunks,
                Some(other) => {
                    return bad("method", format!("is `{other}`; use strided or chunks"));
                }
            },
            max_length: None,
            stride: None,
            separator: "\n\n".into(),
        };
        if kind != Kind::Perplexity {
            return Ok(windows);
        }
        windows.max_length = fields.count("max_length")?;
        windows.stride = fields.count("stride")?;
        if let Some(separator) = fields.text("separator")? {
            windows.separator = separator;
        }
        if windows.stride.is_some() && windows.method == Method::Chunks {
            return bad("stride", "is for the method strided only");
        }
        if windows.max_length.is_some_and(|n| n < 4) {
            return bad("max_length", "must be at least 4");
        }
        Ok(windows)
    }

    /// Of a text's tokens, which a window of `context` tokens at most sees. `bos` is put first where the tokenizer puts it
    /// before texts.
    pub fn of(&self, tokens: &[u32], context: usize, bos: Option<u32>) -> Result<Vec<ScoredText>> {
        let length = self.max_length.unwrap_or(context);
        if length > context {
            return bad(
                "max_length",
                format!("is {length}, and the context holds {context} tokens"),
            );
        }
        match self.method {
            Method::Chunks => chunks(tokens, length, bos),
            Method::Strided => {
                let stride = self.stride.unwrap_or((length / 2).max(1));
                if stride == 0 || stride > length {
                    return bad("stride", format!("must be from 1 to {length}"));
                }
                Ok(strided(tokens, length, stride))
            }
        }
    }
}

/// <https://huggingface.co/docs/transformers/perplexity>
fn strided(tokens: &[u32], length: usize, stride: usize) -> Vec<ScoredText> {
    let (mut out, mut scored) = (vec![], 0);
    for begin in (0..tokens.len()).step_by(stride) {
        let end = tokens.len().min(begin + length);
        // Nothing is before the first token.
        let from = (scored - begin).max(1);
        if from < end - begin {
            out.push(ScoredText {
                tokens: tokens[begin..end].to_vec(),
                from,
            });
        }
        scored = end;
        if end == tokens.len() {
            break;
        }
    }
    out
}

/// llama.cpp's `tools/perplexity/perplexity.cpp`: what is left after the last whole window is not scored.
fn chunks(tokens: &[u32], length: usize, bos: Option<u32>) -> Result<Vec<ScoredText>> {
    if tokens.len() < length {
        return bad(
            "max_length",
            format!("is {length}, and the text has {} tokens", tokens.len()),
        );
    }
    let window = |chunk: &[u32]| {
        let mut tokens = chunk.to_vec();
        if let Some(bos) = bos {
            tokens[0] = bos;
        }
        ScoredText {
            tokens,
            from: length / 2 + 1,
        }
    };
    Ok(tokens.chunks_exact(length).map(window).collect())
}

/// lm-evaluation-harness's windows of a whole text, each token of which is scored once: `prefix` stands before the first.
pub(crate) fn rolling(tokens: &[u32], prefix: u32, context: usize) -> Vec<ScoredText> {
    let mut out = vec![];
    let mut scored = 0;
    while scored < tokens.len() {
        let end = tokens.len().min(scored + context);
        let window = match scored {
            0 => [&[prefix], &tokens[..end]].concat(),
            // The last one sees as much as it can.
            _ => tokens[end - context - 1..end].to_vec(),
        };
        out.push(ScoredText {
            from: window.len() - (end - scored),
            tokens: window,
        });
        scored = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{rolling, strided};

    fn spans(windows: Vec<siskin_engine::ScoredText>) -> Vec<(u32, usize, usize)> {
        let span = |w: siskin_engine::ScoredText| (w.tokens[0], w.tokens.len(), w.from);
        windows.into_iter().map(span).collect()
    }

    #[test]
    fn each_token_is_scored_once() {
        let tokens: Vec<u32> = (0..10).collect();
        assert_eq!(
            spans(strided(&tokens, 4, 2)),
            [(0, 4, 1), (2, 4, 2), (4, 4, 2), (6, 4, 2)]
        );
        assert_eq!(spans(strided(&tokens, 16, 8)), [(0, 10, 1)]);
        assert_eq!(
            spans(rolling(&tokens, 99, 4)),
            [(99, 5, 1), (3, 5, 1), (5, 5, 3)]
        );
        assert_eq!(spans(rolling(&tokens, 99, 16)), [(99, 11, 1)]);
    }
}
