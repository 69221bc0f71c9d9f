//! Hunyuan dense: llama with norms of heads after rope. Source: `transformers/models/hunyuan_v1_dense`.

use std::sync::Arc;

use crate::Result;
use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, NAMES, Names, QkNorm};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};

pub(crate) static HUNYUAN: Architecture = Architecture {
    names: &["hunyuan_v1_dense", "hunyuan-dense"],
    gguf: Some("hunyuan-dense"),
    model_type: "hunyuan_v1_dense",
    class: "HunYuanDenseV1ForCausalLM",
    defaults: Defaults {
        vocab_size: 290_943,
        hidden_size: 4096,
        intermediate_size: 11_008,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 2048,
        tied: false,
    },
    read: hunyuan,
    layer_names: &[
        ("self_attn.query_layernorm", "attn_q_norm"),
        ("self_attn.key_layernorm", "attn_k_norm"),
    ],
    ..DECODER
};

static HUNYUAN_NAMES: Names = Names {
    qk_norms: ["query_layernorm", "key_layernorm"],
    ..NAMES
};

fn hunyuan(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let bias = source.flag("attention_bias", false)?;
    let mut dense = Dense::read(source, &HUNYUAN, (10_000.0, None))?
        .with_attention_biases(bias, bias)
        .with_mlp(source, GATED, false)?;
    dense.qk_norm = QkNorm::HeadsAfterRope;
    dense.names = &HUNYUAN_NAMES;
    Ok(Arc::new(dense))
}
