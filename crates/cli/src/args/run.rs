use std::path::PathBuf;

use clap::Args;

use super::{AdapterArgs, ModelArgs, SamplingArgs, ShapeArgs, ToolArgs, at_least_one};

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// The prompt
    pub prompt: String,
    /// A system message before the prompt
    #[arg(long, conflicts_with = "raw")]
    pub system: Option<String>,
    /// Parse control tokens, such as <|im_end|>, in messages
    #[arg(long, conflicts_with = "tools")]
    pub allow_special_tokens: bool,
    /// Continue the prompt as plain text, without the chat template
    #[arg(long, conflicts_with = "tools")]
    pub raw: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub shape: ShapeArgs,
    #[command(flatten)]
    pub tools: ToolArgs,
    /// Continue the conversation in this file, if it is there, and save it there with the answer
    #[arg(long, value_name = "FILE", conflicts_with_all = ["raw", "samples", "beams"])]
    pub session: Option<PathBuf>,
    /// Give so many answers, with consecutive seeds
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one, conflicts_with = "tools")]
    pub samples: usize,
    /// Print only what most of the samples agree on: the last match of REGEX in each, or its first group [default: the
    /// whole answer]
    #[arg(long, value_name = "REGEX", num_args = 0..=1, require_equals = true, default_missing_value = "(?s).+", requires = "samples")]
    pub vote: Option<String>,
    /// Search for the likeliest answer with so many beams, instead of choosing token by token
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with_all = ["samples", "logprobs", "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "frequency_penalty", "presence_penalty", "logit_bias", "seed", "stop", "keep", "json_schema", "grammar", "regex", "choices", "tools"])]
    pub beams: Option<usize>,
    /// A beam's score is its log-probability over its length to this power [default: 1]
    #[arg(
        long,
        value_name = "P",
        requires = "beams",
        allow_negative_numbers = true
    )]
    pub length_penalty: Option<f32>,
    /// Log-probabilities of each token and of this many most likely ones (with --json)
    #[arg(long, requires = "json")]
    pub logprobs: Option<usize>,
    /// Print one JSON object at the end instead of streaming
    #[arg(long)]
    pub json: bool,
}
