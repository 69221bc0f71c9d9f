//! DeepSeek V2 and V2-Lite: latent attention, and experts beside one that all tokens pass. Source:
//! `transformers/models/deepseek_v2`.

use std::sync::Arc;

use serde_json::Value as Json;
use siskin_graph::Pairs;

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED};
use crate::dims::Defaults;
use crate::families::{Architecture, Family, InFile};
use crate::latent::Latent;
use crate::mixers::Mixer;
use crate::moe::{self, Moe, Shared};
use crate::rope::Rope;
use crate::{Dims, Result, Transform, blocks};

pub(crate) static DEEPSEEK_V2: Architecture = Architecture {
    names: &["deepseek_v2", "deepseek2"],
    gguf: Some("deepseek2"),
    model_type: "deepseek_v2",
    class: "DeepseekV2ForCausalLM",
    defaults: Defaults {
        vocab_size: 102_400,
        hidden_size: 4096,
        intermediate_size: 11_008,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 2048,
        tied: false,
    },
    read: deepseek_v2,
    layer_names: &[
        ("self_attn.q_a_proj", "attn_q_a"),
        ("self_attn.q_a_layernorm", "attn_q_a_norm"),
        ("self_attn.q_b_proj", "attn_q_b"),
        ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
        ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
        ("self_attn.kv_b_proj", "attn_kv_b"),
        ("self_attn.k_b_proj", "attn_k_b"),
        ("self_attn.v_b_proj", "attn_v_b"),
    ],
    transform,
    ..DECODER
};

const EXPERTS: moe::Names = moe::Names {
    shared: "shared_experts",
    ..moe::NAMES
};

fn transform(found: InFile<'_>, dims: &Dims) -> Transform {
    match found.gguf && found.tensor.ends_with(".k_b_proj.weight") {
        true => Transform::TransposeHeads {
            n_heads: dims.n_heads,
        },
        false => Transform::None,
    }
}

/// The class's own, whatever the configuration says.
const LATENT_EPS: f32 = 1e-6;

fn deepseek_v2(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let mut dims = Dense::sizes(source, &DEEPSEEK_V2)?;
    let is_gguf = source.is_gguf();
    let size = |key, in_gguf, default: usize| {
        source.size(key, in_gguf, (!is_gguf).then_some(default), 1 << 16)
    };
    let bias = source.flag("attention_bias", false)?;
    let rotated = size("qk_rope_head_dim", "rope.dimension_count", 64)?;
    let v_dim = match source.uint("", "attention.value_length_mla")? {
        Some(n) => n,
        None => size("v_head_dim", "attention.value_length", 128)?,
    };
    // In the cache of llama.cpp.
    source.gguf_value("attention.value_length");
    let plain = match is_gguf {
        true => dims.head_dim.saturating_sub(rotated),
        false => size("qk_nope_head_dim", "", 128)?,
    };
    if plain == 0 {
        return Err(source.wrong("rope.dimension_count", "less than a head's dimensions"));
    }
    let latent = Latent {
        q_rank: match is_gguf {
            true => source.uint("", "attention.q_lora_rank")?,
            false if source.is_null("q_lora_rank") => None,
            false => Some(size("q_lora_rank", "", 1536)?),
        },
        kv_rank: size("kv_lora_rank", "attention.kv_lora_rank", 512)?,
        rotated,
        plain,
        v_dim,
        bias: bias || source.has_tensor("blk.0.attn_kv_a_mqa.bias"),
        are_apart: source.has_tensor("blk.0.attn_k_b.weight"),
        eps: LATENT_EPS,
    };
    let head_dim = latent.rotated + latent.plain;
    if latent.v_dim > head_dim || !head_dim.is_multiple_of(4) || head_dim > 512 {
        return Err(source.wrong("v_head_dim", "at most qk_nope_head_dim + qk_rope_head_dim"));
    }
    let rope = Rope::read(source, &dims.with_head_dim(latent.rotated))?;
    dims.head_dim = head_dim;
    dims.n_kv_heads = dims.n_heads;
    // Sums of the two, which transformers 5 writes.
    source.json_value("qk_head_dim");
    let dense = Dense::like_llama(dims, &DEEPSEEK_V2, vec![rope]);
    let mut dense = dense.with_mlp(source, GATED, source.flag("mlp_bias", false)?)?;
    if dense.biases.down {
        return Err(source.unsupported("mlp_bias", true));
    }
    dense.pairs = Pairs::Interleaved;
    dense.attention_scale = blocks::attention_scale(head_dim) * yarn_scale(source)?.powi(2);
    let keys = ("first_k_dense_replace", "leading_dense_block_count");
    let first = source.uint(keys.0, keys.1)?.unwrap_or(0);
    dense.moe = Some(experts(source)?);
    for (i, layer) in dense.layers.iter_mut().enumerate() {
        layer.mixer = Mixer::Latent(latent);
        layer.is_sparse = i >= first;
    }
    Ok(Arc::new(dense))
}

/// What the scores of a context that YaRN extended are multiplied by, beside the factor of the rotated dimensions.
fn yarn_scale(source: &Source<'_>) -> Result<f32> {
    let scale = |factor: f32, all: f32| match factor > 1.0 && all > 0.0 {
        true => 0.1 * all * factor.ln() + 1.0,
        false => 1.0,
    };
    if source.is_gguf() {
        let factor = source.float("", "rope.scaling.factor")?.unwrap_or(1.0);
        let all = source.float("", "rope.scaling.yarn_log_multiplier")?;
        // These files alone have a tenth of it.
        return Ok(scale(factor, 10.0 * all.unwrap_or(0.0)));
    }
    let tables = ["rope_scaling", "rope_parameters"].map(|key| source.table(key));
    let [old, new] = tables;
    let Some(table) = old?.or(new?) else {
        return Ok(1.0);
    };
    let number = |key: &str| table.get(key).and_then(Json::as_f64).unwrap_or(0.0) as f32;
    let (factor, all) = (number("factor"), number("mscale_all_dim"));
    Ok(scale(factor, all))
}

fn experts(source: &Source<'_>) -> Result<Moe> {
    match source.str("topk_method", "")? {
        None | Some("greedy") => {}
        Some(other) => return Err(source.unsupported("topk_method", other)),
    }
    // Of other choices than the greedy one.
    source.json_value("n_group");
    source.json_value("topk_group");
    match source.str("scoring_func", "")? {
        None | Some("softmax") => {}
        Some(other) => return Err(source.unsupported("scoring_func", other)),
    }
    source.off("norm_topk_prob", "expert_weights_norm")?;
    // 1 is softmax, and 0 what older files have for it.
    if let Some(other) = source.uint("", "expert_gating_func")?.filter(|n| *n > 1) {
        return Err(source.unsupported("expert_gating_func", other));
    }
    for key in ["expert_group_count", "expert_group_used_count"] {
        if let Some(n) = source.uint("", key)?.filter(|n| *n > 1) {
            return Err(source.unsupported(key, n));
        }
    }
    if let Some(step) = source.uint("moe_layer_freq", "")?.filter(|n| *n != 1) {
        return Err(source.unsupported("moe_layer_freq", step));
    }
    for key in ["aux_loss_alpha", "seq_aux", "ep_size"] {
        source.json_value(key);
    }
    let default = (!source.is_gguf()).then_some(64);
    let counts = [
        source.size("n_routed_experts", "expert_count", default, 1024)?,
        source.size("num_experts_per_tok", "expert_used_count", None, 1024)?,
    ];
    let columns = Moe::size(source, "moe_intermediate_size", 1407)?;
    let shared = source
        .uint("n_shared_experts", "expert_shared_count")?
        .unwrap_or(2);
    Ok(Moe {
        renormalise: false,
        scale: source
            .float("routed_scaling_factor", "expert_weights_scale")?
            .unwrap_or(1.0),
        shared: (shared > 0).then_some(Shared {
            size: columns * shared,
            is_gated: false,
        }),
        ..Moe::of(source, EXPERTS, counts, columns)?
    })
}
