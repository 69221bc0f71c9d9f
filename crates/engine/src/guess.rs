//! Guesses of the next tokens. A step runs them behind the last token and chooses a token after each; guesses that are
//! what is chosen save a step each (Y. Leviathan et al., "Fast Inference from Transformers via Speculative Decoding",
//! 2023). They come from a smaller model, or from what followed the last tokens where they stood before, in the prompt or
//! in the answer (prompt lookup decoding: <https://github.com/apoorvumang/prompt-lookup-decoding>).

use std::collections::HashMap;

use crate::answer::GenerateOptions;
use crate::request::{RequestEvent, RequestId};
use crate::{Error, Result, Session};

/// The most tokens to guess at once from those before: a step of some rows costs little more than one of one row.
pub const GUESSES: usize = 8;
/// How many of the last tokens must have stood elsewhere. Fewer are often a coincidence.
const MATCHED: usize = 3;
/// Guesses of a request's first step.
const FIRST: usize = 4;
/// Steps without guesses after some that were all wrong; twice as many after each further time.
const PAUSE: usize = 4;
const LONGEST_PAUSE: usize = 64;

/// How many tokens a request guesses.
#[derive(Debug, Clone)]
pub(crate) struct Guesser {
    /// 0 if it does not guess.
    most: usize,
    /// Of the next step.
    wanted: usize,
    /// Steps to go without guesses.
    paused: usize,
    pause: usize,
}

impl Guesser {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            wanted: FIRST.min(most),
            paused: 0,
            pause: PAUSE,
        }
    }

    /// Whether the next step may have guesses.
    pub fn is_active(&self) -> bool {
        self.most > 0 && self.paused == 0
    }

    /// How many tokens the next step guesses.
    pub fn wanted(&self) -> usize {
        if self.is_active() { self.wanted } else { 0 }
    }

    /// A step begins, with guesses or in a pause.
    pub fn begin(&mut self) {
        self.paused = self.paused.saturating_sub(1);
    }

    /// Learns how many of some guesses were right.
    pub fn learn(&mut self, guessed: usize, right: usize) {
        if guessed == 0 {
            return;
        }
        if right == 0 {
            (self.paused, self.pause) = (self.pause, (2 * self.pause).min(LONGEST_PAUSE));
            self.wanted = FIRST.min(self.most);
        } else {
            self.pause = PAUSE;
            self.wanted = (2 * right).clamp(FIRST.min(self.most), self.most);
        }
    }
}

/// At most `most` tokens that followed the last ones before.
pub(crate) fn repeated(tokens: &[u32], most: usize) -> Vec<u32> {
    let start = tokens.len().checked_sub(MATCHED);
    let Some(start) = start.filter(|n| *n > 0 && most > 0) else {
        return vec![];
    };
    let last = &tokens[start..];
    // The latest place is the likeliest.
    let place = (0..start).rev().find(|at| tokens[*at..].starts_with(last));
    let followed = place.map_or(&[][..], |at| &tokens[at + MATCHED..]);
    followed[..followed.len().min(most)].to_vec()
}

impl Session {
    /// Lets a smaller model with the same vocabulary guess the next tokens, instead of what stood before. It must run as
    /// many sequences, and this session's options must allow guesses ([`crate::OpenOptions::guesses`]).
    ///
    /// # Errors
    /// If it has another vocabulary, or fewer sequences.
    pub fn set_draft(&mut self, draft: Session) -> Result<()> {
        draft.model.check_text()?;
        let misfit = |what: String| Err(Error::Draft { what });
        if let Some(what) = self.text.differs_from(&draft.text) {
            return misfit(what);
        }
        let [ours, its] = [self.sequences(), draft.sequences()];
        if its < ours {
            return misfit(format!("it runs {its} sequences, and the model {ours}"));
        }
        self.draft = Some(Box::new(draft));
        Ok(())
    }

    /// Asks the smaller model for the guesses of the next step. Its choices are drawn with the same noise, which makes them
    /// likelier to be the same.
    pub(crate) async fn draft(&mut self) -> Result<()> {
        let Some(draft) = &mut self.draft else {
            return Ok(());
        };
        let mut asked = HashMap::new();
        for request in self.schedule.decoding() {
            let wanted = request.guesser.wanted();
            if wanted == 0 || request.tokens.len() + wanted > draft.context() {
                continue;
            }
            let options = GenerateOptions {
                sampling: request.options.sampling,
                logit_bias: request.options.logit_bias.clone(),
                max_tokens: wanted,
                ignore_end: true,
                ..GenerateOptions::default()
            };
            // A token that the smaller model has no row for.
            let Ok(id) = draft.submit(&request.tokens, options) else {
                continue;
            };
            asked.insert(id, request.id);
        }
        let mut drafted: HashMap<RequestId, Vec<u32>> = HashMap::new();
        while !draft.is_idle() {
            let step: crate::LocalFuture<'_, _> = Box::pin(draft.step());
            for update in step.await? {
                if let (RequestEvent::Done(answer), Some(id)) =
                    (update.event, asked.get(&update.request))
                {
                    drafted.insert(*id, answer.ids);
                }
            }
        }
        for request in self.schedule.decoding() {
            request.drafted = Some(drafted.remove(&request.id).unwrap_or_default());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Guesser, repeated};

    #[test]
    fn what_followed_before_is_guessed() {
        let tokens = [1, 2, 3, 4, 5, 6, 9, 1, 2, 3];
        assert_eq!(repeated(&tokens, 4), [4, 5, 6, 9]);
        assert_eq!(repeated(&tokens, 2), [4, 5]);
        assert_eq!(repeated(&tokens, 8), [4, 5, 6, 9, 1, 2, 3]);
        assert!(repeated(&tokens, 0).is_empty());
        assert!(repeated(&[1, 2, 3, 9, 2, 3], 8).is_empty());
        assert!(repeated(&[1, 2], 8).is_empty());
    }

    #[test]
    fn more_are_guessed_after_those_that_were_right() {
        let mut guesser = Guesser::new(8);
        assert_eq!(guesser.wanted(), 4);
        guesser.learn(4, 4);
        assert_eq!(guesser.wanted(), 8);
        guesser.learn(8, 1);
        assert_eq!(guesser.wanted(), 4);
        assert_eq!(Guesser::new(0).wanted(), 0);
    }

    #[test]
    fn it_pauses_where_guesses_are_wrong() {
        let mut guesser = Guesser::new(8);
        let mut tries = 0;
        for _ in 0..400 {
            let guessed = guesser.wanted();
            guesser.begin();
            tries += usize::from(guessed > 0);
            guesser.learn(guessed, 0);
        }
        assert!((5..12).contains(&tries), "{tries}");
    }
}
