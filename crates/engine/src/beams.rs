//! Beam search, as transformers has it (`GenerationMixin._beam_search` with `early_stopping=False`).

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::answer::{FinishReason, GenerateOptions};
use crate::request::RequestEvent;
use crate::{Error, Result, Session};
use siskin_formats::sort_by;

/// How a beam search runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeamOptions {
    /// How many beginnings of an answer are continued at each step.
    pub beams: usize,
    /// The most tokens of an answer.
    pub max_tokens: usize,
    /// An answer's score is its log-probability over its length in tokens to this power; 1 by default.
    pub length_penalty: f32,
}

impl Default for BeamOptions {
    fn default() -> Self {
        Self {
            beams: 4,
            max_tokens: 512,
            length_penalty: 1.0,
        }
    }
}

/// An answer of a beam search.
#[derive(Debug, Clone, PartialEq)]
pub struct Beam {
    /// Its tokens, the end token included if there is one.
    pub ids: Vec<u32>,
    /// Its text, without the end token.
    pub text: String,
    /// Its log-probability over its length to the power of the length penalty.
    pub score: f32,
    /// Whether it ended, or was cut.
    pub finish_reason: FinishReason,
}

/// The beginning of an answer.
#[derive(Debug, Clone)]
struct Candidate {
    ids: Vec<u32>,
    logprob: f32,
}

/// The answers so far, best first, at most as many as beams.
struct Finished {
    beams: usize,
    answers: Vec<(f32, Candidate)>,
}

impl Finished {
    fn add(&mut self, score: f32, candidate: Candidate) {
        let at = self.answers.partition_point(|(s, _)| *s >= score);
        self.answers.insert(at, (score, candidate));
        self.answers.truncate(self.beams);
    }

    /// The score of the worst, if there are as many as wanted.
    fn worst(&self) -> Option<f32> {
        let last = self.answers.last()?;
        (self.answers.len() == self.beams).then_some(last.0)
    }
}

impl Session {
    /// Searches for the likeliest answers to a prompt, best first. Each step continues the likeliest beginnings, as
    /// requests of one token that share what they have in common. `on_token` is told the length so far, and can stop the
    /// search, which then returns what it has found.
    ///
    /// # Errors
    /// As [`Self::generate`]; and if there are no beams, or more than tokens in the vocabulary.
    pub async fn beam_search(
        &mut self,
        prompt: &[u32],
        options: &BeamOptions,
        mut on_token: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Beam>> {
        let BeamOptions {
            beams,
            max_tokens,
            length_penalty,
        } = *options;
        let vocab = self.model.dims().vocab_size;
        if beams == 0 || beams > vocab {
            return Err(Error::Beams { beams, vocab });
        }
        self.check_tokens(prompt)?;
        self.check_length(prompt.len())?;
        // The last token that has room is not run.
        let max_tokens = max_tokens.min(self.context() + 1 - prompt.len());
        // So many that enough of them go on, even if all others end.
        let kept = (1 + self.text.end_tokens().count()).max(2) * beams;
        let mut finished = Finished {
            beams,
            answers: vec![],
        };
        let mut running = vec![Candidate {
            ids: vec![],
            logprob: 0.0,
        }];
        for length in 1..=max_tokens {
            let mut candidates = self.continuations(prompt, &running, kept).await?;
            sort_by(&mut candidates, &mut |a, b| b.logprob.total_cmp(&a.logprob));
            candidates.truncate(kept);
            running.clear();
            for (rank, candidate) in candidates.into_iter().enumerate() {
                let is_end = candidate.ids.last().is_some_and(|id| self.text.is_end(*id));
                if !is_end && length < max_tokens {
                    if running.len() < beams {
                        running.push(candidate);
                    }
                } else if rank < beams {
                    let score = candidate.logprob / (length as f32).powf(length_penalty);
                    finished.add(score, candidate);
                }
            }
            let best = running
                .first()
                .map(|c| c.logprob / (length as f32).powf(length_penalty));
            let cannot_improve = match (best, finished.worst()) {
                (None, _) => true,
                (Some(best), Some(worst)) => best <= worst,
                (Some(_), None) => false,
            };
            if cannot_improve || on_token(length).is_break() {
                break;
            }
        }
        Ok(self.answers(finished))
    }

    fn answers(&self, finished: Finished) -> Vec<Beam> {
        let answers = finished.answers.into_iter();
        let beam = |(score, Candidate { ids, .. }): (f32, Candidate)| {
            let ended = ids
                .split_last()
                .filter(|(last, _)| self.text.is_end(**last));
            let (text, finish_reason) = match ended {
                Some((_, before)) => (self.text.decode(before), FinishReason::Stop),
                None => (self.text.decode(&ids), FinishReason::Length),
            };
            Beam {
                ids,
                text,
                score,
                finish_reason,
            }
        };
        answers.map(beam).collect()
    }

    /// Each beginning with each of its `n` likeliest next tokens.
    async fn continuations(
        &mut self,
        prompt: &[u32],
        running: &[Candidate],
        n: usize,
    ) -> Result<Vec<Candidate>> {
        let mut submitted = HashMap::new();
        for candidate in running {
            let options = GenerateOptions {
                max_tokens: 1,
                logprobs: Some(n),
                ..GenerateOptions::default()
            };
            let tokens = [prompt, &candidate.ids].concat();
            submitted.insert(self.submit(&tokens, options)?, candidate);
        }
        let mut out = vec![];
        while !self.is_idle() {
            for update in self.step().await? {
                let Some(candidate) = submitted.get(&update.request) else {
                    continue;
                };
                match update.event {
                    RequestEvent::Done(answer) => {
                        for top in answer.logprobs.iter().flat_map(|l| &l.top) {
                            let mut ids = candidate.ids.clone();
                            ids.push(top.id);
                            let logprob = candidate.logprob + top.logprob;
                            out.push(Candidate { ids, logprob });
                        }
                    }
                    RequestEvent::Failed(error) => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(out)
    }
}
