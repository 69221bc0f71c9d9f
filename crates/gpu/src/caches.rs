//! What outlives a step: KV caches, recurrent states, and the tables of rotations.

use siskin_graph::{BLOCK_TOKENS, CacheBytes, CacheTypes, Capacity, Graph, Op, WeightKind};

use crate::{Error, GpuDevice, Result};

/// One layer's keys and values.
#[derive(Debug, Clone)]
pub(crate) struct CacheBuffers {
    pub keys: wgpu::Buffer,
    pub values: wgpu::Buffer,
    /// Whether they are those of a window only, whose blocks sequences list apart.
    pub windowed: bool,
}

impl CacheBuffers {
    fn both(&self) -> [&wgpu::Buffer; 2] {
        [&self.keys, &self.values]
    }
}

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
        for (cache, window) in graph.caches.iter().zip(graph.windows()) {
            let d = cache.head_dim;
            if let Some(ty) = types.unable(d) {
                let what = format!("a cache of {ty} with heads of {d} dimensions");
                return Err(Error::Unsupported(what));
            }
            let windowed = capacity.is_windowed(window);
            let rows = capacity.blocks_of(windowed) * cache.n_kv_heads * BLOCK_TOKENS;
            let [keys, values] =
                [types.keys, types.values].map(|ty| (rows * ty.row_bytes(d)) as u64);
            let buffers = CacheBuffers {
                keys: self.storage("keys", keys)?,
                values: self.storage("values", values)?,
                windowed,
            };
            self.caches.push(buffers);
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

    /// Copies a block of all caches that hold a window, or all tokens, over another one.
    pub fn copy_block(&mut self, windowed: bool, from: u32, to: u32) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let caches = self.caches.iter().filter(|c| c.windowed == windowed);
        for cache in caches.flat_map(CacheBuffers::both) {
            let bytes = self.block_len(windowed, cache);
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

    /// What some blocks hold, and the recurrent states: blocks of caches that hold all tokens, and of those that hold a
    /// window.
    ///
    /// # Errors
    /// If the GPU was lost or failed.
    pub async fn cache_bytes(&mut self, blocks: [&[u32]; 2]) -> Result<CacheBytes> {
        let mut out = CacheBytes::default();
        for cache in self.caches.clone() {
            let windowed = cache.windowed;
            let of = |cache: &wgpu::Buffer| -> Vec<Piece> {
                let len = self.block_len(windowed, cache);
                let at = |b: &u32| (cache.clone(), u64::from(*b) * len, len);
                blocks[usize::from(windowed)].iter().map(at).collect()
            };
            let [keys, values] = cache.both().map(of);
            let n: u64 = keys.iter().map(|piece| piece.2).sum();
            let mut both = self.read_pieces(&[keys, values].concat()).await?;
            let rest = both.split_off(n as usize);
            out.caches.push([both, rest]);
        }
        let states = self
            .states
            .clone()
            .into_iter()
            .zip(self.kept_states.clone());
        for (state, kept) in states {
            let len = state.size();
            let mut both = self.read_pieces(&[(state, 0, len), (kept, 0, len)]).await?;
            let rest = both.split_off(len as usize);
            out.states.push([both, rest]);
        }
        Ok(out)
    }

    /// Sets them to what [`Self::cache_bytes`] returned.
    ///
    /// # Errors
    /// If that is of other caches.
    pub fn set_cache_bytes(&mut self, blocks: [&[u32]; 2], bytes: &CacheBytes) -> Result<()> {
        let is_cache = |(ours, saved): (&CacheBuffers, &[Vec<u8>; 2])| {
            let n = blocks[usize::from(ours.windowed)].len() as u64;
            let lens = (ours.both()).map(|cache| n * self.block_len(ours.windowed, cache));
            lens == [0, 1].map(|i| saved[i].len() as u64)
        };
        let is_state = |(ours, saved): (&wgpu::Buffer, &[Vec<u8>; 2])| {
            saved.iter().all(|s| s.len() as u64 == ours.size())
        };
        if self.caches.len() != bytes.caches.len()
            || self.states.len() != bytes.states.len()
            || !self.caches.iter().zip(&bytes.caches).all(is_cache)
            || !self.states.iter().zip(&bytes.states).all(is_state)
        {
            return Err(Error::Unsupported("saved caches of another shape".into()));
        }
        for (ours, saved) in self.caches.iter().zip(&bytes.caches) {
            let blocks = blocks[usize::from(ours.windowed)];
            for (cache, saved) in ours.both().into_iter().zip(saved) {
                let len = self.block_len(ours.windowed, cache);
                for (block, saved) in blocks.iter().zip(saved.chunks_exact(len as usize)) {
                    let at = u64::from(*block) * len;
                    self.queue.write_buffer(cache, at, saved);
                }
            }
        }
        let states = self.states.iter().zip(&self.kept_states);
        for ((state, kept), [now, before]) in states.zip(&bytes.states) {
            self.queue.write_buffer(state, 0, now);
            self.queue.write_buffer(kept, 0, before);
        }
        Ok(())
    }

    /// Bytes of one block of a layer's keys or values.
    fn block_len(&self, windowed: bool, cache: &wgpu::Buffer) -> u64 {
        cache.size() / self.capacity.blocks_of(windowed) as u64
    }
}

/// A range of a buffer: its first byte and its length.
type Piece = (wgpu::Buffer, u64, u64);

impl GpuDevice {
    /// Reads ranges of buffers, one after another.
    async fn read_pieces(&mut self, pieces: &[Piece]) -> Result<Vec<u8>> {
        let bytes: u64 = pieces.iter().map(|piece| piece.2).sum();
        if bytes == 0 {
            return Ok(vec![]);
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.buffer("read-back", bytes, usage);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for (buffer, from, len) in pieces {
            encoder.copy_buffer_to_buffer(buffer, *from, &staging, at, *len);
            at += len;
        }
        let submitted = self.queue.submit([encoder.finish()]);
        self.map(&staging, bytes, submitted).await
    }
}
