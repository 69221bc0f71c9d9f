//! LFM2 and LFM2.5, dense and with experts: most layers have a gated short convolution in place of attention. Source:
//! `transformers/models/lfm2`, `lfm2_moe`.

use std::sync::Arc;

use serde_json::Value as Json;
use siskin_graph::Score;

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, Mlp, NAMES, Names, QkNorm, Stored};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::mixers::{Mixer, ShortConv};
use crate::moe::{self, Moe};
use crate::{Dims, Result, layers};

pub(crate) static LFM2: Architecture = Architecture {
    names: &["lfm2"],
    gguf: Some("lfm2"),
    model_type: "lfm2",
    class: "Lfm2ForCausalLM",
    defaults: Defaults {
        vocab_size: 65_536,
        hidden_size: 2560,
        intermediate_size: 12_288,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: Some(8),
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 128_000,
        tied: true,
    },
    read: lfm2,
    layer_names: LAYER_NAMES,
    top_names: &[("model.norm", "model.embedding_norm")],
    gguf_top_names: &[("model.norm", "token_embd_norm")],
    ..DECODER
};

pub(crate) static LFM2_MOE: Architecture = Architecture {
    names: &["lfm2_moe", "lfm2moe"],
    gguf: Some("lfm2moe"),
    model_type: "lfm2_moe",
    class: "Lfm2MoeForCausalLM",
    defaults: Defaults {
        hidden_size: 2048,
        intermediate_size: 7168,
        ..LFM2.defaults
    },
    read: lfm2_moe,
    ..LFM2
};

const MOE_NAMES: moe::Names = moe::Names {
    module: "feed_forward",
    choice: "expert_bias",
    stored: moe::Stored::Apart(["w1", "w3", "w2"]),
    ..moe::NAMES
};

const LAYER_NAMES: &[(&str, &str)] = &[
    ("operator_norm", "attn_norm"),
    ("ffn_norm", "ffn_norm"),
    ("self_attn.out_proj", "attn_output"),
    ("self_attn.q_layernorm", "attn_q_norm"),
    ("self_attn.k_layernorm", "attn_k_norm"),
    ("conv.conv", "shortconv.conv"),
    ("conv.in_proj", "shortconv.in_proj"),
    ("conv.out_proj", "shortconv.out_proj"),
    ("feed_forward.w1", "ffn_gate"),
    ("feed_forward.w2", "ffn_down"),
    ("feed_forward.w3", "ffn_up"),
];

const LFM2_NAMES: Names = Names {
    mixer: "conv",
    o: "out_proj",
    mlp: "feed_forward",
    qk_norms: ["q_layernorm", "k_layernorm"],
    norms: ["operator_norm", "", "ffn_norm", ""],
    ..NAMES
};

const MLP: Mlp = Mlp {
    up: Stored::Apart(&["w1", "w3"]),
    down: "w2",
    ..GATED
};

fn lfm2(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let mut dense = with_convolutions(source, &LFM2)?;
    if !source.is_gguf() {
        let dims = &mut dense.dims;
        dims.intermediate_size = intermediate_size(source, dims.intermediate_size)?;
        check_old_keys(source, dims)?;
    }
    Ok(Arc::new(dense))
}

fn lfm2_moe(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let mut dense = with_convolutions(source, &LFM2_MOE)?;
    let size = Moe::size(source, "moe_intermediate_size", 1792)?;
    let moe = Moe::read(source, MOE_NAMES, [32, 4], size)?;
    if source
        .uint("", "expert_gating_func")?
        .is_some_and(|f| f != SIGMOID)
    {
        return Err(source.unsupported("expert_gating_func", "other than sigmoid"));
    }
    dense.moe = Some(Moe {
        score: Score::Sigmoid,
        has_choice_bias: match source.is_gguf() {
            true => moe.has_choice_bias,
            false => source.flag("use_expert_bias", true)?,
        },
        renormalise: source.flag("norm_topk_prob", true)?,
        eps: 1e-6,
        scale: source.positive("routed_scaling_factor", "", 1.0)?,
        ..moe
    });
    let dense_layers = source.uint("num_dense_layers", "leading_dense_block_count")?;
    let n_dense = dense_layers.unwrap_or(if source.is_gguf() { 0 } else { 2 });
    for layer in dense.layers.iter_mut().skip(n_dense) {
        layer.is_sparse = true;
    }
    Ok(Arc::new(dense))
}

/// What GGUF files call the score of experts that is a sigmoid.
const SIGMOID: usize = 2;

fn with_convolutions(source: &Source<'_>, arch: &'static Architecture) -> Result<Dense> {
    let mut dense = Dense::read(source, arch, (1_000_000.0, None))?;
    let eps = source.positive("norm_eps", "attention.layer_norm_rms_epsilon", 1e-5)?;
    dense.dims.rms_norm_eps = eps;
    dense.names = &LFM2_NAMES;
    dense.mlp = MLP;
    dense.qk_norm = QkNorm::Heads;
    let conv = ShortConv {
        kernel: source.size("conv_L_cache", "shortconv.l_cache", Some(3), 64)?,
        bias: source.flag("conv_bias", false)?,
    };
    let attends = attention_layers(source, &dense.dims)?;
    for (layer, attends) in dense.layers.iter_mut().zip(attends) {
        if !attends {
            layer.mixer = Mixer::ShortConv(conv);
        }
    }
    Ok(dense)
}

/// Which layers have attention.
fn attention_layers(source: &Source<'_>, dims: &Dims) -> Result<Vec<bool>> {
    let n = dims.n_layers;
    if source.is_gguf() {
        return Ok((0..n).map(|i| dims.layer(i).n_kv_heads > 0).collect());
    }
    const KEY: &str = "full_attn_idxs";
    let listed: Option<Vec<usize>> = match source.json_value(KEY) {
        None | Some(Json::Null) => None,
        Some(list) => Some(
            serde_json::from_value(list.clone())
                .map_err(|_| source.wrong(KEY, "a list of numbers of layers"))?,
        ),
    };
    let names: [&[&str]; 2] = [&["full_attention"], &["conv"]];
    layers::kinds(source, n, names, |i| {
        listed.as_ref().is_none_or(|list| list.contains(&i))
    })
}

/// The columns within the MLP, which a configuration may give before they are adjusted.
fn intermediate_size(source: &Source<'_>, given: usize) -> Result<usize> {
    let given = source.uint("block_ff_dim", "")?.unwrap_or(given);
    let multiplier = source.positive("block_ffn_dim_multiplier", "", 1.0)?;
    let multiple = source.size("block_multiple_of", "", Some(256), 1 << 16)?;
    if !source.flag("block_auto_adjust_ff_dim", true)? {
        return Ok(given);
    }
    let adjusted = (multiplier * (2 * given / 3) as f32) as usize;
    Ok(adjusted.next_multiple_of(multiple))
}

/// Keys of transformers 4 that say again what others do.
fn check_old_keys(source: &Source<'_>, dims: &Dims) -> Result<()> {
    for (key, wanted) in [
        ("block_dim", dims.hidden_size),
        ("conv_dim", dims.hidden_size),
        ("conv_dim_out", dims.hidden_size),
        ("num_heads", dims.n_heads),
    ] {
        if let Some(found) = source.uint(key, "")?.filter(|found| *found != wanted) {
            return Err(source.unsupported(key, found));
        }
    }
    for key in ["block_use_swiglu", "use_pos_enc"] {
        if !source.flag(key, true)? {
            return Err(source.unsupported(key, false));
        }
    }
    Ok(())
}
