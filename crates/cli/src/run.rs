use std::io::Write;
use std::ops::ControlFlow;

use anyhow::Result;
use serde_json::json;
use siskin_engine::{Answer, Event, FinishReason, Session};
use siskin_text::Message;

use crate::args::RunArgs;
use crate::{open, remedy, stop};

pub async fn run(args: RunArgs) -> Result<()> {
    stop::install()?;
    let mut session = open::open_adapted(&args.model, &args.adapter).await?;
    session.model.check_text()?;
    let prompt: Vec<u32> = if args.raw {
        let tokens = session.text.encode(&args.prompt)?;
        tokens.iter().map(|t| t.id).collect()
    } else {
        let system = args.system.iter().map(|s| Message::new("system", s));
        let messages: Vec<_> = system.chain([Message::new("user", &args.prompt)]).collect();
        let text = &session.text;
        text.prompt(&messages, args.allow_special_tokens)
            .map_err(remedy::or_raw)?
    };
    let mut options = args.sampling.options();
    options.logprobs = args.logprobs;
    let mut out = std::io::stdout();
    let mut broken = None;
    let answer = session
        .generate(&prompt, &options, async |event| {
            if let (Event::Token { text, .. } | Event::Rest { text }, false) = (event, args.json) {
                let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                if let Err(e) = written {
                    broken = Some(e);
                    return ControlFlow::Break(());
                }
            }
            stop::flow()
        })
        .await?;
    if let Some(e) = broken {
        return Err(e.into());
    }
    if args.json {
        writeln!(out, "{}", to_json(&session, &prompt, &answer))?;
    } else {
        writeln!(out)?;
    }
    if answer.finish_reason == FinishReason::Cancelled {
        std::process::exit(130);
    }
    Ok(())
}

fn to_json(session: &Session, prompt: &[u32], a: &Answer) -> serde_json::Value {
    let mut json = json!({
        "text": a.text,
        "ids": a.ids,
        "finish_reason": a.finish_reason,
        "prompt_ids": prompt,
        "seed": a.seed,
        "device": session.device().name(),
        "profile": session.device().profile(),
        "counts": {
            "prompt_tokens": a.prompt_tokens,
            "cached_tokens": a.cached_tokens,
            "completion_tokens": a.ids.len(),
            "guessed_tokens": a.guessed_tokens,
            "right_guesses": a.right_guesses,
        },
        "timings": {
            "prefill_s": a.prefill_time.as_secs_f64(),
            "decode_s": a.decode_time.as_secs_f64(),
            "prefill_tok_s": a.prefill_rate(),
            "decode_tok_s": a.decode_rate(),
        },
    });
    if !a.logprobs.is_empty() {
        json["logprobs"] = json!(a.logprobs);
    }
    json
}
