//! The parts of an adapter that depend on the base: embeddings, and adapters that were initialised with parts of the
//! base's weights, PiSSA and OLoRA (`peft/tuners/lora/layer.py`, `pissa_init`, `olora_init`). PEFT subtracts these
//! parts from the base again when it loads one; here the base does not change, and a second low-rank product subtracts
//! them from the result: `W − c B₀ A₀ + s B A`.

use siskin_formats::sort_by;
use siskin_models::Model;

use crate::adapter::{EMBEDDING_WEIGHT, HEAD_WEIGHT, Replaced};
use crate::adapter_config::Initial;
use crate::files::WeightFiles;
use crate::{Adapter, AdapterConfig, AdapterModule, Error, Result};

impl Adapter {
    /// The adapter for the base as it is in the file: embeddings and the initial values of PiSSA and OLoRA depend on
    /// its weights. Others are returned unchanged. [`crate::Session::set_adapter`] calls this.
    ///
    /// # Errors
    /// If a weight that it adapts cannot be read, or has another shape.
    pub async fn for_base(&self, model: &Model, files: &WeightFiles) -> Result<Self> {
        let mut out = self.without_initial(model, files).await?;
        out.replace_embedding(&self.config, model, files).await?;
        out.keep_tied_head(model, files).await?;
        Ok(out)
    }

    async fn without_initial(&self, model: &Model, files: &WeightFiles) -> Result<Self> {
        let Some(initial) = self.config.initial() else {
            return Ok(self.clone());
        };
        if self.strength == 0.0 {
            return Err(Error::Adapter {
                name: self.name.clone(),
                what: "it changes the base's weights, which a scale of 0 cannot undo".into(),
            });
        }
        let rank = |m: &AdapterModule| 2 * self.config.of_module(&m.name).0;
        let largest = self.modules.iter().map(rank).max().unwrap_or(0);
        let mut modules = vec![];
        for m in &self.modules {
            if m.name == "lm_head" && model.has_tied_head() {
                return Err(Error::Adapter {
                    name: self.name.clone(),
                    what: "it was initialised with part of the head, which is also the model's embedding"
                        .into(),
                });
            }
            let (r, scale) = self.config.of_module(&m.name);
            let (k, n) = (m.a.len() / r, m.b.len() / r);
            let weights = read(model, files, &m.name, [n, k]).await?;
            let (b0, a0) = match initial {
                Initial::Pissa => pissa(&weights, k, r),
                Initial::Olora => olora(&weights, k, r),
            };
            // PiSSA divides its product by the scaling beforehand, OLoRA does not; neither product is scaled when
            // applied.
            let c = match initial {
                Initial::Pissa => 1.0 / self.strength,
                Initial::Olora => scale / self.strength,
            };
            let rows = m.b.chunks_exact(r).zip(b0.chunks_exact(r));
            let b = rows.flat_map(|(b, b0)| {
                let given = b.iter().map(move |b| scale * b);
                let taken = b0.iter().map(move |b0| -c * b0);
                let rest = std::iter::repeat_n(0.0, largest - 2 * r);
                given.chain(taken).chain(rest)
            });
            let mut a = [&m.a[..], &a0].concat();
            let b = b.collect();
            a.resize(largest * k, 0.0);
            modules.push(AdapterModule {
                name: m.name.clone(),
                a,
                b,
                m: m.m.clone(),
            });
        }
        Ok(Self {
            config: AdapterConfig {
                r: largest,
                lora_alpha: largest as f32,
                use_rslora: false,
                rank_pattern: Default::default(),
                alpha_pattern: Default::default(),
                init_lora_weights: true.into(),
                ..self.config.clone()
            },
            modules,
            ..self.clone()
        })
    }

    /// If the embedding is replaced, a head that was tied to it remains the base's.
    async fn keep_tied_head(&mut self, model: &Model, files: &WeightFiles) -> Result<()> {
        let is_apart =
            self.replaced(EMBEDDING_WEIGHT).is_some() && self.replaced(HEAD_WEIGHT).is_none();
        if is_apart && model.has_tied_head() {
            let (rows, cols) = (model.dims().vocab_size, model.dims().hidden_size);
            let values = read(model, files, "model.embed_tokens", [rows, cols]).await?;
            self.replaced.push(Replaced {
                tensor: HEAD_WEIGHT.into(),
                rows,
                values,
            });
        }
        Ok(())
    }

    /// Merges its product for the embedding, scaled by its configuration, into a matrix that replaces the embedding.
    async fn replace_embedding(
        &mut self,
        config: &AdapterConfig,
        model: &Model,
        files: &WeightFiles,
    ) -> Result<()> {
        let Some(lora) = self.embedding.take() else {
            return Ok(());
        };
        let (vocab, hidden) = (model.dims().vocab_size, model.dims().hidden_size);
        let (r, scale) = (config.r, config.scaling() * self.strength);
        if lora.a.len() != r * vocab || lora.b.len() != r * hidden {
            return Err(Error::Adapter {
                name: self.name.clone(),
                what: format!("it adapts an embedding whose shape is not [{vocab}, {hidden}]"),
            });
        }
        let base = read(model, files, "model.embed_tokens", [vocab, hidden]).await?;
        let mut values = base;
        for (id, row) in values.chunks_exact_mut(hidden).enumerate() {
            for (out, b) in row.iter_mut().zip(lora.b.chunks_exact(r)) {
                let products = b
                    .iter()
                    .enumerate()
                    .map(|(i, b)| b * lora.a[i * vocab + id]);
                *out += scale * products.sum::<f32>();
            }
        }
        self.replaced.push(Replaced {
            tensor: EMBEDDING_WEIGHT.into(),
            rows: vocab,
            values,
        });
        Ok(())
    }
}

/// A projection's weights `[n, k]`, in the graph's order of rows.
async fn read(
    model: &Model,
    files: &WeightFiles,
    module: &str,
    [n, k]: [usize; 2],
) -> Result<Vec<f32>> {
    let part = siskin_graph::Part::whole(format!("{module}.weight"), [n, k]);
    let found = model.tensor(&files.checkpoint, &part)?;
    let values = files.read_f32(found.info).await?;
    Ok(found.transform.apply(values, k))
}

/// `x · y`.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// Makes vectors orthonormal, one after another; twice, since rounding leaves errors the first time.
fn orthonormalise(vectors: &mut [Vec<f64>]) {
    for i in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(i);
        let v = &mut rest[0];
        for _ in 0..2 {
            for u in before.iter() {
                let along = dot(u, v);
                v.iter_mut().zip(u).for_each(|(v, u)| *v -= along * u);
            }
        }
        let norm = dot(v, v).sqrt();
        if norm > 0.0 {
            v.iter_mut().for_each(|v| *v /= norm);
        }
    }
}

/// `W v` for the rows of a matrix.
fn times(rows: &[Vec<f64>], v: &[f64]) -> Vec<f64> {
    rows.iter().map(|row| dot(row, v)).collect()
}

/// `B₀ [n, r]` and `A₀ [r, k]` whose product is the part of W along its r largest singular values: its right
/// singular vectors are the eigenvectors of `Wᵀ W`, found by iterating a slightly larger subspace.
fn pissa(weights: &[f32], k: usize, r: usize) -> (Vec<f32>, Vec<f32>) {
    const ROUNDS: usize = 300;
    let rows: Vec<Vec<f64>> = (weights.chunks_exact(k))
        .map(|row| row.iter().map(|w| f64::from(*w)).collect())
        .collect();
    let size = (r + 24).min(k).min(rows.len().max(r));
    let mut noise = siskin_graph::Noise::new(0);
    let mut space: Vec<Vec<f64>> = (0..size)
        .map(|_| (0..k).map(|_| f64::from(noise.uniform()) - 0.5).collect())
        .collect();
    orthonormalise(&mut space);
    let mut before = 0.0;
    for _ in 0..ROUNDS {
        for v in &mut space {
            let image = times(&rows, v);
            v.fill(0.0);
            for (row, y) in rows.iter().zip(&image) {
                v.iter_mut().zip(row).for_each(|(v, w)| *v += y * w);
            }
        }
        orthonormalise(&mut space);
        rotate(&rows, &mut space);
        let captured: f64 = space[..r.min(size)]
            .iter()
            .map(|v| times(&rows, v))
            .map(|y| dot(&y, &y))
            .sum();
        if (captured - before).abs() <= 1e-13 * captured {
            break;
        }
        before = captured;
    }
    space.truncate(r);
    space.resize(r, vec![0.0; k]);
    low_rank(&rows, &space)
}

/// Rotates a basis so that its vectors are the singular vectors within their span, largest first (Jacobi's method).
fn rotate(rows: &[Vec<f64>], space: &mut [Vec<f64>]) {
    let mut images: Vec<Vec<f64>> = space.iter().map(|v| times(rows, v)).collect();
    for _ in 0..30 {
        let mut largest = 0f64;
        for i in 0..space.len() {
            for j in i + 1..space.len() {
                let (a, b) = (dot(&images[i], &images[i]), dot(&images[j], &images[j]));
                let c = dot(&images[i], &images[j]);
                if c.abs() <= 1e-15 * (a * b).sqrt() {
                    continue;
                }
                largest = largest.max(c.abs() / (a * b).sqrt());
                let angle = 0.5 * (2.0 * c).atan2(a - b);
                let (sin, cos) = angle.sin_cos();
                for vectors in [&mut *space, &mut images] {
                    let (left, right) = vectors.split_at_mut(j);
                    for (x, y) in left[i].iter_mut().zip(&mut right[0]) {
                        (*x, *y) = (cos * *x + sin * *y, cos * *y - sin * *x);
                    }
                }
            }
        }
        if largest < 1e-12 {
            break;
        }
    }
    let mut order: Vec<usize> = (0..space.len()).collect();
    let size = |i: &usize| dot(&images[*i], &images[*i]);
    sort_by(&mut order, &mut |a, b| size(b).total_cmp(&size(a)));
    let sorted: Vec<Vec<f64>> = order.iter().map(|i| space[*i].clone()).collect();
    space.clone_from_slice(&sorted);
}

/// `W V` and `Vᵀ`.
fn low_rank(rows: &[Vec<f64>], space: &[Vec<f64>]) -> (Vec<f32>, Vec<f32>) {
    let b = rows
        .iter()
        .flat_map(|row| space.iter().map(|v| dot(row, v) as f32));
    let a = space.iter().flatten().map(|v| *v as f32);
    (b.collect(), a.collect())
}

/// `B₀ [n, r]` and `A₀ [r, k]`: the first columns of Q and rows of R where `W = Q R`.
fn olora(weights: &[f32], k: usize, r: usize) -> (Vec<f32>, Vec<f32>) {
    let n = weights.len() / k;
    let column = |j: usize| (0..n).map(|i| f64::from(weights[i * k + j])).collect();
    let mut q: Vec<Vec<f64>> = (0..r.min(n).min(k)).map(column).collect();
    orthonormalise(&mut q);
    q.resize(r, vec![0.0; n]);
    let b = (0..n).flat_map(|i| q.iter().map(move |q| q[i] as f32));
    let a = q.iter().flat_map(|q| {
        let along = move |j: usize| -> f64 {
            let column = weights.iter().skip(j).step_by(k);
            column.zip(q).map(|(w, q)| f64::from(*w) * q).sum()
        };
        (0..k).map(move |j| along(j) as f32)
    });
    (b.collect(), a.collect())
}
