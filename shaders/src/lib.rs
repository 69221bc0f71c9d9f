#![doc = include_str!("../README.md")]
#![no_std]
#![warn(missing_docs)]

macro_rules! sources {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!(env!("OUT_DIR"), "/", $name, ".wgsl")))),*]
    };
}

/// What kernels are composed of: name (`lib/step`) and WGSL source of each library file.
///
/// Files that fill the same slot define the same functions, and a variant of a kernel selects one of them:
///
/// | files | functions |
/// |---|---|
/// | `lib/values_*` | `load_values`: 32 weights of a matrix as f32 |
/// | `lib/block_*` | `load_block`: 32 weights as integers with scales and offsets |
/// | `lib/product_*` | `prepare`, `product`: 32 products of weights and activations, in f32 or in integers |
/// | `lib/reduce_*` | `reduce_sum`, `reduce_max` over a workgroup |
/// | `lib/cache_k_*` | `key4`, `write_key`, `round_key` of the KV cache |
/// | `lib/cache_v_*` | `value4`, `write_value`, `round_value` of the KV cache |
/// | `lib/adapted_*` | `is_adapted`: whether an adapter is for a row |
pub static LIBRARY: &[(&str, &str)] = sources!(
    "lib/activation" "lib/adapted_all" "lib/adapted_rows" "lib/adapted_samples" "lib/attend" "lib/batch" "lib/block" "lib/block_grid" "lib/block_int4" "lib/block_int4_1"
    "lib/block_int8" "lib/block_iq4_nl" "lib/block_iq4_xs" "lib/block_mxfp4" "lib/block_nvfp4" "lib/block_q2_k"
    "lib/block_q4_0" "lib/block_q4_1" "lib/block_q4_k" "lib/block_q5_k" "lib/block_q6_k" "lib/block_q8_0"
    "lib/block_q8_1" "lib/blocks" "lib/cache_k_f16" "lib/cache_k_f32" "lib/cache_k_q4_0" "lib/cache_k_q8_0" "lib/cache_q4_0"
    "lib/cache_q8_0" "lib/cache_scales" "lib/cache_v_f16" "lib/cache_v_f32" "lib/cache_v_q4_0" "lib/cache_v_q8_0" "lib/codes" "lib/dot_bytes" "lib/dot_q16" "lib/expert" "lib/expert_in"
    "lib/head_dim" "lib/heads" "lib/layer_norm" "lib/linear_out" "lib/lora_span" "lib/map"
    "lib/matvec_in" "lib/moments" "lib/pcg" "lib/position_batch" "lib/product_f32" "lib/product_int" "lib/q16"
    "lib/qkv" "lib/reduce_sg" "lib/reduce_wg" "lib/rope" "lib/rotate" "lib/rows" "lib/samples" "lib/scores"
    "lib/softplus" "lib/step" "lib/values" "lib/values_bf16" "lib/values_f16" "lib/values_f32" "lib/values_halves"
    "lib/values_nf4" "lib/values_quantised" "lib/weights"
);

/// The kernels: name (`matvec`) and WGSL source of each, before its `// @use` lines are resolved. The entry point is
/// `main`.
pub static KERNELS: &[(&str, &str)] = sources!(
    "add" "attention" "attention_reduce" "attention_step" "causal_conv" "choose" "delta_rule" "dora" "dora_factors"
    "embed" "expert_down" "expert_up" "gated" "gaussian_top_k" "join_heads" "kv_append" "last_row" "layer_norm"
    "lora_up" "map" "matmul" "matmul_rows" "matvec" "matvec_rows" "mix" "pool" "quantise_q16" "rescale" "rms_norm"
    "rope" "rope_append" "route" "row_gate" "scale_columns" "selective_scan" "self_attention"
);

/// The library files that only kernels of [`TRAINING_KERNELS`] use.
#[cfg(feature = "training")]
pub static TRAINING_LIBRARY: &[(&str, &str)] = sources!(
    "lib/adamw" "lib/qkv_grad"
);

/// The kernels of gradients, the loss and the optimiser.
#[cfg(feature = "training")]
pub static TRAINING_KERNELS: &[(&str, &str)] = sources!(
    "adamw" "adamw_8bit" "concat" "cross_entropy" "cross_entropy_grad" "dora_grad" "dora_grad_m" "dropout"
    "expert_down_grad" "expert_up_grad" "gated_grad" "layer_norm_grad" "linear_grad" "lora_down_grad" "lora_grad"
    "lora_up_grad" "map_grad" "rms_norm_grad" "route_grad" "row_gate_grad" "self_attention_grad_kv"
    "self_attention_grad_q" "self_attention_stats" "square_sum"
);
