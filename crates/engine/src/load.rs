use siskin_formats::TensorType;
use siskin_graph::{Part, Weight, WeightKind};
use siskin_models::{Model, Transform};

use crate::adapter::Replaced;
use crate::backend::{Backend, DeviceRequest};
use crate::files::WeightFiles;
use crate::{Adapter, Error, Result};

pub use siskin_cpu::{CacheType, Precision};

/// How to open a model.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    pub device: DeviceRequest,
    /// Tokens that the KV cache holds; by default the model's own context, at most 4096.
    pub context: Option<usize>,
    pub cache_type: CacheType,
    /// The CPU's arithmetic.
    pub precision: Precision,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            device: DeviceRequest::Auto,
            context: None,
            cache_type: CacheType::F16,
            precision: Precision::Fast,
        }
    }
}

/// How far a model is loaded, in bytes of the file's tensors.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

/// Where weights come from: the model's files, and what an adapter has in place of them.
pub(crate) struct WeightSource<'a> {
    pub model: &'a Model,
    pub files: &'a WeightFiles,
    pub adapter: Option<&'a Adapter>,
}

impl WeightSource<'_> {
    fn replaced(&self, part: &Part) -> Option<&Replaced> {
        self.adapter?.replaced(&part.tensor)
    }

    fn type_of(&self, part: &Part, cols: usize) -> Result<TensorType> {
        match self.replaced(part) {
            Some(_) => Ok(TensorType::F32),
            None => Ok(self.model.tensor(&self.files.checkpoint, part, cols)?.0.ty),
        }
    }

    fn bytes_of(&self, part: &Part, cols: usize) -> u64 {
        let found = self.model.tensor(&self.files.checkpoint, part, cols);
        found.map_or(0, |(info, _)| info.bytes)
    }
}

/// The bytes of one tensor of a stacked weight, with its rows in the graph's order.
async fn read_part(source: &WeightSource<'_>, part: &Part, cols: usize) -> Result<Vec<u8>> {
    if let Some(own) = source.replaced(part) {
        if own.rows != part.rows || own.values.len() != part.rows * cols {
            return Err(Error::Adapter {
                name: source.adapter.map(|a| a.name.clone()).unwrap_or_default(),
                what: format!(
                    "its `{}` is [{}, {}], the model's is [{}, {cols}]",
                    own.tensor,
                    own.rows,
                    own.values.len() / own.rows.max(1),
                    part.rows
                ),
            });
        }
        return Ok(own.values.iter().flat_map(|v| v.to_le_bytes()).collect());
    }
    let (model, files) = (source.model, source.files);
    let (info, transform) = model.tensor(&files.checkpoint, part, cols)?;
    let mut bytes = files.read(info).await?;
    if let Transform::UnpermuteRope { .. } = transform {
        let row_bytes = bytes.len() / part.rows;
        let rows = (0..part.rows).map(|r| transform.source_row(r) * row_bytes);
        bytes = rows
            .flat_map(|at| &bytes[at..at + row_bytes])
            .copied()
            .collect();
    }
    Ok(bytes)
}

async fn read_vector(model: &Model, files: &WeightFiles, weight: &Weight) -> Result<Vec<f32>> {
    let mut values = vec![];
    for part in &weight.parts {
        let (info, transform) = model.tensor(&files.checkpoint, part, 1)?;
        let stored = files.read_f32(info).await?;
        values.extend((0..part.rows).map(|r| {
            let v = stored[transform.source_row(r)];
            if transform == Transform::AddOne {
                v + 1.0
            } else {
                v
            }
        }));
    }
    Ok(values)
}

/// Brings all weights of the graph onto the device, one tensor at a time.
pub(crate) async fn load_weights(
    device: &mut dyn Backend,
    source: &WeightSource<'_>,
    weights: &[&Weight],
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let size = |w: &Weight| -> u64 { w.parts.iter().map(|p| source.bytes_of(p, w.cols)).sum() };
    let total = weights.iter().map(|w| size(w)).sum();
    let mut done = 0;
    for weight in weights {
        match &weight.kind {
            WeightKind::Constant(values) => device.add_vector(&weight.name, values.clone())?,
            WeightKind::Vector => {
                let values = read_vector(source.model, source.files, weight).await?;
                device.add_vector(&weight.name, values)?;
            }
            WeightKind::Matrix => {
                let mut types = vec![];
                for p in &weight.parts {
                    types.push((source.type_of(p, weight.cols)?, p.rows));
                }
                let mut upload = device.matrix(&weight.name, &types, weight.cols)?;
                for p in &weight.parts {
                    upload.part(read_part(source, p, weight.cols).await?)?;
                }
                upload.finish()?;
            }
        }
        done += size(weight);
        on_progress(Progress { done, total });
    }
    Ok(())
}
