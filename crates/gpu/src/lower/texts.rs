//! Nodes over the texts of a batch, forward, and what their gradients share with them.

use siskin_graph::{AttentionSpec, NodeId, Op, Pooling, Rows, View};

use super::attention::score_constants;
use super::{Bindings, Bound, Lowering};
use crate::pipeline::Kernel;
use crate::prepared::Size;
use crate::{Error, Result};

/// Threads per workgroup of kernels with one thread per value or column.
pub(super) fn groups(n: usize) -> u32 {
    n.div_ceil(64) as u32
}

impl Lowering<'_> {
    pub(super) fn dense(&self, view: View, what: &'static str) -> Result<Bound> {
        if view.start != 0 || view.stride != view.cols {
            return Err(Error::Unsupported(format!("{what} of a slice")));
        }
        Ok(self.bound(view))
    }

    pub(super) fn batch(&self) -> Bound {
        self.device.batch.rows.clone().into()
    }

    /// Some of the parameters, or of their gradients.
    pub(super) fn params(&self, of: &wgpu::Buffer, at: usize, len: usize) -> Bound {
        Bound {
            buffer: of.clone(),
            offset: at as u64 * 4,
            bytes: len.next_multiple_of(64) as u64 * 4,
        }
    }

    /// Bytes of a node's value and of what it reads.
    pub(super) fn traffic(&self, id: NodeId) -> u64 {
        let node = self.graph().node(id);
        let read: usize = node.inputs.iter().map(|i| self.graph().node(*i).cols).sum();
        (self.max_rows(node.rows) * (read + node.cols)) as u64 * 4
    }

    /// A node that only batches and adapters have.
    pub(super) fn batch_node(&mut self, id: NodeId) -> Result<()> {
        match self.graph().node(id).op {
            Op::LoraDown { lora } | Op::LoraUp { lora } | Op::Dora { lora, .. } => {
                self.adapter_node(id, lora)
            }
            Op::Pool { pooling } => self.pool(id, pooling),
            Op::SelfAttention { spec } => self.self_attention(id, &spec),
            #[cfg(feature = "training")]
            _ => self.training_node(id),
            #[cfg(not(feature = "training"))]
            op => Err(Error::Unsupported(op.name().into())),
        }
    }

    /// Queues a dispatch of one thread per `n` values of each of the node's rows.
    pub(super) fn push_values(
        &mut self,
        id: NodeId,
        kernel: &Kernel,
        n: usize,
        entries: &[(u32, Bound)],
    ) -> Result<()> {
        let (rows, traffic) = (self.graph().node(id).rows, self.traffic(id));
        self.push(kernel, Size::Rows(groups(n)), rows, traffic, entries)?;
        Ok(())
    }

    fn pool(&mut self, id: NodeId, pooling: Pooling) -> Result<()> {
        let n = self.graph().node(id).cols;
        let entries = [
            (2, self.batch()),
            (3, self.dense(self.input(id, 0), "pool")?),
            (6, self.bound(self.plan.view(id))),
        ];
        let pooling = match pooling {
            Pooling::Mean => 0u8,
            Pooling::First => 1,
            Pooling::Last => 2,
        };
        let kernel = Kernel::new("pool").size("N", n).set("POOLING", pooling);
        let (size, traffic) = (Size::Rows(groups(n)), self.traffic(id));
        self.push(&kernel, size, Rows::All, traffic, &entries)?;
        Ok(())
    }

    /// What lib/qkv.wgsl wants to know; `v` may be what stands in v's place.
    pub(super) fn qkv(
        &self,
        name: &'static str,
        spec: &AttentionSpec,
        [q, k, v]: [View; 3],
    ) -> Result<(Kernel, Bindings)> {
        if !spec.head_dim.is_multiple_of(4) {
            return Err(Error::Unsupported(
                "heads whose columns are not a multiple of 4".into(),
            ));
        }
        let threads = (spec.head_dim / 4).next_power_of_two().max(64);
        let kernel = self
            .reducing(name, threads)
            .size("HEAD_DIM", spec.head_dim)
            .size("N_HEADS", spec.n_heads)
            .size("N_KV_HEADS", spec.n_kv_heads)
            .set("SCALE", spec.scale)
            .size("WINDOW", spec.window.unwrap_or(0))
            .flag("CAUSAL", spec.causal)
            .size("Q_STRIDE", q.stride / 4)
            .size("K_STRIDE", k.stride / 4)
            .size("V_STRIDE", v.stride / 4)
            .size("V_START", v.start / 4);
        let entries = vec![
            (2, self.batch()),
            (3, self.dense(q, "attention")?),
            (4, self.dense(k, "attention")?),
            (5, self.bound(v)),
        ];
        Ok((kernel, entries))
    }

    fn self_attention(&mut self, id: NodeId, spec: &AttentionSpec) -> Result<()> {
        let views = [0, 1, 2].map(|i| self.input(id, i));
        let (kernel, mut entries) = self.qkv("self_attention", spec, views)?;
        let kernel = score_constants(kernel, spec);
        let sinks = self.vector(spec.sinks)?;
        entries.extend([(6, self.bound(self.plan.view(id))), (7, sinks)]);
        let size = Size::Rows(spec.n_heads as u32);
        let traffic = self.traffic(id);
        self.push(&kernel, size, Rows::All, traffic, &entries)?;
        Ok(())
    }
}
