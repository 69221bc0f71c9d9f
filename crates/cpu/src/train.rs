//! Runs of batches on the CPU, and the optimiser.

use siskin_graph::{AdamW, Batch, BatchPart, Graph, MomentType, Moments, NodeId};

use crate::nodes::{At, Over, Run, State};
use crate::ops::adamw;
use crate::params::Params;
use crate::plan::CpuPlan;
use crate::threads::within;
use crate::{CpuDevice, Error, Result};

impl CpuDevice {
    /// Sets the parameters of the graphs' adapters, in the order of `siskin_graph::Lora`. Gradients and moments start
    /// again at 0.
    pub fn set_params(&mut self, values: Vec<f32>) {
        self.state.params = Params {
            values,
            are_stale: true,
            ..Params::default()
        };
    }

    /// What DoRA's magnitudes multiply columns by, in the order of `siskin_graph::Dora`.
    ///
    /// # Errors
    /// If a weight that is adapted is missing.
    pub fn factors(&mut self, graph: &Graph) -> Result<&[f32]> {
        let State {
            weights, params, ..
        } = &mut self.state;
        params.refresh_factors(graph, weights)?;
        Ok(&params.factors)
    }

    /// The current parameters of the adapters.
    pub fn params(&self) -> &[f32] {
        &self.state.params.values
    }

    /// The gradients of all parameters, accumulated since the last step of the optimiser.
    pub fn grads(&self) -> &[f32] {
        &self.state.params.grads
    }

    /// Clears the gradients.
    pub fn forget_gradients(&mut self) {
        self.state.params.grads.fill(0.0);
    }

    /// The optimiser's moments; empty before the first step.
    pub fn moments(&self) -> &Moments {
        &self.state.params.moments
    }

    /// Continues with these moments.
    pub fn set_moments(&mut self, moments: Moments) {
        self.state.params.moments = moments;
    }

    /// Runs a part of a plan of a loss, and of its backward pass if it has one, whose gradients are added to those there
    /// are. Returns each row's loss times its weight; nothing for gradients alone.
    ///
    /// # Errors
    /// As [`Self::run_texts`].
    pub fn run_batch(
        &mut self,
        plan: &CpuPlan,
        part: BatchPart,
        batch: &Batch,
    ) -> Result<Vec<f32>> {
        let Params { values, grads, .. } = &mut self.state.params;
        grads.resize(values.len(), 0.0);
        self.run_nodes(plan, plan.nodes_of(part), batch)?;
        if part == BatchPart::Gradients {
            return Ok(vec![]);
        }
        let losses = self.read(plan, plan.graph.outputs[0], batch.rows());
        Ok(losses.into_iter().step_by(2).collect())
    }

    /// Runs a plan over the texts of a batch. Returns all outputs of its graph: `[rows, columns]` each, with a row for
    /// each token or for each segment.
    ///
    /// # Errors
    /// If the batch has more rows than the plan, a weight is missing, or a text is longer than the model's positions.
    pub fn run_texts(&mut self, plan: &CpuPlan, batch: &Batch) -> Result<Vec<Vec<f32>>> {
        let run = self.run_nodes(plan, plan.nodes(), batch)?;
        let read = |id: &NodeId| self.read(plan, *id, At::new(plan, *id).rows(run));
        Ok(plan.graph.outputs.iter().map(read).collect())
    }

    fn run_nodes<'a>(
        &mut self,
        plan: &CpuPlan,
        nodes: &[NodeId],
        batch: &'a Batch,
    ) -> Result<Run<'a>> {
        let rows = batch.rows();
        if rows > plan.max_rows {
            return Err(Error::ContextFull {
                rows,
                position: 0,
                context: plan.max_rows,
            });
        }
        let State {
            weights,
            params,
            arena,
            ..
        } = &mut self.state;
        params.refresh_factors(&plan.graph, weights)?;
        arena.reserve(plan.arena_len);
        let run = Run {
            tokens: &batch.tokens,
            positions: &batch.positions,
            precision: self.precision,
            over: Over::Texts(batch),
        };
        within(|| {
            let mut nodes = nodes.iter();
            nodes.try_for_each(|id| self.state.run_node(At::new(plan, *id), run))
        })?;
        Ok(run)
    }

    /// Updates the parameters by one step of AdamW, and clears the gradients; empty moments become moments of type
    /// `ty`. Returns the gradients' norm before clipping; if that is not finite, no parameter changes.
    pub fn optimise(&mut self, step: &AdamW, ty: MomentType) -> f32 {
        let Params {
            values,
            grads,
            moments,
            are_stale,
            ..
        } = &mut self.state.params;
        let norm = adamw::global_norm(grads);
        if norm.is_finite() {
            if moments.is_empty() {
                *moments = Moments::zero(ty, values.len());
            }
            adamw::adamw(step, norm, grads, moments, values);
            *are_stale = true;
        }
        grads.fill(0.0);
        norm
    }
}
