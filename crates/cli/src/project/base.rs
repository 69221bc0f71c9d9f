//! What the base model is for another tool: its name, how it is stored, and the projections to adapt.

use anyhow::{Result, bail};
use siskin_engine::{Adapter, ModelFiles};
use siskin_formats::TensorType;
use siskin_models::Head;
use siskin_train::TrainOptions;

/// Where files name the repository that they are from.
const REPOSITORY: [&str; 3] = [
    "general.source.repo_url",
    "general.source.huggingface.repository",
    "general.repo_url",
];

pub struct Base {
    pub name: String,
    /// Whether it is to be loaded in NF4, as it is here.
    pub in_4bit: bool,
    /// Names of the linears to adapt.
    pub targets: Vec<String>,
    /// The tokens of [`PROBE`].
    pub probe: Vec<u32>,
}

/// A text that tokenizers of different models cut in different ways.
pub const PROBE: &str = "The naïve fox's 12345 jumps:\n\tfn f(x) -> 模型 🦊 {  return x; }";

impl Base {
    pub fn of(files: &ModelFiles, given: Option<&str>, options: &TrainOptions) -> Result<Self> {
        let checkpoint = &files.weights.checkpoint;
        if !files.model.makes_text() {
            bail!(
                "{} makes no text; such models are not trained",
                checkpoint.name
            );
        }
        if files.model.is_within_vision() {
            bail!(
                "{} is part of a model for images, whose other parts a tool would adapt, too; use a model for text",
                checkpoint.name
            );
        }
        Ok(Self {
            name: name(files, given)?,
            in_4bit: checkpoint.tensors.iter().any(|t| t.ty == TensorType::NF4),
            targets: targets(files, options)?,
            probe: probe(files)?,
        })
    }
}

fn probe(files: &ModelFiles) -> Result<Vec<u32>> {
    let tokens = files.text.encode(PROBE)?;
    Ok(tokens.iter().filter(|t| !t.special).map(|t| t.id).collect())
}

fn name(files: &ModelFiles, given: Option<&str>) -> Result<String> {
    if let Some(name) = given {
        if !is_repository(name) {
            bail!("--base is `{name}`; it must be OWNER/NAME, as on the Hugging Face hub");
        }
        return Ok(name.into());
    }
    let checkpoint = &files.weights.checkpoint;
    let gguf = checkpoint.gguf.iter();
    let mut said = gguf.flat_map(|g| REPOSITORY.iter().filter_map(|key| g.str(key)));
    let found = said.find_map(|url| {
        let name = url.strip_prefix("https://huggingface.co/").unwrap_or(url);
        is_repository(name).then(|| name.to_string())
    });
    match found {
        Some(name) => Ok(name),
        None => bail!(
            "{} does not say which model of the Hugging Face hub it is; use --base OWNER/NAME",
            checkpoint.name
        ),
    }
}

fn is_repository(name: &str) -> bool {
    let is_part = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
    };
    name.split_once('/')
        .is_some_and(|(owner, name)| is_part(owner) && is_part(name))
}

/// The last parts of names, which also fit a larger model. Experts' matrices have the same ones as others, so a mixture's
/// are named in full.
fn targets(files: &ModelFiles, options: &TrainOptions) -> Result<Vec<String>> {
    let graph = files.model.graph(Head::Next)?;
    let config = options.adapter_config("");
    let adapter = Adapter::new("the recipe", &graph, &options.target_modules, config, 0)?;
    let has_experts = files.model.experts()?.is_some();
    let names = adapter.modules.iter().map(|m| match has_experts {
        true => m.name.as_str(),
        false => m.name.rsplit('.').next().unwrap_or(&m.name),
    });
    let mut names: Vec<String> = names.map(String::from).collect();
    names.sort();
    names.dedup();
    Ok(names)
}
