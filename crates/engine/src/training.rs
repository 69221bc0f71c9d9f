//! Runs of training on a session's device: batches in, losses out, the adapter changed.

use serde::Serialize;
use siskin_graph::{AdamW, Batch, Checkpointing, Fusion, Graph, MomentType, Moments, Plan};
use siskin_models::Head;

use crate::{Adapter, Device, Error, Result, Session};

/// A session's training: the plans, and the rows they hold.
#[derive(Debug)]
pub(crate) struct Training {
    graph: Graph,
    moments: MomentType,
    pub(crate) cpu: Option<[siskin_cpu::CpuPlan; 2]>,
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
        let cpu = match &mut self.device {
            Device::Cpu(cpu) => {
                let plan = |g: &Graph| cpu.device.plan(g.clone(), rows);
                Some([plan(&graph), plan(&loss)])
            }
            Device::Gpu(gpu) => {
                gpu.prepare_training(graph.clone(), loss, rows, moments)?;
                gpu.settle().await?;
                None
            }
        };
        self.training = Some(Training {
            graph,
            moments,
            cpu,
        });
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

    /// Makes all gradients 0.
    pub fn forget_gradients(&mut self) {
        match &mut self.device {
            Device::Cpu(cpu) => cpu.device.forget_gradients(),
            Device::Gpu(gpu) => gpu.forget_gradients(),
        }
    }

    /// One step of the optimiser over the gradients, which are 0 afterwards. Returns their norm before
    /// clipping; if that is not finite, nothing is changed.
    pub async fn optimise(&mut self, step: &AdamW) -> Result<f32> {
        // Answers given before were another adapter's.
        self.tokens.clear();
        let moments = self.training.as_ref().ok_or(Error::NotTraining)?.moments;
        match &mut self.device {
            Device::Cpu(cpu) => Ok(cpu.device.optimise(step, moments)),
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
                moments: cpu.device.moments().clone(),
            }),
            Device::Gpu(gpu) => {
                let (params, moments) = gpu.training_state().await?;
                Ok(TrainingState { params, moments })
            }
        }
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
