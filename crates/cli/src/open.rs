//! Opens a session from command-line arguments.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use siskin_engine::{
    Adapter, DeviceRequest, GUESSES, GenerateOptions, ModelFiles, OpenOptions, Precision, Progress,
    RopeScaling, Sampling, Session, new_seed,
};
use siskin_formats::Checkpoint;
use siskin_models::Model;

use crate::args::{AdapterArgs, DeviceArgs, DraftArg, ModelArgs, PrecisionArg, SamplingArgs};
use crate::stop;

/// Where `cargo xtask demo` keeps the models that it downloads; `SISKIN_MODELS` sets another folder.
fn models_dir() -> PathBuf {
    std::env::var_os("SISKIN_MODELS").map_or_else(|| "models".into(), PathBuf::from)
}

/// A path, or the name of a downloaded model.
pub fn resolve(model: &Path) -> Result<PathBuf> {
    if model.exists() {
        return Ok(model.into());
    }
    let dir = models_dir();
    let named = dir.join(model).with_extension("gguf");
    let as_is = dir.join(format!("{}.gguf", model.display()));
    if let Some(found) = [as_is, named].into_iter().find(|p| p.exists()) {
        return Ok(found);
    }
    let known: Vec<String> = std::fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok()?.path().file_stem()?.to_str().map(String::from))
        .collect();
    let known = if known.is_empty() {
        "none; `cargo xtask demo` downloads one".into()
    } else {
        known.join(", ")
    };
    bail!(
        "no model `{}`: it is neither a path nor a downloaded model ({known})",
        model.display()
    )
}

pub fn device_request(args: &DeviceArgs) -> Result<DeviceRequest> {
    let profile = args.profile;
    Ok(match args.device {
        DeviceRequest::Cpu if profile.is_some() => {
            bail!("--profile needs a GPU; add --device gpu")
        }
        DeviceRequest::Auto if profile.is_some() => DeviceRequest::Gpu {
            index: None,
            profile,
        },
        DeviceRequest::Gpu { index, .. } => DeviceRequest::Gpu { index, profile },
        device => device,
    })
}

/// Opens the model for one answer at a time.
pub async fn open(args: &ModelArgs) -> Result<Session> {
    open_for(&args.model, &args.on, 1).await
}

/// How models are opened.
#[derive(Debug)]
pub struct Opening {
    options: OpenOptions,
    rope_scaling: Option<RopeScaling>,
    /// The model that guesses.
    draft: Option<PathBuf>,
}

impl Opening {
    /// For so many answers at once.
    pub fn of(args: &DeviceArgs, sequences: usize) -> Result<Self> {
        let draft = match &args.draft {
            DraftArg::Model(draft) => Some(resolve(draft)?),
            DraftArg::None | DraftArg::Ngram => None,
        };
        Ok(Self {
            options: OpenOptions {
                device: device_request(args)?,
                context: args.ctx,
                cache_types: args.cache.types(),
                precision: match args.precision {
                    PrecisionArg::Fast => Precision::Fast,
                    PrecisionArg::F32 => Precision::F32,
                },
                sequences,
                cache_tokens: None,
                scores: 0,
                guesses: match args.draft {
                    DraftArg::None => 0,
                    DraftArg::Ngram | DraftArg::Model(_) => GUESSES,
                },
            },
            rope_scaling: args.rope_scaling.map(|kind| RopeScaling {
                kind,
                factor: args.rope_factor.unwrap_or(1.0),
                original_context: args.rope_original_ctx,
            }),
            draft,
        })
    }

    /// Also for texts that are scored: so many tokens in a step. Texts begin alike, so that their cache need not hold a
    /// context for each.
    pub fn scoring(mut self, scores: usize, cache_tokens: usize) -> Self {
        self.options.scores = scores;
        self.options.cache_tokens = Some(cache_tokens);
        self
    }

    /// With room for so many tokens of all answers together, at least a context.
    pub fn with_cache(mut self, tokens: usize) -> Self {
        self.options.cache_tokens = Some(tokens);
        self
    }

    pub async fn open(
        &self,
        path: &Path,
        on_progress: &mut dyn FnMut(Progress),
    ) -> siskin_engine::Result<Session> {
        let files = match &self.rope_scaling {
            Some(scaling) => ModelFiles::open_scaled(path, scaling)?,
            None => ModelFiles::open(path)?,
        };
        let mut session = Session::load(files, &self.options, on_progress).await?;
        if let Some(draft) = &self.draft {
            let options = OpenOptions {
                guesses: 0,
                context: None,
                ..self.options.clone()
            };
            session.set_draft(Session::open(draft, &options, on_progress).await?)?;
        }
        Ok(session)
    }
}

/// Opens a model for so many answers at once, with a progress bar on stderr if that is a terminal.
pub async fn open_for(model: &Path, args: &DeviceArgs, sequences: usize) -> Result<Session> {
    open_as(model, &Opening::of(args, sequences)?).await
}

/// Opens a model with a progress bar on stderr if that is a terminal.
pub async fn open_as(model: &Path, opening: &Opening) -> Result<Session> {
    let path = resolve(model)?;
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("loading {bar:30} {bytes}/{total_bytes} {bytes_per_sec}")
            .context("progress style")?,
    );
    let on_progress = &mut |p: Progress| {
        bar.set_length(p.total);
        bar.set_position(p.done);
        if stop::flow().is_break() {
            std::process::exit(130);
        }
    };
    let session = opening.open(&path, on_progress).await;
    bar.finish_and_clear();
    Ok(session?)
}

/// Opens the model and applies the adapter.
pub async fn open_adapted(args: &ModelArgs, adapter: &AdapterArgs) -> Result<Session> {
    open_adapted_for(args, adapter, 1).await
}

/// As [`open_adapted`], for so many answers at once.
pub async fn open_adapted_for(
    args: &ModelArgs,
    adapter: &AdapterArgs,
    sequences: usize,
) -> Result<Session> {
    let mut session = open_for(&args.model, &args.on, sequences).await?;
    if let Some(given) = &adapter.adapter {
        let adapter = read_adapter(given, &session.model, &session.files().checkpoint)?;
        session.set_adapter(Some(adapter)).await?;
    }
    Ok(session)
}

/// `ADAPTER` or `ADAPTER:SCALE`: a folder or a GGUF file. Prints a note if it seems to be for another model.
pub fn read_adapter(given: &str, model: &Model, checkpoint: &Checkpoint) -> Result<Adapter> {
    let split = given.rsplit_once(':').and_then(|(path, scale)| {
        let scale: f32 = scale.parse().ok().filter(|s: &f32| s.is_finite())?;
        Some((path, scale))
    });
    let (path, strength) = match split {
        Some(split) if !Path::new(given).exists() => split,
        _ => (given, 1.0),
    };
    let path = Path::new(path);
    let mut adapter = if path.extension().is_some_and(|e| e == "gguf") {
        Adapter::from_gguf(&Checkpoint::open(path)?, model)?
    } else {
        Adapter::open(path)?
    };
    adapter.strength = strength;
    if let Some(base) = adapter.other_base(checkpoint) {
        let (path, model) = (path.display(), &checkpoint.name);
        eprintln!("note: {path} was made for {base}, but this model is {model}");
    }
    Ok(adapter)
}

impl SamplingArgs {
    pub fn options(&self) -> GenerateOptions {
        GenerateOptions {
            sampling: Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repeat_penalty: self.repeat_penalty,
                seed: self.seed.unwrap_or_else(new_seed),
            },
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            logit_bias: self.logit_bias.iter().copied().collect(),
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            keep: self.keep,
            ..GenerateOptions::default()
        }
    }
}
