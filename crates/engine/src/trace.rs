//! Named values of every position, for display and for comparison with other implementations.

use siskin_graph::Graph;
use siskin_models::Head;

use crate::{Error, Result, Session};

fn is_finite(values: &[f32]) -> bool {
    values.iter().all(|v| v.is_finite())
}

/// How many tokens run at once where nothing else is given: `[rows, vocab]` is large.
pub const TRACE_ROWS: usize = 32;

/// A named value at every position, from [`Session::trace`].
#[derive(Debug, Clone, PartialEq)]
pub struct Traced {
    /// The name that was given, or `logits`.
    pub name: String,
    /// Values per position.
    pub cols: usize,
    /// `[tokens, cols]`.
    pub values: Vec<f32>,
}

impl Session {
    /// The logits `[tokens.len(), vocab]` at every position.
    ///
    /// # Errors
    /// As [`Self::trace`].
    pub async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        Ok(self
            .trace(tokens, &[], TRACE_ROWS)
            .await?
            .swap_remove(0)
            .values)
    }

    /// The logits at every position, then the named values: `embed`, `model.layers.N.attention` (the heads' mix of
    /// values), `model.layers.N.hidden` (after the block), `model.norm`; all names are in [`Session::trace_names`].
    /// They are computed for this call only. The KV cache is cleared.
    ///
    /// `rows` tokens run at once (at least 1): several with the kernels of the prefill, 1 with those of the decode
    /// step.
    ///
    /// # Errors
    /// If a name does not exist, the tokens are empty or more than the context, the logits are not finite, or the
    /// device fails.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use siskin_engine::{OpenOptions, Session, TRACE_ROWS};
    ///
    /// # let path = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny/llama");
    /// # pollster::block_on(async {
    /// let mut session = Session::open(path, &OpenOptions::default(), &mut |_| ()).await?;
    /// let names = ["model.layers.0.hidden".to_string()];
    /// let traced = session.trace(&[1, 2, 3], &names, TRACE_ROWS).await?;
    /// assert_eq!(traced[0].values.len(), 3 * session.model.dims().vocab_size);
    /// assert_eq!(traced[1].cols, session.model.dims().hidden_size);
    /// # Ok::<(), siskin_engine::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn trace(
        &mut self,
        tokens: &[u32],
        names: &[String],
        rows: usize,
    ) -> Result<Vec<Traced>> {
        let mut graph = self.graph(Head::AllLogits)?;
        for name in names {
            graph.tap(name).map_err(siskin_models::Error::from)?;
        }
        let labels = std::iter::once("logits").chain(names.iter().map(String::as_str));
        let mut traced: Vec<Traced> = labels
            .zip(&graph.outputs)
            .map(|(name, id)| Traced {
                name: name.into(),
                cols: graph.node(*id).cols,
                values: vec![],
            })
            .collect();
        self.evaluate(&graph, tokens, rows, &mut |_, outputs| {
            traced
                .iter_mut()
                .zip(outputs)
                .for_each(|(t, values)| t.values.extend(values));
        })
        .await?;
        if !is_finite(&traced[0].values) {
            return Err(self.not_finite(tokens).await);
        }
        Ok(traced)
    }

    /// The error for logits that are infinite or not numbers: it names the first place where they are.
    pub(crate) async fn not_finite(&mut self, tokens: &[u32]) -> Error {
        let found = self.first_not_finite(tokens).await;
        Error::NotFinite {
            place: found.unwrap_or_else(|| "the logits".into()),
        }
    }

    /// The first of the embedding, the layers and the last norm with a value that is not finite.
    async fn first_not_finite(&mut self, tokens: &[u32]) -> Option<String> {
        let mut graph = self.graph(Head::AllLogits).ok()?;
        graph.outputs.clear();
        let is_end = |n: &String| n == "embed" || n == "model.norm" || n.ends_with(".hidden");
        let names: Vec<String> = graph.names.iter().map(|n| n.0.clone()).collect();
        let names: Vec<String> = names.into_iter().filter(is_end).collect();
        for name in &names {
            graph.tap(name).ok()?;
        }
        let mut first = names.len();
        self.evaluate(&graph, tokens, TRACE_ROWS, &mut |_, outputs| {
            let bad = outputs.iter().position(|values| !is_finite(values));
            first = first.min(bad.unwrap_or(first));
        })
        .await
        .ok()?;
        names.into_iter().nth(first)
    }

    /// Runs a graph over all tokens, `rows` at a time; `on_outputs` receives the first row's number and the outputs.
    /// The cache is cleared.
    pub(crate) async fn evaluate(
        &mut self,
        graph: &Graph,
        tokens: &[u32],
        rows: usize,
        on_outputs: &mut dyn FnMut(usize, Vec<Vec<f32>>),
    ) -> Result<()> {
        self.check_tokens(tokens)?;
        self.check_length(tokens.len())?;
        self.forget().await?;
        // Caches that hold a window have room for no more rows beside it.
        let windowed = self.capacity.windowed;
        let rows = rows.clamp(1, windowed.map_or(usize::MAX, |_| self.max_rows()));
        let mut at = 0;
        let mut lost = false;
        while at < tokens.len() {
            let chunk = &tokens[at..tokens.len().min(at + rows)];
            match self.device.evaluate(graph, chunk, at).await {
                Ok(outputs) => {
                    on_outputs(at, outputs);
                    at += chunk.len();
                }
                // The cache is lost with the device: earlier tokens must run again.
                Err(e) if e.is_device_lost() && !lost => {
                    lost = true;
                    self.reopen().await?;
                    for (i, before) in tokens[..at].chunks(rows).enumerate() {
                        self.device.evaluate(graph, before, i * rows).await?;
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The names that [`Session::trace`] accepts.
    ///
    /// # Errors
    /// If the adapter in use does not fit the model.
    pub fn trace_names(&self) -> Result<Vec<String>> {
        let graph = self.graph(Head::AllLogits)?;
        Ok(graph.names.into_iter().map(|n| n.0).collect())
    }
}
