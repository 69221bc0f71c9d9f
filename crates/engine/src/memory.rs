use serde::Serialize;
use siskin_formats::Checkpoint;
use siskin_graph::{Fusion, Plan};
use siskin_models::{Head, Model};

use crate::Result;
use crate::device::PREFILL_ROWS;

/// The memory a model needs, from the plans alone: nothing is loaded.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MemoryFigure {
    /// Bytes of the tensors that the graph names.
    pub weights: usize,
    pub kv_cache: usize,
    /// The larger of the prefill's and the decode's arena.
    pub activations: usize,
    pub total: usize,
}

impl MemoryFigure {
    pub fn of(
        model: &Model,
        checkpoint: &Checkpoint,
        context: usize,
        kv_bytes_per_value: usize,
    ) -> Result<Self> {
        let graph = model.graph(Head::Next)?;
        let mut weights = 0;
        for w in &graph.weights {
            for part in &w.parts {
                weights += model.tensor(checkpoint, part, w.cols)?.0.bytes as usize;
            }
        }
        let kv_cache = graph.cache_bytes(context, kv_bytes_per_value);
        let plan = Plan::new(graph, PREFILL_ROWS.min(context), Fusion::NONE, |_| false);
        let activations = plan.arena_bytes();
        Ok(Self {
            weights,
            kv_cache,
            activations,
            total: weights + kv_cache + activations,
        })
    }
}
