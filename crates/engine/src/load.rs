use siskin_cpu::{CpuPart, CpuWeight};
use siskin_graph::{Part, Weight, WeightKind};
use siskin_models::{Model, Transform};

use crate::files::WeightFiles;
use crate::{Device, DeviceRequest, Result};

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

/// One tensor of a stacked weight, as the graph wants its rows.
async fn read_part(
    model: &Model,
    files: &WeightFiles,
    part: &Part,
    cols: usize,
) -> Result<CpuPart> {
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
    Ok(CpuPart {
        ty: info.ty,
        rows: part.rows,
        bytes,
    })
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
    device: &mut Device,
    model: &Model,
    files: &WeightFiles,
    weights: &[Weight],
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let checkpoint = &files.checkpoint;
    let size = |w: &Weight| -> u64 {
        let parts = w
            .parts
            .iter()
            .filter_map(|p| model.tensor(checkpoint, p, w.cols).ok());
        parts.map(|(info, _)| info.bytes).sum()
    };
    let total = weights.iter().map(size).sum();
    let mut done = 0;
    for weight in weights {
        match &weight.kind {
            WeightKind::Constant(values) => device.add_vector(&weight.name, values.clone())?,
            WeightKind::Vector => {
                let values = read_vector(model, files, weight).await?;
                device.add_vector(&weight.name, values)?;
            }
            WeightKind::Matrix => match device {
                Device::Cpu(cpu) => {
                    let mut parts = vec![];
                    for p in &weight.parts {
                        parts.push(read_part(model, files, p, weight.cols).await?);
                    }
                    let cols = weight.cols;
                    cpu.device
                        .add_weight(&weight.name, CpuWeight::Matrix { parts, cols });
                }
                Device::Gpu(gpu) => {
                    let mut types = vec![];
                    for p in &weight.parts {
                        types.push((model.tensor(checkpoint, p, weight.cols)?.0.ty, p.rows));
                    }
                    let mut upload = gpu.matrix(&weight.name, &types, weight.cols)?;
                    for p in &weight.parts {
                        let part = read_part(model, files, p, weight.cols).await?;
                        upload.part(&part.bytes)?;
                    }
                    upload.finish()?;
                }
            },
        }
        done += size(weight);
        on_progress(Progress { done, total });
    }
    Ok(())
}
