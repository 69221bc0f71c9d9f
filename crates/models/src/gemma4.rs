//! Gemma 4: heads of two sizes, last layers that share the keys and values of earlier ones, inputs of each layer's own,
//! experts beside the MLP. Source: `transformers/models/gemma4`.

use std::sync::Arc;

use serde_json::Value as Json;
use siskin_formats::Value;
use siskin_graph::{
    Activation, AttentionSpec, CacheId, Graph, Map, NodeId, Pairs, Result as GraphResult, RopeSpec,
};

use crate::blocks::{self, Biases};
use crate::config::Source;
use crate::dense::DECODER;
use crate::dims::Defaults;
use crate::families::{Architecture, Family, InConfig};
use crate::moe::{self, Moe};
use crate::rope::Rope;
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
        ("per_layer_input_gate", "inp_gate"),
        ("per_layer_projection", "proj"),
        ("post_per_layer_input_norm", "post_norm"),
        ("layer_scalar", "layer_output_scale.weight"),
        ("router.scale", "ffn_gate_inp.scale"),
        ("router.per_expert_scale", "ffn_down_exps.scale"),
        ("post_feedforward_layernorm_1", "post_ffw_norm_1"),
        ("pre_feedforward_layernorm_2", "pre_ffw_norm_2"),
        ("post_feedforward_layernorm_2", "post_ffw_norm_2"),
    ],
    gguf_top_names: &[
        ("model.embed_tokens_per_layer", "per_layer_token_embd"),
        ("model.per_layer_model_projection", "per_layer_model_proj"),
        ("model.per_layer_projection_norm", "per_layer_proj_norm"),
    ],
    ..DECODER
};

/// Each n-th layer is global, where the file does not say.
const PATTERN: usize = 6;

/// One layer's attention.
#[derive(Debug, Clone)]
struct Layer {
    is_local: bool,
    n_kv_heads: usize,
    head_dim: usize,
    intermediate_size: usize,
    /// Whether values are the keys before their norm.
    k_is_v: bool,
    /// Whether it has the keys and values of the last layer of its kind that has its own.
    is_shared: bool,
}

#[derive(Debug)]
struct Config {
    dims: Dims,
    layers: Vec<Layer>,
    /// Of global layers, and of local ones.
    ropes: [Rope; 2],
    window: Option<usize>,
    activation: Activation,
    biases: Biases,
    /// Columns of each layer's own input, and rows of their table; 0 columns where there is none.
    own_input: [usize; 2],
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
        let window = source.uint("sliding_window", "attention.sliding_window")?;
        let window = window.or((!source.is_gguf()).then_some(512));
        let columns = "embedding_length_per_layer_input";
        let default = (!source.is_gguf()).then_some(256);
        let columns = source
            .uint("hidden_size_per_layer_input", columns)?
            .or(default);
        let rows = source.uint("vocab_size_per_layer_input", "")?;
        let rows = rows.unwrap_or(if source.is_gguf() {
            dims.vocab_size
        } else {
            262_144
        });
        let cap = source.float("final_logit_softcapping", "final_logit_softcapping")?;
        let activation = blocks::activation(source, "hidden_activation", Activation::GeluTanh)?;
        Ok(Arc::new(Self {
            layers,
            ropes: [global, local],
            window: window.filter(|w| *w > 0),
            activation,
            biases: Biases::of_attention(source)?,
            own_input: [columns.unwrap_or(0), rows],
            logits_cap: cap.filter(|c| *c > 0.0),
            moe: read_experts(source, activation)?,
            dims,
        }))
    }

    /// Each layer's own input side by side, `[T, n_layers · columns]`.
    fn own_inputs(&self, g: &mut Graph, x: NodeId) -> GraphResult<Option<NodeId>> {
        let [n, rows] = self.own_input;
        if n == 0 {
            return Ok(None);
        }
        let (d, all) = (self.dims.hidden_size, self.dims.n_layers * n);
        let table = "model.embed_tokens_per_layer.weight";
        let table = g.matrix(table, &[(table, rows)], all);
        let tokens = g.embed(table, (n as f32).sqrt());
        let projected = [("per_layer_model_projection", all)];
        let projected = blocks::stacked(g, x, "model", &projected, false)?;
        let projected = g.map(projected, Map::Scale(1.0 / (d as f32).sqrt()));
        let name = "model.per_layer_projection_norm";
        let projected = blocks::norm(g, projected, name, n, self.dims.rms_norm_eps)?;
        let both = g.add(projected, tokens)?;
        Ok(Some(
            g.map(both, Map::Scale(std::f32::consts::FRAC_1_SQRT_2)),
        ))
    }

    /// Attention; the caches are those of the last global and the last local layer that have their own.
    fn attention(
        &self,
        g: &mut Graph,
        x: NodeId,
        i: usize,
        caches: &mut [Option<(CacheId, NodeId)>; 2],
    ) -> GraphResult<NodeId> {
        let layer = &self.layers[i];
        let (head_dim, eps) = (layer.head_dim, self.dims.rms_norm_eps);
        let (nq, nkv) = (self.dims.n_heads * head_dim, layer.n_kv_heads * head_dim);
        let module = format!("model.layers.{i}.self_attn");
        let kind = usize::from(layer.is_local);
        let rope = RopeSpec {
            inv_freq: g.constant(
                ["inv_freq", "local_inv_freq"][kind],
                self.ropes[kind].inv_freq.clone(),
            ),
            head_dim,
            pairs: Pairs::Halves,
            scale: self.ropes[kind].scale,
        };
        let mut stack = vec![("q_proj", nq)];
        if !layer.is_shared {
            stack.push(("k_proj", nkv));
            if !layer.k_is_v {
                stack.push(("v_proj", nkv));
            }
        }
        let qkv = blocks::stacked(g, x, &module, &stack, self.biases.qkv)?;
        let q = g.slice(qkv, 0, nq)?;
        let q = blocks::norm(g, q, &format!("{module}.q_norm"), head_dim, eps)?;
        let q = g.rope_of(q, rope)?;
        g.name(q, format!("model.layers.{i}.q"));
        let (cache, k) = match (layer.is_shared, caches[kind]) {
            (true, Some(shared)) => shared,
            _ => {
                let k = g.slice(qkv, nq, nkv)?;
                let v = match layer.k_is_v {
                    true => k,
                    false => g.slice(qkv, nq + nkv, nkv)?,
                };
                let k = blocks::norm(g, k, &format!("{module}.k_norm"), head_dim, eps)?;
                let k = g.rope_of(k, rope)?;
                let ones = format!("ones of {head_dim}");
                let ones = g.constant(&ones, vec![1.0; head_dim]);
                let v = g.rms_norm(v, ones, eps)?;
                g.name(v, format!("model.layers.{i}.v"));
                let cache = g.cache(layer.n_kv_heads, head_dim);
                g.kv_append(k, v, cache)?;
                caches[kind] = Some((cache, k));
                (cache, k)
            }
        };
        g.name(k, format!("model.layers.{i}.k"));
        let spec = AttentionSpec {
            n_heads: self.dims.n_heads,
            n_kv_heads: layer.n_kv_heads,
            head_dim,
            scale: 1.0,
            window: self.window.filter(|_| layer.is_local),
            causal: true,
            soft_cap: None,
            sinks: None,
        };
        let mixed = g.attention(q, cache, spec)?;
        g.name(mixed, format!("model.layers.{i}.attention"));
        let o = [("o_proj", self.dims.hidden_size)];
        blocks::stacked(g, mixed, &module, &o, self.biases.o)
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
        caches: &mut [Option<(CacheId, NodeId)>; 2],
    ) -> GraphResult<NodeId> {
        let layer = format!("model.layers.{i}");
        let (d, eps) = (self.dims.hidden_size, self.dims.rms_norm_eps);
        let norm =
            |g: &mut Graph, x, name: &str| blocks::norm(g, x, &format!("{layer}.{name}"), d, eps);
        let h = norm(g, x, "input_layernorm")?;
        let h = self.attention(g, h, i, caches)?;
        let h = norm(g, h, "post_attention_layernorm")?;
        let x = g.add(x, h)?;
        let h = norm(g, x, "pre_feedforward_layernorm")?;
        let dims = self
            .dims
            .with_intermediate_size(self.layers[i].intermediate_size);
        let mut h = blocks::mlp(g, h, &layer, &dims, self.activation, Biases::NONE)?;
        if let Some(moe) = &self.moe {
            h = norm(g, h, "post_feedforward_layernorm_1")?;
            let experts = self.experts(g, x, &layer, moe)?;
            h = g.add(h, experts)?;
        }
        let h = norm(g, h, "post_feedforward_layernorm")?;
        let mut x = g.add(x, h)?;
        if let Some(own) = own {
            let n = self.own_input[0];
            let gate = blocks::stacked(g, x, &layer, &[("per_layer_input_gate", n)], false)?;
            let own = g.slice(own, i * n, n)?;
            let h = g.gated(gate, own, self.activation)?;
            let h = blocks::stacked(g, h, &layer, &[("per_layer_projection", d)], false)?;
            let h = norm(g, h, "post_per_layer_input_norm")?;
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
    let n_shared = source.uint("num_kv_shared_layers", "attention.shared_kv_layers")?;
    let first_shared = dims.n_layers.saturating_sub(n_shared.unwrap_or(0));
    if first_shared == 0 {
        return Err(source.wrong("num_kv_shared_layers", "less than num_hidden_layers"));
    }
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
    let layers: Vec<Layer> = is_local.iter().enumerate().map(layer).collect();
    for layer in &layers[first_shared..] {
        let alike = |other: &Layer| other.is_local == layer.is_local;
        if !layers[..first_shared].iter().any(alike) {
            let what = "a number that leaves a layer of each kind with keys of its own";
            return Err(source.wrong("num_kv_shared_layers", what));
        }
    }
    Ok(layers)
}

impl Family for Config {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let mut x = blocks::embed(g, &self.dims, (self.dims.hidden_size as f32).sqrt());
        let own = self.own_inputs(g, x)?;
        let mut caches = [None; 2];
        for i in 0..self.dims.n_layers {
            x = self.block(g, x, i, own, &mut caches)?;
            g.end_layer(x, format!("model.layers.{i}.hidden"));
        }
        Ok(x)
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
