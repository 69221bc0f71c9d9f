use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use siskin_formats::TensorType;
use siskin_graph::{Cache, Graph, Part, Weight, WeightKind};
use siskin_models::{Found, Model, Transform, cut};

use crate::adapter::Replaced;
use crate::backend::{Backend, DeviceRequest};
use crate::files::WeightFiles;
use crate::{Adapter, Error, Result};

pub use siskin_cpu::Precision;
pub use siskin_graph::{CacheType, CacheTypes};

/// How a model is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// By default a GPU if there is one, otherwise the CPU.
    pub device: DeviceRequest,
    /// The most tokens of a conversation; by default the model's own context, at most 4096.
    pub context: Option<usize>,
    /// The most requests that run at once, 1 by default. A model with recurrent states runs one whatever this says.
    pub sequences: usize,
    /// Tokens that the KV cache can hold, for all requests together: at least one context, and by default one for each of
    /// `sequences`. A request that finds no room waits. Layers with a window hold little more than it for each of
    /// `sequences`.
    pub cache_tokens: Option<usize>,
    /// The most tokens that a request guesses in a step from what followed the same tokens before; 0, the default, for
    /// none. The answers are the same; those that repeat much of their prompts need fewer steps. Requests with a repeat
    /// penalty, and models with recurrent states, do not guess.
    pub guesses: usize,
    /// The most tokens that one step of [`crate::Session::score`] scores; 0, the default, for as many as steps choose
    /// anyway.
    pub scores: usize,
    /// How the KV cache stores keys and values; f16 by default. A quantised type needs heads of a multiple of 32
    /// dimensions.
    pub cache_types: CacheTypes,
    /// The CPU's arithmetic; [`Precision::Fast`] by default.
    pub precision: Precision,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            device: DeviceRequest::Auto,
            context: None,
            sequences: 1,
            cache_tokens: None,
            guesses: 0,
            scores: 0,
            cache_types: CacheTypes::default(),
            precision: Precision::Fast,
        }
    }
}

impl OpenOptions {
    /// The default options, on this device.
    pub fn on(device: DeviceRequest) -> Self {
        Self {
            device,
            ..Self::default()
        }
    }
}

/// Refuses types that cannot store the heads of one of the caches.
pub(crate) fn check_cache_types(graph: &Graph, types: CacheTypes) -> Result<()> {
    let unable = |c: &Cache| Some((types.unable(c.head_dim)?, c.head_dim));
    match graph.caches.iter().find_map(unable) {
        Some((ty, head_dim)) => Err(Error::CacheType { ty, head_dim }),
        None => Ok(()),
    }
}

/// Reads `{"keys": "q8_0", "values": "f16"}`, for `serde(deserialize_with)`.
///
/// # Errors
/// If a type is missing or unknown.
pub fn read_cache_types<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<CacheTypes, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Names {
        keys: String,
        values: String,
    }
    let Names { keys, values } = Names::deserialize(from)?;
    let parse = |name: &str| name.parse().map_err(D::Error::custom);
    Ok(CacheTypes {
        keys: parse(&keys)?,
        values: parse(&values)?,
    })
}

/// How much of a model has been loaded, in bytes of its tensors.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes so far.
    pub done: u64,
    /// Bytes of all tensors that are loaded.
    pub total: u64,
}

/// Where weights come from: the model's files, and the matrices with which an adapter replaces some of them.
pub(crate) struct WeightSource<'a> {
    pub model: &'a Model,
    pub files: &'a WeightFiles,
    pub adapter: Option<&'a Adapter>,
}

impl WeightSource<'_> {
    fn replaced(&self, part: &Part) -> Option<&Replaced> {
        self.adapter?.replaced(&part.tensor)
    }

    fn found(&self, part: &Part) -> Result<Found<'_>> {
        Ok(self.model.tensor(&self.files.checkpoint, part)?)
    }

    fn type_of(&self, part: &Part) -> Result<TensorType> {
        match self.replaced(part) {
            Some(_) => Ok(TensorType::F32),
            None => Ok(self.found(part)?.ty()),
        }
    }

    fn bytes_of(&self, part: &Part) -> u64 {
        self.found(part).map_or(0, |found| found.bytes)
    }
}

/// The bytes of one part of a stacked weight, with its rows in the graph's order.
pub(crate) async fn read_part(source: &WeightSource<'_>, part: &Part) -> Result<Vec<u8>> {
    if let Some(own) = source.replaced(part) {
        let [n, k] = part.shape;
        if own.rows != n || own.values.len() != n * k {
            return Err(Error::Adapter {
                name: source.adapter.map(|a| a.name.clone()).unwrap_or_default(),
                what: format!(
                    "its `{}` is [{}, {}], but the model's is [{n}, {k}]",
                    own.tensor,
                    own.rows,
                    own.values.len() / own.rows.max(1),
                ),
            });
        }
        let (ty, first) = (TensorType::F32, part.rows.start);
        let bytes = own.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        return Ok(cut(ty, Transform::None, part, first, bytes));
    }
    let found = source.found(part)?;
    let (piece, first) = found.piece(part);
    Ok(found.cut(part, first, source.files.read(&piece).await?))
}

pub(crate) async fn read_vector(source: &WeightSource<'_>, weight: &Weight) -> Result<Vec<f32>> {
    let mut values = vec![];
    for part in &weight.parts {
        let found = source.found(part)?;
        let transform = found.transform;
        let (piece, first) = found.piece(part);
        let stored = source.files.read_f32(&piece).await?;
        let taken: Vec<f32> = part
            .rows
            .clone()
            .flat_map(|row| {
                let at = first + transform.source_row(row) - part.rows.start;
                &stored[at * part.shape[1]..][part.cols.clone()]
            })
            .copied()
            .collect();
        values.extend(match transform {
            // Rows are in the graph's order already.
            Transform::UnpermuteRope { .. } => taken,
            transform => transform.apply(taken, 1),
        });
    }
    Ok(values)
}

/// Loads weights onto the device, one tensor at a time.
pub(crate) async fn load_weights(
    device: &mut dyn Backend,
    source: &WeightSource<'_>,
    weights: &[&Weight],
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let size = |w: &Weight| -> u64 { w.parts.iter().map(|p| source.bytes_of(p)).sum() };
    let total = weights.iter().map(|w| size(w)).sum();
    let mut done = 0;
    for weight in weights {
        match &weight.kind {
            WeightKind::Constant(values) => device.add_vector(&weight.name, values.clone())?,
            WeightKind::Vector => {
                let values = read_vector(source, weight).await?;
                device.add_vector(&weight.name, values)?;
            }
            WeightKind::Matrix => {
                let mut types = vec![];
                for p in &weight.parts {
                    types.push((source.type_of(p)?, p.n_rows()));
                }
                let mut upload = device.matrix(&weight.name, &types, weight.cols)?;
                for p in &weight.parts {
                    upload.part(read_part(source, p).await?)?;
                }
                upload.finish()?;
            }
        }
        done += size(weight);
        on_progress(Progress { done, total });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::task::{Context, Poll, Waker};

    use siskin_formats::decode;

    use super::*;
    use crate::ModelFiles;

    /// Files on disk are read at once.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => unreachable!(),
        }
    }

    #[test]
    fn ranges_are_those_of_the_whole() {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny/llama");
        for path in [tiny.clone(), tiny.join("model.gguf")] {
            let ModelFiles { model, weights, .. } = ModelFiles::open(&path).unwrap();
            let source = WeightSource {
                model: &model,
                files: &weights,
                adapter: None,
            };
            let read = |part: &Part| -> Result<Vec<f32>> {
                let bytes = now(read_part(&source, part))?;
                let mut out = vec![0.0; part.n_rows() * part.cols.len()];
                decode(source.type_of(part)?, &bytes, &mut out);
                Ok(out)
            };
            let d = model.dims().clone();
            let shape = [d.n_heads * d.head_dim, d.hidden_size];
            for tensor in ["q_proj", "o_proj"] {
                let tensor = format!("model.layers.0.self_attn.{tensor}.weight");
                let whole = Part::whole(tensor, shape);
                let part = Part {
                    rows: d.head_dim..3 * d.head_dim,
                    cols: 0..32,
                    ..whole.clone()
                };
                let all = read(&whole).unwrap();
                let wanted: Vec<f32> = all[d.head_dim * shape[1]..3 * d.head_dim * shape[1]]
                    .chunks(shape[1])
                    .flat_map(|row| &row[..32])
                    .copied()
                    .collect();
                assert_eq!(read(&part).unwrap(), wanted);
            }
            // Some of the norm's values.
            let mut graph = Graph::default();
            let norm = graph.vector("n", &[("model.norm.weight", shape[1])]);
            let mut weight = graph.weight(norm).clone();
            let all = now(read_vector(&source, &weight)).unwrap();
            weight.parts[0].rows = 3..9;
            assert_eq!(now(read_vector(&source, &weight)).unwrap(), all[3..9]);
            // Half a head, whose rows a GGUF file has in another order.
            let name = "model.layers.0.self_attn.q_proj.weight";
            let half = Part {
                rows: 0..d.head_dim / 2,
                ..Part::whole(name, shape)
            };
            assert_eq!(read(&half).is_err(), path != tiny);
        }
    }
}
