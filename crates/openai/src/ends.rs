//! The tokens that end an answer, which are no part of its text.

use siskin_engine::Answer;
use siskin_text::TextModel;

#[derive(Debug, Clone)]
pub struct Ends(Vec<u32>);

impl Ends {
    pub fn of(text: &TextModel) -> Self {
        Self(text.end_tokens().collect())
    }

    /// Leaves the log-probability of the end out of an answer.
    pub fn leave_out(&self, answer: &mut Answer) {
        answer.logprobs.pop_if(|last| self.0.contains(&last.id));
    }
}
