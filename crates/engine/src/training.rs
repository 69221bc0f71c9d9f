//! Runs of training on a session's device: batches in, losses out, the adapter changed.

use serde::Serialize;
use siskin_graph::{AdamW, Batch, Checkpointing, Fusion, Graph, Plan};
use siskin_models::Head;

use crate::{Adapter, Device, Error, Result, Session};

/// A session's training: the plans, and the rows they hold.
#[derive(Debug)]
pub(crate) struct Training {
    graph: Graph,
    pub(crate) cpu: Option<[Plan; 2]>,
}

/// What an optimiser must not lose.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingState {
    /// Of all adapters, in the graph's order.
    pub params: Vec<f32>,
    /// First and second moment of each; empty before the first step.
    pub moments: Vec<[f32; 2]>,
}

/// Bytes that training takes, from the plan alone.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TrainingMemory {
    pub weights: u64,
    /// Values of the forward pass that the backward pass needs, and its own.
    pub activations: u64,
    /// Parameters, their gradients and two moments each.
    pub adapter: u64,
    pub total: u64,
}

impl Session {
    fn loss_graph(&self, dropout: f32) -> Result<Graph> {
        let graph = self.model.graph(Head::Loss)?;
        let adapter = self.adapter.as_ref().ok_or(Error::NotTraining)?;
        let mut spec = adapter.spec(&graph)?;
        spec.dropout = dropout;
        Ok(graph.with_lora(&spec).without_cache())
    }

    fn training_graph(&self, dropout: f32, checkpointing: Checkpointing) -> Result<Graph> {
        let mut graph = self.loss_graph(dropout)?;
        let loss = graph.outputs[0];
        graph
            .differentiate(loss, checkpointing)
            .map_err(siskin_models::Error::from)?;
        Ok(graph)
    }

    /// What training the adapter in use takes, with batches of up to `rows` tokens.
    pub fn training_memory(
        &self,
        rows: usize,
        dropout: f32,
        checkpointing: Checkpointing,
    ) -> Result<TrainingMemory> {
        let graph = self.training_graph(dropout, checkpointing)?;
        let mut weights = 0;
        for w in &graph.weights {
            for part in &w.parts {
                let tensor = self.model.tensor(&self.files().checkpoint, part, w.cols);
                weights += tensor?.0.bytes;
            }
        }
        let adapter = 16 * graph.params_len() as u64;
        let activations = Plan::new(graph, rows, Fusion::NONE, |_| false).arena_bytes();
        Ok(TrainingMemory {
            weights,
            activations,
            adapter,
            total: weights + activations + adapter,
        })
    }

    /// Makes ready to train the adapter in use with batches of up to `rows` tokens.
    pub async fn prepare_training(
        &mut self,
        rows: usize,
        dropout: f32,
        checkpointing: Checkpointing,
    ) -> Result<()> {
        let graph = self.training_graph(dropout, checkpointing)?;
        let loss = self.loss_graph(0.0)?;
        let cpu = match &mut self.device {
            Device::Cpu(_) => {
                let plan = |g: &Graph| Plan::new(g.clone(), rows, Fusion::NONE, |_| false);
                Some([plan(&graph), plan(&loss)])
            }
            Device::Gpu(gpu) => {
                gpu.prepare_training(graph.clone(), loss, rows)?;
                gpu.settle().await?;
                None
            }
        };
        self.training = Some(Training { graph, cpu });
        Ok(())
    }

    /// Adds a batch's gradients to those that are there. Returns the sum of the rows' losses.
    pub async fn train_batch(&mut self, batch: &Batch) -> Result<f32> {
        self.run_batch(batch, 0).await
    }

    /// The sum of the rows' losses, without dropout; nothing is learned.
    pub async fn loss_of(&mut self, batch: &Batch) -> Result<f32> {
        self.run_batch(batch, 1).await
    }

    async fn run_batch(&mut self, batch: &Batch, which: usize) -> Result<f32> {
        self.check_tokens(&batch.tokens)?;
        self.check_tokens(&batch.targets)?;
        let training = self.training.as_ref().ok_or(Error::NotTraining)?;
        match (&mut self.device, &training.cpu) {
            (Device::Cpu(cpu), Some(plans)) => Ok(cpu.device.run_batch(&plans[which], batch)?),
            (Device::Gpu(gpu), _) => Ok(gpu.run_batch(which, batch).await?),
            _ => Err(Error::NotTraining),
        }
    }

    /// One step of the optimiser over the gradients, which are 0 afterwards. Returns their norm before
    /// clipping; if that is not finite, nothing is changed.
    pub async fn optimise(&mut self, step: &AdamW) -> Result<f32> {
        // Answers given before were another adapter's.
        self.tokens.clear();
        match &mut self.device {
            Device::Cpu(cpu) => Ok(cpu.device.optimise(step)),
            Device::Gpu(gpu) => Ok(gpu.optimise(step).await?),
        }
    }

    /// Gradients of all parameters since the last step of the optimiser, by module: A's and B's.
    pub async fn gradients(&mut self) -> Result<Adapter> {
        let grads = match &mut self.device {
            Device::Cpu(cpu) => cpu.device.grads().to_vec(),
            Device::Gpu(gpu) => gpu.grads().await?,
        };
        self.adapter_with(&grads)
    }

    /// Parameters and moments, to go on from later.
    pub async fn training_state(&mut self) -> Result<TrainingState> {
        match &mut self.device {
            Device::Cpu(cpu) => Ok(TrainingState {
                params: cpu.device.params().to_vec(),
                moments: cpu.device.moments().to_vec(),
            }),
            Device::Gpu(gpu) => {
                let (params, moments) = gpu.training_state().await?;
                Ok(TrainingState { params, moments })
            }
        }
    }

    /// Goes on from a state that [`Self::training_state`] gave.
    pub fn set_training_state(&mut self, state: TrainingState) -> Result<()> {
        let len = self
            .training
            .as_ref()
            .ok_or(Error::NotTraining)?
            .graph
            .params_len();
        let fits =
            state.params.len() == len && (state.moments.is_empty() || state.moments.len() == len);
        if !fits {
            return Err(Error::Adapter {
                name: "of the checkpoint".into(),
                what: format!("it has {} parameters, not {len}", state.params.len()),
            });
        }
        self.tokens.clear();
        match &mut self.device {
            Device::Cpu(cpu) => {
                cpu.device.set_params(state.params);
                cpu.device.set_moments(state.moments);
            }
            Device::Gpu(gpu) => gpu.set_training_state(&state.params, &state.moments)?,
        }
        Ok(())
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
