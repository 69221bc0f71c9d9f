//! Linears: a matrix-vector kernel for one token, a matrix-matrix kernel for several.

use siskin_graph::{Activation, NodeId, Op, Rows, View};

use super::{Bound, Lowering, threads_for};
use crate::pipeline::Kernel;
use crate::prepared::Size;
use crate::{Error, Profile, Result};

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
            return Err(Error::Unsupported(format!("{:?}", node.op)));
        };
        let (runs, k) = self.runs(weight)?;
        let (norm_weight, eps) = match norm.map(|n| self.graph().node(n).op) {
            Some(Op::RmsNorm { weight, eps }) => (Some(weight), eps),
            _ => (None, 0.0),
        };
        let x = self
            .plan
            .view(norm.map_or(node.inputs[0], |n| self.graph().node(n).inputs[0]));
        let mode = match gated.map(|g| self.graph().node(g).op) {
            Some(Op::Gated {
                activation: Activation::Silu,
            }) => 2,
            Some(_) => 3,
            None => u8::from(accumulate),
        };
        let rows = self.max_rows(node.rows);
        for run in &runs {
            let n = if gated.is_some() {
                run.rows / 2
            } else {
                run.rows
            };
            let common = |kernel: Kernel| {
                let mut kernel = kernel
                    .size("K", k)
                    .size("N", n)
                    .set("MODE", mode)
                    .size("ROW0", run.row0)
                    .flag("HAS_BIAS", bias.is_some());
                kernel.variant.weights = run.ty;
                kernel
            };
            let mut entries = vec![
                (1, run.values.clone().into()),
                (5, self.vector(bias)?),
                (6, self.bound(out)),
            ];
            entries.extend(run.scales.clone().map(|s| (2, s.into())));
            let bytes = run.bytes + (rows * (k + n)) as u64 * 4;
            let by_rows = self.device.profile == Profile::Cpu && run.ty.is_integer();
            if rows == 1 {
                entries.extend([(3, self.bound(x)), (4, self.vector(norm_weight)?)]);
                let threads = threads_for(k / 32);
                let dot4 = self.device.profile == Profile::SgDot4 && run.ty.is_integer();
                let (kernel, size) = if by_rows {
                    let wg = 32;
                    (
                        Kernel::new("matvec_rows").size("WG", wg),
                        spread(n.div_ceil(4 * wg)),
                    )
                } else {
                    let mut kernel = self.reducing("matvec", threads);
                    kernel.variant.integer = dot4;
                    (kernel, spread(n.div_ceil(4)))
                };
                let kernel = common(kernel)
                    .flag("HAS_NORM", norm.is_some())
                    .set("EPS", eps);
                self.push(&kernel, size, node.rows, bytes, &entries)?;
            } else {
                entries.push((0, self.step_uniform()));
                if by_rows {
                    let (q, s) = self.quantise(x, k)?;
                    entries.extend([(3, q), (4, s)]);
                    let kernel = common(Kernel::new("matmul_rows")).size("STRIDE", out.stride);
                    let size = Size::Tiles {
                        x: n.div_ceil(64) as u32,
                        rows: 8,
                    };
                    self.push(&kernel, size, node.rows, bytes, &entries)?;
                } else {
                    entries.push((3, self.bound(x)));
                    let kernel = common(Kernel::new("matmul")).size("STRIDE", out.stride);
                    let size = Size::Tiles {
                        x: n.div_ceil(64) as u32,
                        rows: 32,
                    };
                    self.push(&kernel, size, node.rows, bytes, &entries)?;
                }
            }
        }
        Ok(())
    }

    /// Quantises x [T, k] into the scratch buffers, which are as large as the largest linear needs.
    pub(super) fn quantise(&mut self, x: View, k: usize) -> Result<(Bound, Bound)> {
        let blocks = self.plan.max_rows * k / 32;
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
            (0, self.step_uniform()),
            (3, self.bound(x)),
            (4, q.clone()),
            (6, s.clone()),
        ];
        let kernel = Kernel::new("quantise_q16").size("K", k);
        let size = Size::Blocks {
            per_row: (k / 32) as u32,
            group: 32,
        };
        self.push(&kernel, size, Rows::All, blocks as u64 * 208, &entries)?;
        Ok((q, s))
    }
}
