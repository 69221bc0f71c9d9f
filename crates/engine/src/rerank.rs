//! Scores of texts for a query, by a model that reads both together.

use siskin_models::Head;

use crate::embed::check_lengths;
use crate::{Error, Result, Session};

impl Session {
    /// How well each text answers a query, in the texts' order: from 0 to 1, the logistic function of the classifier's
    /// result, unless the model's configuration says to take the result itself (sentence-transformers'
    /// `activation_fn`).
    ///
    /// # Errors
    /// If the model has no classifier, or one of several classes; the query with a text is longer than the model takes,
    /// unless `truncate`; or the device fails.
    pub async fn rerank(
        &mut self,
        query: &str,
        texts: &[&str],
        truncate: bool,
    ) -> Result<Vec<f32>> {
        match self.model.labels() {
            None => {
                let arch = self.model.arch().to_string();
                return Err(siskin_models::Error::NoScores(arch).into());
            }
            Some(1) => {}
            Some(n) => return Err(Error::Classes(n)),
        }
        let max = self.context();
        let mut inputs = vec![];
        for text in texts {
            inputs.push(self.text.pair(query, text, max)?);
        }
        check_lengths(&inputs, max, truncate)?;
        let scores = self.run(Head::Score, &inputs).await?;
        let score = |result: f32| match self.model.is_logistic() {
            true => 1.0 / (1.0 + (-result).exp()),
            false => result,
        };
        Ok(scores.iter().map(|s| score(s[0])).collect())
    }
}
