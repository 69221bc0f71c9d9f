//! `siskin check-recipe`: the first steps of a project for TRL, beside siskin's own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use siskin_engine::{CacheType, DeviceRequest, ModelFiles, OpenOptions, Precision, Session};
use siskin_train::{Prepared, TrainingPlan};

use super::{Examples, OWN, OWN_PROJECT, OWN_RECIPE, data, small_model};
use crate::args::{CheckRecipeArgs, ToolArg};
use crate::recipe::Recipe;
use crate::{open, output, stop};

/// By how much a loss may differ; other figures, relative to the figure where that is more than 1.
const TOLERANCE: f64 = 1e-3;

/// What both sides report of a step besides its loss and `rewards/accuracies`, which rounding decides where rewards are the
/// same. The first loss of an objective with a reference is the same for all
/// answers; the log-probabilities are not.
const FIGURES: [&str; 11] = [
    "grad_norm",
    "learning_rate",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "nll_loss",
    "log_odds_ratio",
    "log_odds_chosen",
    "kl",
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Project {
    tool: String,
    data: String,
    validation_data: Option<String>,
    skip_bad: bool,
}

/// A Python with TRL.
pub struct Python<'a> {
    program: &'a Path,
    folder: &'a Path,
}

impl Python<'_> {
    /// Runs it to the end. What it prints is shown if it fails.
    pub fn run(&self, args: &[&str]) -> Result<()> {
        let program = self.program.display();
        let mut child = Command::new(self.program)
            .args(args)
            // Both sides compute in f32, and nothing is downloaded.
            .env("CUDA_VISIBLE_DEVICES", "")
            .env("HF_HUB_OFFLINE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {program}; name a Python with --python"))?;
        let stderr = child.stderr.take().context("stderr")?;
        let reader =
            std::thread::spawn(move || std::io::read_to_string(stderr).unwrap_or_default());
        let Some(status) = stop::wait(&mut child)? else {
            std::process::exit(130);
        };
        let said = reader.join().unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        let last = last_words(&said);
        if last.starts_with("ModuleNotFoundError") || last.starts_with("ImportError") {
            let requirements = self.folder.join("requirements.txt");
            bail!(
                "{program}: {last}; use `{program} -m pip install -r {}`, or another --python",
                requirements.display()
            );
        }
        bail!("{program}: {last}");
    }
}

/// The line that says what is wrong: an exception, or else the last one. Progress bars may follow it.
fn last_words(said: &str) -> &str {
    let is_exception = |line: &&str| {
        let kind = line.split(':').next().unwrap_or_default();
        let ends = |end| kind.ends_with(end);
        !kind.contains(' ') && (ends("Error") || ends("Exception"))
    };
    let lines = || {
        let lines = said.lines().rev().map(str::trim);
        lines.filter(|l| !l.is_empty() && !l.contains("%|"))
    };
    let found = lines().find(is_exception).or_else(|| lines().next());
    found.unwrap_or("it said nothing")
}

/// A folder for what the check writes, which is removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let name = format!("siskin-check-{}-{now}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub async fn check(args: &CheckRecipeArgs) -> Result<()> {
    stop::install()?;
    let project = project(&args.folder)?;
    let own = |name: &str| args.folder.join(OWN).join(name);
    let (data, validation) = (
        own(&project.data),
        project.validation_data.as_deref().map(own),
    );
    let mut replaced = vec![("data", data.as_path())];
    replaced.extend(validation.as_deref().map(|v| ("validation_data", v)));
    let mut recipe = Recipe::of_file(&args.folder.join(OWN_RECIPE), &replaced)?;
    // Each side drops other values.
    recipe.options.lora_dropout = 0.0;
    let examples = Examples::read(&recipe, project.skip_bad)?;
    let scratch = Scratch::new()?;
    let python = Python {
        program: &args.python,
        folder: &args.folder,
    };
    let model = match &args.model {
        Some(folder) if !folder.is_dir() => {
            bail!(
                "--model {} is not a folder; `siskin convert` makes one of a GGUF file",
                folder.display()
            )
        }
        Some(folder) => folder.clone(),
        None => {
            let path = open::resolve(&recipe.model.model);
            let path = path.context("the recipe's model, of which a small one is to be made; --model FOLDER names another")?;
            let folder = scratch.0.join("model");
            eprintln!("making a small model");
            small_model::make(&ModelFiles::open(&path)?, &python, &folder)?;
            folder
        }
    };
    let files = ModelFiles::open(&model)?;
    let prepared = examples.prepare(&files, &recipe, project.skip_bad)?;
    same_tokens(&args.folder, &prepared)?;
    let initial = scratch.0.join("initial");
    eprintln!("training here");
    let ours = ours(files, &examples, &recipe, args.steps, &initial).await?;
    let out = scratch.0.join("out");
    let text = |path: &Path| path.display().to_string();
    eprintln!("training in TRL");
    python.run(&[
        &text(&args.folder.join("train.py")),
        "--model",
        &text(&model),
        "--out",
        &text(&out),
        "--dtype",
        "float32",
        "--no-dropout",
        "--steps",
        &ours.len().to_string(),
        "--initial-adapter",
        &text(&initial),
    ])?;
    let theirs = steps(&out.join("metrics.jsonl"))?;
    // The adapter that comes back.
    siskin_engine::Adapter::open(&out)?;
    report(args, &ours, &theirs)
}

fn project(folder: &Path) -> Result<Project> {
    let path = folder.join(OWN_PROJECT);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "{} is not a folder that `siskin recipe` wrote: cannot read {}",
            folder.display(),
            path.display()
        )
    })?;
    let project: Project =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    if project.tool != "trl" {
        bail!(
            "{} is for {}; only projects for trl are run, since others need a GPU",
            folder.display(),
            project.tool
        );
    }
    Ok(project)
}

/// The project's tokens are those that the recipe gives.
fn same_tokens(folder: &Path, prepared: &Prepared) -> Result<()> {
    let kind = prepared.options.objective.data();
    let (n, seed) = (prepared.examples.len(), prepared.options.seed);
    let order = siskin_train::epoch_order(n, seed, 0).into_iter();
    let learned = order.map(|i| &prepared.examples[i]);
    let same = |name: &str, expected: String| -> Result<()> {
        let path = folder.join(name);
        let found = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut lines = found.lines().zip(expected.lines());
        let differs = lines.position(|(a, b)| a != b);
        let (a, b) = (found.lines().count(), expected.lines().count());
        if let Some(at) = differs.or((a != b).then_some(a.min(b))) {
            bail!(
                "line {} of {} is not what the recipe gives with this tokenizer; write the project again, or name a model \
                 with its tokenizer",
                at + 1,
                path.display()
            );
        }
        Ok(())
    };
    same("data.jsonl", data::lines(ToolArg::Trl, kind, learned))?;
    if prepared.held_out.is_empty() {
        return Ok(());
    }
    same(
        "validation.jsonl",
        data::lines(ToolArg::Trl, kind, &prepared.held_out),
    )
}

/// Our steps, from the adapter that is written to a folder.
async fn ours(
    files: ModelFiles,
    examples: &Examples,
    recipe: &Recipe,
    steps: usize,
    initial: &Path,
) -> Result<Vec<Json>> {
    let options = OpenOptions {
        device: DeviceRequest::Cpu,
        context: Some(
            recipe
                .options
                .max_seq_len
                .min(files.model.dims().context_length),
        ),
        cache_types: CacheType::F32.into(),
        precision: Precision::F32,
        ..OpenOptions::default()
    };
    let mut session = Session::load(files, &options, &mut |_| ()).await?;
    let (records, validation) = (&examples.records, &examples.validation);
    let plan =
        TrainingPlan::with_validation(&session, records, validation, recipe.options.clone())?;
    let mut trainer = plan.begin(&mut session).await?;
    std::fs::create_dir_all(initial)?;
    for (name, bytes) in trainer.adapter(&mut session).await?.to_peft()? {
        output::whole(&initial.join(name), |part| Ok(std::fs::write(part, bytes)?))?;
    }
    let mut reports = vec![];
    while reports.len() < steps && !trainer.is_finished() {
        if stop::flow().is_break() {
            std::process::exit(130);
        }
        reports.push(serde_json::to_value(trainer.step(&mut session).await?)?);
    }
    Ok(reports)
}

/// What TRL logged of each step.
fn steps(path: &Path) -> Result<Vec<Json>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("train.py has not written {}", path.display()))?;
    let lines = text.lines().map(serde_json::from_str::<Json>);
    let lines = lines.filter(|l| l.as_ref().map_or(true, |l| l["loss"].is_number()));
    Ok(lines.collect::<serde_json::Result<Vec<Json>>>()?)
}

/// By how much a figure differs on both sides; `None` where one of them does not report it.
fn difference(name: &str, ours: &Json, theirs: &Json) -> Option<f64> {
    let (a, b) = (ours[name].as_f64()?, theirs[name].as_f64()?);
    let scale = if name == "loss" {
        1.0
    } else {
        a.abs().max(1.0)
    };
    Some((a - b).abs() / scale)
}

fn report(args: &CheckRecipeArgs, ours: &[Json], theirs: &[Json]) -> Result<()> {
    if ours.len() != theirs.len() {
        bail!("train.py took {} steps of {}", theirs.len(), ours.len());
    }
    let mut largest = (0.0, "loss");
    let mut steps = vec![];
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let loss = difference("loss", a, b).context("train.py has not reported a loss")?;
        let others = FIGURES
            .iter()
            .filter_map(|name| Some((difference(name, a, b)?, *name)));
        let others: Vec<(f64, &str)> = others.collect();
        for found in others.iter().copied().chain([(loss, "loss")]) {
            // Not a number is as wrong as can be.
            if found.0.is_nan() || found.0 > largest.0 {
                largest = found;
            }
        }
        let most = others.iter().max_by(|x, y| x.0.total_cmp(&y.0));
        if !args.json {
            if i == 0 {
                println!("step  loss here       TRL  difference  largest of other figures");
            }
            let [a, b] = [a, b].map(|side| side["loss"].as_f64().unwrap_or(f64::NAN));
            let most = most.map_or_else(String::new, |(d, name)| format!("{d:.1e} ({name})"));
            println!("{:4}  {a:9.5} {b:9.5}  {loss:10.1e}  {most}", i + 1);
        }
        steps.push(json!({"step": i + 1, "siskin": a["loss"], "trl": b["loss"], "difference": loss,
            "figures": others.iter().map(|(d, name)| (name.to_string(), json!(d))).collect::<serde_json::Map<_, _>>()}));
    }
    let is_same = largest.0 <= TOLERANCE;
    if args.json {
        println!(
            "{}",
            json!({"same": is_same, "difference": largest.0, "tolerance": TOLERANCE, "steps": steps})
        );
    }
    if !is_same {
        bail!(
            "`{}` differs by {:.1e}, more than {TOLERANCE}",
            largest.1,
            largest.0
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_found_among_other_lines() {
        let said = "Traceback:\n  File x\nRuntimeError: no driver\n  0%|   | 0/2 [00:00<?]\n";
        assert_eq!(last_words(said), "RuntimeError: no driver");
        assert_eq!(
            last_words("note: a\nbatch_size is 3\n\n"),
            "batch_size is 3"
        );
        assert_eq!(last_words(""), "it said nothing");
    }
}
