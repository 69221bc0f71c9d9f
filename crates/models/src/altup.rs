//! Alternating updates (Baykal et al., "Alternating Updates for Efficient Transformers", 2023), as Gemma 3n has them:
//! several streams of hidden states side by side, of which a layer computes one, and predicts and corrects the others.

use siskin_graph::{Graph, Map, MixSpec, NodeId, Part, Result as GraphResult, WeightId};

use crate::config::Source;
use crate::{Dims, Result, blocks};

/// The least mean of squares of a stream that is rescaled.
const LEAST: f32 = 1e-5;

#[derive(Debug)]
pub(crate) struct AltUp {
    /// Streams, and the one that layers compute.
    n: usize,
    active: usize,
    /// Columns of each stream.
    d: usize,
    eps: f32,
    /// Whether the projections of all streams are one tensor.
    is_stacked: bool,
}

impl AltUp {
    /// # Errors
    /// If there are not several streams, or not the active one.
    pub fn read(source: &Source<'_>, dims: &Dims) -> Result<Self> {
        const COUNT: &str = "altup_num_inputs";
        const ACTIVE: &str = "altup_active_idx";
        let default = (!source.is_gguf()).then_some(4);
        let n = source.size(COUNT, "altup.num_inputs", default, 64)?;
        if n < 2 {
            return Err(source.unsupported(COUNT, n));
        }
        let active = source.uint(ACTIVE, "altup.active_idx")?.unwrap_or(0);
        if active >= n {
            return Err(source.wrong(ACTIVE, "less than altup_num_inputs"));
        }
        if !source.flag("altup_correct_scale", true)? {
            return Err(source.unsupported("altup_correct_scale", false));
        }
        // Of training alone.
        source.float("altup_coef_clip", "")?;
        Ok(Self {
            n,
            active,
            d: dims.hidden_size,
            eps: dims.rms_norm_eps,
            is_stacked: source.is_gguf(),
        })
    }

    /// The stream that layers compute.
    pub fn active(&self, g: &mut Graph, streams: NodeId) -> GraphResult<NodeId> {
        g.slice(streams, self.active * self.d, self.d)
    }

    /// The streams as they would be after a layer, from those before it.
    pub fn predict(&self, g: &mut Graph, streams: NodeId, layer: &str) -> GraphResult<NodeId> {
        let n = self.n;
        let x = self.active(g, streams)?;
        let m = self.modalities(g, x, layer)?;
        let identity = (0..n * n).map(|at| f32::from(u8::from(at / n == at % n)));
        let identity = g.constant("altup: identity", identity.collect());
        let name = format!("{layer}.altup.prediction_coefs");
        self.mixed(g, [streams, m], n, &name, identity)
    }

    /// The predicted streams, corrected by how far x, which the layer computed, is from its prediction.
    pub fn correct(
        &self,
        g: &mut Graph,
        predicted: NodeId,
        x: NodeId,
        layer: &str,
    ) -> GraphResult<NodeId> {
        let m = self.modalities(g, x, layer)?;
        let before = self.active(g, predicted)?;
        let before = g.map(before, Map::Scale(-1.0));
        let innovation = g.add(x, before)?;
        let ones = g.constant("altup: ones", vec![1.0; self.n]);
        let name = format!("{layer}.altup.correction_coefs");
        let correction = self.mixed(g, [innovation, m], 1, &name, ones)?;
        g.add(predicted, correction)
    }

    /// The active stream, scaled: what gates a layer's own input.
    pub fn scaled(&self, g: &mut Graph, streams: NodeId, layer: &str) -> GraphResult<NodeId> {
        let x = self.active(g, streams)?;
        let scale = format!("{layer}.altup.correct_output_scale");
        let scale = g.vector(&scale, &[(&scale, self.d)]);
        g.scale_columns(x, scale)
    }

    /// Adds h to all streams but the first.
    pub fn add_to_others(&self, g: &mut Graph, streams: NodeId, h: NodeId) -> GraphResult<NodeId> {
        let h = Self::arranged(g, h, [1, self.n], "all but the first", |o, _| o > 0)?;
        g.add(streams, h)
    }

    /// The projection of stream i + 1 of this name, or those of all streams but the first, one below the other.
    fn projection(&self, g: &mut Graph, name: &str, i: Option<usize>) -> GraphResult<WeightId> {
        let (d, n) = (self.d, self.n - 1);
        let part = |i: usize| match self.is_stacked {
            true => Part {
                rows: i * d..(i + 1) * d,
                ..Part::whole(format!("model.{name}.weight"), [n * d, d])
            },
            false => Part::whole(format!("model.{name}.{i}.weight"), [d, d]),
        };
        let label = i.map_or(String::new(), |i| format!(" {i}"));
        let parts = i.map_or(0..n, |i| i..i + 1).map(part).collect();
        g.matrix_of(&format!("model.{name}{label}"), parts)
    }

    /// A mix of streams by constants.
    fn arranged(
        g: &mut Graph,
        x: NodeId,
        [n_in, n_out]: [usize; 2],
        what: &str,
        of: impl Fn(usize, usize) -> bool,
    ) -> GraphResult<NodeId> {
        let values = (0..n_out * n_in).map(|at| f32::from(u8::from(of(at / n_in, at % n_in))));
        let spec = MixSpec {
            n_in,
            n_out,
            constants: g.constant(&format!("altup: {what}"), values.collect()),
            weights: None,
        };
        g.mix(x, None, spec)
    }

    /// All streams side by side, `[T, n_streams · d]`, from the embedding.
    pub fn spread(&self, g: &mut Graph, x: NodeId) -> GraphResult<NodeId> {
        let n = self.n;
        let projection = self.projection(g, "altup_projections", None)?;
        let others = g.linear(x, projection, None)?;
        let others = g.rescale(others, x, LEAST)?;
        let first = Self::arranged(g, x, [1, n], "the first stream", |o, _| o == 0)?;
        let others = Self::arranged(g, others, [n - 1, n], "the others", |o, i| o == i + 1)?;
        g.add(first, others)
    }

    /// The mean of the streams, each projected back.
    pub fn merge(&self, g: &mut Graph, streams: NodeId) -> GraphResult<NodeId> {
        let (n, d) = (self.n, self.d);
        let target = g.slice(streams, 0, d)?;
        let mut sum = g.map(target, Map::Scale(1.0));
        for i in 1..n {
            // A linear does not read some columns of a value.
            let what = format!("stream {i}");
            let stream = Self::arranged(g, streams, [n, 1], &what, |_, at| at == i)?;
            let projection = self.projection(g, "altup_unembed_projections", Some(i - 1))?;
            let y = g.linear(stream, projection, None)?;
            let y = g.rescale(y, target, LEAST)?;
            sum = g.add(sum, y)?;
        }
        Ok(g.map(sum, Map::Scale(1.0 / n as f32)))
    }

    /// What the coefficients of a layer's mixes depend on, `[T, n_streams]`.
    fn modalities(&self, g: &mut Graph, x: NodeId, layer: &str) -> GraphResult<NodeId> {
        let (d, module) = (self.d, format!("{layer}.altup"));
        let name = format!("{module}.router_norm");
        let h = blocks::norm(g, x, &name, d, self.eps)?;
        let router = [("modality_router", self.n)];
        let h = blocks::stacked(g, h, &module, &router, false)?;
        let h = g.map(h, Map::Scale(1.0 / d as f32));
        // tanh.
        Ok(g.map(h, Map::SoftCap(1.0)))
    }

    /// A mix of streams by coefficients of the layer.
    fn mixed(
        &self,
        g: &mut Graph,
        [x, m]: [NodeId; 2],
        n_in: usize,
        name: &str,
        constants: WeightId,
    ) -> GraphResult<NodeId> {
        let n = self.n;
        let name = format!("{name}.weight");
        let spec = MixSpec {
            n_in,
            n_out: n,
            constants,
            weights: Some(g.vector(&name, &[(&name, n * n_in * n)])),
        };
        g.mix(x, Some(m), spec)
    }
}
