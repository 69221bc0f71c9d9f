//! Linears: a matrix-vector kernel for one token, a matrix-matrix kernel for several.

use siskin_graph::{Activation, NodeId, Op, View};

use super::{Bindings, Bound, Lowering, code, threads_for};
use crate::pipeline::Kernel;
use crate::prepared::Size;
use crate::weights::Run;
use crate::{Error, Layout, Product, Profile, Result};

/// Dispatches have at most 65535 workgroups per dimension; the rest goes into the second.
pub(super) fn spread(n: usize) -> Size {
    const MOST: usize = 65_535;
    let y = n.div_ceil(MOST);
    Size::Fixed([n.div_ceil(y) as u32, y as u32, 1])
}

impl Lowering<'_> {
    pub(super) fn linear(
        &mut self,
        out: View,
        id: NodeId,
        norm: Option<NodeId>,
        accumulate: bool,
        gated: Option<NodeId>,
    ) -> Result<()> {
        let node = self.graph().node(id).clone();
        let Op::Linear { weight, bias } = node.op else {
            return Err(Error::Unsupported(node.op.name().into()));
        };
        let (runs, k) = self.runs(weight)?;
        let (norm_weight, eps) = match norm.map(|n| self.graph().node(n).op) {
            Some(Op::RmsNorm { weight, eps }) => (Some(weight), eps),
            _ => (None, 0.0),
        };
        let x = self
            .plan
            .view(norm.map_or(node.inputs[0], |n| self.graph().node(n).inputs[0]));
        let (mode, activation) = match gated.map(|g| self.graph().node(g).op) {
            Some(Op::Gated { activation }) => (2, activation),
            _ => (u8::from(accumulate), Activation::Silu),
        };
        let rows = self.max_rows(node.rows);
        for run in &runs {
            let n = if gated.is_some() {
                run.rows / 2
            } else {
                run.rows
            };
            let common = |mut kernel: Kernel| {
                kernel.variant.weights = run.ty;
                kernel
                    .size("K", k)
                    .size("N", n)
                    .set("MODE", mode)
                    .set("ACTIVATION", code(activation))
                    .size("ROW0", run.row0)
                    .flag("HAS_BIAS", bias.is_some())
            };
            let mut entries = vec![
                (1, run.values.clone().into()),
                (5, self.vector(bias)?),
                (6, self.bound(out)),
            ];
            entries.extend(run.scales.clone().map(|s| (2, s.into())));
            let bytes = run.bytes + (rows * (k + n)) as u64 * 4;
            let (kernel, size) = if rows == 1 {
                entries.extend([(3, self.bound(x)), (4, self.vector(norm_weight)?)]);
                let (kernel, size) = self.matvec(run, n, k);
                let kernel = kernel.flag("HAS_NORM", norm.is_some()).set("EPS", eps);
                (common(kernel), size)
            } else {
                let (kernel, size, inputs) = self.matmul(run, n, x, k)?;
                entries.push((0, self.step_uniform(node.rows)));
                entries.extend(inputs);
                (common(kernel).size("STRIDE", out.stride), size)
            };
            self.push(&kernel, size, node.rows, bytes, &entries)?;
        }
        Ok(())
    }

    /// The kernel of one token's product with `n` rows of quantised or plain weights.
    fn matvec(&self, run: &Run, n: usize, k: usize) -> (Kernel, Size) {
        let Profile {
            layout, product, ..
        } = self.device.profile;
        if layout == Layout::Rows && run.ty.is_integer() {
            let threads = 32;
            let kernel = Kernel::new("matvec_rows").size("WG", threads);
            return (kernel, spread(n.div_ceil(4 * threads)));
        }
        let mut kernel = self.reducing("matvec", threads_for(k / 32));
        if run.ty.is_integer() {
            kernel.variant.product = product;
        }
        (kernel, spread(n.div_ceil(4)))
    }

    /// The kernel of several tokens' product with `n` rows, and the bindings of x in the form it reads.
    fn matmul(
        &mut self,
        run: &Run,
        n: usize,
        x: View,
        k: usize,
    ) -> Result<(Kernel, Size, Bindings)> {
        let tiles = |rows| Size::Tiles {
            x: n.div_ceil(64) as u32,
            rows,
        };
        if self.makes_integers(run) {
            let (q, s) = self.quantise(x, k)?;
            return Ok((Kernel::new("matmul_rows"), tiles(8), vec![(3, q), (4, s)]));
        }
        Ok((Kernel::new("matmul"), tiles(32), vec![(3, self.bound(x))]))
    }

    /// Whether products of several tokens with these weights use activations quantised beforehand.
    pub(super) fn makes_integers(&self, run: &Run) -> bool {
        let Profile {
            layout, product, ..
        } = self.device.profile;
        (layout, product) == (Layout::Rows, Product::Dot4) && run.ty.is_integer()
    }

    /// Quantises x [T, k] into the scratch buffers, which are as large as the largest linear needs.
    pub(super) fn quantise(&mut self, x: View, k: usize) -> Result<(Bound, Bound)> {
        let blocks = self.max_rows(x.rows) * k / 32;
        let large_enough = |s: &&(wgpu::Buffer, wgpu::Buffer)| s.0.size() >= blocks as u64 * 64;
        let (q, s) = match self.scratch.as_ref().filter(large_enough) {
            Some(found) => found.clone(),
            None => {
                let widest = self.graph().nodes.iter().map(|n| n.cols);
                let widest = widest
                    .filter(|c| c % 32 == 0 && *c <= 1 << 16)
                    .max()
                    .unwrap_or(k);
                let most = self.plan.max_rows * widest.max(k) / 32;
                let q = self
                    .device
                    .storage("integer activations", most as u64 * 64)?;
                let s = self
                    .device
                    .storage("scales of activations", most as u64 * 16)?;
                self.scratch.insert((q, s)).clone()
            }
        };
        let (q, s) = (Bound::from(q), Bound::from(s));
        let entries = [
            (0, self.step_uniform(x.rows)),
            (3, self.bound(x)),
            (4, q.clone()),
            (6, s.clone()),
        ];
        let kernel = Kernel::new("quantise_q16").size("K", k);
        let size = Size::Blocks {
            per_row: (k / 32) as u32,
            group: 32,
        };
        self.push(&kernel, size, x.rows, blocks as u64 * 208, &entries)?;
        Ok((q, s))
    }
}
