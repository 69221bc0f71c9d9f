//! What only looks at models and devices.

use std::path::PathBuf;

use clap::Args;

use siskin_engine::DeviceRequest;
use siskin_gpu::Profile;

use super::{AdapterArgs, CacheArgs, ModelArgs, parse_device, profile_parser};

#[derive(Debug, Args)]
pub struct TokenizeArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a downloaded model
    pub model: PathBuf,
    pub text: String,
    /// Apply the chat template to the text as a user message
    #[arg(long)]
    pub chat: bool,
    /// Parse control tokens, such as <|im_end|>, in messages
    #[arg(long)]
    pub allow_special_tokens: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a downloaded model
    pub model: PathBuf,
    /// Context length for the memory figures [default: the model's own, at most 4096]
    #[arg(long)]
    pub ctx: Option<usize>,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// List every tensor, not only the totals by type
    #[arg(long)]
    pub tensors: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct LogitsArgs {
    /// Tokens per batch; 1 uses the decode kernels instead of the prefill ones
    #[arg(long, default_value_t = siskin_engine::TRACE_ROWS)]
    pub rows: usize,
    /// Also write the hidden states and attention outputs of every layer
    #[arg(long)]
    pub trace: bool,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// Token ids, separated by commas
    #[arg(long, value_delimiter = ',', required = true)]
    pub tokens: Vec<u32>,
    /// The safetensors file to write: the tensor `logits`, f32 [T, vocab], and those of --trace
    #[arg(long)]
    pub out: PathBuf,
    /// Overwrite what already exists
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Tokens to prefill
    #[arg(short, long, default_value_t = 512)]
    pub prompt: usize,
    /// Tokens to decode
    #[arg(short, long, default_value_t = 64)]
    pub n: usize,
    /// Number of runs; the median is reported
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Answers that run at once; the decode speed is that of all together
    #[arg(long, default_value_t = 1)]
    pub parallel: usize,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CertifyArgs {
    /// gpu or gpu:N [default: the most capable]
    #[arg(long, default_value = "gpu", value_parser = parse_device)]
    pub device: DeviceRequest,
    /// Kernel profile, instead of the one chosen for the GPU
    #[arg(long, value_parser = profile_parser())]
    pub profile: Option<Profile>,
    /// Print the certificate as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DevicesArgs {
    #[arg(long)]
    pub json: bool,
}
