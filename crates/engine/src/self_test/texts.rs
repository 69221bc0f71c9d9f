//! Whole texts as segments of a batch, on the GPU and on the CPU: what encoders have.

use siskin_formats::TensorType;
use siskin_gpu::GpuDevice;
use siskin_graph::{AttentionSpec, Batch, Place, Pooling};

use super::Case;
use crate::Result;

/// Rows of the embedding of positions, and the row of position 0.
const POSITIONS: (usize, usize) = (320, 2);

impl Case {
    /// Embeddings of places from tables of a type, attention within each text, pooling, and a linear over the pooled
    /// rows.
    ///
    /// # Errors
    /// If the shapes of `spec` contradict one another.
    pub fn texts(
        ty: TensorType,
        spec: AttentionSpec,
        pooling: Pooling,
    ) -> siskin_graph::Result<Self> {
        // Rows are whole blocks.
        let d = if ty.block_len() > 64 { 256 } else { 64 };
        let (mut case, mut x) = Self::new(d);
        let (rows, offset) = POSITIONS;
        for (name, rows, place) in [
            ("positions", rows, Place::Position { offset }),
            ("kinds", 2, Place::Kind),
        ] {
            let table = case.matrix(name, &[(ty, rows)], d);
            let of_place = case.graph.embed_place(table, place);
            x = case.graph.add(x, of_place)?;
        }
        let nkv = spec.n_kv_heads * spec.head_dim;
        let columns = [
            ("q", spec.n_heads * spec.head_dim),
            ("ke", nkv),
            ("val", nkv),
        ];
        let mut qkv = [x; 3];
        for (out, (name, n)) in qkv.iter_mut().zip(columns) {
            let w = case.matrix(name, &[(TensorType::F32, n)], d);
            *out = case.graph.linear(x, w, None)?;
        }
        let y = case.graph.self_attention(qkv, spec)?;
        let y = case.graph.pool(y, pooling)?;
        let cols = case.graph.node(y).cols;
        let w = case.matrix("head", &[(TensorType::F32, 33)], cols);
        let y = case.graph.linear(y, w, None)?;
        case.graph.output(y);
        Ok(case)
    }

    /// Texts of these lengths, the second half of each of another kind.
    pub fn batch(&self, lengths: &[usize]) -> Batch {
        let tokens = self.tokens(lengths.iter().sum());
        let mut batch = Batch::default();
        let mut at = 0;
        for n in lengths {
            let kinds: Vec<u32> = (0..*n).map(|t| u32::from(t > n / 2)).collect();
            batch.push(&tokens[at..at + n], &kinds);
            at += n;
        }
        batch
    }

    /// The output's values on the CPU, a row for each text.
    ///
    /// # Errors
    /// If an op is not supported.
    pub fn texts_on_cpu(&self, batch: &Batch) -> Result<Vec<f32>> {
        let mut cpu = self.cpu();
        let plan = cpu.plan(self.graph.clone(), batch.rows());
        Ok(cpu.run_texts(&plan, batch)?.swap_remove(0))
    }

    /// The same on a GPU.
    ///
    /// # Errors
    /// If an op is not supported, or the GPU fails.
    pub async fn texts_on_gpu(&self, gpu: &mut GpuDevice, batch: &Batch) -> Result<Vec<f32>> {
        self.load(gpu)?;
        gpu.prepare_texts(self.graph.clone(), batch.rows())?;
        Ok(gpu.run_texts(batch).await?.swap_remove(0))
    }
}
