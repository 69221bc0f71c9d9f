//! Embedding and reranking.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ModelArgs;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PoolingArg {
    /// The mean of all tokens
    Mean,
    /// The first token, as BERT's [CLS]
    Cls,
    /// The last token
    Last,
}

#[derive(Debug, Args)]
pub struct EmbedArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The texts
    pub texts: Vec<String>,
    /// A file with more texts, one per line; empty lines are left out
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// How a text's vector is made of its tokens' [default: as the model's files say]
    #[arg(long)]
    pub pooling: Option<PoolingArg>,
    /// Only the first dimensions of each vector
    #[arg(long)]
    pub dimensions: Option<usize>,
    /// The name of one of the model's prompts, which is put before each text
    #[arg(long, value_name = "NAME")]
    pub prompt: Option<String>,
    /// Cut texts that are longer than the model takes
    #[arg(long)]
    pub truncate: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RerankArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// What the texts are scored for
    pub query: String,
    /// The texts
    pub texts: Vec<String>,
    /// A file with more texts, one per line; empty lines are left out
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Cut texts that are longer, with the query, than the model takes
    #[arg(long)]
    pub truncate: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
