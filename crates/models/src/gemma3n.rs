//! Gemma 3n (text): several streams of hidden states, of which a layer computes one and predicts and corrects the others
//! (AltUp), a low-rank residual (Laurel), MLPs that are mostly 0, inputs of each layer's own, and last layers that share
//! the keys and values of earlier ones. Source: `transformers/models/gemma3n`.

use std::sync::Arc;

use serde_json::Value as Json;
use siskin_formats::Value;
use siskin_graph::{Activation, Graph, Map, NodeId, Result as GraphResult};

use crate::altup::AltUp;
use crate::blocks::{self, Biases};
use crate::config::Source;
use crate::dense::DECODER;
use crate::dims::Defaults;
use crate::families::{Architecture, Family, InConfig};
use crate::own_inputs::OwnInputs;
use crate::rope::Rope;
use crate::shared_keys::{self, Caches, Layer, SharedKeys};
use crate::{Dims, Error, Result, layers, sparsity};

pub(crate) static GEMMA3N: Architecture = Architecture {
    names: &["gemma3n_text", "gemma3n"],
    gguf: Some("gemma3n"),
    model_type: "gemma3n_text",
    class: "Gemma3nForCausalLM",
    defaults: Defaults {
        vocab_size: 262_400,
        hidden_size: 2048,
        // A number, or one for each layer.
        intermediate_size: 0,
        n_layers: 35,
        n_heads: 8,
        n_kv_heads: Some(2),
        head_dim: Some(256),
        rms_norm_eps: 1e-6,
        context_length: 32_768,
        tied: true,
    },
    read: Config::read,
    layer_names: &[
        ("post_attention_layernorm", "post_attention_norm"),
        ("altup.router_norm", "altup_router_norm"),
        ("altup.modality_router", "altup_router"),
        ("altup.prediction_coefs", "altup_predict_coef"),
        ("altup.correction_coefs", "altup_correct_coef"),
        ("altup.correct_output_scale", "altup_correct_scale.weight"),
        ("laurel.linear_left", "laurel_l"),
        ("laurel.linear_right", "laurel_r"),
        ("laurel.post_laurel_norm", "laurel_post_norm"),
    ],
    gguf_top_names: &[
        ("model.altup_projections", "altup_proj"),
        ("model.altup_unembed_projections", "altup_unembd_proj"),
    ],
    ..DECODER
};

/// Each n-th layer is global, where the file does not say.
const PATTERN: usize = 5;

#[derive(Debug)]
struct Config {
    dims: Dims,
    attention: SharedKeys,
    own_inputs: OwnInputs,
    altup: AltUp,
    laurel_rank: usize,
    /// How many standard deviations above the mean a gate must be, in layers whose MLPs are mostly 0.
    deviations: Vec<Option<f32>>,
    activation: Activation,
    logits_cap: Option<f32>,
}

impl Config {
    fn read(source: &Source<'_>) -> Result<Arc<dyn Family>> {
        let mut dims = Dims::read(source, &GEMMA3N.defaults)?;
        let n = dims.n_layers;
        let in_folder = |default: usize| (!source.is_gguf()).then_some(default);
        let sizes = intermediate_sizes(source, &dims)?;
        dims.intermediate_size = sizes.iter().copied().max().unwrap_or(0);
        let first_shared = shared_keys::first_shared(source, n, in_folder(15))?;
        let is_local = layers::is_local(source, n, |i| !(i + 1).is_multiple_of(PATTERN))?;
        let layer = |i: usize| Layer {
            is_local: is_local[i],
            n_kv_heads: dims.layer(i).n_kv_heads,
            head_dim: dims.head_dim,
            intermediate_size: sizes[i],
            k_is_v: false,
            is_shared: i >= first_shared,
        };
        let layers = (0..n).map(layer).collect();
        let (global, local) = Rope::read_both(source, &dims, [1_000_000.0, 10_000.0])?;
        dims.rope_theta = global.theta;
        let activation = blocks::activation(source, "hidden_activation", Activation::GeluTanh)?;
        let own_inputs = OwnInputs::read(source, &dims, activation)?;
        let rank = source.rows_of("blk.0.laurel_l.weight").or(in_folder(64));
        let cap = source.float("final_logit_softcapping", "final_logit_softcapping")?;
        let cap = cap.or((!source.is_null("final_logit_softcapping")).then_some(30.0));
        Ok(Arc::new(Self {
            attention: SharedKeys::read(source, layers, [global, local])?,
            own_inputs: own_inputs
                .ok_or_else(|| source.unsupported("hidden_size_per_layer_input", 0))?,
            altup: AltUp::read(source, &dims)?,
            laurel_rank: source.size("laurel_rank", "", rank, 1 << 20)?,
            deviations: sparsity::deviations(source, n)?,
            activation,
            logits_cap: cap.filter(|c| *c > 0.0),
            dims,
        }))
    }

    fn mlp(&self, g: &mut Graph, x: NodeId, i: usize) -> GraphResult<NodeId> {
        let n = self.attention.layers[i].intermediate_size;
        let (d, layer) = (self.dims.hidden_size, format!("model.layers.{i}"));
        let Some(deviations) = self.deviations[i] else {
            let dims = self.dims.with_intermediate_size(n);
            return blocks::mlp(g, x, &layer, &dims, self.activation, Biases::NONE);
        };
        let module = format!("{layer}.mlp");
        let both = [("gate_proj", n), ("up_proj", n)];
        let both = blocks::stacked(g, x, &module, &both, false)?;
        let (gate, up) = (g.slice(both, 0, n)?, g.slice(both, n, n)?);
        let gate = g.gaussian_top_k(gate, deviations);
        let h = g.gated(gate, up, self.activation)?;
        blocks::stacked(g, h, &module, &[("down_proj", d)], false)
    }

    /// Laurel: x, and what a projection of low rank makes of it.
    fn laurel(&self, g: &mut Graph, x: NodeId, layer: &str) -> GraphResult<NodeId> {
        let (d, module) = (self.dims.hidden_size, format!("{layer}.laurel"));
        let left = [("linear_left", self.laurel_rank)];
        let h = blocks::stacked(g, x, &module, &left, false)?;
        let h = blocks::stacked(g, h, &module, &[("linear_right", d)], false)?;
        let name = format!("{module}.post_laurel_norm");
        let h = blocks::norm(g, h, &name, d, self.dims.rms_norm_eps)?;
        g.add(x, h)
    }

    fn block(
        &self,
        g: &mut Graph,
        streams: NodeId,
        i: usize,
        own: NodeId,
        caches: &mut Caches,
    ) -> GraphResult<NodeId> {
        let layer = format!("model.layers.{i}");
        let (d, eps) = (self.dims.hidden_size, self.dims.rms_norm_eps);
        let norm =
            |g: &mut Graph, x, name: &str| blocks::norm(g, x, &format!("{layer}.{name}"), d, eps);
        let predicted = self.altup.predict(g, streams, &layer)?;
        let x = self.altup.active(g, predicted)?;
        // A copy: an add does not read some columns of a value.
        let x = g.map(x, Map::Scale(1.0));
        let h = norm(g, x, "input_layernorm")?;
        let laurel = self.laurel(g, h, &layer)?;
        let h = self.attention.attention(g, &self.dims, h, i, caches)?;
        let h = norm(g, h, "post_attention_layernorm")?;
        let x = g.add(x, h)?;
        let x = g.add(x, laurel)?;
        let x = g.map(x, Map::Scale(std::f32::consts::FRAC_1_SQRT_2));
        let h = norm(g, x, "pre_feedforward_layernorm")?;
        let h = self.mlp(g, h, i)?;
        let h = norm(g, h, "post_feedforward_layernorm")?;
        let x = g.add(x, h)?;
        let corrected = self.altup.correct(g, predicted, x, &layer)?;
        let x = self.altup.scaled(g, corrected, &layer)?;
        let h = self.own_inputs.gated(g, x, own, i)?;
        self.altup.add_to_others(g, corrected, h)
    }
}

/// Columns of each layer's MLP.
fn intermediate_sizes(source: &Source<'_>, dims: &Dims) -> Result<Vec<usize>> {
    const KEY: &str = "intermediate_size";
    let n = dims.n_layers;
    if source.is_gguf() {
        return Ok((0..n).map(|i| dims.layer(i).intermediate_size).collect());
    }
    let size = |v: &Json| {
        v.as_u64()
            .map(|n| n as usize)
            .filter(|n| (1..=1 << 20).contains(n))
    };
    let sizes = match source.json_value(KEY) {
        None | Some(Json::Null) => Some(vec![16_384; n]),
        Some(Json::Array(list)) => list.iter().map(size).collect(),
        Some(one) => size(one).map(|one| vec![one; n]),
    };
    let sizes = sizes.filter(|sizes| sizes.len() == n);
    sizes.ok_or_else(|| source.wrong(KEY, "a positive number, or one for each layer"))
}

impl Family for Config {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let x = blocks::embed(g, &self.dims, (self.dims.hidden_size as f32).sqrt());
        let own = self.own_inputs.build(g, x)?;
        let mut streams = self.altup.spread(g, x)?;
        let mut caches = Caches::default();
        for i in 0..self.dims.n_layers {
            streams = self.block(g, streams, i, own, &mut caches)?;
            g.end_layer(streams, format!("model.layers.{i}.hidden"));
        }
        Ok(streams)
    }

    fn last_norm(&self, g: &mut Graph, streams: NodeId) -> Result<NodeId> {
        let (d, eps) = (self.dims.hidden_size, self.dims.rms_norm_eps);
        let x = self.altup.merge(g, streams)?;
        Ok(blocks::norm(g, x, "model.norm", d, eps)?)
    }

    fn does_without(&self, tensor: &str) -> bool {
        self.attention.does_without(tensor)
    }

    fn logits_cap(&self) -> Option<f32> {
        self.logits_cap
    }

    fn check_training(&self) -> Result<()> {
        // The ops over streams have no gradients.
        Err(Error::NoTraining("several streams of hidden states"))
    }

    fn in_gguf(&self) -> Result<Vec<(&'static str, Value)>> {
        let arch = GEMMA3N.names[0];
        Err(Error::NoConversion { arch })
    }

    fn in_config(&self) -> Result<InConfig> {
        let arch = GEMMA3N.names[0];
        Err(Error::NoConversion { arch })
    }
}
