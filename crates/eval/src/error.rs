/// The result of reading or running a task.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a task cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of a task whose value is not understood, or that is missing.
    #[error("`{key}` {what}")]
    Key {
        /// The key, with those around it: `metric_list[0].metric`.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// A record of the data that the task cannot use.
    #[error("record {number}: {what}")]
    Record {
        /// Which one, from 1 on.
        number: usize,
        /// What is wrong.
        what: String,
    },
    /// The data as a whole.
    #[error("{0}")]
    Data(String),
    /// The model.
    #[error(transparent)]
    Engine(#[from] siskin_engine::Error),
    /// The tokenizer.
    #[error(transparent)]
    Text(#[from] siskin_text::Error),
}

/// An error of a key.
pub(crate) fn bad<T>(key: impl Into<String>, what: impl Into<String>) -> Result<T> {
    Err(Error::Key {
        key: key.into(),
        what: what.into(),
    })
}
