//! DoRA's magnitudes, forward and backward, and the factors computed from them.

use siskin_graph::{Dora, Lora, LoraId, NodeId, Rows, WeightId};

use super::linear::spread;
use super::texts::groups;
use super::{Bound, Lowering, threads_for};
use crate::pipeline::Kernel;
use crate::prepared::{Dispatch, Size};
use crate::{Error, Result};

impl Lowering<'_> {
    /// Dispatches that recompute all factors from the parameters.
    pub(super) fn factors(&mut self) -> Result<Vec<Dispatch>> {
        let before = std::mem::take(&mut self.dispatches);
        for lora in self.graph().loras.clone() {
            if let Some(dora) = &lora.dora {
                self.factors_of(&lora, dora)?;
            }
        }
        Ok(std::mem::replace(&mut self.dispatches, before))
    }

    fn factors_of(&mut self, lora: &Lora, dora: &Dora) -> Result<()> {
        let (runs, k) = self.runs(dora.weight)?;
        let params = self.device.adapter.params.clone();
        let mut b_row = 0;
        for (s, span) in lora.spans.iter().enumerate() {
            for run in &runs {
                // The rows of the span that are in this run.
                let first = span.start.max(run.row0);
                let end = (span.start + span.len).min(run.row0 + run.rows);
                if first >= end {
                    continue;
                }
                let mut kernel = self
                    .reducing("dora_factors", threads_for(k / 32))
                    .size("K", k)
                    .size("N", end - first)
                    .size("RANK", lora.rank)
                    .set("SCALE", lora.scale)
                    .size("ROW", first - run.row0)
                    .size("A_ROW", s * lora.rank)
                    .size("B_ROW", b_row + first - span.start)
                    .size("OUT", first);
                kernel.variant.weights = run.ty;
                let mut entries = vec![
                    (1, run.values.clone().into()),
                    (3, self.params(&params, lora.a, lora.a_len())),
                    (4, self.params(&params, lora.b, lora.b_len())),
                    (5, self.params(&params, dora.m, lora.outer())),
                    (6, self.factors_bound(dora)),
                ];
                entries.extend(run.scales.clone().map(|s| (2, s.into())));
                let bytes = run.bytes * (end - first) as u64 / run.rows as u64;
                self.push(&kernel, spread(end - first), Rows::All, bytes, &entries)?;
            }
            b_row += span.len;
        }
        Ok(())
    }

    fn factors_bound(&self, dora: &Dora) -> Bound {
        self.params(&self.device.adapter.factors, dora.factors, dora.n)
    }

    fn magnitudes(&self, id: LoraId) -> Result<(Lora, Dora)> {
        let lora = self.graph().lora(id).clone();
        match lora.dora.clone() {
            Some(dora) => Ok((lora, dora)),
            None => Err(Error::Unsupported("dora without magnitudes".into())),
        }
    }

    pub(super) fn dora(&mut self, id: NodeId, lora: LoraId, bias: Option<WeightId>) -> Result<()> {
        let (_, dora) = self.magnitudes(lora)?;
        let (rows, y) = (self.graph().node(id).rows, self.plan.view(id));
        let (kernel, mut entries) = self.adapted(Kernel::new("dora"), rows);
        entries.extend([
            (3, self.factors_bound(&dora)),
            (4, self.vector(bias)?),
            (6, self.dense(y, "dora")?),
        ]);
        let kernel = kernel.size("N", y.cols).flag("HAS_BIAS", bias.is_some());
        let bytes = 8 * (self.max_rows(rows) * y.cols) as u64;
        self.push(&kernel, Size::Rows(groups(y.cols)), rows, bytes, &entries)?;
        Ok(())
    }
}

#[cfg(feature = "training")]
impl Lowering<'_> {
    pub(super) fn dora_grad(&mut self, id: NodeId, lora: LoraId) -> Result<()> {
        let (_, dora) = self.magnitudes(lora)?;
        let (dy, dx) = (self.input(id, 0), self.plan.view(id));
        let entries = [
            (3, self.bound(dy)),
            (4, self.factors_bound(&dora)),
            (6, self.bound(dx)),
        ];
        let kernel = Kernel::new("dora_grad")
            .size("N", dx.cols)
            .size("STRIDE", dy.stride)
            .size("START", dy.start);
        let (size, traffic) = (Size::Rows(groups(dx.cols)), self.traffic(id));
        self.push(&kernel, size, Rows::All, traffic, &entries)?;
        Ok(())
    }

    pub(super) fn dora_grad_m(
        &mut self,
        id: NodeId,
        lora: LoraId,
        bias: Option<WeightId>,
    ) -> Result<()> {
        let (lora, dora) = self.magnitudes(lora)?;
        let (y, dy) = (self.input(id, 0), self.input(id, 1));
        let m = self.params(&self.device.adapter.params, dora.m, lora.outer());
        let grad = self.params(&self.device.training.grads, dora.m, lora.outer());
        let mut row = 0;
        for span in &lora.spans {
            let kernel = Kernel::new("dora_grad_m")
                .size("LEN", span.len)
                .size("STRIDE", y.stride)
                .size("START", y.start + span.start)
                .size("DY_STRIDE", dy.stride)
                .size("DY_START", dy.start + span.start)
                .size("COLUMN", span.start)
                .size("ROW", row)
                .flag("HAS_BIAS", bias.is_some());
            let entries = [
                (0, self.step_uniform(Rows::All)),
                (3, self.bound(y)),
                (4, self.bound(dy)),
                (5, self.vector(bias)?),
                (6, grad.clone()),
                (7, m.clone()),
            ];
            let bytes = 8 * (self.plan.max_rows * span.len) as u64;
            let size = Size::Fixed([groups(span.len), 1, 1]);
            self.push(&kernel, size, Rows::All, bytes, &entries)?;
            row += span.len;
        }
        Ok(())
    }
}
