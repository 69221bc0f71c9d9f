//! Which model runs, where and how.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use siskin_engine::{CacheType, CacheTypes, DeviceRequest, RopeScalingKind};
use siskin_gpu::Profile;

pub fn parse_device(s: &str) -> Result<DeviceRequest, String> {
    s.parse()
        .map_err(|_| "use auto, cpu, gpu or gpu:N (`siskin devices` lists them)".into())
}

/// The profiles that have names, by name.
pub fn profile_parser() -> impl TypedValueParser<Value = Profile> {
    PossibleValuesParser::new(Profile::NAMED.map(|(name, _)| name))
        .try_map(|name| name.parse::<Profile>())
}

fn cache_type_parser() -> impl TypedValueParser<Value = CacheType> {
    PossibleValuesParser::new(CacheType::ALL.map(CacheType::name))
        .try_map(|name| name.parse::<CacheType>())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// Integer activations where that is faster
    Fast,
    /// f32 throughout
    F32,
}

/// Where guesses of the next tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DraftArg {
    None,
    /// What followed the last tokens where they stood before, in the prompt or the answer.
    Ngram,
    /// A smaller model with the same vocabulary.
    Model(PathBuf),
}

fn parse_draft(s: &str) -> Result<DraftArg, String> {
    Ok(match s {
        "none" => DraftArg::None,
        "ngram" => DraftArg::Ngram,
        model => DraftArg::Model(model.into()),
    })
}

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a model that `cargo xtask demo` downloaded
    pub model: PathBuf,
    #[command(flatten)]
    pub on: DeviceArgs,
}

/// How the KV cache stores keys and values.
#[derive(Debug, Clone, Copy, Args)]
pub struct CacheArgs {
    /// Type of the KV cache
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = cache_type_parser())]
    pub cache: CacheType,
    /// Type of its keys [default: that of --cache]
    #[arg(long, value_name = "TYPE", value_parser = cache_type_parser())]
    pub cache_type_k: Option<CacheType>,
    /// Type of its values [default: that of --cache]
    #[arg(long, value_name = "TYPE", value_parser = cache_type_parser())]
    pub cache_type_v: Option<CacheType>,
}

impl Default for CacheArgs {
    fn default() -> Self {
        Self {
            cache: CacheType::F16,
            cache_type_k: None,
            cache_type_v: None,
        }
    }
}

impl CacheArgs {
    pub fn types(self) -> CacheTypes {
        CacheTypes {
            keys: self.cache_type_k.unwrap_or(self.cache),
            values: self.cache_type_v.unwrap_or(self.cache),
        }
    }
}

/// Where and how a model runs.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    pub device: DeviceRequest,
    /// Kernel profile on the GPU, instead of the one chosen for it
    #[arg(long, value_parser = profile_parser())]
    pub profile: Option<Profile>,
    /// Context length in tokens [default: the model's own, at most 4096]
    #[arg(long)]
    pub ctx: Option<usize>,
    /// How rotary frequencies are scaled for a longer context, in place of the model's own scaling
    #[arg(
        long,
        value_name = "none|linear|yarn",
        requires_if("linear", "rope_factor"),
        requires_if("yarn", "rope_factor")
    )]
    pub rope_scaling: Option<RopeScalingKind>,
    /// How many times longer the context gets
    #[arg(long, value_name = "F", requires = "rope_scaling")]
    pub rope_factor: Option<f32>,
    /// The context that the model was trained for without scaling [default: what the file says]
    #[arg(long, value_name = "N", requires = "rope_scaling")]
    pub rope_original_ctx: Option<usize>,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Arithmetic on the CPU
    #[arg(long, default_value = "fast")]
    pub precision: PrecisionArg,
    /// Guesses of the next tokens, which save steps where they are right; the answers are the same. `ngram` takes what
    /// followed the same tokens before; a model, which must have the same vocabulary, is asked at each step
    #[arg(long, value_name = "none|ngram|MODEL", default_value = "none", value_parser = parse_draft)]
    pub draft: DraftArg,
}

/// An adapter on top of a model.
#[derive(Debug, Clone, Args)]
pub struct AdapterArgs {
    /// A LoRA adapter: a folder as saved by PEFT or `siskin train`, or a GGUF file; `DIR:0.5` applies it at half strength
    #[arg(long, value_name = "DIR[:SCALE]")]
    pub adapter: Option<String>,
}
