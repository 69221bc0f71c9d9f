//! Whether a model fits, computed from its header and its plans.

use serde::{Deserialize, Serialize};

use crate::load::read_cache_types;
use crate::memory::capacity_of;
use crate::session::DEFAULT_CONTEXT;
use crate::{CacheTypes, MemoryFigure, ModelFiles, Result};

/// The memory that is available.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FitRequest {
    /// The wanted context in tokens; by default the model's own, at most 4096.
    pub context: Option<usize>,
    /// Bytes that weights, cache and activations may take together.
    pub memory: Option<u64>,
    /// Bytes of the largest buffer; one layer's keys, and its values, must fit.
    pub max_buffer: Option<u64>,
    /// How the KV cache stores keys and values.
    #[serde(deserialize_with = "read_cache_types")]
    pub cache_types: CacheTypes,
    /// Whether the model runs on the CPU, where weights are stored as in the file; a GPU stores some types in more
    /// bytes.
    pub cpu: bool,
}

/// Whether a model fits, what the wanted context needs, and the longest context that fits.
///
/// ```
/// use std::path::Path;
///
/// use siskin_engine::{Fit, FitRequest, ModelFiles};
///
/// # let path = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny/llama");
/// let files = ModelFiles::open(path)?;
/// let request = FitRequest {
///     memory: Some(1 << 20),
///     ..FitRequest::default()
/// };
/// let fit = Fit::of(&files, &request)?;
/// println!("{} bytes for {} tokens", fit.memory.total, fit.context);
/// assert!(fit.fits && fit.max_context <= fit.trained_context);
/// # Ok::<(), siskin_engine::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fit {
    /// Whether the wanted context fits.
    pub fits: bool,
    /// The wanted context, in tokens.
    pub context: usize,
    /// Bytes at `context`.
    pub memory: MemoryFigure,
    /// The longest context that fits; 0 if none does.
    pub max_context: usize,
    /// The context the model was trained for.
    pub trained_context: usize,
}

impl Fit {
    /// Computes it from the model's header and plans; no weights are read.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape than the configuration's, or the cache's types cannot store the model's
    /// heads.
    pub fn of(files: &ModelFiles, request: &FitRequest) -> Result<Self> {
        let (model, checkpoint) = (&files.model, &files.weights.checkpoint);
        let trained_context = model.dims().context_length;
        let context = request
            .context
            .unwrap_or(trained_context.min(DEFAULT_CONTEXT));
        let types = request.cache_types;
        let figure = |context| MemoryFigure::of(model, checkpoint, context, types, !request.cpu);
        let graph = model.graph(model.head())?;
        let holds = |context| -> Result<bool> {
            let caches = graph.bytes_of_caches(capacity_of(&graph, context), types);
            let largest = caches.into_iter().flatten().max().unwrap_or(0);
            let total = figure(context)?.total;
            Ok(request.memory.is_none_or(|m| total <= m)
                && request.max_buffer.is_none_or(|m| largest <= m))
        };
        // Memory grows with the context, so bisection finds the longest one.
        let (mut low, mut high) = (0, trained_context);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if holds(middle)? {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(Self {
            fits: context <= low,
            context,
            memory: figure(context)?,
            max_context: low,
            trained_context,
        })
    }
}
