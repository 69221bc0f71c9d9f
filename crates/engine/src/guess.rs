//! Guesses of the next tokens, without a second model: what followed the last tokens where they stood before, in the
//! prompt or in the answer (prompt lookup decoding: <https://github.com/apoorvumang/prompt-lookup-decoding>). A step runs
//! them behind the last token and chooses a token after each; guesses that are what is chosen save a step each.

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

    /// At most `most` tokens that may follow; a step without them counts as a pause.
    pub fn guess(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        if !self.is_active() {
            self.paused = self.paused.saturating_sub(1);
            return vec![];
        }
        let Some(start) = tokens.len().checked_sub(MATCHED).filter(|n| *n > 0) else {
            return vec![];
        };
        let last = &tokens[start..];
        // The latest place is the likeliest.
        let place = (0..start).rev().find(|at| tokens[*at..].starts_with(last));
        let followed = place.map_or(&[][..], |at| &tokens[at + MATCHED..]);
        followed[..followed.len().min(self.wanted).min(most)].to_vec()
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

#[cfg(test)]
mod tests {
    use super::Guesser;

    #[test]
    fn what_followed_before_is_guessed() {
        let mut guesser = Guesser::new(8);
        let tokens = [1, 2, 3, 4, 5, 6, 9, 1, 2, 3];
        assert_eq!(guesser.guess(&tokens, 8), [4, 5, 6, 9]);
        assert_eq!(guesser.guess(&tokens, 2), [4, 5]);
        // More after those that were right.
        guesser.learn(4, 4);
        assert_eq!(guesser.guess(&tokens, 8), [4, 5, 6, 9, 1, 2, 3]);
        assert!(guesser.guess(&[1, 2, 3, 9, 2, 3], 8).is_empty());
        assert!(guesser.guess(&[1, 2], 8).is_empty());
        assert!(Guesser::new(0).guess(&tokens, 8).is_empty());
    }

    #[test]
    fn it_pauses_where_guesses_are_wrong() {
        let mut guesser = Guesser::new(8);
        let tokens = [1, 2, 3, 4, 1, 2, 3];
        let mut tries = 0;
        for _ in 0..400 {
            let guessed = guesser.guess(&tokens, 8).len();
            tries += usize::from(guessed > 0);
            guesser.learn(guessed, 0);
        }
        assert!((5..12).contains(&tries), "{tries}");
    }
}
