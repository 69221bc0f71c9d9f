//! Mixtures of experts: the choice, and linears whose weights it selects. A matrix that is bound in several runs is
//! computed in as many dispatches, each of which does the rows that it has.

use siskin_graph::{Activation, Experts, NodeId, Op, RouteSpec, Rows, Score, View};

use super::{Bindings, Lowering, code, threads_for};
use crate::pipeline::Kernel;
use crate::prepared::Size;
use crate::weights::Run;
use crate::{Error, Result};

fn jitter_of(spec: &RouteSpec) -> f32 {
    match spec.score {
        Score::SparseMixer { jitter } => jitter,
        _ => 0.0,
    }
}

impl Lowering<'_> {
    /// The constants and bindings of lib/expert.wgsl.
    fn experts(
        &self,
        kernel: Kernel,
        experts: &Experts,
        run: &Run,
        route: View,
    ) -> Result<(Kernel, Bindings)> {
        let graph = self.graph();
        let mut kernel = kernel
            .size("K", graph.weight(experts.weight).cols)
            .size("USED", experts.n_used)
            .size("EXPERT_ROWS", graph.expert_rows(experts))
            .size("ROW0", run.row0)
            .size("ROWS", run.rows)
            .flag("HAS_BIAS", experts.bias.is_some());
        kernel.variant.weights = run.ty;
        let mut entries = vec![
            (1, run.values.clone().into()),
            (4, self.dense(route, "a route")?),
            (5, self.vector(experts.bias)?),
        ];
        entries.extend(run.scales.clone().map(|s| (2, s.into())));
        Ok((kernel, entries))
    }

    /// With products in integers where the profile has them.
    fn expert_product(&self, name: &'static str, blocks: usize, run: &Run) -> Kernel {
        let mut kernel = self.reducing(name, threads_for(blocks));
        if run.ty.is_integer() {
            kernel.variant.product = self.device.profile.product;
        }
        kernel
    }

    /// Bytes of a run that the rows of a step read: each those of its own experts.
    fn expert_bytes(&self, experts: &Experts, run: &Run, rows: Rows) -> u64 {
        let share = run.bytes * experts.n_used as u64 / experts.n_experts as u64;
        share * self.max_rows(rows) as u64
    }

    pub(super) fn expert_up(&mut self, out: View, id: NodeId, gated: Option<NodeId>) -> Result<()> {
        let node = self.graph().node(id).clone();
        let Op::ExpertUp {
            experts,
            projections,
        } = node.op
        else {
            return Err(Error::Unsupported(node.op.name().into()));
        };
        let n = self.graph().expert_rows(&experts) / projections;
        let (runs, k) = self.runs(experts.weight)?;
        let (mode, activation) = match gated.map(|g| self.graph().node(g).op) {
            Some(Op::Gated { activation }) => (2, activation),
            _ => (0u8, Activation::Silu),
        };
        let together = if gated.is_some() { 1 } else { projections };
        for run in &runs {
            let kernel = self.expert_product("expert_up", k / 32, run);
            let (kernel, mut entries) = self.experts(kernel, &experts, run, self.input(id, 1))?;
            let kernel = kernel
                .size("N", n)
                .size("PROJECTIONS", projections)
                .set("MODE", mode)
                .set("ACTIVATION", code(activation));
            let x = self.dense(self.input(id, 0), "expert_up")?;
            entries.extend([(3, x), (6, self.bound(out))]);
            let values = (self.max_rows(node.rows) * (k + out.cols)) as u64 * 4;
            let bytes = self.expert_bytes(&experts, run, node.rows) + values;
            let size = Size::Planes([n.div_ceil(4) as u32, (together * experts.n_used) as u32]);
            self.push(&kernel, size, node.rows, bytes, &entries)?;
        }
        Ok(())
    }

    pub(super) fn expert_down(&mut self, out: View, id: NodeId, accumulate: bool) -> Result<()> {
        let node = self.graph().node(id).clone();
        let Op::ExpertDown { experts } = node.op else {
            return Err(Error::Unsupported(node.op.name().into()));
        };
        let (runs, k) = self.runs(experts.weight)?;
        for (i, run) in runs.iter().enumerate() {
            let blocks = experts.n_used * k / 32;
            let kernel = self.expert_product("expert_down", blocks, run);
            let (kernel, mut entries) = self.experts(kernel, &experts, run, self.input(id, 1))?;
            let kernel = kernel.flag("ADD", accumulate || i > 0);
            let h = self.dense(self.input(id, 0), "expert_down")?;
            entries.extend([(3, h), (6, self.bound(out))]);
            let values = self.max_rows(node.rows) * (experts.n_used * k + node.cols);
            let bytes = self.expert_bytes(&experts, run, node.rows) + values as u64 * 4;
            let size = Size::Rows(node.cols.div_ceil(4) as u32);
            self.push(&kernel, size, node.rows, bytes, &entries)?;
        }
        Ok(())
    }

    fn route_constants(kernel: Kernel, spec: &RouteSpec, experts: usize) -> Kernel {
        let score = match spec.score {
            Score::Softmax => 0u8,
            Score::Sigmoid => 1,
            Score::SparseMixer { .. } => 2,
        };
        kernel
            .size("EXPERTS", experts)
            .size("USED", spec.n_used)
            .set("SCORE", score)
            .flag("RENORMALISE", spec.renormalise)
            .set("EPS", spec.eps)
            .set("SCALE", spec.scale)
    }

    pub(super) fn route(&mut self, id: NodeId, spec: &RouteSpec) -> Result<()> {
        let logits = self.input(id, 0);
        let kernel = self.reducing("route", logits.cols.next_power_of_two().clamp(32, 128));
        let kernel = Self::route_constants(kernel, spec, logits.cols)
            .set("JITTER", jitter_of(spec))
            .flag("HAS_BIAS", spec.bias.is_some())
            .flag("HAS_SCALES", spec.expert_scales.is_some());
        let entries = [
            (3, self.dense(logits, "route")?),
            (4, self.vector(spec.bias)?),
            (5, self.vector(spec.expert_scales)?),
            (6, self.bound(self.plan.view(id))),
        ];
        let (rows, traffic) = (self.graph().node(id).rows, self.traffic(id));
        self.push(&kernel, Size::Rows(1), rows, traffic, &entries)?;
        Ok(())
    }

    pub(super) fn row_gate(&mut self, id: NodeId) -> Result<()> {
        let n = self.graph().node(id).cols;
        let entries = [
            (3, self.dense(self.input(id, 0), "row_gate")?),
            (4, self.dense(self.input(id, 1), "row_gate")?),
            (6, self.bound(self.plan.view(id))),
        ];
        let kernel = Kernel::new("row_gate").size("N", n);
        self.push_values(id, &kernel, n, &entries)
    }
}

#[cfg(feature = "training")]
impl Lowering<'_> {
    pub(super) fn route_grad(&mut self, id: NodeId, spec: &RouteSpec) -> Result<()> {
        let [logits, route, dy] = [0, 1, 2].map(|i| self.input(id, i));
        let kernel = Self::route_constants(Kernel::new("route_grad"), spec, logits.cols)
            .size("DY_STRIDE", dy.stride)
            .size("DY_START", dy.start);
        let entries = [
            (0, self.step_uniform(Rows::All)),
            (3, self.dense(logits, "route_grad")?),
            (4, self.dense(route, "route_grad")?),
            (5, self.bound(dy)),
            (6, self.bound(self.plan.view(id))),
        ];
        let size = Size::Blocks {
            per_row: 1,
            group: 64,
        };
        let traffic = self.traffic(id);
        self.push(&kernel, size, Rows::All, traffic, &entries)?;
        Ok(())
    }

    pub(super) fn row_gate_grad(&mut self, id: NodeId) -> Result<()> {
        let n = self.input(id, 0).cols;
        let entries = [
            (3, self.dense(self.input(id, 0), "row_gate_grad")?),
            (4, self.dense(self.input(id, 1), "row_gate_grad")?),
            (5, self.dense(self.input(id, 2), "row_gate_grad")?),
            (6, self.bound(self.plan.view(id))),
        ];
        let kernel = self.reducing("row_gate_grad", 64).size("N", n);
        let traffic = self.traffic(id);
        self.push(&kernel, Size::Rows(1), Rows::All, traffic, &entries)?;
        Ok(())
    }

    pub(super) fn expert_up_grad(
        &mut self,
        id: NodeId,
        experts: &Experts,
        projections: usize,
    ) -> Result<()> {
        let n = self.graph().expert_rows(experts) / projections;
        let (runs, k) = self.runs(experts.weight)?;
        let dy = self.dense(self.input(id, 1), "expert_up_grad")?;
        for (i, run) in runs.iter().enumerate() {
            let kernel = Kernel::new("expert_up_grad");
            let (kernel, mut entries) = self.experts(kernel, experts, run, self.input(id, 0))?;
            // It has no use for a bias.
            entries.retain(|(binding, _)| *binding != 5);
            let kernel = kernel
                .size("N", n)
                .size("PROJECTIONS", projections)
                .flag("ADD", i > 0);
            entries.extend([(3, dy.clone()), (6, self.bound(self.plan.view(id)))]);
            let bytes = self.expert_bytes(experts, run, Rows::All) + self.traffic(id);
            let size = Size::Rows((k / 32).div_ceil(64) as u32);
            self.push(&kernel, size, Rows::All, bytes, &entries)?;
        }
        Ok(())
    }

    pub(super) fn expert_down_grad(&mut self, id: NodeId, experts: &Experts) -> Result<()> {
        let (runs, k) = self.runs(experts.weight)?;
        let [h, dy]: [super::Bound; 2] = [
            self.dense(self.input(id, 0), "expert_down_grad")?,
            self.dense(self.input(id, 2), "expert_down_grad")?,
        ];
        for (i, run) in runs.iter().enumerate() {
            let kernel = self.reducing("expert_down_grad", threads_for(k / 32));
            let (kernel, mut entries) = self.experts(kernel, experts, run, self.input(id, 1))?;
            let kernel = kernel.flag("ADD", i > 0);
            let out = self.bound(self.plan.view(id));
            entries.extend([(3, h.clone()), (6, dy.clone()), (7, out)]);
            let bytes = self.expert_bytes(experts, run, Rows::All) + self.traffic(id);
            let size = Size::Rows(experts.n_used as u32);
            self.push(&kernel, size, Rows::All, bytes, &entries)?;
        }
        Ok(())
    }
}
