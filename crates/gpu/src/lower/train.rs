//! Nodes over the texts of a batch, except adapters and the loss.

use siskin_graph::{Activation, AttentionSpec, Map, NodeId, Op, Pooling, Rows, View, WeightId};

use super::attention::score_constants;
use super::{Bindings, Bound, Lowering, code, map_constants};
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

    /// Storage shared by all dispatches that use this name.
    pub(super) fn room(&mut self, what: &'static str, bytes: u64) -> Result<Bound> {
        let found = self.between.get(what).filter(|b| b.size() >= bytes);
        if let Some(found) = found {
            return Ok(found.clone().into());
        }
        let made = self.device.storage(what, bytes)?;
        self.between.insert(what, made.clone());
        Ok(made.into())
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

    pub(super) fn training_node(&mut self, id: NodeId) -> Result<()> {
        match self.graph().node(id).op {
            Op::LoraDown { lora } => self.lora_down(id, lora),
            Op::LoraUp { lora } => self.lora_up(id, lora),
            Op::LoraUpGrad { lora } => self.lora_up_grad(id, lora),
            Op::LoraDownGrad { lora } => self.lora_down_grad(id, lora),
            Op::LoraGradA { lora } => self.lora_grad_a(id, lora),
            Op::LoraGradB { lora } => self.lora_grad_b(id, lora),
            Op::Dora { lora, bias } => self.dora(id, lora, bias),
            Op::DoraGrad { lora } => self.dora_grad(id, lora),
            Op::DoraGradM { lora, bias } => self.dora_grad_m(id, lora, bias),
            Op::Dropout { p, salt } => self.dropout(id, p, salt),
            Op::RmsNormGrad { weight, eps } => self.norm_grad(id, "rms_norm_grad", weight, eps),
            Op::LayerNormGrad { weight, eps } => self.norm_grad(id, "layer_norm_grad", weight, eps),
            Op::MapGrad { map } => self.map_grad(id, map),
            Op::GatedGrad { activation } => self.gated_grad(id, activation),
            Op::Concat => self.concat(id),
            Op::Pool { pooling } => self.pool(id, pooling),
            Op::SelfAttention { spec } => self.self_attention(id, &spec),
            Op::SelfAttentionGrad { spec } => self.self_attention_grad(id, &spec),
            Op::LinearGrad { weight } => self.linear_grad(id, weight),
            Op::RowGateGrad => self.row_gate_grad(id),
            Op::RouteGrad { spec } => self.route_grad(id, &spec),
            Op::ExpertUpGrad {
                experts,
                projections,
            } => self.expert_up_grad(id, &experts, projections),
            Op::ExpertDownGrad { experts } => self.expert_down_grad(id, &experts),
            Op::CrossEntropy { weight, soft_cap } => self.cross_entropy(id, weight, soft_cap),
            Op::CrossEntropyGrad { weight, soft_cap } => {
                self.cross_entropy_grad(id, weight, soft_cap)
            }
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

    fn dropout(&mut self, id: NodeId, p: f32, salt: u32) -> Result<()> {
        let n = self.graph().node(id).cols;
        let entries = [
            (0, self.step_uniform()),
            (3, self.dense(self.input(id, 0), "dropout")?),
            (6, self.bound(self.plan.view(id))),
        ];
        let kernel = Kernel::new("dropout")
            .size("N", n)
            .set("P", p)
            .set("SALT", salt);
        self.push_values(id, &kernel, n, &entries)
    }

    fn norm_grad(
        &mut self,
        id: NodeId,
        name: &'static str,
        weight: WeightId,
        eps: f32,
    ) -> Result<()> {
        let x = self.input(id, 0);
        let (kernel, runs) = self.norm_runs(name, weight, x)?;
        let kernel = kernel.set("EPS", eps);
        let entries = [
            (3, self.bound(x)),
            (4, self.vector(Some(weight))?),
            (5, self.dense(self.input(id, 1), name)?),
            (6, self.bound(self.plan.view(id))),
        ];
        let (rows, traffic) = (self.graph().node(id).rows, self.traffic(id));
        self.push(&kernel, Size::Rows(runs), rows, traffic, &entries)?;
        Ok(())
    }

    fn map_grad(&mut self, id: NodeId, map: Map) -> Result<()> {
        let x = self.input(id, 0);
        let entries = [
            (3, self.bound(x)),
            (4, self.dense(self.input(id, 1), "map_grad")?),
            (6, self.bound(self.plan.view(id))),
        ];
        let kernel = map_constants(Kernel::new("map_grad"), map, x);
        self.push_values(id, &kernel, x.cols, &entries)
    }

    fn gated_grad(&mut self, id: NodeId, activation: Activation) -> Result<()> {
        let n = self.graph().node(id).cols;
        let (gate, up) = (self.input(id, 0), self.input(id, 1));
        let stacked =
            gate.offset == up.offset && gate.stride == n && (gate.start, up.start) == (0, n / 2);
        if !stacked {
            return Err(Error::Unsupported(
                "gate and up that are not stacked".into(),
            ));
        }
        let dy = self.input(id, 2);
        let entries = [
            (3, self.bound(gate)),
            (4, self.bound(dy)),
            (6, self.bound(self.plan.view(id))),
        ];
        let kernel = Kernel::new("gated_grad")
            .size("N", n / 2)
            .size("DY_STRIDE", dy.stride)
            .size("DY_START", dy.start)
            .set("ACTIVATION", code(activation));
        self.push_values(id, &kernel, n / 2, &entries)
    }

    fn concat(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph().node(id).clone();
        let out = self.plan.view(id);
        let mut start = 0;
        for i in 0..node.inputs.len() {
            let x = self.input(id, i);
            let entries = [(3, self.bound(x)), (6, self.bound(out))];
            let kernel = Kernel::new("concat")
                .size("N", x.cols)
                .size("X_STRIDE", x.stride)
                .size("X_START", x.start)
                .size("STRIDE", node.cols)
                .size("START", start);
            let bytes = (self.plan.max_rows * x.cols) as u64 * 8;
            let size = Size::Rows(groups(x.cols));
            self.push(&kernel, size, node.rows, bytes, &entries)?;
            start += x.cols;
        }
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
    fn qkv(
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

    fn self_attention_grad(&mut self, id: NodeId, spec: &AttentionSpec) -> Result<()> {
        let [q, k, v, y, dy] = [0, 1, 2, 3, 4].map(|i| self.input(id, i));
        let (n_heads, out) = (spec.n_heads as u32, self.plan.view(id));
        let bytes = (self.plan.max_rows * spec.n_heads) as u64 * 8;
        let stats = self.room("statistics of attention", bytes)?;
        let (traffic, dy) = (self.traffic(id), self.dense(dy, "self_attention_grad")?);
        self.dense(y, "self_attention_grad")?;
        let (kernel, mut entries) = self.qkv("self_attention_stats", spec, [q, k, y])?;
        let kernel = score_constants(kernel, spec);
        let sinks = self.vector(spec.sinks)?;
        entries.extend([(6, dy.clone()), (7, stats.clone()), (8, sinks)]);
        self.push(&kernel, Size::Rows(n_heads), Rows::All, traffic, &entries)?;
        for (name, heads) in [
            ("self_attention_grad_q", spec.n_heads),
            ("self_attention_grad_kv", spec.n_kv_heads),
        ] {
            let (kernel, mut entries) = self.qkv(name, spec, [q, k, v])?;
            entries.extend([(6, dy.clone()), (7, stats.clone()), (8, self.bound(out))]);
            let kernel = kernel
                .size("OUT_STRIDE", out.stride / 4)
                .set("SOFT_CAP", spec.soft_cap.unwrap_or(0.0));
            let size = Size::Rows(heads as u32);
            self.push(&kernel, size, Rows::All, traffic, &entries)?;
        }
        Ok(())
    }
}
