//! What happens inside a model: next tokens, attention weights, the logit lens.

use serde::{Deserialize, Serialize};
use siskin_graph::{AttentionSpec, Graph, Op};
use siskin_models::Head;

use crate::answer::{TopLogprob, logprobs_of};
use crate::{Result, Session, TRACE_ROWS};

/// What [`Session::look`] reports.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LookOptions {
    /// How many of the likeliest next tokens at each position.
    pub top_k: usize,
    /// Attention weights of all layers and heads; none of a layer that has something else in place of attention.
    pub attention: bool,
    /// The likeliest token after each layer, as if the model ended there (nostalgebraist, "interpreting GPT: the logit
    /// lens", 2020).
    pub logit_lens: bool,
}

/// What happened inside the model.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// The likeliest next tokens, `[position][rank]`.
    pub top: Vec<Vec<TopLogprob>>,
    /// The logit lens, `[layer][position]`.
    pub lens: Vec<Vec<TopLogprob>>,
    /// For each layer `[n_heads, T, T]`: the weight of each query for each key.
    #[serde(skip)]
    pub attention: Vec<Vec<f32>>,
    /// Query heads of a layer.
    pub n_heads: usize,
}

impl Look {
    /// The weight of the query at one position for each key, `[T]`, averaged over the heads of a layer.
    ///
    /// # Panics
    /// If attention was not requested, or there is no such layer or position.
    pub fn mean_attention(&self, layer: usize, position: usize) -> Vec<f32> {
        let n = (self.attention[layer].len() / self.n_heads).isqrt();
        let rows = self.attention[layer].chunks_exact(n);
        let mut mean = vec![0.0; n];
        for row in rows.skip(position).step_by(n) {
            for (mean, weight) in mean.iter_mut().zip(row) {
                *mean += weight / self.n_heads as f32;
            }
        }
        mean
    }
}

/// The most bytes of logits in one step of the lens.
const LENS_BYTES: usize = 64 << 20;

impl Session {
    /// Runs the prompt and reports what happens inside the model. The KV cache is cleared.
    ///
    /// # Errors
    /// If the prompt is empty or longer than the context, or the device fails.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use siskin_engine::{LookOptions, OpenOptions, Session};
    ///
    /// # let path = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny/llama");
    /// # pollster::block_on(async {
    /// let mut session = Session::open(path, &OpenOptions::default(), &mut |_| ()).await?;
    /// let tokens: Vec<u32> = session.text.encode("Hello")?.iter().map(|t| t.id).collect();
    /// let options = LookOptions {
    ///     top_k: 5,
    ///     ..LookOptions::default()
    /// };
    /// let look = session.look(&tokens, &options).await?;
    /// for token in look.top.last().expect("a row for each token") {
    ///     println!("{:5.1}% {}", 100.0 * token.logprob.exp(), token.piece);
    /// }
    /// # Ok::<(), siskin_engine::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn look(&mut self, tokens: &[u32], options: &LookOptions) -> Result<Look> {
        let dims = self.model.dims().clone();
        let mut look = Look {
            top: vec![],
            lens: vec![],
            attention: vec![],
            n_heads: dims.n_heads,
        };
        let text = self.text.clone();
        if options.top_k > 0 {
            let graph = self.graph(Head::AllLogits)?;
            self.evaluate(&graph, tokens, TRACE_ROWS, &mut |_, outputs| {
                let rows = outputs[0].chunks_exact(dims.vocab_size);
                look.top
                    .extend(rows.map(|row| logprobs_of(&text, row, options.top_k)));
            })
            .await?;
        }
        if options.logit_lens {
            let graph = self.graph(Head::Lens)?;
            look.lens = vec![vec![]; graph.outputs.len()];
            let rows = LENS_BYTES / (4 * dims.vocab_size * graph.outputs.len());
            self.evaluate(&graph, tokens, rows.min(TRACE_ROWS), &mut |_, outputs| {
                for (layer, logits) in look.lens.iter_mut().zip(outputs) {
                    let rows = logits.chunks_exact(dims.vocab_size);
                    layer.extend(rows.flat_map(|row| logprobs_of(&text, row, 1)));
                }
            })
            .await?;
        }
        if options.attention {
            look.attention = self.attention(tokens, dims.n_layers).await?;
        }
        Ok(look)
    }

    async fn attention(&mut self, tokens: &[u32], n_layers: usize) -> Result<Vec<Vec<f32>>> {
        let mut graph = self.graph(Head::AllLogits)?;
        let names = |i| ["q", "k"].map(|x| format!("model.layers.{i}.{x}"));
        let has_attention: Vec<bool> = (0..n_layers)
            .map(|i| names(i).iter().all(|name| graph.named(name).is_some()))
            .collect();
        let with_attention = (0..n_layers).filter(|i| has_attention[*i]);
        let names: Vec<String> = with_attention.flat_map(names).collect();
        let specs = attention_specs(&graph);
        let mut sinks = vec![];
        for spec in &specs {
            sinks.push(match spec.sinks {
                Some(id) => Some(self.read_vector(graph.weight(id)).await?),
                None => None,
            });
        }
        // The logits of all positions would be by far the largest part.
        graph.outputs.clear();
        for name in &names {
            graph.tap(name).map_err(siskin_models::Error::from)?;
        }
        let mut traced = vec![vec![]; names.len()];
        self.evaluate(&graph, tokens, TRACE_ROWS, &mut |_, outputs| {
            for (values, output) in traced.iter_mut().zip(outputs) {
                values.extend(output);
            }
        })
        .await?;
        let pairs = traced.as_chunks::<2>().0;
        let mut weights = specs
            .iter()
            .zip(&sinks)
            .zip(pairs)
            .map(|((spec, sinks), [q, k])| {
                let sinks = sinks.as_deref();
                self.device.attention_weights(spec, sinks, q, k)
            });
        let mut of_layer = |has: &bool| if *has { weights.next() } else { None };
        Ok(has_attention
            .iter()
            .map(|has| of_layer(has).unwrap_or_default())
            .collect())
    }
}

/// Each layer's attention, in order.
fn attention_specs(graph: &Graph) -> Vec<AttentionSpec> {
    let spec = |op| match op {
        Op::Attention { spec, .. } => Some(spec),
        _ => None,
    };
    graph.nodes.iter().filter_map(|n| spec(n.op)).collect()
}
