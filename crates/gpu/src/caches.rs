//! What outlives a step: KV caches, recurrent states, and the tables of rotations.

use siskin_graph::{BLOCK_TOKENS, CacheTypes, Capacity, Graph, Op, WeightKind};

use crate::{Error, GpuDevice, Result};

impl GpuDevice {
    /// Creates empty caches of these types, recurrent states, and the tables of rotations.
    ///
    /// # Errors
    /// If a layer's keys or states exceed the adapter's limit for one binding, or a type cannot store its heads.
    pub fn set_caches(
        &mut self,
        graph: &Graph,
        capacity: Capacity,
        types: CacheTypes,
    ) -> Result<()> {
        self.capacity = capacity;
        // Step buffers are of this model.
        self.lists = 0;
        self.cache_types = types;
        self.caches.clear();
        // Their length is the context's, and another model's frequencies may have the same name.
        self.tables.clear();
        for cache in &graph.caches {
            let d = cache.head_dim;
            if let Some(ty) = types.unable(d) {
                let what = format!("a cache of {ty} with heads of {d} dimensions");
                return Err(Error::Unsupported(what));
            }
            let rows = capacity.blocks * cache.n_kv_heads * BLOCK_TOKENS;
            let [keys, values] =
                [types.keys, types.values].map(|ty| (rows * ty.row_bytes(d)) as u64);
            let pair = (self.storage("keys", keys)?, self.storage("values", values)?);
            self.caches.push(pair);
        }
        self.states.clear();
        self.kept_states.clear();
        for len in &graph.states {
            let bytes = 4 * *len as u64;
            let pair = (
                self.storage("state", bytes)?,
                self.storage("kept state", bytes)?,
            );
            self.states.push(pair.0);
            self.kept_states.push(pair.1);
        }
        for node in &graph.nodes {
            let Op::Rope { spec, .. } = node.op else {
                continue;
            };
            let weight = graph.weight(spec.inv_freq);
            let WeightKind::Constant(freqs) = &weight.kind else {
                continue;
            };
            if self.tables.contains_key(&weight.name) {
                continue;
            }
            let table = self.rope_table(freqs, spec.scale, capacity.context)?;
            self.tables.insert(weight.name.clone(), table);
        }
        Ok(())
    }

    /// `scale` times cos and sin of each position times each frequency.
    pub(crate) fn rope_table(
        &mut self,
        freqs: &[f32],
        scale: f32,
        positions: usize,
    ) -> Result<wgpu::Buffer> {
        let turns: Vec<[f32; 2]> = (0..positions)
            .flat_map(|p| freqs.iter().map(move |f| (p as f32 * f).sin_cos()))
            .map(|(sin, cos)| [scale * cos, scale * sin])
            .collect();
        let table = self.storage("rope table", turns.len() as u64 * 8)?;
        self.queue
            .write_buffer(&table, 0, bytemuck::cast_slice(&turns));
        Ok(table)
    }

    /// Keeps a copy of the recurrent states, in place of the one before.
    pub fn keep_states(&mut self) {
        self.copy_states(&self.states, &self.kept_states);
    }

    /// Sets the recurrent states to those that were kept last.
    pub fn restore_states(&mut self) {
        self.copy_states(&self.kept_states, &self.states);
    }

    fn copy_states(&self, from: &[wgpu::Buffer], to: &[wgpu::Buffer]) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        for (from, to) in from.iter().zip(to) {
            encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
        }
        self.queue.submit([encoder.finish()]);
    }

    /// Copies a block of all caches over another one.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        for cache in self.caches.iter().flat_map(|(keys, values)| [keys, values]) {
            let bytes = cache.size() / self.capacity.blocks as u64;
            let between = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("block"),
                size: bytes,
                usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            encoder.copy_buffer_to_buffer(cache, u64::from(from) * bytes, &between, 0, bytes);
            encoder.copy_buffer_to_buffer(&between, 0, cache, u64::from(to) * bytes, bytes);
        }
        self.queue.submit([encoder.finish()]);
    }
}
