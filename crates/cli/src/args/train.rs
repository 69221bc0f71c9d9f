use std::path::PathBuf;

use clap::{Args, ValueEnum};
use siskin_gpu::Profile;

use super::profile_parser;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OptimArg {
    /// In f32
    #[value(name = "adamw")]
    AdamW,
    /// In 8 bits, block-wise: less memory, nearly the same steps
    #[value(name = "adamw_8bit")]
    AdamW8bit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ObjectiveArg {
    /// The answers of examples
    Sft,
    /// Pairs of a chosen and a rejected answer, compared with the model as it was
    Dpo,
    /// Pairs: the chosen answer, and its odds against the rejected one
    Orpo,
    /// Pairs, by mean log-probabilities
    Simpo,
    /// Pairs: the chosen answer, and its margin
    Cpo,
    /// Answers with a label, compared with the model as it was
    Kto,
    /// Answers that the model draws to prompts, by how much better each is rewarded than the others
    Grpo,
    /// The same against the mean of the others, close to the model as it was
    Rloo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LossTypeArg {
    Sigmoid,
    Hinge,
    Ipo,
    /// For dpo
    Robust,
    /// For grpo, as the next two
    Dapo,
    Grpo,
    #[value(name = "dr_grpo")]
    DrGrpo,
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// A TOML file with settings that the flags do not give
    pub recipe: Option<PathBuf>,
    /// A GGUF file, a Hugging Face folder, or the name of a downloaded model
    #[arg(long)]
    pub model: Option<String>,
    /// Examples: JSONL, JSON, CSV, TSV or text
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Examples that are held out, instead of a fraction of the others
    #[arg(long, conflicts_with = "validation")]
    pub validation_data: Option<PathBuf>,
    /// A folder for the adapter, its metrics and checkpoints
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// auto, cpu, gpu or gpu:N
    #[arg(long)]
    pub device: Option<String>,
    /// Kernel profile on the GPU, instead of the one chosen for it
    #[arg(long, value_parser = profile_parser())]
    pub profile: Option<Profile>,
    /// What is learned: answers, which answers are preferred, or what is rewarded [default: sft]
    #[arg(long)]
    pub objective: Option<ObjectiveArg>,
    /// Scale of the rewards of preferences [default: 0.1, for simpo 2]; for grpo and rloo, how closely the adapter stays to
    /// the model as it was [default: 0 and 0.05]
    #[arg(long)]
    pub beta: Option<f32>,
    /// How dpo and cpo penalise a margin [default: sigmoid], or what grpo divides losses by [default: dapo]
    #[arg(long)]
    pub loss_type: Option<LossTypeArg>,
    /// What grpo and rloo reward: answer (the record's), json, regex:EXPRESSION, or command:PROGRAM, which reads a JSON
    /// object per line and writes a number for each; several are added
    #[arg(long = "reward", value_name = "REWARD")]
    pub rewards: Vec<String>,
    /// Answers that grpo and rloo draw for each prompt [default: 8]
    #[arg(long)]
    pub num_generations: Option<usize>,
    /// The most tokens of such an answer [default: 128]
    #[arg(long)]
    pub max_completion_length: Option<usize>,
    /// Probability that a pair is taken to be the other way round [default: 0]
    #[arg(long)]
    pub label_smoothing: Option<f32>,
    /// Passes over the examples [default: 3]
    #[arg(long, conflicts_with = "steps")]
    pub epochs: Option<usize>,
    /// Number of steps, instead of passes
    #[arg(long)]
    pub steps: Option<usize>,
    /// Rank of the adapter: determines how much it can learn, and its size [default: 8]
    #[arg(long)]
    pub rank: Option<usize>,
    /// Learn the magnitudes of weights separately from their directions (DoRA)
    #[arg(long)]
    pub dora: bool,
    /// How the optimiser stores its moments [default: adamw]
    #[arg(long)]
    pub optim: Option<OptimArg>,
    /// Peak learning rate [default: 1e-3, for preferences 5e-5, for rewards 1e-4]
    #[arg(long = "lr")]
    pub learning_rate: Option<f32>,
    /// Examples per step [default: 4]
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Truncate examples to this many tokens [default: 512]
    #[arg(long)]
    pub max_seq_len: Option<usize>,
    /// Cut plain texts that are longer into several examples instead, each of which begins with so many tokens of the one
    /// before
    #[arg(long)]
    pub chunk_overlap: Option<usize>,
    /// Fraction of the examples that is held out [default: 0.1]
    #[arg(long)]
    pub validation: Option<f32>,
    /// The same seed gives the same losses on the same device [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Steps between checkpoints
    #[arg(long, default_value_t = 25)]
    pub checkpoint_every: usize,
    /// Resume from the last checkpoint in the folder
    #[arg(long)]
    pub resume: bool,
    /// Replace a training run or an adapter that is already in the folder
    #[arg(long, conflicts_with = "resume")]
    pub force: bool,
    /// Skip unusable examples instead of stopping
    #[arg(long)]
    pub skip_bad: bool,
    /// Print one JSON object at the end instead of the report
    #[arg(long)]
    pub json: bool,
}
