//! One answer at a time: a request that is submitted, and stepped until it ends.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::answer::{Answer, Event, FinishReason, GenerateOptions};
use crate::request::RequestEvent;
use crate::{Result, Session};

impl Session {
    /// The logits `[vocab]` of the token after the prompt. Tokens that are in the KV cache are not run again.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub async fn next_logits(&mut self, prompt: &[u32]) -> Result<Vec<f32>> {
        let options = GenerateOptions {
            max_tokens: 1,
            logprobs: Some(0),
            ..GenerateOptions::default()
        };
        self.generate(prompt, &options, async |_| ControlFlow::Continue(()))
            .await?;
        Ok(std::mem::take(&mut self.schedule.logits))
    }

    /// Answers a prompt. Tokens that are in the KV cache are not run again.
    ///
    /// `on_event` can stop it: the answer then ends with [`FinishReason::Cancelled`], and the session remains usable.
    /// If the GPU is lost, it is opened again, and the answer continues where it was. What was
    /// [submitted](Self::submit) before runs too, and its updates are lost.
    ///
    /// # Errors
    /// If a sampling parameter is out of range, the prompt is empty or longer than the context, the logits are not
    /// finite, or the device fails.
    pub async fn generate(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        mut on_event: impl AsyncFnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let request = self.submit(prompt, options.clone())?;
        let mut is_cancelled = false;
        loop {
            let mut updates = self.step().await?;
            updates.retain(|u| u.request == request);
            let mut updates = VecDeque::from(updates);
            while let Some(update) = updates.pop_front() {
                match update.event {
                    RequestEvent::Done(mut answer) => {
                        if is_cancelled {
                            answer.finish_reason = FinishReason::Cancelled;
                        }
                        return Ok(*answer);
                    }
                    RequestEvent::Failed(error) => return Err(error),
                    event => {
                        let Some(event) = event.as_event() else {
                            continue;
                        };
                        if on_event(event).await.is_break() && !is_cancelled {
                            is_cancelled = true;
                            updates.extend(self.cancel(request));
                            self.discard().await?;
                        }
                    }
                }
            }
        }
    }
}
