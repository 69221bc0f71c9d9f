//! DeepSeek V2 and V2-Lite: latent attention, and experts beside one that all tokens pass. Source:
//! `transformers/models/deepseek_v2`.

use std::sync::Arc;

use serde_json::Value as Json;
use siskin_graph::Pairs;

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::latent::Latent;
use crate::mixers::Mixer;
use crate::moe::{self, Moe, Shared};
use crate::rope::Rope;
use crate::{Result, blocks};

pub(crate) static DEEPSEEK_V2: Architecture = Architecture {
    names: &["deepseek_v2"],
    // Its files have the projections of keys transposed, in blocks.
    gguf: None,
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
    ..DECODER
};

const EXPERTS: moe::Names = moe::Names {
    shared: "shared_experts",
    ..moe::NAMES
};

/// The class's own, whatever the configuration says.
const LATENT_EPS: f32 = 1e-6;

fn deepseek_v2(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let mut dims = Dense::sizes(source, &DEEPSEEK_V2)?;
    let size = |key, default| source.size(key, "", Some(default), 1 << 16);
    let bias = source.flag("attention_bias", false)?;
    let latent = Latent {
        q_rank: match source.is_null("q_lora_rank") {
            true => None,
            false => Some(size("q_lora_rank", 1536)?),
        },
        kv_rank: size("kv_lora_rank", 512)?,
        rotated: size("qk_rope_head_dim", 64)?,
        plain: size("qk_nope_head_dim", 128)?,
        v_dim: size("v_head_dim", 128)?,
        bias,
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
    let first = source.uint("first_k_dense_replace", "")?.unwrap_or(0);
    dense.moe = Some(experts(source)?);
    for (i, layer) in dense.layers.iter_mut().enumerate() {
        layer.mixer = Mixer::Latent(latent);
        layer.is_sparse = i >= first;
    }
    Ok(Arc::new(dense))
}

/// What the scores of a context that YaRN extended are multiplied by, beside the factor of the rotated dimensions.
fn yarn_scale(source: &Source<'_>) -> Result<f32> {
    let tables = ["rope_scaling", "rope_parameters"].map(|key| source.table(key));
    let [old, new] = tables;
    let Some(table) = old?.or(new?) else {
        return Ok(1.0);
    };
    let number = |key: &str| table.get(key).and_then(Json::as_f64).unwrap_or(0.0) as f32;
    let (factor, all) = (number("factor"), number("mscale_all_dim"));
    Ok(match factor > 1.0 && all > 0.0 {
        true => 0.1 * all * factor.ln() + 1.0,
        false => 1.0,
    })
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
    source.off("norm_topk_prob", "")?;
    if let Some(step) = source.uint("moe_layer_freq", "")?.filter(|n| *n != 1) {
        return Err(source.unsupported("moe_layer_freq", step));
    }
    for key in ["aux_loss_alpha", "seq_aux", "ep_size"] {
        source.json_value(key);
    }
    let counts = [
        source.size("n_routed_experts", "", Some(64), 1024)?,
        source.size("num_experts_per_tok", "", None, 1024)?,
    ];
    let columns = Moe::size(source, "moe_intermediate_size", 1407)?;
    let shared = source.uint("n_shared_experts", "")?.unwrap_or(2);
    Ok(Moe {
        renormalise: false,
        scale: source.float("routed_scaling_factor", "")?.unwrap_or(1.0),
        shared: (shared > 0).then_some(Shared {
            size: columns * shared,
            is_gated: false,
        }),
        ..Moe::of(source, EXPERTS, counts, columns)?
    })
}
