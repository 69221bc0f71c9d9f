//! Granite 4: most layers have Mamba 2 in place of attention. Source: `transformers/models/granitemoehybrid`.

use std::sync::Arc;

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, Mlp, NAMES, Names, Stored};
use crate::dims::Defaults;
use crate::families::{Architecture, Family, InFile};
use crate::mamba::{self, Mamba2Keys};
use crate::mixers::Mixer;
use crate::moe::{Moe, Shared};
use crate::{Dims, Result, Transform, granite, layers, llama};

pub(crate) static GRANITE_HYBRID: Architecture = Architecture {
    names: &["granitemoehybrid", "granitehybrid"],
    gguf: Some("granitehybrid"),
    model_type: "granitemoehybrid",
    class: "GraniteMoeHybridForCausalLM",
    defaults: Defaults {
        vocab_size: 32_000,
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
    read: granite_hybrid,
    layer_names: LAYER_NAMES,
    transform,
    ..DECODER
};

const LAYER_NAMES: &[(&str, &str)] = &[
    ("mamba.in_proj", "ssm_in"),
    ("mamba.conv1d", "ssm_conv1d"),
    ("mamba.dt_bias", "ssm_dt.bias"),
    ("mamba.A_log", "ssm_a"),
    ("mamba.D", "ssm_d"),
    ("mamba.norm", "ssm_norm"),
    ("mamba.out_proj", "ssm_out"),
];

const IN_FOLDER: Names = Names {
    mixer: "mamba",
    mlp: "shared_mlp",
    ..NAMES
};

/// GGUF files have gate and up apart, as llama's do.
const IN_GGUF: Names = Names {
    mlp: "mlp",
    ..IN_FOLDER
};

const STACKED: Mlp = Mlp {
    up: Stored::Stacked("input_linear"),
    down: "output_linear",
    ..GATED
};

fn transform(at: InFile<'_>, dims: &Dims) -> Transform {
    match at.tensor.contains(".mamba.") {
        true => mamba::transform(at, dims),
        false => llama::transform(at, dims),
    }
}

fn granite_hybrid(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let mut dense = granite::read(source, &GRANITE_HYBRID)?;
    with_experts(&mut dense, source)?;
    if !source.is_gguf() {
        let n = source.uint("shared_intermediate_size", "")?.unwrap_or(1024);
        dense.dims.intermediate_size = n;
        dense.mlp = Mlp {
            activation: dense.mlp.activation,
            ..STACKED
        };
    }
    dense.names = if source.is_gguf() {
        &IN_GGUF
    } else {
        &IN_FOLDER
    };
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
    let inner = source.uint("", "ssm.inner_size")?;
    let inner = inner.unwrap_or((expand * dense.dims.hidden_size as f32) as usize);
    let mixer = KEYS.read(source, inner, dense.dims.rms_norm_eps)?;
    let has_rope = match source.is_gguf() {
        true => source.bool("", "rope.scaling.finetuned")?.unwrap_or(true),
        false => source.str("position_embedding_type", "")? == Some("rope"),
    };
    let (n, dims) = (dense.dims.n_layers, dense.dims.clone());
    let is_recurrent = match source.is_gguf() {
        true => (0..n).map(|i| dims.layer(i).n_kv_heads == 0).collect(),
        false => layers::kinds(source, n, layers::RECURRENT, |_| true)?,
    };
    for (layer, is_recurrent) in dense.layers.iter_mut().zip(is_recurrent) {
        layer.rope = layer.rope.filter(|_| has_rope);
        if is_recurrent {
            layer.mixer = Mixer::Mamba2(mixer);
        }
    }
    Ok(Arc::new(dense))
}

/// Experts beside the MLP, where there are any.
fn with_experts(dense: &mut Dense, source: &Source<'_>) -> Result<()> {
    // GGUF files without experts may leave it out.
    let default = if source.is_gguf() { 0 } else { 8 };
    let count = source.uint("num_local_experts", "expert_count")?;
    const SHARED: &str = "expert_shared_feed_forward_length";
    let shared = source.uint("", SHARED)?;
    if count.unwrap_or(default) == 0 {
        // There is nothing to choose from.
        source.json_value("num_experts_per_tok");
        source.json_value("router_aux_loss_coef");
        source.gguf_value("expert_used_count");
        return Ok(());
    }
    let size = dense.dims.intermediate_size;
    let mut moe = Moe::read(source, granite::EXPERTS, [8, 2], size)?;
    match shared {
        Some(size) => {
            moe.shared = Some(Shared {
                size,
                is_gated: false,
            })
        }
        None => moe.is_beside_mlp = !source.is_gguf(),
    }
    dense.moe = Some(moe);
    dense.layers.iter_mut().for_each(|l| l.is_sparse = true);
    Ok(())
}
