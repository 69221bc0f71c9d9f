//! `siskin train`: turns a recipe and examples into a folder with an adapter.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use siskin_engine::{GenerateOptions, Session};
use siskin_text::{Message, RenderRequest};
use siskin_train::{
    BadRecord, Dataset, Error, Example, Plan, Record, StepReport, TrainOptions, Trainer, nearest,
};
use toml::{Table, Value};

use crate::args::{CacheArg, ModelArgs, OptimArg, PrecisionArg, TrainArgs, parse_device};
use crate::train_folder::{Start, TrainFolder, resume};
use crate::{open, stop};

/// What a recipe sets besides the training options.
struct Recipe {
    model: ModelArgs,
    data: PathBuf,
    out: PathBuf,
    options: TrainOptions,
}

/// As written in a recipe.
fn optim_name(optim: OptimArg) -> Option<String> {
    Some(optim.to_possible_value()?.get_name().into())
}

const OWN_KEYS: [&str; 4] = ["model", "data", "out", "device"];

impl Recipe {
    fn read(args: &TrainArgs) -> Result<Self> {
        let mut table = match &args.recipe {
            Some(path) => {
                let name = path.display();
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the recipe {name}"))?;
                text.parse::<Table>()
                    .with_context(|| format!("the recipe {name} is not valid TOML"))?
            }
            None => Table::new(),
        };
        let path = |p: &Option<PathBuf>| p.as_ref().map(|p| Value::from(p.display().to_string()));
        let count = |n: Option<usize>| n.map(|n| Value::from(n as i64));
        let number = |n: Option<f32>| n.map(|n| Value::from(f64::from(n)));
        let flags = [
            ("model", args.model.clone().map(Value::from)),
            ("data", path(&args.data)),
            ("out", path(&args.out)),
            ("device", args.device.clone().map(Value::from)),
            ("epochs", count(args.epochs)),
            ("steps", count(args.steps)),
            ("rank", count(args.rank)),
            ("use_dora", args.dora.then_some(Value::from(true))),
            ("optim", args.optim.and_then(optim_name).map(Value::from)),
            ("learning_rate", number(args.learning_rate)),
            ("batch_size", count(args.batch_size)),
            ("max_seq_len", count(args.max_seq_len)),
            ("validation", number(args.validation)),
            ("seed", args.seed.map(|s| Value::from(s as i64))),
        ];
        for (key, value) in flags {
            table.extend(value.map(|v| (key.to_string(), v)));
        }
        // A flag's steps override a recipe's epochs, and vice versa.
        if args.epochs.is_some() {
            table.remove("steps");
        }
        let mut own = |key: &str| match table.remove(key) {
            Some(Value::String(s)) => Ok(Some(s)),
            None => Ok(None),
            Some(other) => bail!(
                "`{key}` is a {}; it must be a string in quotes",
                other.type_str()
            ),
        };
        let [model, data, out, device] = OWN_KEYS.map(&mut own);
        let needed = |v: Option<String>, key: &str| {
            v.with_context(|| format!("no {key}; use --{key}, or a recipe that sets it"))
        };
        let device = device?.unwrap_or_else(|| "auto".into());
        let options = options(table)?;
        Ok(Self {
            model: ModelArgs {
                model: needed(model?, "model")?.into(),
                device: parse_device(&device).map_err(|e| anyhow!("device: {e}"))?,
                profile: args.profile,
                ctx: None,
                cache: CacheArg::F16,
                precision: PrecisionArg::Fast,
            },
            data: needed(data?, "data")?.into(),
            out: needed(out?, "out")?.into(),
            options,
        })
    }
}

fn options(table: Table) -> Result<TrainOptions> {
    let known = serde_json::to_value(TrainOptions::default())?;
    let known: Vec<&str> = known
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, _)| k.as_str())
        .collect();
    let names: Vec<&str> = known.iter().copied().chain(OWN_KEYS).collect();
    if let Some(wrong) = table.keys().find(|k| !known.contains(&k.as_str())) {
        match nearest(wrong, &names) {
            Some(right) => {
                bail!("the recipe has an unknown key `{wrong}`; did you mean `{right}`?")
            }
            None => bail!(
                "the recipe has an unknown key `{wrong}`; known keys are {}",
                names.join(", ")
            ),
        }
    }
    let options: TrainOptions = table.try_into().context("the recipe")?;
    options.check()?;
    Ok(options)
}

/// Any more are counted but not shown.
const SHOWN: usize = 20;

/// Reports unusable records by line number; fails unless they may be skipped.
fn tell_bad(name: &str, bad: &[BadRecord], skip_bad: bool) -> Result<()> {
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

fn read_data(path: &Path, skip_bad: bool) -> Result<Vec<Record>> {
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

/// A question from a held-out example, answered before and after training.
struct Question {
    messages: Vec<Message>,
    prompt: Vec<u32>,
}

/// Only questions that the template can render on their own.
fn questions(session: &Session, trainer: &Trainer, records: &[Record]) -> Vec<Question> {
    let text = &session.text;
    let question = |record: &Record| {
        let Example::Chat(conversation) = &record.example else {
            return None;
        };
        let messages = &conversation.messages;
        let end = messages.iter().position(|m| m.role() == "assistant")?;
        let messages = messages[..end].to_vec();
        let tokens = if text.template().is_some() {
            let request = RenderRequest {
                messages: &messages,
                tools: &conversation.tools,
                add_generation_prompt: true,
                kwargs: conversation.chat_template_kwargs.clone(),
                ..RenderRequest::default()
            };
            text.encode_rendered(&text.render(&request).ok()?).ok()?
        } else {
            text.encode(messages.first()?.content()).ok()?
        };
        let prompt: Vec<u32> = tokens.iter().map(|t| t.id).collect();
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

pub async fn train(args: TrainArgs) -> Result<()> {
    stop::install()?;
    let recipe = Recipe::read(&args)?;
    let records = read_data(&recipe.data, args.skip_bad)?;
    if args.checkpoint_every == 0 {
        bail!("--checkpoint-every is 0; it must be at least 1");
    }
    let start = match (args.resume, args.force) {
        (true, _) => Start::Resumed,
        (_, true) => Start::Forced,
        _ => Start::New,
    };
    let mut folder = TrainFolder::open(&recipe.out, start)?;
    let mut session = open::open(&recipe.model).await?;
    let data = recipe.data.display().to_string();
    let plan = Plan::new(&session, &records, recipe.options).map_err(|e| in_file(e, &data))?;
    let mut trainer = plan.begin(&mut session).await?;
    let summary = trainer.summary().clone();
    tell_bad(&data, &summary.unusable, args.skip_bad)?;
    let mebibytes = |b: u64| b as f64 / 1_048_576.0;
    eprintln!(
        "{} examples, {} held out; {} tokens, {} of them learned{}",
        summary.examples,
        summary.held_out,
        summary.tokens,
        summary.learned,
        match summary.cut {
            0 => String::new(),
            n => format!(
                "; {n} examples were truncated to {} tokens",
                summary.max_len
            ),
        }
    );
    eprintln!(
        "{} steps on {}; {} parameters; about {:.0} MiB",
        summary.steps,
        session.device().name(),
        summary.parameters,
        mebibytes(summary.memory.total)
    );
    let questions = questions(&session, &trainer, &records);
    let before = answers(&mut session, &questions).await?;
    let score_before = trainer.score(&mut session).await?;
    if args.resume {
        resume(&mut trainer, &mut session, &recipe.out)?;
        folder.forget_after(trainer.done())?;
    } else {
        folder.begin(&trainer, &mut session).await?;
        folder.metric(&json!({"step": 0, "held_out": score_before}))?;
    }
    let bar = ProgressBar::new(summary.steps as u64).with_style(ProgressStyle::with_template(
        "training {bar:30} {pos}/{len} {msg} {eta} left",
    )?);
    bar.set_position(trainer.done() as u64);
    bar.reset_eta();
    let show = |report: &StepReport| {
        bar.set_position(report.step as u64);
        bar.set_message(format!(
            "loss {:.4} lr {:.1e} {:.0} tok/s {:.0} MiB",
            report.loss,
            report.learning_rate,
            report.tokens as f64 / report.seconds,
            mebibytes(summary.memory.total),
        ));
    };
    let every = args.checkpoint_every;
    let ended = steps(&mut trainer, &mut session, &mut folder, every, show).await;
    let (stopped, mut score_after) = ended.map_err(|e| {
        bar.abandon();
        anyhow!("{e:#}; {}", folder.kept())
    })?;
    bar.finish_and_clear();
    folder.adapter(&trainer, &mut session).await?;
    if stopped {
        eprintln!(
            "stopped after step {}; use `siskin train … --resume` to resume",
            trainer.done()
        );
        drop(folder);
        std::process::exit(130);
    }
    // A run that was resumed at its end took no step that scored.
    if score_after.is_none() {
        score_after = trainer.score(&mut session).await?;
    }
    let after = answers(&mut session, &questions).await?;
    report(
        &args,
        &recipe.out,
        &summary,
        [score_before, score_after],
        &questions,
        [&before, &after],
    )
}

/// An error that names the data by its file.
fn in_file(e: Error, file: &str) -> Error {
    match e {
        Error::NoExamples { what, .. } => Error::NoExamples {
            name: file.into(),
            what,
        },
        e => e,
    }
}

/// Runs the remaining steps, until the program is stopped. Returns whether it was stopped, and the last score
/// of the held-out examples.
async fn steps(
    trainer: &mut Trainer,
    session: &mut Session,
    folder: &mut TrainFolder,
    checkpoint_every: usize,
    show: impl Fn(&StepReport),
) -> Result<(bool, Option<f32>)> {
    let mut score = None;
    while !trainer.is_finished() {
        if stop::flow() == ControlFlow::Break(()) {
            folder.checkpoint(trainer, session).await?;
            return Ok((true, score));
        }
        let report = trainer.step(session).await?;
        folder.metric(&report)?;
        score = report.held_out.or(score);
        show(&report);
        if trainer.is_finished() || report.step.is_multiple_of(checkpoint_every) {
            folder.checkpoint(trainer, session).await?;
        }
    }
    Ok((false, score))
}

fn report(
    args: &TrainArgs,
    out: &Path,
    summary: &siskin_train::Summary,
    scores: [Option<f32>; 2],
    questions: &[Question],
    [before, after]: [&[String]; 2],
) -> Result<()> {
    let mut stdout = std::io::stdout();
    let samples = || questions.iter().zip(before).zip(after);
    if args.json {
        let samples: Vec<_> = samples()
            .map(|((q, b), a)| json!({"messages": q.messages, "before": b, "after": a}))
            .collect();
        let json = json!({
            "out": out,
            "summary": summary,
            "held_out_before": scores[0],
            "held_out_after": scores[1],
            "samples": samples,
        });
        writeln!(stdout, "{json}")?;
        return Ok(());
    }
    if let [Some(before), Some(after)] = scores {
        writeln!(
            stdout,
            "held-out loss: {before:.4} before, {after:.4} after"
        )?;
    }
    for ((question, before), after) in samples() {
        let question = question.messages.last().map_or("", |m| m.content());
        writeln!(stdout, "\n> {question}\nbefore: {before}\nafter:  {after}")?;
    }
    writeln!(stdout, "\nadapter saved to {}", out.display())?;
    Ok(())
}
