//! Creation of buffers and bind groups, counted.

use crate::lower::Bound;
use crate::{Counts, Error, GpuDevice, Result};

impl GpuDevice {
    /// A zeroed storage buffer.
    pub(crate) fn storage(&mut self, what: &str, bytes: u64) -> Result<wgpu::Buffer> {
        let limit = self
            .opened
            .limits
            .max_storage_buffer_binding_size
            .min(self.opened.limits.max_buffer_size);
        if bytes > limit {
            return Err(Error::TooLarge {
                what: what.into(),
                needed: bytes,
                gpu: self.opened.name.clone(),
                limit,
            });
        }
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        Ok(self.buffer(what, bytes.max(16), usage))
    }

    pub(crate) fn buffer(
        &mut self,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> wgpu::Buffer {
        self.counts.buffers_created += 1;
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size: bytes.next_multiple_of(16),
            usage,
            mapped_at_creation: false,
        })
    }

    pub(crate) fn bind_group(
        &mut self,
        pipeline: &wgpu::ComputePipeline,
        entries: &[(u32, Bound)],
    ) -> wgpu::BindGroup {
        self.counts.bind_groups_created += 1;
        let entries: Vec<_> = entries
            .iter()
            .map(|(binding, bound)| wgpu::BindGroupEntry {
                binding: *binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &bound.buffer,
                    offset: bound.offset,
                    size: std::num::NonZeroU64::new(bound.bytes),
                }),
            })
            .collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        })
    }

    /// What was done since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}
