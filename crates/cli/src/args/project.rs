//! Recipes for other tools.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ToolArg {
    /// Hugging Face's trainers
    Trl,
    Axolotl,
    /// TRL's trainers over Unsloth's model, on one GPU
    Unsloth,
    LlamaFactory,
}

#[derive(Debug, Args)]
pub struct RecipeArgs {
    /// The recipe of `siskin train`
    pub recipe: PathBuf,
    /// The tool that is to train
    #[arg(long, value_name = "TOOL")]
    pub to: ToolArg,
    /// The folder to write
    #[arg(long)]
    pub out: PathBuf,
    /// The model's name on the Hugging Face hub [default: what its file says, if it does]
    #[arg(long, value_name = "OWNER/NAME")]
    pub base: Option<String>,
    /// Overwrite what already exists
    #[arg(long)]
    pub force: bool,
    /// Skip unusable examples instead of stopping
    #[arg(long)]
    pub skip_bad: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CheckRecipeArgs {
    /// A folder that `siskin recipe --to trl` wrote
    pub folder: PathBuf,
    /// The Python that has TRL
    #[arg(long, default_value = "python3")]
    pub python: PathBuf,
    /// A Hugging Face folder to train on both sides, instead of a small random model
    #[arg(long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// Steps to compare
    #[arg(long, default_value_t = 3, value_parser = super::at_least_one)]
    pub steps: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
