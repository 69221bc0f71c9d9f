use crate::{Error, GpuDevice, Result};
use siskin_graph::{AdamW, Batch, Graph};
fn no<T>() -> Result<T> {
    Err(Error::Unsupported("training".into()))
}
impl GpuDevice {
    pub fn set_params(&mut self, p: &[f32]) -> Result<()> {
        if p.is_empty() { Ok(()) } else { no() }
    }
    pub fn prepare_training(&mut self, _g: Graph, _l: Graph, _r: usize) -> Result<()> {
        no()
    }
    pub async fn run_batch(&mut self, _w: usize, _b: &Batch) -> Result<f32> {
        no()
    }
    pub async fn optimise(&mut self, _a: &AdamW) -> Result<f32> {
        no()
    }
    pub async fn grads(&mut self) -> Result<Vec<f32>> {
        no()
    }
    pub async fn training_state(&mut self) -> Result<(Vec<f32>, Vec<[f32; 2]>)> {
        no()
    }
    pub fn set_training_state(&mut self, _p: &[f32], _m: &[[f32; 2]]) -> Result<()> {
        no()
    }
}
