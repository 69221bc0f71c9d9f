use std::io::Write;

use anyhow::{Result, bail};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use siskin_engine::{Answer, BeamOptions, Session};
use siskin_text::Message;

use crate::args::RunArgs;
use crate::asking::{Asking, Parts, Wanted};
use crate::rounds::{Answered, End, Rounds, generate};
use crate::tools::Tools;
use crate::{conversation, open, remedy, samples, shape, stop};

pub async fn run(args: RunArgs) -> Result<()> {
    stop::install()?;
    let tools = Tools::of(&args.tools)?;
    let at_once = args.beams.unwrap_or(args.samples).min(samples::AT_ONCE);
    let mut session = open::open_adapted_for(&args.model, &args.adapter, at_once).await?;
    session.model.check_text()?;
    let mut messages = vec![];
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
    let wanted = Wanted {
        shape: args.shape.source()?,
        allow_special_tokens: args.allow_special_tokens,
        ..Wanted::default()
    };
    let is_sampled = args.samples > 1 || args.vote.is_some();
    if args.beams.is_some() || is_sampled {
        let asking = asking(&session, &messages, wanted, &args)?;
        if let Some(beams) = args.beams {
            return search(session, &asking, beams, &args).await;
        }
        return samples::run(session, &asking, &args).await;
    }
    let mut options = args.sampling.options();
    options.logprobs = args.logprobs;
    let answered = if args.raw {
        let asking = asking(&session, &messages, wanted, &args)?;
        options.grammar = shape::grammar(&session, &asking)?;
        let (answer, parts, _) = generate(&mut session, &asking, options, args.json).await?;
        Answered::whole(asking, answer, parts)
    } else {
        let mut rounds = Rounds::new(&session, tools, wanted, args.json)?;
        let answered = rounds.answer(&mut session, &mut messages, &options).await;
        answered.map_err(|e| e.downcast().map_or_else(|e| e, remedy::or_raw))?
    };
    let mut out = std::io::stdout();
    if args.json {
        let mut json = to_json(
            &session,
            &answered.asking,
            &answered.answer,
            &answered.parts,
        );
        if !args.tools.tools.is_empty() {
            json["calls"] = answered.calls.into();
        }
        writeln!(out, "{json}")?;
    } else {
        writeln!(out)?;
    }
    if let Some(path) = &args.session {
        conversation::save(&mut session, path, &messages).await?;
    }
    match answered.end {
        End::Answered => Ok(()),
        End::Stopped => std::process::exit(130),
        End::OutOfRounds => {
            let max = args.tools.max_rounds;
            bail!("no answer after {max} rounds of calls; raise --max-rounds")
        }
    }
}

/// Without tools.
fn asking(
    session: &Session,
    messages: &[Message],
    wanted: Wanted,
    args: &RunArgs,
) -> Result<Asking> {
    Ok(match args.raw {
        true => Asking::of_text(&session.text, &args.prompt, wanted.shape)?,
        false => Asking::of(&session.text, messages, &wanted).map_err(remedy::or_raw)?,
    })
}

async fn search(mut session: Session, asking: &Asking, beams: usize, args: &RunArgs) -> Result<()> {
    let options = BeamOptions {
        beams,
        max_tokens: args.sampling.max_tokens,
        length_penalty: args.length_penalty.unwrap_or(1.0),
    };
    let bar = ProgressBar::new_spinner().with_message("tokens");
    let found = session.beam_search(&asking.tokens, &options, |n| {
        bar.set_position(n as u64);
        stop::flow()
    });
    let found = found.await?;
    bar.finish_and_clear();
    let parts = found
        .iter()
        .map(|b| asking.parts_of_tokens(&session.text, &b.ids));
    let parts: Vec<Parts> = parts.collect();
    let mut out = std::io::stdout();
    if args.json {
        let beams = found.iter().zip(&parts).map(|(b, parts)| {
            json!({
                "text": parts.content, "reasoning": parts.reasoning_json(), "ids": b.ids, "score": b.score,
                "finish_reason": b.finish_reason,
            })
        });
        let beams: Vec<Value> = beams.collect();
        writeln!(
            out,
            "{}",
            json!({"beams": beams, "prompt_ids": asking.tokens})
        )?;
    } else if let Some(best) = parts.first() {
        writeln!(out, "{}", best.content)?;
    }
    if stop::flow().is_break() {
        std::process::exit(130);
    }
    Ok(())
}

pub fn to_json(session: &Session, asking: &Asking, a: &Answer, parts: &Parts) -> Value {
    let mut json = json!({
        "text": parts.content,
        "reasoning": parts.reasoning_json(),
        "ids": a.ids,
        "finish_reason": a.finish_reason,
        "prompt_ids": asking.tokens,
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
