use std::path::PathBuf;

use clap::Args;

use super::{ModelArgs, SamplingArgs, ToolArgs};

#[derive(Debug, Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// LoRA adapters, as for `run`; the first one is used, and /adapter switches
    #[arg(long = "adapter", value_name = "DIR[:SCALE]")]
    pub adapters: Vec<String>,
    /// Continue the conversation in this file, if it is there, and save it there at the end
    #[arg(long, value_name = "FILE")]
    pub session: Option<PathBuf>,
    /// A system message before the conversation
    #[arg(long)]
    pub system: Option<String>,
    /// Parse control tokens, such as <|im_end|>, in messages
    #[arg(long, conflicts_with = "tools")]
    pub allow_special_tokens: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub tools: ToolArgs,
}
