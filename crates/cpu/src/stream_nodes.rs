//! The ops over streams of hidden states.

use siskin_graph::Op;

use crate::nodes::{At, Run, State};
use crate::ops::gaussian_top_k::gaussian_top_k;
use crate::ops::mix::{Coefficients, mix};
use crate::ops::rescale::rescale;
use crate::{Error, Result};

impl State {
    pub fn run_streams(&mut self, at: At<'_>, run: Run<'_>) -> Result<()> {
        let (node, rows) = (at.node, at.rows(run));
        let Self { weights, arena, .. } = self;
        let weights = at.weights(weights);
        match node.op {
            Op::Mix { spec } => {
                let w = spec.weights.map(|w| weights.vector(w)).transpose()?;
                // A mix by constants alone has no second input.
                let last = at.input(node.inputs.len() - 1);
                let constants = weights.vector(spec.constants)?;
                let (out, [x, m]) = arena.io(at.out(), rows, [at.input(0), last]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    let c = Coefficients {
                        n_in: spec.n_in,
                        constants,
                        of_token: w.map(|w| (w, m.row(r))),
                    };
                    mix(c, x.row(r), out);
                }
            }
            Op::Rescale { least } => {
                let (out, [y, x]) = arena.io(at.out(), rows, [0, 1].map(|i| at.input(i)));
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    rescale(y.row(r), x.row(r), least, out);
                }
            }
            Op::GaussianTopK { deviations } => {
                let (out, [x]) = arena.io(at.out(), rows, [at.input(0)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    gaussian_top_k(x.row(r), deviations, out);
                }
            }
            op => return Err(Error::NotTraining(op.name())),
        }
        Ok(())
    }
}
