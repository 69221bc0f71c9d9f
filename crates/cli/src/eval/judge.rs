//! A judge: a model that is shown two answers to the same prompt, in both orders, and asked which is better (L. Zheng et
//! al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", 2023). Its verdict is the likelier of the letters A and B.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use siskin_engine::{Message, ScoredText, Session};
use siskin_eval::{Item, ItemResult, Kind, Score};

use super::report::{Judged, Measured};
use super::results_file::{ResultsFile, Run};
use super::subject::Subject;
use super::task_file::TaskFile;
use super::{bar, digest, stopped};
use crate::args::EvalArgs;
use crate::stop;

/// Only answers can be judged.
pub fn check(tasks: &[TaskFile]) -> Result<()> {
    match tasks.iter().find(|t| t.task.kind != Kind::Generate) {
        None => Ok(()),
        Some(t) => bail!(
            "--judge compares answers, and {} is not a task of generate_until",
            t.task.name
        ),
    }
}

/// What the judge is asked.
fn question(prompt: &str, [a, b]: [&str; 2]) -> String {
    format!(
        "Two assistants were given the same prompt. Say which answer is better: more correct, more helpful and to the \
         point. The order of the answers does not matter.\n\n[Prompt]\n{prompt}\n\n[Answer A]\n{a}\n\n[Answer B]\n{b}\n\n\
         Which answer is better? Reply with A or B only."
    )
}

/// How much likelier than B the judge finds A.
async fn preference(session: &mut Session, prompt: &str, answers: [&str; 2]) -> Result<f32> {
    let messages = [Message::new("user", &question(prompt, answers))];
    let before = session.text.prompt(&messages, false);
    let before = before.context("the judge cannot be asked; choose another --judge")?;
    let mut texts = vec![];
    for letter in ["A", "B"] {
        let Some(id) = session.text.id_of(letter) else {
            bail!("the judge's vocabulary has no token `{letter}`; choose another --judge");
        };
        let mut tokens = before.clone();
        tokens.push(id);
        texts.push(ScoredText {
            tokens,
            from: before.len(),
        });
    }
    let scores = session.score(&texts).await?;
    Ok(scores[0][0].logprob - scores[1][0].logprob)
}

/// `win_rate` is 1 if the first answer wins in both orders, 0 if the second does, and 1/2 if the order decides;
/// `preference` is how likely the judge finds the first to be the better one, from the mean of its logits in both orders, in
/// which a liking for A or B cancels out.
async fn verdict(
    session: &mut Session,
    item: &Item,
    answers: [&str; 2],
) -> Result<BTreeMap<String, Score>> {
    let [a, b] = answers;
    let (won, preferred) = if a == b {
        (0.5, 0.5)
    } else {
        let first = preference(session, item.prompt(), [a, b]).await?;
        let second = preference(session, item.prompt(), [b, a]).await?;
        let won = match (first > 0.0, second > 0.0) {
            (true, false) => 1.0,
            (false, true) => 0.0,
            _ => 0.5,
        };
        let odds = f64::from(first - second) / 2.0;
        (won, 1.0 / (1.0 + (-odds).exp()))
    };
    let scores = [("win_rate", won), ("preference", preferred)];
    Ok(scores
        .map(|(name, v)| (name.to_string(), Score::Mean(v)))
        .into())
}

/// Compares the first model's answers with each baseline's.
pub async fn judge(
    args: &EvalArgs,
    path: &Path,
    tasks: &[TaskFile],
    measured: &mut [Measured],
    out: &mut ResultsFile,
) -> Result<()> {
    let subject = Subject::judge(path)?;
    let mut session = subject.open(args).await?;
    for (task, measured) in tasks.iter().zip(measured) {
        let items = task
            .task
            .items(&task.data, &session)
            .map_err(|e| task.placed(e))?;
        let own = measured.models[0].results.clone();
        let own_label = measured.models[0].label.clone();
        for of in measured.models.iter_mut().skip(1) {
            let run = Run {
                task: task.task.name.clone(),
                model: format!("{} judges {own_label} and {}", subject.label, of.label),
            };
            let pairs = own.iter().zip(&of.results);
            let digest = digest(&[
                format!("{items:?}"),
                format!("{:?}", pairs.clone().collect::<Vec<_>>()),
            ]);
            let mut results = out.begin(&run, &digest)?;
            let bar = bar(own.len(), &format!("{} judged", run.task))?;
            for (a, b) in pairs.skip(results.len()) {
                bar.set_position(results.len() as u64);
                let answers = [a, b].map(|r| r.answers.first().map_or("", String::as_str));
                let scores = verdict(&mut session, &items[a.index], answers).await?;
                let result = ItemResult {
                    index: a.index,
                    scores,
                    log_likelihoods: vec![],
                    is_greedy: vec![],
                    answers: vec![],
                    results: BTreeMap::new(),
                };
                out.push(&run, &result)?;
                results.push(result);
                if stop::flow().is_break() {
                    bar.finish_and_clear();
                    stopped(args);
                }
            }
            bar.finish_and_clear();
            of.judged = Some(Judged {
                judge: subject.label.clone(),
                results,
            });
        }
    }
    Ok(())
}
