//! A GPU as a backend.

use siskin_formats::TensorType;
use siskin_gpu::{GpuDevice, Upload};
use siskin_graph::{Batch, CacheBytes, CacheTypes, Capacity, Graph, StepInput};

use crate::Result;
use crate::backend::{Backend, Chosen, LocalFuture, MatrixUpload, chosen};

impl Backend for GpuDevice {
    fn name(&self) -> String {
        self.name().into()
    }

    fn profile(&self) -> String {
        self.profile().to_string()
    }

    fn gpu(&mut self) -> Option<&mut GpuDevice> {
        Some(self)
    }

    fn is_gpu(&self) -> bool {
        true
    }

    fn add_vector(&mut self, name: &str, values: Vec<f32>) -> Result<()> {
        Ok(self.add_vector(name, &values)?)
    }

    fn matrix<'a>(
        &'a mut self,
        name: &str,
        parts: &[(TensorType, usize)],
        cols: usize,
    ) -> Result<Box<dyn MatrixUpload + 'a>> {
        Ok(Box::new(self.matrix(name, parts, cols)?))
    }

    fn set_params(&mut self, graph: &Graph, params: Vec<f32>) -> Result<()> {
        Ok(self.set_params(graph, &params)?)
    }

    fn prepare(
        &mut self,
        graph: Graph,
        capacity: Capacity,
        cache_types: CacheTypes,
        rows: usize,
    ) -> LocalFuture<'_, ()> {
        Box::pin(async move {
            self.set_caches(&graph, capacity, cache_types)?;
            self.prepare(graph, rows)?;
            Ok(self.settle().await?)
        })
    }

    fn cache_bytes<'a>(&'a mut self, blocks: [&'a [u32]; 2]) -> LocalFuture<'a, CacheBytes> {
        Box::pin(async move { Ok(self.cache_bytes(blocks).await?) })
    }

    fn set_cache_bytes(&mut self, blocks: [&[u32]; 2], bytes: &CacheBytes) -> Result<()> {
        Ok(self.set_cache_bytes(blocks, bytes)?)
    }

    fn keep_states(&mut self) {
        self.keep_states();
    }

    fn restore_states(&mut self) {
        self.restore_states();
    }

    fn copy_blocks(&mut self, copies: [Option<(u32, u32)>; 2]) {
        for (copy, windowed) in copies.into_iter().zip([false, true]) {
            if let Some((from, to)) = copy {
                self.copy_block(windowed, from, to);
            }
        }
    }

    fn step(&mut self, step: &StepInput) -> Result<()> {
        Ok(self.step(step)?)
    }

    fn take(&mut self, logits: bool) -> LocalFuture<'_, Vec<Chosen>> {
        Box::pin(async move {
            let (tokens, values) = self.take(logits).await?;
            Ok(chosen(tokens, &values))
        })
    }

    fn discard(&mut self) -> LocalFuture<'_, ()> {
        Box::pin(async move { Ok(self.discard().await?) })
    }

    fn set_seen(&mut self, slot: usize, tokens: &[u32]) {
        self.set_seen(slot, tokens);
    }

    fn lookahead(&self) -> usize {
        1
    }

    fn evaluate<'a>(
        &'a mut self,
        graph: &'a Graph,
        tokens: &'a [u32],
        position: usize,
    ) -> LocalFuture<'a, Vec<Vec<f32>>> {
        Box::pin(async move { Ok(self.evaluate(graph, tokens, position).await?) })
    }

    fn prepare_texts(&mut self, graph: Graph, rows: usize) -> LocalFuture<'_, ()> {
        Box::pin(async move {
            self.prepare_texts(graph, rows)?;
            Ok(self.settle().await?)
        })
    }

    fn run_texts<'a>(&'a mut self, batch: &'a Batch) -> LocalFuture<'a, Vec<Vec<f32>>> {
        Box::pin(async move { Ok(self.run_texts(batch).await?) })
    }

    #[cfg(feature = "training")]
    fn training(&mut self) -> &mut dyn crate::TrainingBackend {
        self
    }
}

impl MatrixUpload for Upload<'_> {
    fn part(&mut self, bytes: Vec<u8>) -> Result<()> {
        Ok(self.part(&bytes)?)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok((*self).finish()?)
    }
}
