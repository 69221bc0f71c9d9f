//! The models that are measured: the given one and the baselines.

use std::path::{Path, PathBuf};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use siskin_engine::Session;
use siskin_formats::Checkpoint;

use crate::args::EvalArgs;
use crate::open::{Opening, read_adapter, resolve};
use crate::stop;

/// Tokens that one step scores: their logits are read back.
const SCORES: usize = 64;
/// The least tokens that the cache holds, for all sequences together.
const CACHE_TOKENS: usize = 8192;

/// A model, or one with an adapter.
#[derive(Debug)]
pub struct Subject {
    /// As it was given.
    pub label: String,
    path: PathBuf,
    adapter: Option<String>,
}

/// Whether a path, without the strength behind it, is an adapter's.
fn is_adapter(given: &str) -> bool {
    let is = |path: &Path| {
        path.join("adapter_config.json").exists()
            || path.extension().is_some_and(|e| e == "gguf")
                && Checkpoint::open(path).is_ok_and(|c| {
                    let gguf = c.gguf.as_ref();
                    gguf.and_then(|g| g.str("general.type")) == Some("adapter")
                })
    };
    is(Path::new(given))
        || given
            .rsplit_once(':')
            .is_some_and(|(path, _)| is(Path::new(path)))
}

impl Subject {
    /// The model, then its baselines.
    pub fn all(args: &EvalArgs) -> Result<Vec<Self>> {
        let model = args.model.model.display().to_string();
        let own = |adapter: Option<&String>| -> Result<Self> {
            Ok(Self {
                label: match adapter {
                    Some(adapter) => format!("{model} + {adapter}"),
                    None => model.clone(),
                },
                path: resolve(&args.model.model)?,
                adapter: adapter.cloned(),
            })
        };
        let mut all = vec![own(args.adapter.adapter.as_ref())?];
        for given in &args.baseline {
            let baseline = match is_adapter(given) {
                true => own(Some(given))?,
                false => Self {
                    label: given.clone(),
                    path: resolve(Path::new(given))?,
                    adapter: None,
                },
            };
            if all.iter().any(|s| s.label == baseline.label) {
                anyhow::bail!("{} would be compared with itself", baseline.label);
            }
            all.push(baseline);
        }
        Ok(all)
    }

    /// A model that is not measured itself.
    pub fn judge(path: &Path) -> Result<Self> {
        Ok(Self {
            label: path.display().to_string(),
            path: resolve(path)?,
            adapter: None,
        })
    }

    pub async fn open(&self, args: &EvalArgs) -> Result<Session> {
        let opening = Opening::of(&args.model.on, args.parallel)?;
        let opening = opening.scoring(SCORES, CACHE_TOKENS);
        let style = "loading {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(style)?);
        let on_progress = &mut |p: siskin_engine::Progress| {
            bar.set_length(p.total);
            bar.set_position(p.done);
            if stop::flow().is_break() {
                std::process::exit(130);
            }
        };
        let session = opening.open(&self.path, on_progress).await;
        bar.finish_and_clear();
        let mut session = session?;
        if let Some(given) = &self.adapter {
            let adapter = read_adapter(given, &session.model, &session.files().checkpoint)?;
            session.set_adapter(Some(adapter)).await?;
        }
        Ok(session)
    }
}
