use std::path::Path;

use siskin_cpu::{CpuPart, CpuWeight};
use siskin_formats::Checkpoint;
use siskin_graph::{Part, Weight, WeightKind};
use siskin_models::{Model, Transform};
use siskin_text::TextModel;

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

/// The tokenizer and template of a model at `path`.
pub fn read_text(checkpoint: &Checkpoint, path: &Path) -> Result<TextModel> {
    Ok(match &checkpoint.gguf {
        Some(gguf) => TextModel::from_gguf(gguf)?,
        None => TextModel::from_folder(path)?,
    })
}

/// One tensor of a stacked weight, as the graph wants its rows.
pub fn read_part(
    model: &Model,
    checkpoint: &Checkpoint,
    part: &Part,
    cols: usize,
) -> Result<CpuPart> {
    let (info, transform) = model.tensor(checkpoint, part, cols)?;
    let mut bytes = checkpoint.read(info)?;
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

fn read_vector(model: &Model, checkpoint: &Checkpoint, weight: &Weight) -> Result<Vec<f32>> {
    let mut values = vec![];
    for part in &weight.parts {
        let (info, transform) = model.tensor(checkpoint, part, 1)?;
        let stored = checkpoint.read_f32(info)?;
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
pub(crate) fn load_weights(
    device: &mut Device,
    model: &Model,
    checkpoint: &Checkpoint,
    weights: &[Weight],
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
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
                device.add_vector(&weight.name, read_vector(model, checkpoint, weight)?)?;
            }
            WeightKind::Matrix => {
                let read = |p| read_part(model, checkpoint, p, weight.cols);
                match device {
                    Device::Cpu(cpu) => {
                        let parts = weight.parts.iter().map(read).collect::<Result<_>>()?;
                        let matrix = CpuWeight::Matrix {
                            parts,
                            cols: weight.cols,
                        };
                        cpu.device.add_weight(&weight.name, matrix);
                    }
                    Device::Gpu(gpu) => {
                        let mut types = vec![];
                        for p in &weight.parts {
                            types.push((model.tensor(checkpoint, p, weight.cols)?.0.ty, p.rows));
                        }
                        let mut upload = gpu.matrix(&weight.name, &types, weight.cols)?;
                        for p in &weight.parts {
                            upload.part(&read(p)?.bytes)?;
                        }
                        upload.finish()?;
                    }
                }
            }
        }
        done += size(weight);
        on_progress(Progress { done, total });
    }
    Ok(())
}
