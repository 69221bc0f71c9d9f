//! The CPU as a backend.

use std::collections::VecDeque;

use siskin_cpu::{CpuDevice, CpuPart, CpuPlan, CpuWeight, Precision};
use siskin_formats::TensorType;
use siskin_graph::{Batch, CacheBytes, CacheTypes, Capacity, Graph, Sampling, StepInput};

use crate::backend::{Backend, Chosen, LocalFuture, MatrixUpload, PREFILL_ROWS, chosen};
#[cfg(feature = "training")]
use crate::training_backend::CpuTraining;
use crate::{Error, Result};

/// The CPU with the plans of a session.
#[derive(Debug)]
pub(crate) struct Cpu {
    pub(crate) device: CpuDevice,
    inference: Option<Inference>,
    #[cfg(feature = "training")]
    pub(crate) training: Option<CpuTraining>,
    texts: Option<CpuPlan>,
    /// Of each step whose tokens have not been taken, what it chose.
    pending: VecDeque<Vec<u32>>,
    /// Rows of the last step.
    last_rows: usize,
}

#[derive(Debug)]
struct Inference {
    prefill: CpuPlan,
    decode: CpuPlan,
}

impl Inference {
    /// The plan for a step of this many tokens.
    fn plan(&self, rows: usize) -> &CpuPlan {
        if rows == 1 {
            &self.decode
        } else {
            &self.prefill
        }
    }
}

impl Cpu {
    pub fn new(precision: Precision) -> Self {
        Self {
            device: CpuDevice::new(precision),
            inference: None,
            #[cfg(feature = "training")]
            training: None,
            texts: None,
            pending: VecDeque::new(),
            last_rows: 0,
        }
    }

    fn evaluate(
        &mut self,
        graph: &Graph,
        tokens: &[u32],
        position: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let plan = self.device.plan(graph.clone(), tokens.len());
        let step = StepInput::alone(tokens, position, Some(Sampling::default()));
        self.device
            .run(&plan, &step.within(self.device.capacity()))?;
        let read = |id| self.device.read(&plan, id, tokens.len());
        Ok(graph.outputs.iter().map(|id| read(*id)).collect())
    }
}

/// A result that is already computed, as a future.
pub(crate) fn done<'a, T: 'a>(result: Result<T>) -> LocalFuture<'a, T> {
    Box::pin(std::future::ready(result))
}

impl Backend for Cpu {
    fn name(&self) -> String {
        "cpu".into()
    }

    fn profile(&self) -> String {
        match self.device.precision {
            Precision::F32 => "f32".into(),
            Precision::Fast => "q16".into(),
        }
    }

    fn is_gpu(&self) -> bool {
        false
    }

    fn add_vector(&mut self, name: &str, values: Vec<f32>) -> Result<()> {
        self.device.add_weight(name, CpuWeight::Vector(values));
        Ok(())
    }

    fn matrix<'a>(
        &'a mut self,
        name: &str,
        parts: &[(TensorType, usize)],
        cols: usize,
    ) -> Result<Box<dyn MatrixUpload + 'a>> {
        Ok(Box::new(Upload {
            device: &mut self.device,
            name: name.into(),
            cols,
            to_come: parts.iter().copied().collect(),
            parts: vec![],
        }))
    }

    fn set_params(&mut self, _graph: &Graph, params: Vec<f32>) -> Result<()> {
        self.device.set_params(params);
        Ok(())
    }

    fn prepare(
        &mut self,
        graph: Graph,
        capacity: Capacity,
        cache_types: CacheTypes,
        rows: usize,
    ) -> LocalFuture<'_, ()> {
        self.device.set_caches(&graph, capacity, cache_types);
        self.inference = Some(Inference {
            prefill: self
                .device
                .plan_sequences(graph.clone(), rows, capacity.choices),
            decode: self.device.plan(graph, 1),
        });
        done(Ok(()))
    }

    fn cache_bytes<'a>(&'a mut self, blocks: [&'a [u32]; 2]) -> LocalFuture<'a, CacheBytes> {
        done(Ok(self.device.cache_bytes(blocks)))
    }

    fn set_cache_bytes(&mut self, blocks: [&[u32]; 2], bytes: &CacheBytes) -> Result<()> {
        Ok(self.device.set_cache_bytes(blocks, bytes)?)
    }

    fn keep_states(&mut self) {
        self.device.keep_states();
    }

    fn restore_states(&mut self) {
        self.device.restore_states();
    }

    fn copy_blocks(&mut self, copies: [Option<(u32, u32)>; 2]) {
        for (copy, windowed) in copies.into_iter().zip([false, true]) {
            if let Some((from, to)) = copy {
                self.device.copy_block(windowed, from, to);
            }
        }
    }

    fn step(&mut self, step: &StepInput) -> Result<()> {
        self.last_rows = step.rows();
        if let Some(plans) = &self.inference {
            self.device.run(plans.plan(self.last_rows), step)?;
        }
        if step.samples() > 0 {
            self.pending.push_back(self.device.chosen().into());
        }
        Ok(())
    }

    fn take(&mut self, logits: bool) -> LocalFuture<'_, Vec<Chosen>> {
        let tokens = self.pending.pop_front().unwrap_or_default();
        let plans = self.inference.as_ref().filter(|_| logits);
        let values = plans.map_or(vec![], |plans| {
            let plan = plans.plan(self.last_rows);
            self.device.read(plan, plan.graph.outputs[0], tokens.len())
        });
        done(Ok(chosen(tokens, &values)))
    }

    fn discard(&mut self) -> LocalFuture<'_, ()> {
        self.pending.clear();
        done(Ok(()))
    }

    fn set_seen(&mut self, slot: usize, tokens: &[u32]) {
        self.device.set_seen(slot, tokens);
    }

    fn prefill_rows(&self) -> usize {
        // A page does not respond while its only thread computes: shorter steps let it.
        if cfg!(target_arch = "wasm32") {
            PREFILL_ROWS / 4
        } else {
            PREFILL_ROWS
        }
    }

    fn lookahead(&self) -> usize {
        0
    }

    fn evaluate<'a>(
        &'a mut self,
        graph: &'a Graph,
        tokens: &'a [u32],
        position: usize,
    ) -> LocalFuture<'a, Vec<Vec<f32>>> {
        done(self.evaluate(graph, tokens, position))
    }

    fn prepare_texts(&mut self, graph: Graph, rows: usize) -> LocalFuture<'_, ()> {
        self.texts = Some(self.device.plan(graph, rows));
        done(Ok(()))
    }

    fn run_texts<'a>(&'a mut self, batch: &'a Batch) -> LocalFuture<'a, Vec<Vec<f32>>> {
        let Some(plan) = &self.texts else {
            return done(Ok(vec![]));
        };
        done(self.device.run_texts(plan, batch).map_err(Error::from))
    }

    #[cfg(feature = "training")]
    fn training(&mut self) -> &mut dyn crate::TrainingBackend {
        self
    }
}

/// A matrix whose parts are being added.
struct Upload<'a> {
    device: &'a mut CpuDevice,
    name: String,
    cols: usize,
    /// Types and rows of the parts that are still to come.
    to_come: VecDeque<(TensorType, usize)>,
    parts: Vec<CpuPart>,
}

impl MatrixUpload for Upload<'_> {
    fn part(&mut self, bytes: Vec<u8>) -> Result<()> {
        if let Some((ty, rows)) = self.to_come.pop_front() {
            self.parts.push(CpuPart { ty, rows, bytes });
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Self {
            device,
            name,
            cols,
            parts,
            ..
        } = *self;
        device.add_weight(&name, CpuWeight::Matrix { parts, cols });
        Ok(())
    }
}
