//! Adapters, forward and backward.

use siskin_graph::{LoraId, NodeId, Op, Rows, View};

use super::linear::spread;
use super::texts::groups;
use super::{Bindings, Lowering, threads_for};
use crate::pipeline::Kernel;
use crate::prepared::MAX_ADAPTERS;
use crate::prepared::Size;
use crate::{Adapted, Error, Result};

impl Lowering<'_> {
    /// An adapter's part of a linear.
    pub(super) fn adapter_node(&mut self, id: NodeId, lora: LoraId) -> Result<()> {
        let adapter = self.graph().lora(lora).adapter;
        if adapter.is_some_and(|a| a >= MAX_ADAPTERS) {
            let what = format!("more than {MAX_ADAPTERS} adapters");
            return Err(Error::Unsupported(what));
        }
        self.adapter = adapter;
        let lowered = match self.graph().node(id).op {
            Op::LoraUp { .. } => self.lora_up(id, lora),
            Op::Dora { bias, .. } => self.dora(id, lora, bias),
            _ => self.lora_down(id, lora),
        };
        self.adapter = None;
        lowered
    }

    /// Which rows the adapter of the node is for.
    pub(super) fn adapted(&self, mut kernel: Kernel, rows: Rows) -> (Kernel, Bindings) {
        let Some(adapter) = self.adapter else {
            return (kernel, vec![]);
        };
        let mut entries: Bindings = vec![(5, self.device.rows.clone().into())];
        kernel.variant.adapted = Adapted::Rows;
        if rows == Rows::Last {
            kernel.variant.adapted = Adapted::Samples;
            entries.push((7, self.device.samples.clone().into()));
        }
        (kernel.set("ADAPTER", adapter), entries)
    }

    /// `x · Aᵀ` is a linear over weights that change.
    pub(super) fn lora_down(&mut self, id: NodeId, lora: LoraId) -> Result<()> {
        let lora = self.graph().lora(lora).clone();
        let rows = self.graph().node(id).rows;
        let (n, x, out) = (lora.inner(), self.input(id, 0), self.plan.view(id));
        let a = self.params(&self.device.adapter.params, lora.a, lora.a_len());
        let mut entries = vec![
            (1, a),
            (3, self.dense(x, "lora_down")?),
            (5, self.vector(None)?),
            (6, self.bound(out)),
        ];
        let bytes = self.traffic(id) + lora.a_len() as u64 * 4;
        if self.max_rows(rows) == 1 {
            entries.push((4, self.vector(None)?));
            let kernel = self
                .reducing("matvec", threads_for(lora.k / 32))
                .size("K", lora.k)
                .size("N", n);
            self.push(&kernel, spread(n.div_ceil(4)), rows, bytes, &entries)?;
        } else {
            entries.push((0, self.step_uniform(rows)));
            let kernel = Kernel::new("matmul")
                .size("K", lora.k)
                .size("N", n)
                .size("STRIDE", n);
            let size = Size::Tiles {
                x: n.div_ceil(64) as u32,
                rows: 32,
            };
            self.push(&kernel, size, rows, bytes, &entries)?;
        }
        Ok(())
    }

    /// One dispatch per span, with what `lora_up` and its gradient have in common.
    fn each_span(
        &mut self,
        lora: LoraId,
        kernel: Kernel,
        wide: View,
        u: View,
    ) -> Vec<(Kernel, usize)> {
        let lora = self.graph().lora(lora);
        let mut row = 0;
        let mut out = vec![];
        for (s, span) in lora.spans.iter().enumerate() {
            let kernel = kernel
                .clone()
                .size("RANK", lora.rank)
                .set("SCALE", lora.scale)
                .size("LEN", span.len)
                .size("START", wide.start + span.start)
                .size("STRIDE", wide.stride)
                .size("U_START", u.start + s * lora.rank)
                .size("U_STRIDE", u.stride)
                .size("B_ROW", row);
            out.push((kernel, span.len));
            row += span.len;
        }
        out
    }

    pub(super) fn lora_up(&mut self, id: NodeId, lora: LoraId) -> Result<()> {
        let (rows, u, out) = (
            self.graph().node(id).rows,
            self.input(id, 1),
            self.plan.view(id),
        );
        let found = self.graph().lora(lora).clone();
        let b = self.params(&self.device.adapter.params, found.b, found.b_len());
        let (kernel, adapted) = self.adapted(Kernel::new("lora_up"), rows);
        for (kernel, len) in self.each_span(lora, kernel, out, u) {
            let mut entries = adapted.clone();
            entries.extend([(3, self.bound(u)), (4, b.clone()), (6, self.bound(out))]);
            let bytes = (self.max_rows(rows) * 2 * len + len * found.rank) as u64 * 4;
            self.push(&kernel, Size::Rows(groups(len)), rows, bytes, &entries)?;
        }
        Ok(())
    }
}

#[cfg(feature = "training")]
impl Lowering<'_> {
    pub(super) fn lora_down_grad(&mut self, id: NodeId, lora: LoraId) -> Result<()> {
        let lora = self.graph().lora(lora).clone();
        let params = &self.device.adapter.params;
        let entries = [
            (3, self.dense(self.input(id, 0), "lora_down_grad")?),
            (4, self.params(params, lora.a, lora.a_len())),
            (6, self.bound(self.plan.view(id))),
        ];
        let kernel = Kernel::new("lora_down_grad")
            .size("INNER", lora.inner())
            .size("K", lora.k);
        self.push_values(id, &kernel, lora.k, &entries)
    }

    pub(super) fn lora_grad_a(&mut self, id: NodeId, lora: LoraId) -> Result<()> {
        let lora = self.graph().lora(lora).clone();
        let (x, du) = (self.input(id, 0), self.input(id, 1));
        let kernel = Kernel::new("lora_grad")
            .size("M", lora.inner())
            .size("N", lora.k);
        self.lora_grad(kernel, du, x, lora.a, lora.a_len(), lora.a_len())
    }

    pub(super) fn lora_grad_b(&mut self, id: NodeId, lora: LoraId) -> Result<()> {
        let lora = self.graph().lora(lora).clone();
        let (u, dy) = (self.input(id, 0), self.input(id, 1));
        let mut row = 0;
        for (s, span) in lora.spans.iter().enumerate() {
            let kernel = Kernel::new("lora_grad")
                .size("M", span.len)
                .size("N", lora.rank)
                .set("SCALE", lora.scale)
                .size("ROW", row);
            let dy = View {
                start: dy.start + span.start,
                ..dy
            };
            let u = View {
                start: u.start + s * lora.rank,
                ..u
            };
            self.lora_grad(kernel, dy, u, lora.b, lora.b_len(), span.len * lora.rank)?;
            row += span.len;
        }
        Ok(())
    }

    pub(super) fn lora_up_grad(&mut self, id: NodeId, lora: LoraId) -> Result<()> {
        let (rows, dy, out) = (
            self.graph().node(id).rows,
            self.input(id, 0),
            self.plan.view(id),
        );
        let found = self.graph().lora(lora).clone();
        let b = self.params(&self.device.adapter.params, found.b, found.b_len());
        let kernel = self.reducing("lora_up_grad", 64);
        for (kernel, len) in self.each_span(lora, kernel, dy, out) {
            let entries = [(3, self.bound(dy)), (4, b.clone()), (6, self.bound(out))];
            let bytes = (self.max_rows(rows) + found.rank) as u64 * len as u64 * 4;
            let size = Size::Rows(found.rank as u32);
            self.push(&kernel, size, rows, bytes, &entries)?;
        }
        Ok(())
    }

    /// `values` of the gradient that begins at `at` among all gradients and has `len` values.
    pub(super) fn lora_grad(
        &mut self,
        kernel: Kernel,
        p: View,
        q: View,
        at: usize,
        len: usize,
        values: usize,
    ) -> Result<()> {
        let kernel = kernel
            .size("P_STRIDE", p.stride)
            .size("P_START", p.start)
            .size("Q_STRIDE", q.stride)
            .size("Q_START", q.start);
        let entries = [
            (0, self.step_uniform(Rows::All)),
            (3, self.bound(p)),
            (4, self.bound(q)),
            (6, self.params(&self.device.training.grads, at, len)),
        ];
        let bytes = (self.plan.max_rows * (p.cols + q.cols)) as u64 * 4 + values as u64 * 8;
        self.push(
            &kernel,
            spread(values.div_ceil(64)),
            Rows::All,
            bytes,
            &entries,
        )?;
        Ok(())
    }
}
