use serde::Serialize;
use siskin_formats::Checkpoint;
use siskin_gpu::GpuType;
use siskin_graph::{CacheTypes, Capacity, Fusion, Graph, Plan, WeightKind};
use siskin_models::Model;

use crate::Result;
use crate::backend::PREFILL_ROWS;
use crate::load::check_cache_types;

/// The memory that a model needs, in bytes, computed from its plans without loading it. It has 64 bits also where
/// addresses have 32, so that what does not fit does not seem small.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MemoryFigure {
    /// The tensors of the graph, as the device stores them.
    pub weights: u64,
    /// Keys and values for the whole context, or little more than the window of layers that have one, and recurrent
    /// states with the copy that is kept of them.
    pub kv_cache: u64,
    /// The larger of the prefill's and the decode's arena.
    pub activations: u64,
    /// Weights, KV cache and activations together.
    pub total: u64,
}

/// The caches of a session that answers one request at a time.
pub(crate) fn capacity_of(graph: &Graph, context: usize) -> Capacity {
    let alone = Capacity::alone(context);
    match graph.states.is_empty() {
        true => alone.with_windows(graph, PREFILL_ROWS.min(context)),
        false => alone,
    }
}

impl MemoryFigure {
    /// The memory for `context` tokens, with a KV cache of these types.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape than the configuration's, or the types cannot store the model's heads.
    pub fn of(
        model: &Model,
        checkpoint: &Checkpoint,
        context: usize,
        cache_types: CacheTypes,
        on_gpu: bool,
    ) -> Result<Self> {
        let graph = model.graph(model.head())?;
        check_cache_types(&graph, cache_types)?;
        let mut weights = 0;
        for w in &graph.weights {
            for part in &w.parts {
                let found = model.tensor(checkpoint, part)?;
                weights += match (&w.kind, on_gpu) {
                    (WeightKind::Matrix, true) => {
                        let n = part.n_rows() * part.cols.len();
                        let kept = GpuType::of(found.ty());
                        (kept.value_bytes(n) + kept.scale_bytes(n)) as u64
                    }
                    // Vectors become f32 everywhere.
                    (WeightKind::Vector, _) => 4 * (part.n_rows() * part.cols.len()) as u64,
                    _ => found.bytes,
                };
            }
        }
        let capacity = capacity_of(&graph, context);
        let kv_cache = graph.cache_bytes(capacity, cache_types) + 2 * graph.state_bytes();
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
