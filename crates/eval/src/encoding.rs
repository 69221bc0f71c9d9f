//! Tokens of contexts and continuations, as lm-evaluation-harness's `TemplateLM` makes them.

use siskin_engine::{ScoredText, TextModel};
use siskin_text::Rendered;

use crate::Result;
use crate::prompt::Pair;

/// What stands before a text that nothing else stands before.
pub(crate) fn prefix_token(text: &TextModel) -> Option<u32> {
    text.named_token("bos_token").or(text.eos_token())
}

/// Without the tokens that the model expects at a text's ends.
fn bare(model: &TextModel, text: &str) -> Result<Vec<u32>> {
    let rendered = Rendered {
        text: text.into(),
        plain: vec![],
        generation: None,
    };
    let tokens = model.encode_rendered(&rendered)?;
    Ok(tokens.iter().map(|t| t.id).collect())
}

/// A text that begins with the prefix's own text does not get it twice.
pub(crate) fn tokens(model: &TextModel, text: &str) -> Result<Vec<u32>> {
    let prefix = prefix_token(model).map(|id| model.piece(id));
    if prefix.is_some_and(|prefix| text.starts_with(&prefix)) {
        return bare(model, text);
    }
    Ok(model.encode(text)?.iter().map(|t| t.id).collect())
}

/// A context with its continuation, cut on the left to what a context of `most` tokens holds; or why there is none.
pub(crate) fn pair(
    model: &TextModel,
    pair: &Pair,
    prefix: u32,
    most: usize,
) -> Result<std::result::Result<ScoredText, String>> {
    let (whole, from) = if pair.context.is_empty() {
        let continuation = bare(model, &pair.continuation)?;
        match continuation.first() == Some(&prefix) {
            true => (continuation, 1),
            false => ([&[prefix], &continuation[..]].concat(), 1),
        }
    } else {
        // Spaces belong to the words after them.
        let context = pair.context.trim_end();
        let all = format!("{}{}", pair.context, pair.continuation);
        (tokens(model, &all)?, tokens(model, context)?.len())
    };
    if from == 0 {
        return Ok(Err("its context is nothing but spaces".into()));
    }
    if whole.len() <= from {
        return Ok(Err(format!(
            "its continuation {:?} has no tokens of its own",
            pair.continuation
        )));
    }
    let continuation = whole.len() - from;
    if continuation > most {
        return Ok(Err(format!(
            "its continuation has {continuation} tokens, and the context holds {most}"
        )));
    }
    let cut = whole.len().saturating_sub(most + 1);
    Ok(Ok(ScoredText {
        tokens: whole[cut..].to_vec(),
        from: from - cut,
    }))
}
