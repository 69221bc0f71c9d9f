//! Merging, quantising and converting.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ModelArgs;

/// Servers for more than one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServerArg {
    Vllm,
    /// Hugging Face's text-generation-inference
    Tgi,
}

#[derive(Debug, Args)]
pub struct MergeArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a downloaded model
    pub model: PathBuf,
    /// A LoRA adapter's folder or GGUF file; `DIR:0.5` merges it at half strength
    #[arg(value_name = "DIR[:SCALE]")]
    pub adapter: String,
    /// A file name ending in .gguf, or a folder for safetensors
    #[arg(long)]
    pub out: PathBuf,
    /// Overwrite what already exists
    #[arg(long)]
    pub force: bool,
    /// Also write the line that serves the folder, to SERVE.md in it
    #[arg(long, value_name = "SERVER")]
    pub to: Option<ServerArg>,
    /// As for `quantize` [default: each tensor's own; for quantised ones that change q8_0, or f16 in a folder]
    #[arg(long = "type", value_name = "TYPE")]
    pub ty: Option<String>,
}

#[derive(Debug, Args)]
pub struct QuantizeArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a downloaded model
    pub model: PathBuf,
    /// f32, f16 or bf16; for GGUF also q8_0, q6_k, q5_k_m, q5_k_s, q5_1, q5_0, q4_k_m, q4_k_s, q4_1, q4_0, iq4_nl,
    /// iq4_xs, q3_k_l, q3_k_m, q3_k_s, q2_k; for a folder also nf4 (bitsandbytes' layout)
    #[arg(long = "type", value_name = "TYPE")]
    pub ty: String,
    /// A file of `siskin imatrix` or llama-imatrix, which says how much each column matters
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,
    /// A file name ending in .gguf, or a folder for safetensors
    #[arg(long)]
    pub out: PathBuf,
    /// Overwrite what already exists
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct ImatrixArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// A text file, of what the model will be used for
    #[arg(long)]
    pub data: PathBuf,
    /// The GGUF file to write
    #[arg(long)]
    pub out: PathBuf,
    /// Tokens that are read at once; what is left of the text is not used
    #[arg(long, default_value_t = 512)]
    pub chunk: usize,
    /// Overwrite what already exists
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a downloaded model; with --base, an adapter
    pub model: PathBuf,
    /// The model that the adapter is for
    #[arg(long, value_name = "MODEL", conflicts_with = "ty")]
    pub base: Option<PathBuf>,
    /// A file name ending in .gguf, or a folder for safetensors
    #[arg(long)]
    pub out: PathBuf,
    /// Overwrite what already exists
    #[arg(long)]
    pub force: bool,
    /// As for `quantize` [default: each tensor's own; f16 for quantised ones in a folder]
    #[arg(long = "type", value_name = "TYPE")]
    pub ty: Option<String>,
}
