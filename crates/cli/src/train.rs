//! `siskin train`: turns a recipe and examples into a folder with an adapter.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use siskin_engine::{GenerateOptions, Session};
use siskin_train::{
    BadRecord, Dataset, Error, HeldOut, Record, StepReport, Summary, Trainer, TrainingPlan,
    render_question,
};

use crate::args::TrainArgs;
use crate::open::Opening;
use crate::recipe::Recipe;
use crate::rewards::Rewards;
use crate::train_folder::{Start, TrainFolder, resume};
use crate::train_report::{Question, Results, Steps, mebibytes, print_summary, report, rewards};
use crate::{open, stop, train_rewards};

/// Answers that are drawn at once. More take memory, and a step of so many rows is as efficient as longer ones.
const MOST_AT_ONCE: usize = 16;

/// Any more are counted but not shown.
const SHOWN: usize = 20;

/// Reports unusable records by line number; fails unless they may be skipped.
pub fn tell_bad(name: &str, bad: &[BadRecord], skip_bad: bool) -> Result<()> {
    for bad in bad.iter().take(SHOWN) {
        eprintln!("{name}:{}: {}", bad.line, bad.reason);
    }
    if bad.len() > SHOWN {
        eprintln!("and {} more", bad.len() - SHOWN);
    }
    let n = bad.len();
    if n > 0 && !skip_bad {
        bail!("{n} records of {name} are unusable; fix them, or use --skip-bad");
    }
    Ok(())
}

pub fn read_data(path: &Path, skip_bad: bool) -> Result<Vec<Record>> {
    let name = path.display().to_string();
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = std::fs::metadata(path).map(|m| m.file_type());
        if kind.is_ok_and(|k| k.is_char_device() || k.is_block_device()) {
            bail!("{name} is a device, not a file of examples");
        }
    }
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let data = Dataset::from_bytes(&name, &bytes)?;
    tell_bad(&name, &data.bad, skip_bad)?;
    Ok(data.records)
}

/// Only questions that the template can render on their own.
fn questions(session: &Session, trainer: &Trainer, records: &[Record]) -> Vec<Question> {
    let text = &session.text;
    let question = |record: &Record| {
        let conversation = record.example.question()?;
        let prompt = render_question(text, &conversation).ok()?.ok()?;
        let messages = conversation.messages;
        let fits = !messages.is_empty() && prompt.len() + ANSWER <= session.context();
        fits.then_some(Question { messages, prompt })
    };
    let held_out = trainer.held_out().iter();
    held_out
        .filter_map(|i| question(&records[*i]))
        .take(3)
        .collect()
}

/// Maximum tokens of an answer that is shown.
const ANSWER: usize = 64;

async fn answers(session: &mut Session, questions: &[Question]) -> Result<Vec<String>> {
    let options = GenerateOptions {
        max_tokens: ANSWER,
        ..GenerateOptions::default()
    };
    let mut out = vec![];
    for question in questions {
        let answer = session
            .generate(&question.prompt, &options, async |_| stop::flow())
            .await?;
        out.push(answer.text);
    }
    Ok(out)
}

/// How the steps ended.
struct Ended {
    was_stopped: bool,
    /// The last step that was taken.
    last: Option<StepReport>,
}

pub async fn train(args: TrainArgs) -> Result<()> {
    stop::install()?;
    let recipe = Recipe::read(&args)?;
    let read = |path: &Path| {
        let mut records = read_data(path, args.skip_bad)?;
        let bad = recipe.rewards.take_unusable(&mut records);
        tell_bad(&path.display().to_string(), &bad, args.skip_bad)?;
        Ok::<_, anyhow::Error>(records)
    };
    let mut records = read(&recipe.data)?;
    let validation = match &recipe.validation_data {
        Some(path) => read(path)?,
        None => vec![],
    };
    if let Some(path) = recipe
        .validation_data
        .as_ref()
        .filter(|_| validation.is_empty())
    {
        bail!("{} has no usable examples to hold out", path.display());
    }
    if args.checkpoint_every == 0 {
        bail!("--checkpoint-every is 0; it must be at least 1");
    }
    let start = match (args.resume, args.force) {
        (true, _) => Start::Resumed,
        (_, true) => Start::Forced,
        _ => Start::New,
    };
    let folder = TrainFolder::open(&recipe.out, start)?;
    let model = &recipe.model;
    let mut opening = Opening::of(&model.on, 1)?;
    if recipe.options.objective.is_of_rewards() {
        let drawn = recipe.options.num_generations() * recipe.options.batch_size;
        let sequences = drawn.min(MOST_AT_ONCE);
        opening =
            Opening::of(&model.on, sequences)?.with_cache(sequences * recipe.options.max_seq_len);
    }
    let mut session = open::open_as(&model.model, &opening).await?;
    let data = recipe.data.display().to_string();
    let plan = TrainingPlan::with_validation(&session, &records, &validation, recipe.options);
    let plan = plan.map_err(|e| in_file(e, &data))?;
    records.extend(validation);
    let trainer = plan.begin(&mut session).await?;
    let summary = trainer.summary().clone();
    tell_bad(&data, &summary.unusable, args.skip_bad)?;
    if let Some(path) = &recipe.validation_data {
        let name = path.display().to_string();
        tell_bad(&name, &summary.unusable_validation, args.skip_bad)?;
    }
    print_summary(&summary, &session.device().name());
    let questions = questions(&session, &trainer, &records);
    let mut run = Run {
        session,
        trainer,
        folder,
        rewards: recipe.rewards,
    };
    let before = run.results(&questions).await?;
    if args.resume {
        resume(&mut run.trainer, &mut run.session, &recipe.out)?;
        run.folder.forget_after(run.trainer.done())?;
    } else {
        run.folder.begin(&run.trainer, &mut run.session).await?;
        run.folder.metric(&json!({
            "step": 0,
            "held_out": before.score.map(|s| s.loss),
            "held_out_reward": before.reward,
            "held_out_rewards/accuracies": accuracies(before.score),
        }))?;
    }
    let ended = run.steps_with_bar(args.checkpoint_every, &summary).await?;
    run.folder.adapter(&run.trainer, &mut run.session).await?;
    if ended.was_stopped {
        eprintln!(
            "stopped after step {}; use `siskin train … --resume` to resume",
            run.trainer.done()
        );
        drop(run);
        std::process::exit(130);
    }
    let (done, best) = (run.trainer.done(), run.trainer.best_step());
    if let Some(best) = best.filter(|_| done < summary.steps) {
        eprintln!(
            "stopped early, after step {done}: the held-out loss was lowest after step {best}"
        );
    }
    let after = run.results(&questions).await?;
    let results = [&before, &after];
    report(
        &args,
        &recipe.out,
        &summary,
        &questions,
        results,
        Steps {
            last: ended.last,
            best,
        },
    )
}

/// The fraction of pairs whose chosen answer has the greater reward.
fn accuracies(score: Option<HeldOut>) -> Option<f32> {
    score?.preferences?.accuracies
}

struct Run {
    session: Session,
    trainer: Trainer,
    folder: TrainFolder,
    rewards: Rewards,
}

impl Run {
    /// What the model gives now.
    async fn results(&mut self, questions: &[Question]) -> Result<Results> {
        let bar = ProgressBar::new_spinner();
        let reward = match self.trainer.needs_rewards() {
            true => {
                train_rewards::held_out(&self.trainer, &mut self.session, &self.rewards, &bar)
                    .await?
            }
            false => None,
        };
        bar.finish_and_clear();
        Ok(Results {
            answers: answers(&mut self.session, questions).await?,
            score: self.trainer.score(&mut self.session).await?,
            reward,
        })
    }

    /// Takes the remaining steps with a progress bar.
    async fn steps_with_bar(
        &mut self,
        checkpoint_every: usize,
        summary: &Summary,
    ) -> Result<Ended> {
        let bar = ProgressBar::new(summary.steps as u64).with_style(ProgressStyle::with_template(
            "training {bar:30} {pos}/{len} {msg} {eta} left",
        )?);
        bar.set_position(self.trainer.done() as u64);
        bar.reset_eta();
        let show = |report: &StepReport| {
            bar.set_position(report.step as u64);
            bar.set_message(format!(
                "loss {:.4}{} lr {:.1e} {:.0} tok/s {:.0} MiB",
                report.loss,
                rewards(report),
                report.learning_rate,
                report.tokens as f64 / report.seconds,
                mebibytes(summary.memory.total),
            ));
        };
        let ended = self.steps(checkpoint_every, &bar, show).await;
        let ended = match ended {
            Ok(ended) => ended,
            Err(e) => {
                bar.abandon();
                // Rewards of the first answers may be what is wrong: nothing is worth resuming yet.
                if self.trainer.needs_rewards() && self.trainer.done() == 0 {
                    self.folder.take_back()?;
                    return Err(e);
                }
                return Err(anyhow!("{e:#}; {}", self.folder.kept()));
            }
        };
        bar.finish_and_clear();
        Ok(ended)
    }

    /// Takes the remaining steps, until the program is stopped.
    async fn steps(
        &mut self,
        checkpoint_every: usize,
        bar: &ProgressBar,
        show: impl Fn(&StepReport),
    ) -> Result<Ended> {
        let mut last = None;
        while !self.trainer.is_finished() {
            let report = match stop::flow() {
                ControlFlow::Break(()) => Ok(None),
                ControlFlow::Continue(()) => self.step(bar).await,
            };
            // A reward's failure leaves the adapter as it was after the last step.
            if report.is_err() && self.trainer.needs_rewards() && self.trainer.done() > 0 {
                self.checkpoint().await?;
            }
            let report = report?;
            let Some(report) = report else {
                self.checkpoint().await?;
                let was_stopped = true;
                return Ok(Ended { was_stopped, last });
            };
            self.folder.metric(&report)?;
            show(&report);
            last = Some(report);
            if self.trainer.is_finished() || report.step.is_multiple_of(checkpoint_every) {
                self.checkpoint().await?;
            }
        }
        let was_stopped = false;
        Ok(Ended { was_stopped, last })
    }

    /// `None` if the program is stopped before the step is taken.
    async fn step(&mut self, bar: &ProgressBar) -> Result<Option<StepReport>> {
        let Self {
            session,
            trainer,
            folder,
            rewards,
        } = self;
        match trainer.needs_rewards() {
            true => train_rewards::step(trainer, session, rewards, folder, bar).await,
            false => Ok(Some(trainer.step(session).await?)),
        }
    }

    async fn checkpoint(&mut self) -> Result<()> {
        let Self {
            session,
            trainer,
            folder,
            ..
        } = self;
        folder.checkpoint(trainer, session).await
    }
}

/// An error that names the data by its file.
pub fn in_file(e: Error, file: &str) -> Error {
    match e {
        Error::OneLabel {
            first, last, label, ..
        } => Error::OneLabel {
            name: file.into(),
            first,
            last,
            label,
        },
        Error::NoExamples { what, .. } => Error::NoExamples {
            name: file.into(),
            what,
        },
        e => e,
    }
}
