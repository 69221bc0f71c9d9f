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
    let has_masks = matches!(tool, ToolArg::Axolotl | ToolArg::LlamaFactory);
    // As TRL does with an example that is alone.
    let other = item.mismatched.as_ref().unwrap_or(text);
    match kind {
        DataKind::Pairs => json!({
            "chosen_input_ids": text.ids, "chosen_labels": labels(text),
            "rejected_input_ids": item.texts[1].ids, "rejected_labels": labels(&item.texts[1]),
        }),
        DataKind::Rated if has_masks => json!({
            "input_ids": text.ids, "attention_mask": mask(text), "labels": labels(text),
            "kl_input_ids": other.ids, "kl_attention_mask": mask(other), "kl_labels": labels(other),
            "kto_tags": item.label,
        }),
        DataKind::Rated => {
            let (prompt, completion) = parts(text);
            json!({
                "prompt_ids": prompt, "completion_ids": completion,
                "KL_completion_ids": other.ids.get(prompt.len()..).unwrap_or_default(),
                "label": item.label,
            })
        }
        _ if has_masks => {
            json!({"input_ids": text.ids, "attention_mask": mask(text), "labels": labels(text)})
        }
        _ => json!({"input_ids": text.ids, "labels": labels(text)}),
    }
}

fn mask(tokens: &Tokens) -> Vec<u8> {
    vec![1; tokens.ids.len()]
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
