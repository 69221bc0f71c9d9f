//! Whether a GPU's kernels with subgroups are right, which nobody has tried on most GPUs: a small graph runs there and on
//! the CPU.

use siskin_cpu::Precision;
use siskin_formats::TensorType;
use siskin_gpu::{GpuDevice, Profile};
use siskin_graph::{BLOCK_TOKENS, CacheTypes, Capacity, Graph};

use crate::Result;
use crate::backend::Backend;
use crate::cpu::Cpu;

const COLS: usize = 256;
const ROWS: usize = 64;
/// Relative to the largest value.
const TOLERANCE: f32 = 1e-3;

/// The GPU with the profile that suits it, or without subgroups if those give wrong values.
pub(crate) async fn open(index: Option<usize>) -> Result<GpuDevice> {
    let mut gpu = GpuDevice::open(index, None).await?;
    if !gpu.profile().needs_subgroups() {
        return Ok(gpu);
    }
    let is_right = is_right(&mut gpu).await?;
    // What the probe has left there goes; what was compiled stays.
    drop(gpu);
    let profile = (!is_right).then_some(Profile::BASE);
    Ok(GpuDevice::open(index, profile).await?)
}

/// Whether the reductions of a workgroup, in a norm and in a product, are those of the CPU. An error of the GPU's means
/// no, too: a driver may refuse what it should know.
pub(crate) async fn is_right(gpu: &mut GpuDevice) -> Result<bool> {
    let graph = graph().map_err(siskin_models::Error::from)?;
    let wanted = output(&mut Cpu::new(Precision::F32), &graph).await?;
    gpu.set_caches(&graph, Capacity::alone(BLOCK_TOKENS), CacheTypes::default())?;
    let Ok(found) = output(gpu, &graph).await else {
        return Ok(false);
    };
    let size = wanted.iter().fold(0f32, |most, v| most.max(v.abs()));
    let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * size;
    Ok(found.len() == wanted.len() && found.iter().zip(&wanted).all(is_near))
}

/// A norm and a linear.
fn graph() -> siskin_graph::Result<Graph> {
    let mut graph = Graph::default();
    let table = graph.matrix("table", &[("table", 1)], COLS);
    let norm = graph.vector("norm", &[("norm", COLS)]);
    let projection = graph.matrix("projection", &[("projection", ROWS)], COLS);
    let x = graph.embed(table, 1.0);
    let x = graph.rms_norm(x, norm, 1e-5)?;
    let y = graph.linear(x, projection, None)?;
    graph.output(y);
    Ok(graph)
}

async fn output(device: &mut dyn Backend, graph: &Graph) -> Result<Vec<f32>> {
    let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 64.0;
    device.add_vector("norm", (0..COLS).map(value).collect())?;
    for (name, rows) in [("table", 1), ("projection", ROWS)] {
        let bytes = (0..rows * COLS).flat_map(|i| value(7 * i + rows).to_le_bytes());
        let mut matrix = device.matrix(name, &[(TensorType::F32, rows)], COLS)?;
        matrix.part(bytes.collect())?;
        matrix.finish()?;
    }
    let outputs = device.evaluate(graph, &[0], 0).await?;
    Ok(outputs.into_iter().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subgroups_are_right_on_every_gpu_here() {
        pollster::block_on(async {
            for (index, gpu) in siskin_gpu::gpus().await.into_iter().enumerate() {
                if !gpu.subgroups {
                    continue;
                }
                let mut opened = GpuDevice::open(Some(index), Some(Profile::SG))
                    .await
                    .unwrap();
                assert!(is_right(&mut opened).await.unwrap(), "{}", gpu.name);
            }
        });
    }
}
