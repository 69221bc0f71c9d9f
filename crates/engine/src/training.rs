//! Runs of training on a session's device: batches in, losses out, the adapter changed.

use serde::Serialize;
use siskin_graph::{AdamW, Batch, Checkpointing, Fusion, Graph, MomentType, Moments, Plan};
use siskin_models::Head;

use crate::backend::{BatchPlan, TrainingGraphs};
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
    /// Batches have up to so many tokens.
    pub rows: usize,
    pub dropout: f32,
    pub checkpointing: Checkpointing,
    pub moments: MomentType,
}

/// What an optimiser must not lose.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingState {
    /// Of all adapters, in the graph's order.
    pub params: Vec<f32>,
    /// Empty before the first step.
    pub moments: Moments,
}

/// Bytes that training takes, from the plan alone.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TrainingMemory {
    pub weights: u64,
    /// Values of the forward pass that the backward pass needs, and its own.
    pub activations: u64,
    /// Parameters, their gradients and moments.
    pub adapter: u64,
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

    /// What training an adapter would take; nothing runs.
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

    /// Makes ready to train the adapter in use.
    pub async fn prepare_training(&mut self, setup: &TrainingSetup) -> Result<()> {
        let adapter = self.adapter.as_ref().ok_or(Error::NotTraining)?;
        let graph = self.training_graph(adapter, setup)?;
        let loss = self.loss_graph(adapter, 0.0)?;
        let TrainingSetup { rows, moments, .. } = *setup;
        let graphs = TrainingGraphs {
            backward: graph.clone(),
            loss,
        };
        self.device.prepare_training(graphs, rows, moments).await?;
        self.training = Some(Training { graph, moments });
        Ok(())
    }

    /// Adds a batch's gradients to those that are there. Returns the sum of the rows' losses.
    pub async fn train_batch(&mut self, batch: &Batch) -> Result<f32> {
        self.run_batch(batch, BatchPlan::Backward).await
    }

    /// The sum of the rows' losses, without dropout; nothing is learned.
    pub async fn loss_of(&mut self, batch: &Batch) -> Result<f32> {
        self.run_batch(batch, BatchPlan::Loss).await
    }

    async fn run_batch(&mut self, batch: &Batch, which: BatchPlan) -> Result<f32> {
        self.check_tokens(&batch.tokens)?;
        self.check_tokens(&batch.targets)?;
        if self.training.is_none() {
            return Err(Error::NotTraining);
        }
        self.device.run_batch(which, batch).await
    }

    /// Makes all gradients 0.
    pub fn forget_gradients(&mut self) {
        self.device.forget_gradients();
    }

    /// One step of the optimiser over the gradients, which are 0 afterwards. Returns their norm before
    /// clipping; if that is not finite, nothing is changed.
    pub async fn optimise(&mut self, step: &AdamW) -> Result<f32> {
        // Answers given before were another adapter's.
        self.tokens.clear();
        if self.training.is_none() {
            return Err(Error::NotTraining);
        }
        self.device.optimise(step).await
    }

    /// Gradients of all parameters since the last step of the optimiser, by module: A's and B's.
    pub async fn gradients(&mut self) -> Result<Adapter> {
        let grads = self.device.gradients().await?;
        self.adapter_with(&grads)
    }

    /// Parameters and moments, to go on from later.
    pub async fn training_state(&mut self) -> Result<TrainingState> {
        self.device.training_state().await
    }

    /// Goes on from a state that [`Self::training_state`] gave.
    pub fn set_training_state(&mut self, state: TrainingState) -> Result<()> {
        let training = self.training.as_ref().ok_or(Error::NotTraining)?;
        let len = training.graph.params_len();
        let wrong = if state.params.len() != len {
            Some(format!(
                "it has {} parameters, not {len}",
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
        self.tokens.clear();
        self.device.set_training_state(state)
    }

    /// The adapter in use with the values that training gave it.
    pub async fn trained_adapter(&mut self) -> Result<Adapter> {
        let state = self.training_state().await?;
        let adapter = self.adapter_with(&state.params)?;
        self.adapter = Some(adapter.clone());
        Ok(adapter)
    }

    fn adapter_with(&self, params: &[f32]) -> Result<Adapter> {
        let training = self.training.as_ref().ok_or(Error::NotTraining)?;
        let adapter = self.adapter.as_ref().ok_or(Error::NotTraining)?;
        Ok(adapter.with_params(&training.graph, params))
    }
}
