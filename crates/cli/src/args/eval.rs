//! Measuring models on tasks.

use std::path::PathBuf;

use clap::Args;

use super::{AdapterArgs, ModelArgs, at_least_one};

#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// A task, in YAML or JSON, with the keys of lm-evaluation-harness's task files (several can be given)
    #[arg(long = "task", value_name = "FILE", required = true, num_args = 1..)]
    pub tasks: Vec<PathBuf>,
    /// Data in place of that which the task names: JSON lines, a JSON array, or text (can be repeated)
    #[arg(long, value_name = "[SPLIT=]FILE")]
    pub data: Vec<String>,
    /// Examples before each question [default: the task's]
    #[arg(long, value_name = "N")]
    pub num_fewshot: Option<usize>,
    /// Only the first N records of each task
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub limit: Option<usize>,
    /// Measure another model, or the same one with another adapter, on the same records, and test whether they differ (can be
    /// repeated)
    #[arg(long, value_name = "MODEL|ADAPTER")]
    pub baseline: Vec<String>,
    /// Have this model say, record by record and in both orders, whether the model's answer or a baseline's is better
    #[arg(long, value_name = "MODEL", requires = "baseline")]
    pub judge: Option<PathBuf>,
    /// Write each record's results to this file, as JSON lines; what is in it already is not measured again
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Sequences that run side by side
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub parallel: usize,
    /// Where answers are drawn, the same seed gives the same ones
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
