//! The ops that have a recurrent state.

use siskin_graph::Op;

use crate::nodes::{At, Run, State};
use crate::ops::causal_conv::{Conv, causal_conv};
use crate::ops::delta_rule::{DeltaInputs, delta_rule};
use crate::ops::selective_scan::{ScanInputs, selective_scan};
use crate::{Error, Result};

impl State {
    pub fn run_recurrent(&mut self, at: At<'_>, run: Run<'_>) -> Result<()> {
        let (node, rows) = (at.node, run.tokens.len());
        let Self {
            weights,
            arena,
            states,
            ..
        } = self;
        let weights = at.weights(weights);
        match node.op {
            Op::CausalConv {
                weight,
                bias,
                state,
                activation,
            } => {
                let conv = Conv {
                    weight: weights.vector(weight)?,
                    bias: bias.map(|b| weights.vector(b)).transpose()?,
                    activation,
                };
                let (out, [x]) = arena.io(at.out(), rows, [at.input(0)]);
                causal_conv(conv, x.mat(rows), &mut states[state.0], out);
            }
            Op::DeltaRule {
                spec,
                a,
                dt_bias,
                state,
            } => {
                let views = [0, 1, 2].map(|i| at.input(i));
                let (out, values) = arena.io(at.out(), rows, views);
                let [qk, v, gates] = values.map(|v| v.mat(rows));
                let inputs = DeltaInputs {
                    qk,
                    v,
                    gates,
                    a: weights.vector(a)?,
                    dt_bias: weights.vector(dt_bias)?,
                };
                delta_rule(&spec, inputs, &mut states[state.0], out);
            }
            Op::SelectiveScan {
                spec,
                a,
                dt_bias,
                d,
                state,
            } => {
                let views = [0, 1, 2].map(|i| at.input(i));
                let (out, values) = arena.io(at.out(), rows, views);
                let [x, steps, bc] = values.map(|v| v.mat(rows));
                let inputs = ScanInputs {
                    x,
                    steps,
                    bc,
                    a: weights.vector(a)?,
                    dt_bias: dt_bias.map(|b| weights.vector(b)).transpose()?,
                    d: weights.vector(d)?,
                };
                selective_scan(&spec, inputs, &mut states[state.0], out);
            }
            op => return Err(Error::NotTraining(op.name())),
        }
        Ok(())
    }
}
