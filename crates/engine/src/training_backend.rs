//! What training needs from a device, and both devices.

use siskin_cpu::CpuPlan;
use siskin_gpu::GpuDevice;
use siskin_graph::{AdamW, Batch, BatchPlan, Graph, MomentType, TrainingGraphs};

use crate::backend::LocalFuture;
use crate::cpu::{Cpu, done};
use crate::training::TrainingState;
use crate::{Error, Result};

/// A device that trains the adapters in its graphs.
///
/// Errors are those of the device: [`crate::Error::Gpu`] or [`crate::Error::Cpu`].
pub trait TrainingBackend {
    /// What DoRA's magnitudes multiply columns by, for the current parameters.
    fn factors<'a>(&'a mut self, graph: &'a Graph) -> LocalFuture<'a, Vec<f32>>;

    /// Creates plans for batches of up to `rows` tokens.
    fn prepare_training(
        &mut self,
        graphs: TrainingGraphs,
        rows: usize,
        moments: MomentType,
    ) -> LocalFuture<'_, ()>;

    /// Runs a batch; gradients are added to those there are. Returns each row's loss times its weight; nothing for
    /// gradients alone.
    fn run_batch<'a>(&'a mut self, which: BatchPlan, batch: &'a Batch)
    -> LocalFuture<'a, Vec<f32>>;

    /// Clears the gradients.
    fn forget_gradients(&mut self);

    /// Updates the parameters by one step of the optimiser. Returns the gradients' norm before clipping; if that is not
    /// finite, no parameter changes.
    fn optimise<'a>(&'a mut self, step: &'a AdamW) -> LocalFuture<'a, f32>;

    /// The gradients of all parameters, accumulated since the last step of the optimiser.
    fn gradients(&mut self) -> LocalFuture<'_, Vec<f32>>;

    /// Parameters and moments.
    fn training_state(&mut self) -> LocalFuture<'_, TrainingState>;

    /// Continues from such a state.
    ///
    /// # Errors
    /// If the device lacks memory.
    fn set_training_state(&mut self, state: TrainingState) -> Result<()>;
}

/// Plans of a training run on the CPU.
#[derive(Debug)]
pub(crate) struct CpuTraining {
    learn: CpuPlan,
    score: CpuPlan,
    reference: Option<CpuPlan>,
    moments: MomentType,
}

impl Cpu {
    fn run_batch(&mut self, which: BatchPlan, batch: &Batch) -> Result<Vec<f32>> {
        let training = self.training.as_ref().ok_or(Error::NotTraining)?;
        let plan = match which {
            BatchPlan::Learn(_) => &training.learn,
            BatchPlan::Score => &training.score,
            BatchPlan::Reference => training.reference.as_ref().ok_or(Error::NotTraining)?,
        };
        Ok(self.device.run_batch(plan, which.part(), batch)?)
    }
}

impl TrainingBackend for Cpu {
    fn factors<'a>(&'a mut self, graph: &'a Graph) -> LocalFuture<'a, Vec<f32>> {
        let factors = self.device.factors(graph).map(<[f32]>::to_vec);
        done(factors.map_err(Error::from))
    }

    fn prepare_training(
        &mut self,
        graphs: TrainingGraphs,
        rows: usize,
        moments: MomentType,
    ) -> LocalFuture<'_, ()> {
        self.training = Some(CpuTraining {
            learn: self.device.plan(graphs.learn, rows),
            score: self.device.plan(graphs.score, rows),
            reference: graphs.reference.map(|g| self.device.plan(g, rows)),
            moments,
        });
        done(Ok(()))
    }

    fn run_batch<'a>(
        &'a mut self,
        which: BatchPlan,
        batch: &'a Batch,
    ) -> LocalFuture<'a, Vec<f32>> {
        done(self.run_batch(which, batch))
    }

    fn forget_gradients(&mut self) {
        self.device.forget_gradients();
    }

    fn optimise<'a>(&'a mut self, step: &'a AdamW) -> LocalFuture<'a, f32> {
        let training = self.training.as_ref().ok_or(Error::NotTraining);
        done(training.map(|t| self.device.optimise(step, t.moments)))
    }

    fn gradients(&mut self) -> LocalFuture<'_, Vec<f32>> {
        done(Ok(self.device.grads().to_vec()))
    }

    fn training_state(&mut self) -> LocalFuture<'_, TrainingState> {
        done(Ok(TrainingState {
            params: self.device.params().to_vec(),
            moments: self.device.moments().clone(),
        }))
    }

    fn set_training_state(&mut self, state: TrainingState) -> Result<()> {
        self.device.set_params(state.params);
        self.device.set_moments(state.moments);
        Ok(())
    }
}

impl TrainingBackend for GpuDevice {
    fn factors<'a>(&'a mut self, _graph: &'a Graph) -> LocalFuture<'a, Vec<f32>> {
        Box::pin(async move { Ok(self.factors().await?) })
    }

    fn prepare_training(
        &mut self,
        graphs: TrainingGraphs,
        rows: usize,
        moments: MomentType,
    ) -> LocalFuture<'_, ()> {
        Box::pin(async move {
            self.prepare_training(graphs, rows, moments)?;
            Ok(self.settle().await?)
        })
    }

    fn run_batch<'a>(
        &'a mut self,
        which: BatchPlan,
        batch: &'a Batch,
    ) -> LocalFuture<'a, Vec<f32>> {
        Box::pin(async move { Ok(self.run_batch(which, batch).await?) })
    }

    fn forget_gradients(&mut self) {
        self.forget_gradients();
    }

    fn optimise<'a>(&'a mut self, step: &'a AdamW) -> LocalFuture<'a, f32> {
        Box::pin(async move { Ok(self.optimise(step).await?) })
    }

    fn gradients(&mut self) -> LocalFuture<'_, Vec<f32>> {
        Box::pin(async move { Ok(self.grads().await?) })
    }

    fn training_state(&mut self) -> LocalFuture<'_, TrainingState> {
        Box::pin(async move {
            let (params, moments) = self.training_state().await?;
            Ok(TrainingState { params, moments })
        })
    }

    fn set_training_state(&mut self, state: TrainingState) -> Result<()> {
        Ok(self.set_training_state(&state.params, &state.moments)?)
    }
}
