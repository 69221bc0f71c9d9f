pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name} holds no examples: {what}")]
    NoExamples { name: String, what: String },
    #[error("cannot read {name}: {what}")]
    Data { name: String, what: String },
    #[error("{field} is {value}; {range}")]
    Option {
        field: &'static str,
        value: String,
        range: &'static str,
    },
    #[error(
        "the loss of step {step} is {loss}, which is no number to learn from; try a lower learning rate \
         (it was {learning_rate:e}); the last checkpoint is still good"
    )]
    NotFinite {
        step: usize,
        loss: f32,
        learning_rate: f32,
    },
    #[error("the checkpoint is damaged: {0}")]
    Checkpoint(String),
    #[error("the checkpoint was made with other {0}; start anew, or give what it was made with")]
    OtherTraining(String),
    #[error(transparent)]
    Engine(#[from] siskin_engine::Error),
    #[error(transparent)]
    Text(#[from] siskin_text::Error),
    #[error(transparent)]
    Models(#[from] siskin_models::Error),
}
