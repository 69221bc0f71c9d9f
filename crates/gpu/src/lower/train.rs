//! Gradients of nodes, except those of adapters, experts and the loss.

use siskin_graph::{Activation, AttentionSpec, Map, NodeId, Op, Rows, WeightId};

use super::attention::score_constants;
use super::texts::groups;
use super::{Bound, Lowering, code, map_constants};
use crate::pipeline::Kernel;
use crate::prepared::Size;
use crate::{Error, Result};

impl Lowering<'_> {
    pub(super) fn training_node(&mut self, id: NodeId) -> Result<()> {
        match self.graph().node(id).op {
            Op::LoraUpGrad { lora } => self.lora_up_grad(id, lora),
            Op::LoraDownGrad { lora } => self.lora_down_grad(id, lora),
            Op::LoraGradA { lora } => self.lora_grad_a(id, lora),
            Op::LoraGradB { lora } => self.lora_grad_b(id, lora),
            Op::DoraGrad { lora } => self.dora_grad(id, lora),
            Op::DoraGradM { lora, bias } => self.dora_grad_m(id, lora, bias),
            Op::Dropout { p, salt } => self.dropout(id, p, salt),
            Op::RmsNormGrad { weight, eps } => self.norm_grad(id, "rms_norm_grad", weight, eps),
            Op::LayerNormGrad { weight, eps } => self.norm_grad(id, "layer_norm_grad", weight, eps),
            Op::MapGrad { map } => self.map_grad(id, map),
            Op::GatedGrad { activation } => self.gated_grad(id, activation),
            Op::Concat => self.concat(id),
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

    fn dropout(&mut self, id: NodeId, p: f32, salt: u32) -> Result<()> {
        let n = self.graph().node(id).cols;
        let entries = [
            (0, self.step_uniform(Rows::All)),
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
