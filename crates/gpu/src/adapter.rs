//! Parameters of adapters on the GPU.

use siskin_graph::Graph;

use crate::device::Kind;
use crate::{Error, GpuDevice, Result};

/// The adapters of the prepared graphs.
#[derive(Debug)]
pub(crate) struct Adapter {
    /// Of all adapters together, in the order of `siskin_graph::Lora`.
    pub params: wgpu::Buffer,
    /// The factors by which magnitudes multiply columns, in the order of `siskin_graph::Dora`.
    pub factors: wgpu::Buffer,
    factors_len: usize,
    /// Whether the parameters have changed since the factors were computed.
    pub are_stale: bool,
}

impl Adapter {
    pub fn none(nothing: &wgpu::Buffer) -> Self {
        Self {
            params: nothing.clone(),
            factors: nothing.clone(),
            factors_len: 0,
            are_stale: true,
        }
    }
}

impl GpuDevice {
    /// Sets the parameters of the adapters in the graphs that are prepared from now on, of which `graph` is one. The
    /// values are in the order of `siskin_graph::Lora`.
    ///
    /// # Errors
    /// If they exceed the adapter's limits.
    pub fn set_params(&mut self, graph: &Graph, params: &[f32]) -> Result<()> {
        let factors_len = graph.factors_len();
        let factors = self.storage("factors of magnitudes", factors_len as u64 * 4)?;
        // Columns without an adapter are unchanged.
        let ones = vec![1f32; factors_len];
        self.queue
            .write_buffer(&factors, 0, bytemuck::cast_slice(&ones));
        let buffer = self.storage("adapter", params.len() as u64 * 4)?;
        self.queue
            .write_buffer(&buffer, 0, bytemuck::cast_slice(params));
        self.adapter = Adapter {
            params: buffer,
            factors,
            factors_len,
            are_stale: true,
        };
        #[cfg(feature = "training")]
        {
            self.training = crate::train::Training::new(&self.nothing);
        }
        Ok(())
    }

    /// What DoRA's magnitudes multiply columns by, for the current parameters.
    ///
    /// # Errors
    /// If nothing was prepared, or the GPU was lost or failed.
    pub async fn factors(&mut self) -> Result<Vec<f32>> {
        let Some(prepared) = self.plans[Kind::Decode as usize].take() else {
            return Err(Error::Unsupported("factors before prepare".into()));
        };
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.record_factors(
            &mut encoder.begin_compute_pass(&Default::default()),
            &prepared,
        );
        self.queue.submit([encoder.finish()]);
        self.counts.submits += 1;
        self.plans[Kind::Decode as usize] = Some(prepared);
        let (buffer, len) = (self.adapter.factors.clone(), self.adapter.factors_len);
        self.read_buffer(&buffer, 0, len as u64 * 4).await
    }
}
