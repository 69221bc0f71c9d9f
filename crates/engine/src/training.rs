//! Training runs on a session's device: batches in, losses out, and the adapter changes.

use serde::Serialize;
use siskin_graph::{
    AdamW, Batch, BatchPart, BatchPlan, Checkpointing, Fusion, Graph, MomentType, Moments, Plan,
    TrainingGraphs,
};
use siskin_models::Head;

use crate::adapters::Adapters;
use crate::{Adapter, Error, Result, Session};

/// What a session's device is prepared to train.
#[derive(Debug)]
pub(crate) struct Training {
    graph: Graph,
    moments: MomentType,
}

/// How an adapter is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingSetup {
    /// The most tokens of a batch.
    pub rows: usize,
    /// The probability that a value is dropped on its way to A.
    pub dropout: f32,
    /// Which values of the forward pass are kept for the backward pass.
    pub checkpointing: Checkpointing,
    /// How the optimiser stores its moments.
    pub moments: MomentType,
    /// Whether batches are run without the adapter, too ([`Session::reference_losses`]).
    pub has_reference: bool,
}

/// What a checkpoint must contain to continue a training run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingState {
    /// The parameters of all modules, in the graph's order.
    pub params: Vec<f32>,
    /// The optimiser's moments; empty before the first step.
    pub moments: Moments,
}

/// The memory that training needs, in bytes, computed from its plan alone.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TrainingMemory {
    /// The model's tensors.
    pub weights: u64,
    /// Values of the forward pass that the backward pass needs, and its own.
    pub activations: u64,
    /// Parameters, their gradients and moments.
    pub adapter: u64,
    /// Weights, activations and adapter together.
    pub total: u64,
}

impl Session {
    fn loss_graph(&self, adapter: &Adapter, dropout: f32) -> Result<Graph> {
        let graph = self.model.graph(Head::Loss)?;
        let mut spec = adapter.spec(&graph)?;
        spec.dropout = dropout;
        Ok(graph.with_lora(&spec).without_cache())
    }

    fn training_graph(&self, adapter: &Adapter, setup: &TrainingSetup) -> Result<Graph> {
        let mut graph = self.loss_graph(adapter, setup.dropout)?;
        let loss = graph.outputs[0];
        graph
            .differentiate(loss, setup.checkpointing)
            .map_err(siskin_models::Error::from)?;
        Ok(graph)
    }

    /// The memory that training an adapter would need; nothing runs.
    ///
    /// # Errors
    /// If the adapter does not fit the model.
    pub fn training_memory(
        &self,
        adapter: &Adapter,
        setup: &TrainingSetup,
    ) -> Result<TrainingMemory> {
        let graph = self.training_graph(adapter, setup)?;
        let mut weights = 0;
        for w in &graph.weights {
            for part in &w.parts {
                weights += self.model.tensor(&self.files().checkpoint, part)?.bytes;
            }
        }
        let params = graph.params_len();
        let adapter = 8 * params as u64 + setup.moments.bytes(params);
        let activations = Plan::new(graph, setup.rows, Fusion::NONE, |_| false).arena_bytes();
        Ok(TrainingMemory {
            weights,
            activations,
            adapter,
            total: weights + activations + adapter,
        })
    }

    /// Sets the magnitudes of the adapter in use to the norms of the weights, with which DoRA starts, so that the
    /// adapter changes nothing yet. Without DoRA, this does nothing.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn begin_dora(&mut self) -> Result<()> {
        let graph = self.graph(Head::Next)?;
        let Some(adapter) = self.adapter().cloned().filter(|a| a.config.use_dora) else {
            return Ok(());
        };
        let factors = self.device.training().factors(&graph).await?;
        self.set_adapter(Some(adapter.with_neutral_magnitudes(&graph, &factors)))
            .await
    }

    /// Prepares to train the adapter in use. Batches are then run with [`Self::train_batch`], and parameters updated
    /// with [`Self::optimise`]; the crate `siskin-train` does both for examples.
    ///
    /// # Errors
    /// [`Error::NotTraining`] without an adapter; or if the device lacks memory.
    pub async fn prepare_training(&mut self, setup: &TrainingSetup) -> Result<()> {
        let adapter = self.adapter().ok_or(Error::NotTraining)?;
        let graph = self.training_graph(adapter, setup)?;
        let score = self.loss_graph(adapter, 0.0)?;
        let TrainingSetup { rows, moments, .. } = *setup;
        let reference = || Ok::<_, Error>(self.model.graph(Head::Loss)?.without_cache());
        let graphs = TrainingGraphs {
            learn: graph.clone(),
            score,
            reference: setup.has_reference.then(reference).transpose()?,
        };
        self.device
            .training()
            .prepare_training(graphs, rows, moments)
            .await?;
        self.training = Some(Training { graph, moments });
        Ok(())
    }

    /// Runs a batch, and adds its gradients to those there are. Returns the sum of the rows' losses.
    ///
    /// # Errors
    /// [`Error::NotTraining`] if nothing was prepared; or if a token is not in the vocabulary, the batch has more rows
    /// than were prepared, or the device fails.
    pub async fn train_batch(&mut self, batch: &Batch) -> Result<f32> {
        let whole = BatchPlan::Learn(BatchPart::Whole);
        Ok(self.run_batch(batch, whole).await?.iter().sum())
    }

    /// As [`Self::train_batch`] for objectives that depend on several rows' losses: `weigh` gets each row's loss times
    /// its weight in the batch, and returns what each row's gradient is to be multiplied by, of either sign. Rows
    /// whose weight in the batch is 0 have no loss, and get no gradient.
    ///
    /// # Errors
    /// As [`Self::train_batch`].
    pub async fn train_batch_by(
        &mut self,
        mut batch: Batch,
        weigh: &mut dyn FnMut(&[f32]) -> Vec<f32>,
    ) -> Result<()> {
        let losses = BatchPlan::Learn(BatchPart::Losses);
        let losses = self.run_batch(&batch, losses).await?;
        let weights = weigh(&losses).into_iter().zip(&batch.weights);
        batch.weights = weights
            .map(|(w, before)| if *before == 0.0 { 0.0 } else { w })
            .collect();
        let gradients = BatchPlan::Learn(BatchPart::Gradients);
        self.run_batch(&batch, gradients).await?;
        Ok(())
    }

    /// Each row's loss times its weight, without dropout and without gradients.
    ///
    /// # Errors
    /// As [`Self::train_batch`].
    pub async fn losses_of(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        self.run_batch(batch, BatchPlan::Score).await
    }

    /// As [`Self::losses_of`], of the model without the adapter; [`TrainingSetup::has_reference`] must have been set.
    ///
    /// # Errors
    /// As [`Self::train_batch`].
    pub async fn reference_losses(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        self.run_batch(batch, BatchPlan::Reference).await
    }

    async fn run_batch(&mut self, batch: &Batch, which: BatchPlan) -> Result<Vec<f32>> {
        self.check_tokens(&batch.tokens)?;
        self.check_tokens(&batch.targets)?;
        if self.training.is_none() {
            return Err(Error::NotTraining);
        }
        self.device.training().run_batch(which, batch).await
    }

    /// Clears the gradients.
    pub fn forget_gradients(&mut self) {
        self.device.training().forget_gradients();
    }

    /// Updates the parameters by one step of the optimiser, and clears the gradients. Returns their norm before
    /// clipping; if that is not finite, no parameter changes.
    ///
    /// # Errors
    /// [`Error::NotTraining`] if nothing was prepared; or if the device fails.
    pub async fn optimise(&mut self, step: &AdamW) -> Result<f32> {
        // The cache was computed with the adapter as it was.
        self.schedule.forget();
        if self.training.is_none() {
            return Err(Error::NotTraining);
        }
        self.device.training().optimise(step).await
    }

    /// The gradients of all parameters, accumulated since the last step of the optimiser, in the place of A, B and
    /// magnitudes.
    ///
    /// # Errors
    /// [`Error::NotTraining`] if nothing was prepared; or if the device fails.
    pub async fn gradients(&mut self) -> Result<Adapter> {
        let grads = self.device.training().gradients().await?;
        self.adapter_with(&grads)
    }

    /// Parameters and moments, from which the training run can continue later.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn training_state(&mut self) -> Result<TrainingState> {
        self.device.training().training_state().await
    }

    /// Continues from such a state.
    ///
    /// # Errors
    /// [`Error::NotTraining`] if nothing was prepared; or if the state is of another adapter or optimiser.
    pub fn set_training_state(&mut self, state: TrainingState) -> Result<()> {
        let training = self.training.as_ref().ok_or(Error::NotTraining)?;
        let len = training.graph.params_len();
        let wrong = if state.params.len() != len {
            Some(format!(
                "it has {} parameters instead of {len}",
                state.params.len()
            ))
        } else if !state.moments.fit(training.moments, len) {
            Some("its moments are of another type or number than the optimiser's".into())
        } else {
            None
        };
        if let Some(what) = wrong {
            let name = "of the checkpoint".into();
            return Err(Error::Adapter { name, what });
        }
        self.schedule.forget();
        self.device.training().set_training_state(state)
    }

    /// The adapter in use, with its current values.
    ///
    /// # Errors
    /// [`Error::NotTraining`] if nothing was prepared; or if the device fails.
    pub async fn trained_adapter(&mut self) -> Result<Adapter> {
        let state = self.training_state().await?;
        let adapter = self.adapter_with(&state.params)?;
        self.adapters = Adapters::All(Box::new(adapter.clone()));
        Ok(adapter)
    }

    fn adapter_with(&self, params: &[f32]) -> Result<Adapter> {
        let training = self.training.as_ref().ok_or(Error::NotTraining)?;
        let adapter = self.adapter().ok_or(Error::NotTraining)?;
        Ok(adapter.with_params(&training.graph, params))
    }
}
