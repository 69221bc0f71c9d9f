//! The ops over the whole texts of a batch, which both training and embedding have.

use siskin_graph::Op;

use crate::nodes::{At, Run, State};
use crate::ops::{pool, self_attention};
use crate::{Error, Result};

impl State {
    pub fn run_batch_node(&mut self, at: At<'_>, run: Run<'_>) -> Result<()> {
        let node = at.node;
        let batch = run.texts().ok_or(Error::NotTraining(node.op.name()))?;
        let rows = batch.rows();
        let Self {
            weights,
            arena,
            scratch,
            ..
        } = self;
        let weights = at.weights(weights);
        let segments = || batch.segments().collect::<Vec<_>>();
        match node.op {
            Op::SelfAttention { spec } => {
                let sinks = spec.sinks.map(|s| weights.vector(s)).transpose()?;
                let views = [0, 1, 2].map(|i| at.input(i));
                let (out, values) = arena.io(at.out(), rows, views);
                let values = values.map(|v| v.mat(rows));
                self_attention::self_attention(&spec, sinks, &segments(), values, scratch, out);
            }
            Op::Pool { pooling } => {
                let (out, [x]) = arena.io(at.out(), at.rows(run), [at.input(0)]);
                pool::pool(pooling, &segments(), x.mat(rows), out);
            }
            #[cfg(feature = "training")]
            _ => self.run_training_node(at, run)?,
            #[cfg(not(feature = "training"))]
            op => return Err(Error::NotTraining(op.name())),
        }
        Ok(())
    }
}
