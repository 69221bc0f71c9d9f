//! How tokens are chosen, and what an answer must look like.

use std::path::PathBuf;

use clap::Args;

fn parse_bias(s: &str) -> Result<(u32, f32), String> {
    let parsed = s
        .split_once('=')
        .and_then(|(token, bias)| Some((token.trim().parse().ok()?, bias.trim().parse().ok()?)));
    parsed.ok_or_else(|| {
        "use TOKEN=BIAS, a token's id and a number (`siskin tokenize` shows ids)".into()
    })
}

#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// 0 always chooses the most likely token
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    pub top_k: u32,
    /// Keep the smallest set of most likely tokens whose probabilities add up to this
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub top_p: f32,
    /// Keep tokens that are at least this fraction as likely as the most likely one
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub min_p: f32,
    /// Values above 1 make tokens that are already in the context less likely
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub repeat_penalty: f32,
    /// Subtracted from a token's logit for each time that the answer has it already, from -2 to 2
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pub frequency_penalty: f32,
    /// Subtracted from a token's logit if the answer has it already, from -2 to 2
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pub presence_penalty: f32,
    /// Added to the logit of a token, given by its id: from -100, which bans it, to 100 (can be repeated)
    #[arg(long, value_name = "TOKEN=BIAS", value_parser = parse_bias)]
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same tokens [default: a new one for each answer; --json reports it]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Maximum length of the answer, in tokens
    #[arg(long, default_value_t = 512)]
    pub max_tokens: usize,
    /// End the answer before this text (can be repeated)
    #[arg(long)]
    pub stop: Vec<String>,
    /// Continue when the context is full: the first N tokens stay, and half of the others are dropped [default: end the
    /// answer]
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
}

/// What an answer must look like.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct ShapeArgs {
    /// The answer is JSON that this schema allows: a file, or the schema itself
    #[arg(long, value_name = "FILE|TEXT")]
    pub json_schema: Option<String>,
    /// The answer follows this grammar, in Lark's notation or llama.cpp's (GBNF)
    #[arg(long, value_name = "FILE")]
    pub grammar: Option<PathBuf>,
    /// The answer is what this regular expression matches
    #[arg(long, value_name = "REGEX")]
    pub regex: Option<String>,
    /// The answer is this text, or another one that is given in the same way
    #[arg(long = "choice", value_name = "TEXT")]
    pub choices: Vec<String>,
}
