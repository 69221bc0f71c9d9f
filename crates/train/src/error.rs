pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name} contains no examples: {what}")]
    NoExamples { name: String, what: String },
    #[error("cannot read {name}: {what}")]
    Data { name: String, what: String },
    #[error("{name} is {what}")]
    NotText { name: String, what: &'static str },
    #[error("{field} is {value}; {range}")]
    Option {
        field: &'static str,
        value: String,
        range: &'static str,
    },
    #[error(
        "all answers of {name} (records {first} to {last}) have the `label` {label}; the objective kto needs both \
         kinds"
    )]
    OneLabel {
        name: String,
        first: usize,
        last: usize,
        label: bool,
    },
    #[error(
        "the loss of step {step} is {loss}, so training cannot continue; try a lower learning rate \
         (it was {learning_rate:e})"
    )]
    NotFinite {
        step: usize,
        loss: f32,
        learning_rate: f32,
    },
    #[error("a step of this objective needs rewards: draw its answers, and learn from them")]
    NoRewards,
    #[error("there are {found} rewards for {wanted} answers")]
    Rewards { found: usize, wanted: usize },
    #[error(
        "the reward of an answer to record {line} is {reward}, which is no number to learn from"
    )]
    Reward { line: usize, reward: f32 },
    #[error(
        "all {answers} answers of the first step have the reward {reward}, so there is nothing to learn: use prompts that \
         the model answers now well, now badly, a reward with degrees, or more `num_generations`"
    )]
    ConstantReward { answers: usize, reward: f32 },
    #[error("the checkpoint is damaged: {0}")]
    Checkpoint(String),
    #[error("the checkpoint was made with other {0}; start over, or use what it was made with")]
    OtherTraining(String),
    #[error("the checkpoint was made after step {done}, but this training run has {steps} steps")]
    PastTheEnd { done: usize, steps: usize },
    #[error(transparent)]
    Engine(#[from] siskin_engine::Error),
    #[error(transparent)]
    Text(#[from] siskin_text::Error),
    #[error(transparent)]
    Models(#[from] siskin_models::Error),
}
