//! Examples as the tokens that siskin learns from, in each tool's form.

use std::fmt::Write;

use serde_json::{Value as Json, json};
use siskin_train::{DataKind, Item, Tokens};

use crate::args::ToolArg;

/// The label of a token that is not learned.
const IGNORED: i64 = -100;

/// A line of JSON for each example.
pub fn lines<'a>(
    tool: ToolArg,
    kind: DataKind,
    items: impl IntoIterator<Item = &'a Item>,
) -> String {
    let mut out = String::new();
    for item in items {
        let _ = writeln!(out, "{}", line(tool, kind, item));
    }
    out
}

fn line(tool: ToolArg, kind: DataKind, item: &Item) -> Json {
    let text = &item.texts[0];
    match (kind, tool) {
        (DataKind::Answers, ToolArg::Trl | ToolArg::Unsloth) => {
            json!({"input_ids": text.ids, "labels": labels(text)})
        }
        (DataKind::Answers, _) => json!({
            "input_ids": text.ids, "attention_mask": vec![1; text.ids.len()], "labels": labels(text),
        }),
        (DataKind::Pairs, _) => {
            let other = &item.texts[1];
            json!({
                "chosen_input_ids": text.ids, "chosen_labels": labels(text),
                "rejected_input_ids": other.ids, "rejected_labels": labels(other),
            })
        }
        (DataKind::Rated, ToolArg::Trl | ToolArg::Unsloth) => {
            let (prompt, completion) = parts(text);
            // As TRL does with an example that is alone.
            let other = item.mismatched.as_ref().map_or(text, |m| m);
            json!({
                "prompt_ids": prompt, "completion_ids": completion,
                "KL_completion_ids": other.ids.get(prompt.len()..).unwrap_or_default(),
                "label": item.label,
            })
        }
        (DataKind::Rated, _) => {
            let other = item.mismatched.as_ref().map_or(text, |m| m);
            json!({
                "input_ids": text.ids, "attention_mask": vec![1; text.ids.len()], "labels": labels(text),
                "kl_input_ids": other.ids, "kl_attention_mask": vec![1; other.ids.len()], "kl_labels": labels(other),
                "kto_tags": item.label,
            })
        }
    }
}

fn labels(tokens: &Tokens) -> Vec<i64> {
    let both = tokens.ids.iter().zip(&tokens.learned);
    both.map(|(id, is_learned)| if *is_learned { i64::from(*id) } else { IGNORED })
        .collect()
}

/// Tokens of the prompt, and those of the answer, which are all learned.
fn parts(tokens: &Tokens) -> (&[u32], &[u32]) {
    let start = tokens.learned.iter().position(|l| *l);
    tokens.ids.split_at(start.unwrap_or(tokens.ids.len()))
}
