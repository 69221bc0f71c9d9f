//! What happens inside a model: likeliest tokens, attention weights, the logit lens.

use serde::{Deserialize, Serialize};
use siskin_graph::{AttentionSpec, Graph, Op};
use siskin_models::Head;

use crate::answer::{TopLogprob, logprobs_of};
use crate::{Result, Session, TRACE_ROWS};

/// What to look at.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LookOptions {
    /// So many likeliest next tokens at each position.
    pub top_k: usize,
    pub attention: bool,
    /// The likeliest tokens if the model ended after each layer.
    pub logit_lens: bool,
}

/// What was seen.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// `[position][rank]`.
    pub top: Vec<Vec<TopLogprob>>,
    /// `[layer][position]`.
    pub lens: Vec<Vec<TopLogprob>>,
    /// `[layer]` of `[n_heads, T, T]`: what each query gives each key.
    #[serde(skip)]
    pub attention: Vec<Vec<f32>>,
    pub n_heads: usize,
}

/// Bytes of logits that one step of the lens may make.
const LENS_BYTES: usize = 64 << 20;

impl Session {
    /// Runs the prompt and reports what happens inside. The cache is lost.
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
        let names: Vec<String> = (0..n_layers)
            .flat_map(|i| ["q", "k"].map(|x| format!("model.layers.{i}.{x}")))
            .collect();
        let mut graph = self.graph(Head::AllLogits)?;
        let specs = attention_specs(&graph);
        // The logits of all positions would be the largest part by far.
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
        Ok(specs
            .iter()
            .zip(pairs)
            .map(|(spec, [q, k])| self.device.attention_weights(spec, q, k))
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
