//! Encoders: every token sees the whole text, and the results are embeddings and scores. A family reads its
//! configuration into [`Encoder`], which builds the graph.

use siskin_formats::Value;
use siskin_graph::{
    Activation, AttentionSpec, Graph, Map, NodeId, Pairs, Place, Pooling, Result as GraphResult,
    RopeSpec,
};

use crate::blocks;
use crate::config::Source;
use crate::dense::DECODER;
use crate::families::{Architecture, Family, InConfig};
use crate::rope::Rope;
use crate::{Dims, Error, Result};

/// What the architectures of this kind have in common.
pub(crate) static ENCODER: Architecture = Architecture { ..DECODER };

/// The names of a layer's modules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// One for each of q, k and v; or one tensor for all, which is for families with rope.
    pub qkv: &'static [&'static str],
    pub o: &'static str,
    /// What is activated; of a gated MLP gate and up, or one tensor for both.
    pub up: &'static [&'static str],
    pub down: &'static str,
    /// Of attention, then of the MLP.
    pub norms: [&'static str; 2],
}

/// Where a layer's norms are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// `norm(x + attention(x))`, then `norm(x + mlp(x))`.
    OfSums,
    /// `x + attention(norm(x))`, then `x + mlp(norm(x))`; but the first layer's attention reads the embedding as it
    /// is. The last layer is followed by a norm.
    Before,
}

/// What has biases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Biases {
    pub attention: bool,
    pub mlp: bool,
    pub norms: bool,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    pub window: Option<usize>,
    /// Which of the family's ropes.
    pub rope: Option<usize>,
}

/// Learned embeddings that are added to those of tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Places {
    /// Rows of the embedding of positions, and the row of position 0; `None` where there is none.
    pub positions: Option<(usize, usize)>,
    /// Rows of the embedding of which of two texts a token belongs to; 0 where there is none.
    pub kinds: usize,
}

/// What makes a score of a text, or of two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Classifier {
    pub pooling: Pooling,
    /// What is applied to the first linear's result.
    pub map: Map,
    pub dense_bias: bool,
    /// Whether a norm follows.
    pub norm: bool,
    /// Rows of the last linear, which has a bias.
    pub labels: usize,
    /// Whether a score is the logistic function of the result.
    pub is_logistic: bool,
}

/// A family's configuration.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    pub dims: Dims,
    pub arch: &'static Architecture,
    pub names: &'static Names,
    pub places: Places,
    pub ropes: Vec<Rope>,
    pub layers: Vec<Layer>,
    pub order: Order,
    pub activation: Activation,
    pub is_gated: bool,
    pub biases: Biases,
    pub classifier: Option<Classifier>,
    /// Beginnings of names of tensors that embeddings and scores do without.
    pub unused: &'static [&'static str],
}

/// Whether the configuration is of transformers' class for scores, or a GGUF file has its last linear.
pub(crate) fn is_classifier(source: &Source<'_>) -> bool {
    let class = source
        .json_value("architectures")
        .and_then(|a| a[0].as_str());
    class.is_some_and(|c| c.ends_with("ForSequenceClassification"))
        || source.has_tensor("cls.output.weight")
}

/// What sentence-transformers' `CrossEncoder` makes of the result: by default the logistic function.
pub(crate) fn is_logistic(source: &Source<'_>) -> Result<bool> {
    // Older files have a key of their own.
    const KEYS: [&str; 2] = [
        "sentence_transformers",
        "sbert_ce_default_activation_function",
    ];
    let name = match source.table(KEYS[0])? {
        Some(table) => table.get("activation_fn").and_then(|f| f.as_str()),
        None => source.str(KEYS[1], "")?,
    };
    match name.and_then(|name| name.rsplit('.').next()) {
        None | Some("Sigmoid") => Ok(true),
        Some("Identity") => Ok(false),
        Some(other) => Err(source.unsupported(KEYS[0], other)),
    }
}

/// Rows of the classifier's last linear.
pub(crate) fn labels(source: &Source<'_>) -> Result<usize> {
    if source.is_gguf() {
        // Their names.
        source.gguf_value("classifier.output_labels");
        return Ok(source.rows_of("cls.output.weight").unwrap_or(1));
    }
    // transformers' default.
    let labels = source.table("id2label")?.map_or(2, |labels| labels.len());
    Ok(labels)
}

/// Rows of a GGUF file's embedding, or a size of `config.json`.
pub(crate) fn rows(source: &Source<'_>, key: &str, tensor: &str, default: usize) -> Result<usize> {
    if source.is_gguf() {
        return Ok(source.rows_of(tensor).unwrap_or(0));
    }
    Ok(source.uint(key, "")?.unwrap_or(default))
}

/// Modules of a layer that share `rows` rows equally.
fn split(names: &[&'static str], rows: usize) -> Vec<(&'static str, usize)> {
    let each = rows / names.len();
    names.iter().map(|name| (*name, each)).collect()
}

impl Encoder {
    fn norm(&self, g: &mut Graph, x: NodeId, name: &str) -> GraphResult<NodeId> {
        let cols = g.node(x).cols;
        let vector = |g: &mut Graph, suffix: &str| {
            let name = format!("{name}.{suffix}");
            g.vector(&name, &[(&name, cols)])
        };
        let weight = vector(g, "weight");
        let bias = self.biases.norms.then(|| vector(g, "bias"));
        g.layer_norm(x, weight, bias, self.dims.rms_norm_eps)
    }

    fn embedding(&self, g: &mut Graph) -> GraphResult<NodeId> {
        let d = self.dims.hidden_size;
        let mut x = blocks::embed(g, &self.dims, 1.0);
        let Places { positions, kinds } = self.places;
        let positions =
            positions.map(|(rows, offset)| ("positions", rows, Place::Position { offset }));
        let kinds = (kinds > 0).then_some(("kinds", kinds, Place::Kind));
        for (name, rows, place) in positions.into_iter().chain(kinds) {
            let name = format!("model.embed_{name}.weight");
            let table = g.matrix(&name, &[(&name, rows)], d);
            let of_place = g.embed_place(table, place);
            x = g.add(x, of_place)?;
        }
        let x = self.norm(g, x, "model.embed_norm")?;
        g.name(x, "embed_norm");
        Ok(x)
    }

    fn rope(&self, g: &mut Graph, at: usize) -> RopeSpec {
        let name = format!("inv_freq.{at}");
        let rope = &self.ropes[at];
        RopeSpec {
            inv_freq: g.constant(&name, rope.inv_freq.clone()),
            head_dim: self.dims.head_dim,
            pairs: Pairs::Halves,
            scale: rope.scale,
        }
    }

    /// q, k and v. Devices read each from storage of its own: without rope, they are linears of their own.
    fn qkv(&self, g: &mut Graph, x: NodeId, layer: &str, i: usize) -> GraphResult<[NodeId; 3]> {
        let n = self.dims.n_heads * self.dims.head_dim;
        let bias = self.biases.attention;
        let names = self.names.qkv;
        let Some(at) = self.layers[i].rope else {
            let mut one = |name| blocks::stacked(g, x, layer, &[(name, n)], bias);
            return Ok([one(names[0])?, one(names[1])?, one(names[2])?]);
        };
        let rope = self.rope(g, at);
        let named = split(names, 3 * n);
        let all = blocks::stacked(g, x, layer, &named, bias)?;
        let (q, k) = (g.slice(all, 0, n)?, g.slice(all, n, n)?);
        let (q, k) = (g.rope_of(q, rope)?, g.rope_of(k, rope)?);
        Ok([q, k, g.slice(all, 2 * n, n)?])
    }

    fn attention(&self, g: &mut Graph, x: NodeId, layer: &str, i: usize) -> GraphResult<NodeId> {
        let Dims {
            n_heads, head_dim, ..
        } = self.dims;
        let qkv = self.qkv(g, x, layer, i)?;
        let spec = AttentionSpec {
            n_heads,
            n_kv_heads: n_heads,
            head_dim,
            scale: blocks::attention_scale(head_dim),
            window: self.layers[i].window,
            causal: false,
            soft_cap: None,
            sinks: None,
        };
        let mixed = g.self_attention(qkv, spec)?;
        g.name(mixed, format!("{layer}.attention"));
        let o = [(self.names.o, self.dims.hidden_size)];
        blocks::stacked(g, mixed, layer, &o, self.biases.attention)
    }

    fn mlp(&self, g: &mut Graph, x: NodeId, layer: &str) -> GraphResult<NodeId> {
        let (n, bias) = (self.dims.intermediate_size, self.biases.mlp);
        let rows = if self.is_gated { 2 * n } else { n };
        let h = blocks::stacked(g, x, layer, &split(self.names.up, rows), bias)?;
        let h = if self.is_gated {
            let (gate, up) = (g.slice(h, 0, n)?, g.slice(h, n, n)?);
            g.gated(gate, up, self.activation)?
        } else {
            g.map(h, Map::Activation(self.activation))
        };
        let down = [(self.names.down, self.dims.hidden_size)];
        blocks::stacked(g, h, layer, &down, bias)
    }

    fn block(&self, g: &mut Graph, x: NodeId, i: usize) -> GraphResult<NodeId> {
        let layer = format!("model.layers.{i}");
        let [first, second] = self.names.norms.map(|name| format!("{layer}.{name}"));
        match self.order {
            Order::OfSums => {
                let h = self.attention(g, x, &layer, i)?;
                let h = g.add(x, h)?;
                let x = self.norm(g, h, &first)?;
                let h = self.mlp(g, x, &layer)?;
                let h = g.add(x, h)?;
                self.norm(g, h, &second)
            }
            Order::Before => {
                let h = if i == 0 { x } else { self.norm(g, x, &first)? };
                let h = self.attention(g, h, &layer, i)?;
                let x = g.add(x, h)?;
                let h = self.norm(g, x, &second)?;
                let h = self.mlp(g, h, &layer)?;
                g.add(x, h)
            }
        }
    }
}

impl Family for Encoder {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let mut x = self.embedding(g)?;
        for i in 0..self.dims.n_layers {
            x = self.block(g, x, i)?;
            g.end_layer(x, format!("model.layers.{i}.hidden"));
        }
        Ok(x)
    }

    fn last_norm(&self, g: &mut Graph, x: NodeId) -> Result<NodeId> {
        Ok(match self.order {
            Order::OfSums => x,
            Order::Before => self.norm(g, x, "model.norm")?,
        })
    }

    fn is_encoder(&self) -> bool {
        true
    }

    fn labels(&self) -> Option<usize> {
        self.classifier.map(|c| c.labels)
    }

    fn is_logistic(&self) -> bool {
        self.classifier.is_some_and(|c| c.is_logistic)
    }

    fn kinds(&self) -> usize {
        self.places.kinds.max(1)
    }

    fn score(&self, g: &mut Graph, x: NodeId) -> Result<Option<NodeId>> {
        let Some(c) = self.classifier else {
            return Ok(None);
        };
        let x = g.pool(x, c.pooling)?;
        let dense = [("dense", self.dims.hidden_size)];
        let x = blocks::stacked(g, x, "score", &dense, c.dense_bias)?;
        let x = g.map(x, c.map);
        let x = match c.norm {
            true => self.norm(g, x, "score.norm")?,
            false => x,
        };
        Ok(Some(blocks::stacked(
            g,
            x,
            "score",
            &[("out", c.labels)],
            true,
        )?))
    }

    fn does_without(&self, tensor: &str) -> bool {
        self.unused.iter().any(|start| tensor.starts_with(start))
    }

    fn in_gguf(&self) -> Result<Vec<(&'static str, Value)>> {
        Err(Error::NoConversion {
            arch: self.arch.names[0],
        })
    }

    fn in_config(&self) -> Result<InConfig> {
        Err(Error::NoConversion {
            arch: self.arch.names[0],
        })
    }
}
