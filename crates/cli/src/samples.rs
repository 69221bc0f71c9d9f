//! Several answers to one prompt, and the one that most of them give (X. Wang et al., "Self-Consistency Improves Chain of
//! Thought Reasoning in Language Models", 2023).

use std::collections::HashMap;
use std::io::Write;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use regex::Regex;
use serde_json::{Value, json};
use siskin_engine::{Answer, FinishReason, GenerateOptions, RequestEvent, RequestId, Session};

use crate::args::RunArgs;
use crate::asking::{Asking, Parts};
use crate::run::to_json;
use crate::{shape, stop};

/// The most answers at once: each has a KV cache of its own.
pub const AT_ONCE: usize = 8;

/// What part of an answer counts as its result.
#[derive(Debug)]
pub struct Vote(Regex);

/// What most answers agree on.
#[derive(Debug, PartialEq, Eq)]
struct Elected {
    result: String,
    votes: usize,
    /// The first answer with that result.
    answer: usize,
}

impl Vote {
    pub fn new(pattern: &str) -> Result<Self> {
        let pattern = Regex::new(pattern).with_context(|| format!("--vote {pattern}"))?;
        Ok(Self(pattern))
    }

    /// The last match in an answer: its first group, if the expression has one.
    fn result(&self, text: &str) -> Option<String> {
        let last = self.0.captures_iter(text).last()?;
        let found = last.get(1).or_else(|| last.get(0))?;
        Some(found.as_str().trim().into())
    }

    /// The first of those with the most votes.
    fn elect<'a>(&self, answers: impl Iterator<Item = &'a str>) -> Option<Elected> {
        let mut found: Vec<Elected> = vec![];
        for (answer, text) in answers.enumerate() {
            let Some(result) = self.result(text) else {
                continue;
            };
            match found.iter_mut().find(|e| e.result == result) {
                Some(e) => e.votes += 1,
                None => found.push(Elected {
                    result,
                    votes: 1,
                    answer,
                }),
            }
        }
        found.into_iter().rev().max_by_key(|e| e.votes)
    }
}

pub async fn run(mut session: Session, asking: &Asking, args: &RunArgs) -> Result<()> {
    let options = GenerateOptions {
        grammar: shape::grammar(&session, asking)?,
        shown: asking.shown(),
        logprobs: args.logprobs,
        ..args.sampling.options()
    };
    if options.sampling.temperature == 0.0 {
        bail!("--samples needs a --temperature above 0: all answers would be the same");
    }
    let vote = args.vote.as_deref().map(Vote::new).transpose()?;
    let answers = sample(&mut session, &asking.tokens, args.samples, &options).await?;
    let parts: Vec<Parts> = answers.iter().map(|a| asking.parts(&a.text)).collect();
    let is_cancelled = answers
        .iter()
        .any(|a| a.finish_reason == FinishReason::Cancelled);
    let elected = vote.and_then(|v| v.elect(parts.iter().map(|p| p.content.as_str())));
    let mut out = std::io::stdout();
    if args.json {
        let all: Vec<Value> = answers
            .iter()
            .zip(&parts)
            .map(|(answer, parts)| to_json(&session, asking, answer, parts))
            .collect();
        let mut json = json!({ "samples": all });
        if args.vote.is_some() {
            json["vote"] = match &elected {
                Some(e) => json!({"result": e.result, "votes": e.votes, "sample": e.answer}),
                None => Value::Null,
            };
        }
        writeln!(out, "{json}")?;
    } else if args.vote.is_some() {
        match &elected {
            Some(e) => {
                writeln!(out, "{}", e.result)?;
                eprintln!("{} of {} answers", e.votes, answers.len());
            }
            None => bail!("no answer has what --vote looks for"),
        }
    } else {
        for (i, (answer, parts)) in answers.iter().zip(&parts).enumerate() {
            writeln!(
                out,
                "[{} of {}, seed {}]\n{}\n",
                i + 1,
                answers.len(),
                answer.seed,
                parts.content.trim()
            )?;
        }
    }
    if is_cancelled {
        std::process::exit(130);
    }
    Ok(())
}

/// Answers with consecutive seeds.
async fn sample(
    session: &mut Session,
    prompt: &[u32],
    n: usize,
    options: &GenerateOptions,
) -> Result<Vec<Answer>> {
    let mut ids = vec![];
    for i in 0..n {
        let mut options = options.clone();
        options.sampling.seed = options.sampling.seed.wrapping_add(i as u64);
        ids.push(session.submit(prompt, options)?);
    }
    let style = "{pos} of {len} answers, {msg} tokens";
    let bar = ProgressBar::new(n as u64)
        .with_style(ProgressStyle::with_template(style).context("progress style")?);
    let (mut answers, mut tokens) = (HashMap::<RequestId, Answer>::new(), 0);
    while !session.is_idle() {
        let mut updates = session.step().await?;
        if stop::flow().is_break() {
            updates.extend(ids.iter().flat_map(|id| session.cancel(*id)));
        }
        for update in updates {
            match update.event {
                RequestEvent::Done(answer) => {
                    answers.insert(update.request, *answer);
                    bar.inc(1);
                }
                RequestEvent::Failed(e) => return Err(e.into()),
                RequestEvent::Token { .. } => tokens += 1,
                _ => {}
            }
        }
        bar.set_message(tokens.to_string());
    }
    bar.finish_and_clear();
    Ok(ids.iter().filter_map(|id| answers.remove(id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_that_most_answers_have_is_elected() {
        let elect = |pattern: &str, answers: &[&str]| {
            let vote = Vote::new(pattern).unwrap();
            vote.elect(answers.iter().copied())
                .map(|e| (e.result, e.votes, e.answer))
        };
        let answers = ["3 + 4 is 7.", "It is 12.", "So the answer is 7", "none"];
        assert_eq!(elect(r"\d+", &answers), Some(("7".into(), 2, 0)));
        assert_eq!(elect(r"is (\d+)", &answers), Some(("7".into(), 2, 0)));
        assert_eq!(elect("x", &answers), None);
        // The first of several with as many.
        assert_eq!(
            elect("(?s).*", &["b", " a ", "a", "b"]),
            Some(("b".into(), 2, 0))
        );
        assert!(Vote::new("(").is_err());
    }
}
