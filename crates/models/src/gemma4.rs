//! Gemma 4: heads of two sizes, last layers that share the keys and values of earlier ones, inputs of each layer's own,
//! experts beside the MLP. Source: `transformers/models/gemma4`.

use std::sync::Arc;

use serde_json::Value as Json;
use siskin_formats::Value;
use siskin_graph::{Activation, Graph, Map, NodeId, Result as GraphResult};

use crate::blocks::{self, Biases};
use crate::config::Source;
use crate::dense::DECODER;
use crate::dims::Defaults;
use crate::families::{Architecture, Family, InConfig};
use crate::moe::{self, Moe};
use crate::own_inputs::OwnInputs;
use crate::rope::Rope;
use crate::shared_keys::{self, Caches, Layer, SharedKeys};
use crate::{Dims, Error, Result, layers};

pub(crate) static GEMMA4: Architecture = Architecture {
    names: &["gemma4_text", "gemma4"],
    gguf: Some("gemma4"),
    model_type: "gemma4_text",
    class: "Gemma4ForCausalLM",
    defaults: Defaults {
        vocab_size: 262_144,
        hidden_size: 2304,
        intermediate_size: 9216,
        n_layers: 30,
        n_heads: 8,
        n_kv_heads: Some(4),
        head_dim: Some(256),
        rms_norm_eps: 1e-6,
        context_length: 131_072,
        tied: true,
    },
    read: Config::read,
    layer_names: &[
        ("post_attention_layernorm", "post_attention_norm"),
        ("layer_scalar", "layer_output_scale.weight"),
        ("router.scale", "ffn_gate_inp.scale"),
        ("router.per_expert_scale", "ffn_down_exps.scale"),
        ("post_feedforward_layernorm_1", "post_ffw_norm_1"),
        ("pre_feedforward_layernorm_2", "pre_ffw_norm_2"),
        ("post_feedforward_layernorm_2", "post_ffw_norm_2"),
    ],
    ..DECODER
};

/// Each n-th layer is global, where the file does not say.
const PATTERN: usize = 6;

#[derive(Debug)]
struct Config {
    dims: Dims,
    attention: SharedKeys,
    activation: Activation,
    own_inputs: Option<OwnInputs>,
    logits_cap: Option<f32>,
    /// Experts beside the MLP of each layer.
    moe: Option<Moe>,
}

/// How a folder stores experts: not within a module.
const EXPERTS: moe::Names = moe::Names {
    module: "",
    router: "router.proj",
    stored: moe::Stored::StackedWhole(["experts.gate_up_proj", "experts.down_proj"]),
    ..moe::NAMES
};

impl Config {
    fn read(source: &Source<'_>) -> Result<Arc<dyn Family>> {
        let mut dims = Dims::read(source, &GEMMA4.defaults)?;
        refuse_others(source)?;
        let kinds = layers::is_local(source, dims.n_layers, |i| !(i + 1).is_multiple_of(PATTERN))?;
        let layers = read_layers(source, &dims, &kinds)?;
        let of = |is_local: bool| layers.iter().find(|l| l.is_local == is_local);
        let sized = |is_local: bool| {
            let head_dim = of(is_local).map_or(dims.head_dim, |l| l.head_dim);
            dims.with_head_dim(head_dim)
        };
        let thetas = [1_000_000.0, 10_000.0];
        let (global, local) = Rope::read_kinds(source, [&sized(false), &sized(true)], thetas)?;
        dims.rope_theta = global.theta;
        let cap = source.float("final_logit_softcapping", "final_logit_softcapping")?;
        let activation = blocks::activation(source, "hidden_activation", Activation::GeluTanh)?;
        Ok(Arc::new(Self {
            attention: SharedKeys::read(source, layers, [global, local])?,
            activation,
            own_inputs: OwnInputs::read(source, &dims, activation)?,
            logits_cap: cap.filter(|c| *c > 0.0),
            moe: read_experts(source, activation)?,
            dims,
        }))
    }

    /// Experts of what the MLP reads before its norm.
    fn experts(&self, g: &mut Graph, x: NodeId, layer: &str, moe: &Moe) -> GraphResult<NodeId> {
        let (d, eps) = (self.dims.hidden_size, self.dims.rms_norm_eps);
        let vector = |g: &mut Graph, name: &str, n: usize| {
            let name = format!("{layer}.{name}");
            g.vector(&name, &[(&name, n)])
        };
        let scale = vector(g, "router.scale", d);
        let routed = g.rms_norm(x, scale, eps)?;
        let routed = g.map(routed, Map::Scale(1.0 / (d as f32).sqrt()));
        let scales = vector(g, "router.per_expert_scale", moe.n_experts);
        let route = moe.route(g, routed, layer, Some(scales))?;
        let name = |which: &str| format!("{layer}.{which}_feedforward_layernorm_2");
        let h = blocks::norm(g, x, &name("pre"), d, eps)?;
        let h = moe.experts(g, h, route, layer)?;
        blocks::norm(g, h, &name("post"), d, eps)
    }

    fn block(
        &self,
        g: &mut Graph,
        x: NodeId,
        i: usize,
        own: Option<NodeId>,
        caches: &mut Caches,
    ) -> GraphResult<NodeId> {
        let layer = format!("model.layers.{i}");
        let (d, eps) = (self.dims.hidden_size, self.dims.rms_norm_eps);
        let norm =
            |g: &mut Graph, x, name: &str| blocks::norm(g, x, &format!("{layer}.{name}"), d, eps);
        let h = norm(g, x, "input_layernorm")?;
        let h = self.attention.attention(g, &self.dims, h, i, caches)?;
        let h = norm(g, h, "post_attention_layernorm")?;
        let x = g.add(x, h)?;
        let h = norm(g, x, "pre_feedforward_layernorm")?;
        let dims = self
            .dims
            .with_intermediate_size(self.attention.layers[i].intermediate_size);
        let mut h = blocks::mlp(g, h, &layer, &dims, self.activation, Biases::NONE)?;
        if let Some(moe) = &self.moe {
            h = norm(g, h, "post_feedforward_layernorm_1")?;
            let experts = self.experts(g, x, &layer, moe)?;
            h = g.add(h, experts)?;
        }
        let h = norm(g, h, "post_feedforward_layernorm")?;
        let mut x = g.add(x, h)?;
        if let (Some(own), Some(inputs)) = (own, &self.own_inputs) {
            let h = inputs.gated(g, x, own, i)?;
            x = g.add(x, h)?;
        }
        let scalar = format!("{layer}.layer_scalar");
        let scalar = g.vector(&scalar, &[(&scalar, 1)]);
        g.scale_columns(x, scalar)
    }
}

/// Experts beside the MLP, where there are some.
fn read_experts(source: &Source<'_>, activation: Activation) -> Result<Option<Moe>> {
    const COUNT: &str = "expert_count";
    let is_on = match source.is_gguf() {
        true => source.uint("", COUNT)?.is_some_and(|n| n > 0),
        false => source.flag("enable_moe_block", false)?,
    };
    if !is_on {
        // Of the experts that there are not.
        for key in ["num_experts", "top_k_experts", "moe_intermediate_size"] {
            source.json_value(key);
        }
        return Ok(None);
    }
    let counts = [
        source.size("num_experts", COUNT, None, 1024)?,
        source.size("top_k_experts", "expert_used_count", None, 1024)?,
    ];
    let size = ("moe_intermediate_size", "expert_feed_forward_length");
    let size = source.size(size.0, size.1, None, 1 << 20)?;
    Ok(Some(Moe {
        activation,
        ..Moe::of(source, EXPERTS, counts, size)?
    }))
}

/// What changes the mathematics and is not supported.
fn refuse_others(source: &Source<'_>) -> Result<()> {
    if let Some(kind) = source.str("use_bidirectional_attention", "")?
        // Which tokens of images alone have.
        && kind != "vision"
    {
        return Err(source.unsupported("use_bidirectional_attention", kind));
    }
    Ok(())
}

/// A size of global layers: by its own key, or as transformers 5 writes it, for each of these layers.
fn of_global(source: &Source<'_>, own: &'static str, key: &str) -> Result<Option<usize>> {
    const EACH: &str = "per_layer_config";
    let mut found = source.uint(own, "")?;
    for (layer, sizes) in source.table(EACH)?.into_iter().flatten() {
        let known = ["head_dim", "num_key_value_heads"];
        let Some(sizes) = sizes.as_object() else {
            return Err(source.wrong(EACH, "an object for each layer"));
        };
        if let Some(key) = sizes.keys().find(|k| !known.contains(&k.as_str())) {
            let label = format!("{EACH}.{layer}.{key}");
            return Err(source.unsupported(&label, &sizes[key.as_str()]));
        }
        let size = sizes.get(key).and_then(Json::as_u64).map(|n| n as usize);
        if size.is_some() && found.is_some() && size != found {
            return Err(source.unsupported(EACH, "different in each global layer"));
        }
        found = found.or(size);
    }
    Ok(found)
}

fn read_layers(source: &Source<'_>, dims: &Dims, is_local: &[bool]) -> Result<Vec<Layer>> {
    let k_is_v = match source.is_gguf() {
        true => None,
        false => Some(source.flag("attention_k_eq_v", false)?),
    };
    let first_shared = shared_keys::first_shared(source, dims.n_layers, Some(0))?;
    let is_wide = source.flag("use_double_wide_mlp", false)?;
    let head_dims = match source.is_gguf() {
        // The file's own is that of global layers.
        true => {
            let local = source.uint("", "attention.key_length_swa")?;
            source.gguf_value("attention.value_length_swa");
            source.gguf_value("rope.dimension_count_swa");
            [dims.head_dim, local.unwrap_or(dims.head_dim)]
        }
        false => {
            let global = of_global(source, "global_head_dim", "head_dim")?;
            [global.unwrap_or(512), dims.head_dim]
        }
    };
    let key = "num_key_value_heads";
    let global_heads = of_global(source, "num_global_key_value_heads", key)?;
    let layer = |(i, is_local): (usize, &bool)| {
        let (own, is_shared) = (dims.layer(i), i >= first_shared);
        let has_v = source.has_tensor(&format!("blk.{i}.attn_v.weight"));
        let global_heads = global_heads.filter(|_| !is_local && k_is_v == Some(true));
        Layer {
            is_local: *is_local,
            n_kv_heads: global_heads.unwrap_or(own.n_kv_heads),
            head_dim: head_dims[usize::from(*is_local)],
            intermediate_size: match is_wide && is_shared {
                true => 2 * own.intermediate_size,
                false => own.intermediate_size,
            },
            k_is_v: !is_local && k_is_v.unwrap_or(!has_v),
            is_shared,
        }
    };
    Ok(is_local.iter().enumerate().map(layer).collect())
}

impl Family for Config {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let mut x = blocks::embed(g, &self.dims, (self.dims.hidden_size as f32).sqrt());
        let own = self
            .own_inputs
            .as_ref()
            .map(|o| o.build(g, x))
            .transpose()?;
        let mut caches = Caches::default();
        for i in 0..self.dims.n_layers {
            x = self.block(g, x, i, own, &mut caches)?;
            g.end_layer(x, format!("model.layers.{i}.hidden"));
        }
        Ok(x)
    }

    fn does_without(&self, tensor: &str) -> bool {
        self.attention.does_without(tensor)
    }

    fn logits_cap(&self) -> Option<f32> {
        self.logits_cap
    }

    fn check_training(&self) -> Result<()> {
        // An adapter's gradients through shared keys have not been compared with anybody's.
        Err(Error::NoTraining("keys and values that layers share"))
    }

    fn in_gguf(&self) -> Result<Vec<(&'static str, Value)>> {
        let arch = GEMMA4.names[0];
        Err(Error::NoConversion { arch })
    }

    fn in_config(&self) -> Result<InConfig> {
        let arch = GEMMA4.names[0];
        Err(Error::NoConversion { arch })
    }
}
