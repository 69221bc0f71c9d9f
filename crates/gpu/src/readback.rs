//! Reading values back from the GPU, without blocking in a page.

use bytemuck::AnyBitPattern;
use futures_channel::oneshot;
use siskin_graph::View;

use crate::{Error, GpuDevice, Result};

impl GpuDevice {
    /// Maps a staging buffer, which `submitted` has filled, and copies `bytes` out of it.
    pub(crate) async fn map(
        &mut self,
        staging: &wgpu::Buffer,
        bytes: u64,
        submitted: wgpu::SubmissionIndex,
    ) -> Result<Vec<u8>> {
        let (sender, receiver) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
            let _ = sender.send(result);
        });
        let failed = |what: String| Error::Device(what);
        // Natively this blocks until the GPU is done with that, but not with what was submitted later; a page's event loop
        // does it by itself.
        let wait = wgpu::PollType::Wait {
            submission_index: Some(submitted),
            timeout: None,
        };
        self.device.poll(wait).map_err(|e| failed(e.to_string()))?;
        match receiver.await {
            Ok(Ok(())) => {}
            // A mapping fails with its device, or after an error that says more.
            Ok(Err(_)) | Err(_) => {
                self.check()?;
                return Err(Error::Lost);
            }
        }
        let out = staging
            .get_mapped_range(0..bytes)
            .map_err(|e| failed(e.to_string()))?
            .to_vec();
        staging.unmap();
        self.check()?;
        Ok(out)
    }

    /// Reads part of a buffer through a staging buffer of its own.
    pub(crate) async fn read_buffer<T: AnyBitPattern>(
        &mut self,
        source: &wgpu::Buffer,
        offset: u64,
        bytes: u64,
    ) -> Result<Vec<T>> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.buffer("read-back", bytes, usage);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(source, offset, &staging, 0, bytes);
        let submitted = self.queue.submit([encoder.finish()]);
        let raw = self.map(&staging, bytes, submitted).await?;
        Ok(raw
            .chunks_exact(size_of::<T>())
            .map(bytemuck::pod_read_unaligned)
            .collect())
    }

    /// The first `rows` rows of a value: `[rows, columns]`.
    pub(crate) async fn read_view(
        &mut self,
        arena: &wgpu::Buffer,
        view: View,
        rows: usize,
    ) -> Result<Vec<f32>> {
        let bytes = (rows * view.stride) as u64 * 4;
        let read: Vec<f32> = self
            .read_buffer(arena, view.offset as u64 * 4, bytes)
            .await?;
        // A slice occupies some columns of a wider value.
        Ok(if view.cols == view.stride {
            read
        } else {
            read.chunks_exact(view.stride)
                .flat_map(|row| &row[view.start..view.start + view.cols])
                .copied()
                .collect()
        })
    }

    /// The first error that the device reported asynchronously since it was opened.
    pub(crate) fn check(&self) -> Result<()> {
        self.opened.check()
    }

    /// Waits until all submitted work is done, so that its errors are known.
    ///
    /// # Errors
    /// If the GPU was lost or failed.
    pub async fn settle(&mut self) -> Result<()> {
        let ring = self.ring.clone();
        self.read_buffer::<u32>(&ring, 0, 4).await?;
        self.check()
    }
}
