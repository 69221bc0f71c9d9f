//! The ops over streams of hidden states.

use siskin_graph::{MixSpec, NodeId};

use super::{Lowering, threads_for};
use crate::pipeline::Kernel;
use crate::prepared::Size;
use crate::{Error, Result};

impl Lowering<'_> {
    pub(super) fn mix(&mut self, id: NodeId, spec: &MixSpec) -> Result<()> {
        let x = self.input(id, 0);
        let (cols, m) = (
            self.graph().node(id).cols,
            spec.weights.map(|_| self.input(id, 1)),
        );
        let bound_m = match m {
            Some(m) => {
                self.check_apart(id, &[x, m])?;
                self.dense(m, "mix")?
            }
            None => self.vector(None)?,
        };
        let entries = [
            (3, self.bound(x)),
            (4, bound_m),
            (5, self.vector(Some(spec.constants))?),
            (6, self.bound(self.plan.view(id))),
            // Not the placeholder, which would be bound for reading and for writing.
            (7, self.vector(spec.weights.or(Some(spec.constants)))?),
        ];
        let kernel = Kernel::new("mix")
            .size("D", x.cols / spec.n_in)
            .size("N_IN", spec.n_in)
            .size("N_OUT", spec.n_out)
            .size("R", m.map_or(0, |m| m.cols))
            .size("STRIDE", x.stride)
            .size("START", x.start);
        self.push_values(id, &kernel, cols, &entries)
    }

    pub(super) fn rescale(&mut self, id: NodeId, least: f32) -> Result<()> {
        let [y, x] = [0, 1].map(|i| self.input(id, i));
        self.check_apart(id, &[y, x])?;
        check_fours("rescale", [x.cols, x.stride, x.start])?;
        let runs = y.cols / x.cols;
        let kernel = self
            .reducing("rescale", threads_for(x.cols / 32))
            .size("K", x.cols)
            .size("RUNS", runs)
            .size("STRIDE", x.stride / 4)
            .size("START", x.start / 4)
            .set("LEAST", least);
        let entries = [
            (3, self.dense(y, "rescale")?),
            (4, self.bound(x)),
            (6, self.bound(self.plan.view(id))),
        ];
        let (rows, traffic) = (self.graph().node(id).rows, self.traffic(id));
        self.push(&kernel, Size::Rows(runs as u32), rows, traffic, &entries)?;
        Ok(())
    }

    pub(super) fn gaussian_top_k(&mut self, id: NodeId, deviations: f32) -> Result<()> {
        let x = self.input(id, 0);
        check_fours("gaussian_top_k", [x.cols, x.stride, x.start])?;
        let kernel = self
            .reducing("gaussian_top_k", threads_for(x.cols / 32))
            .size("K", x.cols)
            .size("STRIDE", x.stride / 4)
            .size("START", x.start / 4)
            .set("DEVIATIONS", deviations);
        let entries = [(3, self.bound(x)), (6, self.bound(self.plan.view(id)))];
        let (rows, traffic) = (self.graph().node(id).rows, self.traffic(id));
        self.push(&kernel, Size::Rows(1), rows, traffic, &entries)?;
        Ok(())
    }
}

/// Kernels that read four columns at a time.
fn check_fours(op: &str, sizes: [usize; 3]) -> Result<()> {
    match sizes.iter().all(|n| n.is_multiple_of(4)) {
        true => Ok(()),
        false => Err(Error::Unsupported(format!(
            "{op} whose columns are not a multiple of 4"
        ))),
    }
}
