//! Rope, the KV cache and attention: in two kernels for several tokens, in one for one token.

use siskin_graph::{
    AttentionSpec, Cache, CacheId, CacheTypes, HeadsSpec, NodeId, Op, Pairs, Rows, WeightId,
};

use super::texts::groups;
use super::{Bindings, Bound, Lowering};
use crate::caches::CacheBuffers;
use crate::pipeline::Kernel;
use crate::prepared::Size;
use crate::{Error, Layout, Result};

/// Threads of an attention workgroup: at least one per four columns.
fn attention_threads(head_dim: usize) -> usize {
    (head_dim / 4).next_power_of_two().max(64)
}

/// Positions that one workgroup of a single token's attention processes before the keys are divided
/// among several: one workgroup per head would leave most of a GPU idle.
const POSITIONS_A_SPLIT: usize = 512;
const MOST_SPLITS: usize = 8;

/// What becomes of scores: the constant of lib/scores.wgsl, and whether there are sinks.
pub(super) fn score_constants(kernel: Kernel, spec: &AttentionSpec) -> Kernel {
    kernel
        .set("SOFT_CAP", spec.soft_cap.unwrap_or(0.0))
        .flag("HAS_SINKS", spec.sinks.is_some())
}

impl Lowering<'_> {
    fn splits(&self, window: Option<usize>) -> usize {
        let reach = self
            .device
            .capacity
            .context
            .min(window.unwrap_or(usize::MAX));
        match self.device.profile.layout {
            // One workgroup per head keeps a CPU busy.
            Layout::Rows => 1,
            Layout::Shared => (reach / POSITIONS_A_SPLIT).clamp(1, MOST_SPLITS),
        }
    }

    /// The constants of lib/rotate.wgsl, except HEAD_DIM, and the frequencies' weight.
    pub(super) fn rope_constants(&self, kernel: Kernel, id: NodeId) -> Result<(Kernel, WeightId)> {
        let Op::Rope { spec, .. } = self.graph().node(id).op else {
            return Err(Error::Unsupported("attention without rope".into()));
        };
        let kernel = kernel
            .size("N_FREQS", self.graph().weight(spec.inv_freq).rows())
            .flag("INTERLEAVED", spec.pairs == Pairs::Interleaved);
        Ok((kernel, spec.inv_freq))
    }

    /// The constants of lib/heads.wgsl, and the cache's bindings.
    fn heads(
        &self,
        kernel: Kernel,
        cache: CacheId,
        n_heads: usize,
        stride: usize,
    ) -> (Kernel, Bindings) {
        let shape = self.graph().caches[cache.0];
        let mut kernel = kernel
            .size("HEAD_DIM", shape.head_dim)
            .size("N_HEADS", n_heads)
            .size("N_KV_HEADS", shape.n_kv_heads)
            .size("STRIDE", stride);
        kernel.variant.cache = self.device.cache_types;
        (kernel, self.cache(cache).into())
    }

    /// A cache, and the rows of the step with their blocks of it.
    fn cache(&self, id: CacheId) -> [(u32, Bound); 3] {
        let CacheBuffers {
            keys,
            values,
            windowed,
        } = self.device.caches[id.0].clone();
        let rows = match windowed {
            true => &self.device.windowed_rows,
            false => &self.device.rows,
        };
        [
            (1, keys.into()),
            (2, values.into()),
            (5, rows.clone().into()),
        ]
    }

    /// The norms of q's and k's heads in one buffer, since a kernel may bind only eight.
    fn joined_norms(&mut self, norms: [Option<WeightId>; 2]) -> Result<Bound> {
        let (q, k) = match norms {
            [Some(q), Some(k)] => (q, k),
            [None, None] => return self.vector(None),
            _ => return Err(Error::Unsupported("a norm of q or of k alone".into())),
        };
        let parts = [self.vector(Some(q))?, self.vector(Some(k))?];
        let bytes = parts.iter().map(|p| p.bytes).sum();
        let joined = self.device.storage("norms of heads", bytes)?;
        let mut encoder = self
            .device
            .device
            .create_command_encoder(&Default::default());
        let mut at = 0;
        for part in parts {
            encoder.copy_buffer_to_buffer(&part.buffer, part.offset, &joined, at, part.bytes);
            at += part.bytes;
        }
        self.device.queue.submit([encoder.finish()]);
        Ok(joined.into())
    }

    pub(super) fn rope_append(
        &mut self,
        norms: [Option<NodeId>; 2],
        ropes: [NodeId; 2],
        append: NodeId,
        attention: Option<NodeId>,
    ) -> Result<()> {
        let graph = self.graph();
        let Op::KvAppend { cache } = graph.node(append).op else {
            return Err(Error::Unsupported("rope".into()));
        };
        if graph.node(ropes[0]).op != graph.node(ropes[1]).op {
            return Err(Error::Unsupported("different ropes on q and k".into()));
        }
        let [q, k] = ropes.map(|r| self.plan.view(r));
        let v = self.input(append, 1);
        if [k, v].iter().any(|view| view.offset != q.offset) {
            return Err(Error::Unsupported("q, k and v that are not stacked".into()));
        }
        let norm_of = |n: Option<NodeId>| -> (Option<WeightId>, f32) {
            match n.map(|n| graph.node(n).op) {
                Some(Op::RmsNorm { weight, eps }) => (Some(weight), eps),
                _ => (None, 0.0),
            }
        };
        let [(q_norm, eps), (k_norm, _)] = norms.map(norm_of);
        let Cache {
            n_kv_heads,
            head_dim,
        } = graph.caches[cache.0];
        let n_heads = q.cols / head_dim;
        let kernel = match attention {
            Some(_) => self.reducing("attention_step", attention_threads(head_dim)),
            None => self.reducing("rope_append", 32),
        };
        let (kernel, inv_freq) = self.rope_constants(kernel, ropes[0])?;
        let table = self.device.tables.get(&graph.weight(inv_freq).name);
        let table = table
            .cloned()
            .ok_or_else(|| Error::MissingWeight("rope table".into()))?;
        let (kernel, mut entries) = self.heads(kernel, cache, n_heads, q.stride);
        let kernel = kernel
            .size("Q_START", q.start)
            .size("K_START", k.start)
            .size("V_START", v.start)
            .flag("HAS_NORM", q_norm.is_some())
            .set("EPS", eps);
        entries.extend([
            (3, self.bound(q)),
            (4, self.joined_norms([q_norm, k_norm])?),
            (6, table.into()),
        ]);
        let bytes = (self.plan.max_rows * q.stride) as u64 * 4;
        match attention {
            Some(attention) => self.attention_step(attention, kernel, entries, bytes),
            None => {
                let heads = n_heads + 2 * n_kv_heads;
                let size = Size::Rows(heads as u32);
                self.push(&kernel, size, Rows::All, 2 * bytes, &entries)?;
                Ok(())
            }
        }
    }

    /// Rope by itself: over batches, and where it cannot be a part of [`Self::rope_append`].
    pub(super) fn rope(&mut self, id: NodeId, head_dim: usize, back: bool) -> Result<()> {
        let (x, n) = (self.input(id, 0), self.graph().node(id).cols);
        let (mut kernel, inv_freq) = self.rope_constants(Kernel::new("rope"), id)?;
        let name = &self.graph().weight(inv_freq).name;
        let is_batch = self.is_batch;
        let (table, positions) = match is_batch {
            true => (self.device.batch.tables.get(name), (2, self.batch())),
            false => {
                let rows = self.device.rows.clone().into();
                (self.device.tables.get(name), (5, rows))
            }
        };
        let table = table.ok_or_else(|| Error::MissingWeight("rope table".into()))?;
        let entries = [
            positions,
            (3, self.bound(x)),
            (4, table.clone().into()),
            (6, self.bound(self.plan.view(id))),
        ];
        kernel.variant.batch = is_batch;
        let kernel = kernel
            .size("HEAD_DIM", head_dim)
            .size("N", n)
            .size("STRIDE", x.stride)
            .size("START", x.start)
            .flag("BACK", back);
        self.push_values(id, &kernel, n / 2, &entries)
    }

    pub(super) fn join_heads(&mut self, id: NodeId, spec: &HeadsSpec) -> Result<()> {
        let node = self.graph().node(id);
        let (n, last) = (node.cols, node.inputs.len() - 1);
        let [x, y] = [self.input(id, 0), self.input(id, last)];
        let kernel = Kernel::new("join_heads")
            .size("N", n)
            .size("WIDTH", spec.width)
            .size("LEN0", spec.lens[0])
            .size("LEN1", spec.lens[1])
            .size("HEAD0", spec.strides[0])
            .size("HEAD1", spec.strides[1])
            .size("STRIDE0", x.stride)
            .size("STRIDE1", y.stride)
            .size("START0", x.start)
            .size("START1", y.start);
        let entries = [
            (3, self.bound(x)),
            (4, self.bound(y)),
            (6, self.bound(self.plan.view(id))),
        ];
        self.push_values(id, &kernel, n, &entries)
    }

    /// Keys and values to the cache, where it is not a part of [`Self::rope_append`].
    pub(super) fn kv_append(&mut self, id: NodeId, cache: CacheId) -> Result<()> {
        let (k, v) = (self.input(id, 0), self.input(id, 1));
        let shape = self.graph().caches[cache.0];
        let mut kernel = Kernel::new("kv_append")
            .size("HEAD_DIM", shape.head_dim)
            .size("N_KV_HEADS", shape.n_kv_heads)
            .size("K_STRIDE", k.stride)
            .size("K_START", k.start)
            .size("V_STRIDE", v.stride)
            .size("V_START", v.start);
        kernel.variant.cache = self.device.cache_types;
        let mut entries = Vec::from(self.cache(cache));
        entries.extend([(3, self.bound(k)), (4, self.bound(v))]);
        // Scales are written in pairs.
        let CacheTypes { keys, values } = self.device.cache_types;
        let is_quantised = keys.is_quantised() || values.is_quantised();
        let columns = if is_quantised { 64 } else { 4 };
        let threads = shape.n_kv_heads * shape.head_dim.div_ceil(columns);
        let size = Size::Rows(groups(threads));
        let bytes = (self.plan.max_rows * 2 * k.cols) as u64 * 4;
        self.push(&kernel, size, Rows::All, bytes, &entries)?;
        Ok(())
    }

    fn spec(&self, id: NodeId) -> Result<(CacheId, AttentionSpec)> {
        match self.graph().node(id).op {
            Op::Attention { cache, spec } => Ok((cache, spec)),
            other => Err(Error::Unsupported(other.name().into())),
        }
    }

    /// Bytes read per position in the cache.
    fn kv_bytes(&self, cache: CacheId) -> u64 {
        let shape = &self.graph().caches[cache.0];
        self.device.cache_types.token_bytes(shape) as u64
    }

    /// One token's rope, append and attention, and, where its keys are divided among workgroups, the
    /// combination of their results.
    fn attention_step(
        &mut self,
        id: NodeId,
        kernel: Kernel,
        mut entries: Bindings,
        bytes: u64,
    ) -> Result<()> {
        let (cache, spec) = self.spec(id)?;
        let out = self.bound(self.plan.view(id));
        let splits = self.splits(spec.window);
        let part = (spec.head_dim / 4 + 1) * 16;
        let target = if splits == 1 {
            out.clone()
        } else {
            let needed = (spec.n_heads * splits * part) as u64;
            let found = self.splits.clone().filter(|b| b.size() >= needed);
            let buffer = match found {
                Some(buffer) => buffer,
                None => self.device.storage("splits of attention", needed)?,
            };
            self.splits.insert(buffer).clone().into()
        };
        entries.push((7, target.clone()));
        let kernel = kernel
            .set("SCALE", spec.scale)
            .size("WINDOW", spec.window.unwrap_or(0))
            .size("SPLITS", splits);
        let kernel = score_constants(kernel, &spec);
        entries.push((8, self.vector(spec.sinks)?));
        let size = Size::Fixed([spec.n_heads as u32, splits as u32, 1]);
        let bytes = bytes + (spec.n_heads * splits * part) as u64;
        let kv_bytes = self.kv_bytes(cache);
        let dispatch = self.push(&kernel, size, Rows::All, bytes, &entries)?;
        dispatch.kv = Some((kv_bytes, spec.window));
        if splits > 1 {
            let kernel = Kernel::new("attention_reduce")
                .size("HEAD_DIM", spec.head_dim)
                .size("SPLITS", splits);
            let size = Size::Fixed([spec.n_heads as u32, 1, 1]);
            let bytes = target.bytes + out.bytes;
            self.push(&kernel, size, Rows::All, bytes, &[(3, target), (7, out)])?;
        }
        Ok(())
    }

    /// Attention of several tokens, whose keys and values are in the cache.
    pub(super) fn attention(&mut self, id: NodeId) -> Result<()> {
        let (cache, spec) = self.spec(id)?;
        let node = self.graph().node(id).clone();
        let q = self.input(id, 0);
        let kernel = self.reducing("attention", attention_threads(spec.head_dim));
        let (kernel, mut entries) = self.heads(kernel, cache, spec.n_heads, q.stride);
        let kernel = kernel
            .size("Q_START", q.start)
            .set("SCALE", spec.scale)
            .size("WINDOW", spec.window.unwrap_or(0));
        let kernel = score_constants(kernel, &spec);
        entries.push((4, self.vector(spec.sinks)?));
        entries.extend([(3, self.bound(q)), (7, self.bound(self.plan.view(id)))]);
        let bytes = (self.max_rows(node.rows) * node.cols) as u64 * 8;
        let kv_bytes = self.kv_bytes(cache);
        let size = Size::Rows(spec.n_heads as u32);
        let dispatch = self.push(&kernel, size, node.rows, bytes, &entries)?;
        dispatch.kv = Some((kv_bytes, spec.window));
        Ok(())
    }
}
