use std::io::Write;
use std::ops::ControlFlow;

use anyhow::{Result, bail};
use indicatif::ProgressBar;
use serde_json::json;
use siskin_engine::{Answer, Beam, BeamOptions, Event, FinishReason, Session};
use siskin_text::Message;

use crate::args::RunArgs;
use crate::{conversation, open, remedy, samples, stop};

pub async fn run(args: RunArgs) -> Result<()> {
    stop::install()?;
    let at_once = args.beams.unwrap_or(args.samples).min(samples::AT_ONCE);
    let mut session = open::open_adapted_for(&args.model, &args.adapter, at_once).await?;
    session.model.check_text()?;
    let mut messages = vec![];
    let prompt: Vec<u32> = if args.raw {
        let tokens = session.text.encode(&args.prompt)?;
        tokens.iter().map(|t| t.id).collect()
    } else {
        if let Some(path) = &args.session {
            messages = conversation::load(&mut session, path).await?;
        }
        if let Some(system) = &args.system {
            if !messages.is_empty() {
                bail!("--system is for a new conversation, and the session's has begun");
            }
            messages.push(Message::new("system", system));
        }
        messages.push(Message::new("user", &args.prompt));
        let text = &session.text;
        text.prompt(&messages, args.allow_special_tokens)
            .map_err(remedy::or_raw)?
    };
    let grammar = args.shape.grammar(&session)?;
    if let Some(beams) = args.beams {
        return search(session, &prompt, beams, &args).await;
    }
    if args.samples > 1 || args.vote.is_some() {
        return samples::run(session, &prompt, grammar, &args).await;
    }
    let mut options = args.sampling.options();
    options.logprobs = args.logprobs;
    options.grammar = grammar;
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
    if let Some(path) = &args.session {
        messages.push(Message::new("assistant", &answer.text));
        conversation::save(&mut session, path, &messages).await?;
    }
    if answer.finish_reason == FinishReason::Cancelled {
        std::process::exit(130);
    }
    Ok(())
}

async fn search(mut session: Session, prompt: &[u32], beams: usize, args: &RunArgs) -> Result<()> {
    let options = BeamOptions {
        beams,
        max_tokens: args.sampling.max_tokens,
        length_penalty: args.length_penalty.unwrap_or(1.0),
    };
    let bar = ProgressBar::new_spinner().with_message("tokens");
    let found = session.beam_search(prompt, &options, |n| {
        bar.set_position(n as u64);
        stop::flow()
    });
    let found = found.await?;
    bar.finish_and_clear();
    let mut out = std::io::stdout();
    if args.json {
        let beam = |b: &Beam| json!({"text": b.text, "ids": b.ids, "score": b.score, "finish_reason": b.finish_reason});
        let all: Vec<_> = found.iter().map(beam).collect();
        writeln!(out, "{}", json!({"beams": all, "prompt_ids": prompt}))?;
    } else if let Some(best) = found.first() {
        writeln!(out, "{}", best.text)?;
    }
    if stop::flow().is_break() {
        std::process::exit(130);
    }
    Ok(())
}

pub fn to_json(session: &Session, prompt: &[u32], a: &Answer) -> serde_json::Value {
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
