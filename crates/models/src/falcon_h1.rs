//! Falcon-H1: layers with attention and Mamba 2 side by side, and multipliers throughout. Source:
//! `transformers/models/falcon_h1`.

use std::sync::Arc;

use serde_json::Value as Json;
use siskin_formats::Value;
use siskin_graph::{Activation, Graph, Map, NodeId, Result as GraphResult};

use crate::blocks::{self, Attention, Biases};
use crate::config::Source;
use crate::dense::DECODER;
use crate::dims::Defaults;
use crate::families::{Architecture, Family, InConfig};
use crate::mamba::{self, Mamba2Keys};
use crate::mixers::{GatedNorm, Mamba2};
use crate::rope::Rope;
use crate::{Dims, Error, Result};

pub(crate) static FALCON_H1: Architecture = Architecture {
    names: &["falcon_h1", "falcon-h1"],
    gguf: Some("falcon-h1"),
    model_type: "falcon_h1",
    class: "FalconH1ForCausalLM",
    defaults: Defaults {
        vocab_size: 128_000,
        hidden_size: 4096,
        intermediate_size: 14_336,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: Some(8),
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 8192,
        tied: false,
    },
    read: Config::read,
    layer_names: LAYER_NAMES,
    transform: mamba::transform,
    top_names: &[("model.norm", "model.final_layernorm")],
    ..DECODER
};

const LAYER_NAMES: &[(&str, &str)] = &[
    ("pre_ff_layernorm.weight", "ffn_norm"),
    ("feed_forward.gate_proj", "ffn_gate"),
    ("feed_forward.up_proj", "ffn_up"),
    ("feed_forward.down_proj", "ffn_down"),
    ("mamba.in_proj", "ssm_in"),
    ("mamba.conv1d", "ssm_conv1d"),
    ("mamba.dt_bias", "ssm_dt.bias"),
    ("mamba.A_log", "ssm_a"),
    ("mamba.D", "ssm_d"),
    ("mamba.norm", "ssm_norm"),
    ("mamba.out_proj", "ssm_out"),
];

/// What values are multiplied by; GGUF files have weights that were.
#[derive(Debug)]
struct Multipliers {
    embedding: f32,
    logits: f32,
    attention_in: f32,
    attention_out: f32,
    key: f32,
    mamba_out: f32,
    gate: f32,
    down: f32,
}

#[derive(Debug)]
struct Config {
    dims: Dims,
    rope: Rope,
    mamba: Mamba2,
    by: Multipliers,
    biases: Biases,
}

/// A list of numbers of `config.json`; ones where it is missing.
fn numbers<const N: usize>(source: &Source<'_>, key: &'static str) -> Result<[f32; N]> {
    let list = match source.json_value(key) {
        None | Some(Json::Null) => return Ok([1.0; N]),
        Some(list) => serde_json::from_value::<Vec<f32>>(list.clone()).ok(),
    };
    list.and_then(|list| list.try_into().ok())
        .ok_or_else(|| source.wrong(key, "a list with a number for each place"))
}

impl Config {
    fn read(source: &Source<'_>) -> Result<Arc<dyn Family>> {
        let mut dims = Dims::read(source, &FALCON_H1.defaults)?;
        let rope = Rope::read(source, &dims)?;
        dims.rope_theta = rope.theta;
        mamba::check_silu(source, "hidden_act")?;
        let number = |key: &str| -> Result<f32> { Ok(source.float(key, "")?.unwrap_or(1.0)) };
        let [gate, down] = numbers(source, "mlp_multipliers")?;
        let by = Multipliers {
            embedding: number("embedding_multiplier")?,
            logits: number("lm_head_multiplier")?,
            attention_in: number("attention_in_multiplier")?,
            attention_out: number("attention_out_multiplier")?,
            key: number("key_multiplier")?,
            mamba_out: number("ssm_out_multiplier")?,
            gate,
            down,
        };
        let (attention, mlp) = (
            source.flag("attention_bias", false)?,
            source.flag("mlp_bias", false)?,
        );
        if attention && by.attention_in != 1.0 {
            return Err(source.unsupported("attention_bias", "true with attention_in_multiplier"));
        }
        let biases = match source.is_gguf() {
            true => Biases::of_gguf(source),
            false => Biases {
                qkv: attention,
                o: attention,
                gate_up: mlp,
                down: mlp,
            },
        };
        Ok(Arc::new(Self {
            mamba: read_mamba(source, &dims)?,
            dims,
            rope,
            by,
            biases,
        }))
    }

    fn attention(&self, g: &mut Graph, x: NodeId, i: usize) -> GraphResult<NodeId> {
        let by = &self.by;
        // q, k and v are linear in what is scaled, without biases.
        let scale = blocks::attention_scale(self.dims.head_dim);
        let attention = Attention {
            inv_freq: g.constant("inv_freq", self.rope.inv_freq.clone()),
            rope_scale: self.rope.scale,
            scale: scale * by.key * by.attention_in * by.attention_in,
            window: None,
            biases: self.biases,
            head_norms: false,
            causal: true,
        };
        let layer = format!("model.layers.{i}");
        let y = blocks::attention(g, x, &layer, &self.dims.layer(i), &attention)?;
        Ok(scaled(g, y, by.attention_in * by.attention_out))
    }

    fn mlp(&self, g: &mut Graph, x: NodeId, i: usize) -> GraphResult<NodeId> {
        let n = self.dims.layer(i).intermediate_size;
        let module = format!("model.layers.{i}.feed_forward");
        let stack = [("gate_proj", n), ("up_proj", n)];
        let both = blocks::stacked(g, x, &module, &stack, self.biases.gate_up)?;
        let gate = g.slice(both, 0, n)?;
        let up = g.slice(both, n, n)?;
        let gate = scaled(g, gate, self.by.gate);
        let h = g.gated(gate, up, Activation::Silu)?;
        let down = [("down_proj", self.dims.hidden_size)];
        let y = blocks::stacked(g, h, &module, &down, self.biases.down)?;
        Ok(scaled(g, y, self.by.down))
    }
}

fn read_mamba(source: &Source<'_>, dims: &Dims) -> Result<Mamba2> {
    const KEYS: Mamba2Keys = Mamba2Keys {
        n_heads: ("mamba_n_heads", 128),
        head_dim: "mamba_d_head",
        n_groups: ("mamba_n_groups", 1),
        state_dim: ("mamba_d_state", 256),
        kernel: "mamba_d_conv",
        conv_bias: "mamba_conv_bias",
        bias: "mamba_proj_bias",
    };
    let expand = source.positive("mamba_expand", "", 2.0)?;
    let default = match source.is_null("mamba_d_ssm") {
        true => (expand * dims.hidden_size as f32) as usize,
        false => 1024,
    };
    let inner = source
        .uint("mamba_d_ssm", "ssm.inner_size")?
        .unwrap_or(default);
    let mut mamba = KEYS.read(source, inner, dims.rms_norm_eps)?;
    let scales: [f32; 5] = numbers(source, "ssm_multipliers")?;
    let all = source.float("ssm_in_multiplier", "")?.unwrap_or(1.0);
    mamba.scales = scales.map(|by| by * all);
    if mamba.in_bias && all != 1.0 {
        return Err(source.unsupported("mamba_proj_bias", "true with ssm_in_multiplier"));
    }
    if !source.is_gguf() {
        mamba.out_bias = source.flag("projectors_bias", false)?;
    }
    let has_norm = match source.is_gguf() {
        true => source.has_tensor("blk.0.ssm_norm.weight"),
        false => source.flag("mamba_rms_norm", false)?,
    };
    let before_gate = source.flag("mamba_norm_before_gate", true)?;
    mamba.norm = has_norm.then_some(GatedNorm {
        eps: dims.rms_norm_eps,
        // GGUF files are of models that have it after.
        before_gate: before_gate && !source.is_gguf(),
        by_group: source.is_gguf(),
    });
    Ok(mamba)
}

fn scaled(g: &mut Graph, x: NodeId, by: f32) -> NodeId {
    match by {
        1.0 => x,
        by => g.map(x, Map::Scale(by)),
    }
}

impl Family for Config {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let (d, eps) = (self.dims.hidden_size, self.dims.rms_norm_eps);
        let mut x = blocks::embed(g, &self.dims, self.by.embedding);
        for i in 0..self.dims.n_layers {
            let layer = format!("model.layers.{i}");
            let h = blocks::norm(g, x, &format!("{layer}.input_layernorm"), d, eps)?;
            let mixed = self.mamba.build(g, h, &format!("{layer}.mamba"))?;
            let mixed = scaled(g, mixed, self.by.mamba_out);
            let attended = self.attention(g, h, i)?;
            let both = g.add(mixed, attended)?;
            x = g.add(x, both)?;
            let h = blocks::norm(g, x, &format!("{layer}.pre_ff_layernorm"), d, eps)?;
            let h = self.mlp(g, h, i)?;
            x = g.add(x, h)?;
            g.end_layer(x, format!("{layer}.hidden"));
        }
        Ok(x)
    }

    fn last_norm(&self, g: &mut Graph, x: NodeId) -> Result<NodeId> {
        let Dims {
            hidden_size,
            rms_norm_eps,
            ..
        } = self.dims;
        let x = blocks::norm(g, x, "model.norm", hidden_size, rms_norm_eps)?;
        // The head is linear: its input is scaled in place of its output.
        Ok(scaled(g, x, self.by.logits))
    }

    fn check_training(&self) -> Result<()> {
        Err(Error::NoTraining("layers with a recurrent state"))
    }

    fn in_gguf(&self) -> Result<Vec<(&'static str, Value)>> {
        let arch = FALCON_H1.names[0];
        Err(Error::NoConversion { arch })
    }

    fn in_config(&self) -> Result<InConfig> {
        let arch = FALCON_H1.names[0];
        Err(Error::NoConversion { arch })
    }
}
