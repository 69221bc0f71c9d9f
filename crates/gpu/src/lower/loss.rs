//! The loss in chunks of the vocabulary, and gradients through weights.

use siskin_graph::{NodeId, Rows, View, WeightId};

use super::texts::groups;
use super::{Bindings, Bound, Lowering};
use crate::Result;
use crate::pipeline::Kernel;
use crate::prepared::Size;
use crate::weights::Run;

/// Tokens of the vocabulary whose logits exist at a time. A multiple of 256, so that each chunk of any
/// type's rows begins where a binding may.
const VOCABULARY_CHUNK: usize = 4096;

/// Rows `first ..` of a run, of which there are `rows`.
struct Chunk {
    run: Run,
    first: usize,
    rows: usize,
}

impl Chunk {
    /// Bindings of only its values and scales.
    fn entries(&self, cols: usize) -> Bindings {
        let ty = self.run.ty;
        let part = |buffer: &wgpu::Buffer, bytes: &dyn Fn(usize) -> usize| {
            // The buffer's end is padded.
            let is_last = self.first + self.rows == self.run.rows;
            let (offset, end) = (bytes(self.first), bytes(self.first + self.rows));
            let end = if is_last { buffer.size() } else { end as u64 };
            Bound {
                buffer: buffer.clone(),
                offset: offset as u64,
                bytes: end - offset as u64,
            }
        };
        let mut entries = vec![(
            1,
            part(&self.run.values, &|rows| ty.value_bytes(rows * cols)),
        )];
        let scales = self.run.scales.as_ref();
        entries.extend(scales.map(|s| (2, part(s, &|rows| ty.scale_bytes(rows * cols)))));
        entries
    }
}

impl Lowering<'_> {
    pub(super) fn linear_grad(&mut self, id: NodeId, weight: WeightId) -> Result<()> {
        let (runs, k) = self.runs(weight)?;
        let dy = self.input(id, 0);
        let (dy, stride) = (self.dense(dy, "linear_grad")?, dy.stride);
        let dx = self.bound(self.plan.view(id));
        for (i, run) in runs.into_iter().enumerate() {
            let row0 = run.row0;
            let chunk = Chunk {
                first: 0,
                rows: run.rows,
                run,
            };
            self.linear_grad_of(&chunk, k, (dy.clone(), stride, row0), dx.clone(), i > 0)?;
        }
        Ok(())
    }

    /// `dx (+)= dy · W` over some rows of W; dy's columns for them begin at the last of `dy`.
    fn linear_grad_of(
        &mut self,
        chunk: &Chunk,
        k: usize,
        (dy, stride, row0): (Bound, usize, usize),
        dx: Bound,
        add: bool,
    ) -> Result<()> {
        let mut kernel = Kernel::new("linear_grad")
            .size("K", k)
            .size("N", chunk.rows)
            .size("STRIDE", stride)
            .size("ROW0", row0)
            .flag("ADD", add);
        kernel.variant.weights = chunk.run.ty;
        let mut entries = chunk.entries(k);
        entries.extend([(0, self.step_uniform(Rows::All)), (3, dy), (6, dx)]);
        let size = Size::Tiles {
            x: k.div_ceil(64) as u32,
            rows: 32,
        };
        let bytes = chunk.run.bytes * chunk.rows as u64 / chunk.run.rows as u64
            + (self.plan.max_rows * (k + chunk.rows)) as u64 * 4;
        self.push(&kernel, size, Rows::All, bytes, &entries)?;
        Ok(())
    }

    /// The vocabulary in chunks, each with the id of its first token.
    fn vocabulary(&self, weight: WeightId) -> Result<(Vec<(usize, Chunk)>, usize)> {
        let (runs, k) = self.runs(weight)?;
        let mut chunks = vec![];
        for run in runs {
            for first in (0..run.rows).step_by(VOCABULARY_CHUNK) {
                let chunk = Chunk {
                    first,
                    rows: VOCABULARY_CHUNK.min(run.rows - first),
                    run: run.clone(),
                };
                chunks.push((run.row0 + first, chunk));
            }
        }
        Ok((chunks, k))
    }

    /// Storage for the logits of one chunk, and how many there are per row.
    fn chunk_logits(&mut self, chunks: &[(usize, Chunk)]) -> Result<(Bound, usize)> {
        let stride = chunks.iter().map(|c| c.1.rows).max().unwrap_or(0);
        let bytes = (self.plan.max_rows * stride) as u64 * 4;
        Ok((
            self.room("logits of part of the vocabulary", bytes)?,
            stride,
        ))
    }

    /// Logits of one chunk. `integers` are x's, where the profile uses them.
    fn logits_of(
        &mut self,
        chunk: &Chunk,
        k: usize,
        x: &Bound,
        integers: Option<&(Bound, Bound)>,
        (logits, stride): (Bound, usize),
    ) -> Result<()> {
        let mut entries = chunk.entries(k);
        let nothing = self.vector(None)?;
        entries.extend([(0, self.step_uniform(Rows::All)), (5, nothing), (6, logits)]);
        let by_rows = integers.filter(|_| chunk.run.ty.is_integer());
        let (name, tile, tokens) = match by_rows {
            Some((q, s)) => {
                entries.extend([(3, q.clone()), (4, s.clone())]);
                ("matmul_rows", 64, 8)
            }
            None => {
                entries.push((3, x.clone()));
                ("matmul", 64, 32)
            }
        };
        let mut kernel = Kernel::new(name)
            .size("K", k)
            .size("N", chunk.rows)
            .size("STRIDE", stride);
        kernel.variant.weights = chunk.run.ty;
        let size = Size::Tiles {
            x: chunk.rows.div_ceil(tile) as u32,
            rows: tokens,
        };
        let bytes = chunk.run.bytes * chunk.rows as u64 / chunk.run.rows as u64
            + (self.plan.max_rows * (k + chunk.rows)) as u64 * 4;
        self.push(&kernel, size, Rows::All, bytes, &entries)?;
        Ok(())
    }

    /// x, and its integers where the profile computes with them.
    fn last_input(
        &mut self,
        x: View,
        k: usize,
        chunks: &[(usize, Chunk)],
    ) -> Result<(Bound, Option<(Bound, Bound)>)> {
        let integers = if chunks
            .iter()
            .any(|(_, chunk)| self.makes_integers(&chunk.run))
        {
            Some(self.quantise(x, k)?)
        } else {
            None
        };
        Ok((self.dense(x, "cross_entropy")?, integers))
    }

    pub(super) fn cross_entropy(
        &mut self,
        id: NodeId,
        weight: WeightId,
        soft_cap: Option<f32>,
    ) -> Result<()> {
        let (chunks, k) = self.vocabulary(weight)?;
        let (logits, stride) = self.chunk_logits(&chunks)?;
        let sums = self.room("sums over the vocabulary", self.plan.max_rows as u64 * 16)?;
        let (x, integers) = self.last_input(self.input(id, 0), k, &chunks)?;
        let out = self.bound(self.plan.view(id));
        for (first, chunk) in &chunks {
            let to = (logits.clone(), stride);
            self.logits_of(chunk, k, &x, integers.as_ref(), to)?;
            let kernel = self
                .reducing("cross_entropy", 256)
                .size("N", chunk.rows)
                .size("FIRST", *first)
                .size("STRIDE", stride)
                .set("SOFT_CAP", soft_cap.unwrap_or(0.0));
            let entries = [
                (2, self.batch()),
                (3, logits.clone()),
                (4, sums.clone()),
                (6, out.clone()),
            ];
            let bytes = (self.plan.max_rows * chunk.rows) as u64 * 4;
            self.push(&kernel, Size::Tokens, Rows::All, bytes, &entries)?;
        }
        Ok(())
    }

    pub(super) fn cross_entropy_grad(
        &mut self,
        id: NodeId,
        weight: WeightId,
        soft_cap: Option<f32>,
    ) -> Result<()> {
        let (chunks, k) = self.vocabulary(weight)?;
        let (logits, stride) = self.chunk_logits(&chunks)?;
        let (x, integers) = self.last_input(self.input(id, 0), k, &chunks)?;
        let stats = self.dense(self.input(id, 1), "cross_entropy_grad")?;
        let dx = self.bound(self.plan.view(id));
        for (i, (first, chunk)) in chunks.iter().enumerate() {
            let to = (logits.clone(), stride);
            self.logits_of(chunk, k, &x, integers.as_ref(), to)?;
            let kernel = Kernel::new("cross_entropy_grad")
                .size("N", chunk.rows)
                .size("FIRST", *first)
                .size("STRIDE", stride)
                .set("SOFT_CAP", soft_cap.unwrap_or(0.0));
            let entries = [(2, self.batch()), (3, logits.clone()), (4, stats.clone())];
            let bytes = (self.plan.max_rows * chunk.rows) as u64 * 8;
            let size = Size::Rows(groups(chunk.rows));
            self.push(&kernel, size, Rows::All, bytes, &entries)?;
            let dy = (logits.clone(), stride, 0);
            self.linear_grad_of(chunk, k, dy, dx.clone(), i > 0)?;
        }
        Ok(())
    }
}
