//! What a configuration or a file may hold that no family reads, since it does not change the forward pass.
//! All else that is not read is refused by name.

use serde_json::Value as Json;

/// Keys of `config.json`: about training, generation, tokens, outputs, and how the file was made.
const JSON: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_from_model_config",
    "_name_or_path",
    // What transformers 5 took, and does not read again.
    "_sliding_window_pattern",
    "architectures",
    "attention_dropout",
    "audio_config",
    "audio_soft_tokens_per_image",
    "audio_token_id",
    "attn_implementation",
    "attn_pdrop",
    "auto_map",
    "bad_words_ids",
    // How a scan is cut up: the sums are the same.
    "chunk_size",
    "mamba_chunk_size",
    "begin_suppress_tokens",
    // Initial values, and what the class does not read.
    "block_mlp_init_scale",
    "block_norm_eps",
    "block_out_init_scale",
    "block_use_xavier_init",
    "boa_token_id",
    "boi_token_index",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "conv_use_xavier_init",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "eoa_token_id",
    "eod_token_id",
    "eoi_token_index",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "image_token_id",
    "image_token_index",
    "initializer_range",
    "is_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "loss_type",
    "max_length",
    "max_sequence_length",
    "min_length",
    // The type of states, which are f32 here.
    "mamba_ssm_cache_dtype",
    "mamba_ssm_dtype",
    "mm_tokens_per_image",
    // Of layers that predict further tokens.
    "mtp_num_hidden_layers",
    "mtp_use_dedicated_embeddings",
    "neftune_noise_alpha",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_logits_to_keep",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "pad_token_id",
    "prefix",
    // How products were once cut up for several devices: the sums are the same.
    "pretraining_tp",
    "problem_type",
    "quantization_config",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "residual_dropout",
    "embedding_dropout",
    "return_dict",
    "return_dict_in_generate",
    // About the loss of training, as is the noise.
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "seq_length",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    // Initial step sizes.
    "time_step_floor",
    "time_step_init_scheme",
    "time_step_max",
    "time_step_min",
    "time_step_scale",
    "rescale_prenorm_residual",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "transformers_weights",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
    "use_flash_attention_2",
    "use_associative_scan",
    "use_flash_attn",
    "use_mamba_kernels",
    "use_mambapy",
    "use_return_dict",
    "vision_config",
    "vision_soft_tokens_per_image",
    "vision_start_token_id",
    "vision_end_token_id",
    "vision_token_id",
    "video_token_id",
    "eoi_token_id",
    "boi_token_id",
    "model_max_length",
    "model_name",
];

/// Keys that are off as they are here, and change the forward pass otherwise.
const OFF: &[(&str, Json)] = &[
    ("add_cross_attention", Json::Bool(false)),
    ("is_encoder_decoder", Json::Bool(false)),
    ("attention_bias", Json::Bool(false)),
    ("mlp_bias", Json::Bool(false)),
    ("use_mrope", Json::Bool(false)),
    ("use_sliding_window", Json::Bool(false)),
    ("rope_interleaved", Json::Bool(false)),
    ("parallel_attn", Json::Bool(false)),
    ("use_qk_norm", Json::Bool(false)),
];

/// Whether a key of `config.json` with this value leaves the forward pass as it is.
pub(crate) fn json_key(key: &str, value: &Json) -> bool {
    let is_empty = match value {
        Json::Null => true,
        Json::Array(list) => list.is_empty(),
        Json::Object(map) => map.is_empty(),
        _ => false,
    };
    is_empty || JSON.contains(&key) || OFF.iter().any(|(k, v)| *k == key && v == value)
}

/// Keys of GGUF metadata, without the architecture's name.
const GGUF: &[&str] = &[
    "vocab_size",
    // What scaled frequencies were scaled from, which the factors have in them.
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    // The order of rows in the file that it was made from.
    "tensor_data_layout",
    // What it was made from, and for whom.
    "file_type",
    "quantization_version",
    "pooling_type",
];

pub(crate) fn gguf_key(key: &str) -> bool {
    GGUF.contains(&key)
}

/// Ends of tensors' names: tables that are computed again.
const TENSORS: &[&str] = &[
    "rotary_emb.inv_freq",
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
    "position_ids",
    "attn.masked_bias",
    "attention.masked_bias",
    "rotary_emb.cos_cached",
];

/// Beginnings of tensors' names: the parts of a model for images and audio that read none of the text.
const VISION: &[&str] = &[
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
    "model.embed_vision.",
    "model.audio_tower.",
    "model.embed_audio.",
    "model.visual.",
    "visual.",
    "vision_model.",
    "model.vision_model.",
];

/// Beginning of the names of layers that predict further tokens.
const PREDICTION: &str = "mtp.";

/// Whether the forward pass of text does without a tensor.
pub(crate) fn tensor(name: &str, has_vision: bool) -> bool {
    TENSORS.iter().any(|end| name.ends_with(end))
        || name.starts_with(PREDICTION)
        || has_vision && VISION.iter().any(|start| name.starts_with(start))
}

/// Whether values of a type cannot be weights: counters, masks, positions.
pub(crate) fn is_buffer(ty: &str) -> bool {
    matches!(
        ty,
        "I64" | "I32" | "I16" | "I8" | "U64" | "U32" | "U16" | "U8" | "BOOL"
    )
}
