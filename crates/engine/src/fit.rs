//! Whether a model fits, from its header and the plans alone.

use serde::{Deserialize, Serialize};

use crate::session::DEFAULT_CONTEXT;
use crate::{MemoryFigure, ModelFiles, Result};

/// What there is.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FitRequest {
    /// Tokens; by default the model's own context, at most 4096.
    pub context: Option<usize>,
    /// Bytes that weights, cache and activations may take together.
    pub memory: Option<u64>,
    /// Bytes of the largest buffer; one layer's keys must fit.
    pub max_buffer: Option<u64>,
    /// On the CPU, where weights are kept as the file has them; a GPU keeps some types in more bytes.
    pub cpu: bool,
}

/// The answer: what the wished context takes, and the longest one that fits.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fit {
    pub fits: bool,
    pub context: usize,
    /// Bytes at `context`.
    pub memory: MemoryFigure,
    /// The longest context that fits; 0 if none does.
    pub max_context: usize,
    /// The context the model was trained for.
    pub trained_context: usize,
}

impl Fit {
    pub fn of(files: &ModelFiles, request: &FitRequest) -> Result<Self> {
        let (model, checkpoint) = (&files.model, &files.weights.checkpoint);
        let trained_context = model.dims().context_length;
        let context = request
            .context
            .unwrap_or(trained_context.min(DEFAULT_CONTEXT));
        let figure = |context| MemoryFigure::of(model, checkpoint, context, 2, !request.cpu);
        let holds = |context| -> Result<bool> {
            let memory = figure(context)?;
            let layer = memory.kv_cache / (2 * model.dims().n_layers as u64);
            Ok(request.memory.is_none_or(|m| memory.total <= m)
                && request.max_buffer.is_none_or(|m| layer <= m))
        };
        // The memory grows with the context: the longest one is found by halving.
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
