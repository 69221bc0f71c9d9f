use std::io::Write;

use anyhow::Result;
use serde_json::json;
use siskin_engine::read_text_of;
use siskin_text::{Message, RenderRequest};

use crate::args::TokenizeArgs;
use crate::open::resolve;
use crate::terminal::printable;

pub fn tokenize(args: &TokenizeArgs) -> Result<()> {
    let path = resolve(&args.model)?;
    let text = read_text_of(&path)?;
    let (rendered, tokens) = if args.chat {
        let rendered = text.render(&RenderRequest {
            messages: &[Message::new("user", &args.text)],
            add_generation_prompt: true,
            allow_special_tokens: args.allow_special_tokens,
            ..RenderRequest::default()
        })?;
        let tokens = text.encode_rendered(&rendered)?;
        (Some(rendered), tokens)
    } else {
        (None, text.encode(&args.text)?)
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        let ids: Vec<u32> = tokens.iter().map(|t| t.id).collect();
        let mut json = json!({ "ids": ids, "tokens": tokens });
        if let Some(rendered) = rendered {
            json["rendered"] = json!(rendered.text);
        }
        writeln!(out, "{json}")?;
        return Ok(());
    }
    if let Some(rendered) = rendered {
        writeln!(out, "{}\n", rendered.text)?;
    }
    for t in &tokens {
        let special = if t.special { "  special" } else { "" };
        writeln!(
            out,
            "{:>7}  {:>5}..{:<5} {}{special}",
            t.id,
            t.start,
            t.end,
            printable(&t.piece)
        )?;
    }
    writeln!(out, "{} tokens", tokens.len())?;
    Ok(())
}
